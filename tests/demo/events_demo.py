"""The event-driven system on one machine: objects dropped into a bucket, things broken, a night, its report.

`sealift local` runs as a user would start it; everything else happens through its environment.
"""

from __future__ import annotations

import os
import statistics
from typing import Any

from tests.demo.narration import PAGES, expect, sealift, step
from tests.doubles.batch.account import await_value
from tests.doubles.local_process import AWAIT_SECONDS, HOT, SOURCE, local_process

PAIR = "freight"
SCANS = 20


def scene() -> None:
    """Show it; ends the process with 1 when anything is not as it should be."""
    step("sealift local: S3 with notifications, the functions and the runs on this machine")
    with local_process() as shell:
        print(f"$ sealift local\n  S3 is at {shell.environment['AWS_ENDPOINT_URL_S3']}")

        step("Put in a scan too large for a function")
        large = os.urandom(9 * 1024 * 1024)
        shell.put("scans/large.tif", large)

        step(f"Drop {SCANS} scans into s3://{SOURCE} meanwhile")
        took = []
        for number in range(SCANS):
            key, body = f"scans/2026/parcel {number}+a.jpg", os.urandom(20_000)
            shell.put(key, body)
            took.append(shell.await_copy(key, body))
        median = statistics.median(took)
        expect(median <= 1.0, f"each is in s3://{HOT} after {median:.2f} s (median; {max(took):.2f} s at most)")

        step("Write one three times, delete another one")
        for text in (b"first", b"second", b"third"):
            shell.put("scans/again.jpg", text)
        shell.client.delete_object(Bucket=SOURCE, Key="scans/2026/parcel 0+a.jpg")
        await_value(lambda: shell.versions_of("scans/again.jpg") == {b"first", b"second", b"third"}, AWAIT_SECONDS)
        shell.await_copy("scans/again.jpg", b"third")
        expect(True, "each version has its copy, and the newest is on top")
        shell.await_copy("scans/2026/parcel 0+a.jpg", None)
        expect(True, "the delete was mirrored by a delete marker; its bytes are still there")

        step("What became of the large scan?")
        shell.await_copy("scans/large.tif", large)
        expect(True, "it went to the backlog, and from there a run was started by itself")

        step("Behind everybody's back a copy is destroyed: no event tells of it. Then comes the night")
        _destroy(shell.client, "scans/2026/parcel 7+a.jpg")
        night = sealift(shell.environment, "nightly", "--pair", PAIR, "--margin", "0s")
        print(f"  {night['verdict']}")
        repair = next(stage for stage in night["stages"] if stage["stage"] == "repair")
        expect(repair["counts"] == {"done": 1}, "the night found it missing, copied it and verified the copy")

        step("What people read")
        page = next(stage["report_html"] for stage in night["stages"] if stage["stage"] == "reconcile")
        bucket, _, key = page.removeprefix("s3://").partition("/")
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / "night.html").write_bytes(shell.client.get_object(Bucket=bucket, Key=key)["Body"].read())
        status = shell.await_status(lambda status: status["handled"] > SCANS)
        print(f"  {status['handled']} events handled, {status['unhandled']} not yet")
        expect(status["given_up"] == 0, "no object was given up")
        print(f"Open the report of the night's reconciliation: {PAGES / 'night.html'}")
    expect(True, "Ctrl-C ended it and all that it had started")


def _destroy(client: Any, key: str) -> None:
    for version in client.list_object_versions(Bucket=HOT, Prefix=key)["Versions"]:
        client.delete_object(Bucket=HOT, Key=key, VersionId=version["VersionId"])
