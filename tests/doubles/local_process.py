"""`sealift local` in a process of its own, as a user starts it.

with local_process() as local:
    ...  # local.environment points a shell at it; local.process.stdout has a status line a second
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

SOURCE, HOT = "freight-in", "freight-hot"
"""The buckets of the sample policy's pair."""
STOP_SECONDS = 30
AWAIT_SECONDS = 60.0


@dataclass(frozen=True)
class LocalProcess:
    """The process, what a shell needs to use it, and the folder of its logs."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    folder: Path

    @cached_property
    def client(self) -> Any:
        import boto3

        with mock.patch.dict(os.environ, self.environment):
            return boto3.Session().client("s3")  # the default session keeps the keys of an earlier system

    def put(self, key: str, body: bytes = b"body") -> None:
        self.client.put_object(Bucket=SOURCE, Key=key, Body=body)

    def copy_of(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=HOT, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def versions_of(self, key: str) -> set[bytes]:
        """The content of each copy."""
        found = self.client.list_object_versions(Bucket=HOT, Prefix=key).get("Versions", [])
        ids = [each["VersionId"] for each in found]
        return {self.client.get_object(Bucket=HOT, Key=key, VersionId=each)["Body"].read() for each in ids}

    def await_copy(self, key: str, body: bytes | None) -> float:
        """How long it took until the copy was as it should be."""
        began = time.monotonic()
        while self.copy_of(key) != body:
            assert time.monotonic() - began < AWAIT_SECONDS, f"{key} was not backed up"
            time.sleep(0.005)
        return time.monotonic() - began

    def await_status(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status, of those to come, that holds."""
        assert self.process.stdout is not None
        deadline, status = time.monotonic() + AWAIT_SECONDS, {}
        while time.monotonic() < deadline:
            status = json.loads(self.process.stdout.readline())
            if holds(status):
                return status
        raise AssertionError(f"it did not come to that: {status}")


@contextlib.contextmanager
def local_process(*arguments: str) -> Iterator[LocalProcess]:
    """Start it, and end it with the block.

    Raises RuntimeError with what it said if it does not come up.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "local", "--json", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        if not first:
            raise RuntimeError(f"sealift local did not come up: {process.stderr.read()[-2000:]}")
        ready = json.loads(first)
        yield LocalProcess(process, ready["environment"], Path(ready["folder"]))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_SECONDS)
