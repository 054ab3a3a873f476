"""The event-driven system on one machine: objects dropped into a bucket, things broken, a night, its report.

    python -m tests.demo.events_demo

`sealift local` runs as a user would start it; everything else happens through its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.demo.narration import PAGES, expect, step
from tests.doubles.local_process import local_process

PAIR, SOURCE, HOT = "freight", "freight-in", "freight-hot"
SCANS = 20
WAIT_SECONDS = 60.0


def main() -> int:
    """Run the scene by itself."""
    began = time.monotonic()
    scene()
    print(f"\nThat took {time.monotonic() - began:.0f} s.")
    return 0


def scene() -> None:
    """Show it; ends the process with 1 when anything is not as it should be."""
    step("sealift local: S3 with notifications, the functions and the runs on this machine")
    with _local() as shell:
        print(f"$ sealift local\n  S3 is at {shell.environment['AWS_ENDPOINT_URL_S3']}")

        step("Put in a scan too large for a function")
        large = os.urandom(9 * 1024 * 1024)
        shell.put("scans/large.tif", large)

        step(f"Drop {SCANS} scans into s3://{SOURCE} meanwhile")
        took = []
        for number in range(SCANS):
            key, body = f"scans/2026/parcel {number}+a.jpg", os.urandom(20_000)
            shell.put(key, body)
            took.append(shell.seconds_until(lambda key=key, body=body: shell.copy_of(key) == body))  # type: ignore[misc]  # mypy infers no type of a lambda with defaults
        median = statistics.median(took)
        expect(median <= 1.0, f"each is in s3://{HOT} after {median:.2f} s (median; {max(took):.2f} s at most)")

        step("Write one three times, delete another one")
        for text in (b"first", b"second", b"third"):
            shell.put("scans/again.jpg", text)
        shell.client.delete_object(Bucket=SOURCE, Key="scans/2026/parcel 0+a.jpg")
        shell.seconds_until(lambda: shell.versions_of("scans/again.jpg") == {b"first", b"second", b"third"})
        shell.seconds_until(lambda: shell.copy_of("scans/again.jpg") == b"third")
        expect(True, "each version has its copy, and the newest is on top")
        shell.seconds_until(lambda: shell.copy_of("scans/2026/parcel 0+a.jpg") is None)
        expect(True, "the delete was mirrored by a delete marker; its bytes are still there")

        step("What became of the large scan?")
        shell.seconds_until(lambda: shell.copy_of("scans/large.tif") == large)
        expect(True, "it went to the backlog, and from there a run was started by itself")

        step("Behind everybody's back a copy is destroyed: no event tells of it. Then comes the night")
        _destroy(shell.client, "scans/2026/parcel 7+a.jpg")
        night = shell.sealift("nightly", "--pair", PAIR, "--margin", "0s")
        print(f"  {night['verdict']}")
        repair = next(stage for stage in night["stages"] if stage["stage"] == "repair")
        expect(repair["counts"] == {"done": 1}, "the night found it missing, copied it and verified the copy")

        step("What people read")
        page = next(stage["report_html"] for stage in night["stages"] if stage["stage"] == "reconcile")
        bucket, _, key = page.removeprefix("s3://").partition("/")
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / "night.html").write_bytes(shell.client.get_object(Bucket=bucket, Key=key)["Body"].read())
        status = _await(shell, lambda status: status["handled"] > SCANS)
        print(f"  {status['handled']} events handled, {status['unhandled']} not yet")
        expect(status["given_up"] == 0, "no object was given up")
        print(f"Open the report of the night's reconciliation: {PAGES / 'night.html'}")
    expect(True, "Ctrl-C ended it and all that it had started")


class _Shell:
    """A shell with the system's environment."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]):
        import boto3

        self.process, self.environment = process, environment
        with mock.patch.dict(os.environ, environment):
            self.client: Any = boto3.Session().client("s3")

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=SOURCE, Key=key, Body=body)

    def copy_of(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=HOT, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def versions_of(self, key: str) -> set[bytes]:
        found = self.client.list_object_versions(Bucket=HOT, Prefix=key).get("Versions", [])
        ids = [each["VersionId"] for each in found]
        return {self.client.get_object(Bucket=HOT, Key=key, VersionId=each)["Body"].read() for each in ids}

    def seconds_until(self, holds: Callable[[], bool]) -> float:
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > WAIT_SECONDS:
                expect(False, "it did not come to that")
            time.sleep(0.005)
        return time.monotonic() - began

    def sealift(self, *arguments: str) -> dict[str, Any]:
        print(f"$ sealift {' '.join(arguments)}", flush=True)
        command = [sys.executable, "-m", "jobs", *arguments, "--json"]
        result = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            expect(False, f"exit code {result.returncode} {result.stderr}")
        document: dict[str, Any] = json.loads(result.stdout)
        return document


@contextlib.contextmanager
def _local() -> Iterator[_Shell]:
    with local_process() as local:
        yield _Shell(local.process, local.environment)


def _await(shell: _Shell, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first of the statuses, a line a second, that holds."""
    assert shell.process.stdout is not None
    for line in shell.process.stdout:
        status: dict[str, Any] = json.loads(line)
        if holds(status):
            return status
    sys.exit("sealift local has ended")


def _destroy(client: Any, key: str) -> None:
    for version in client.list_object_versions(Bucket=HOT, Prefix=key)["Versions"]:
        client.delete_object(Bucket=HOT, Key=key, VersionId=version["VersionId"])


if __name__ == "__main__":
    sys.exit(main())
