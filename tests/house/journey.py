"""The journey of one row: `sealift replicate` in real processes, each call between files of the product noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.doubles.servers import seaweedfs

HOOK = """
import atexit, json, os, sys, threading
ROOT, TO = os.environ["HOUSE_ROOT"] + "/jobs/", os.environ["HOUSE_TO"]
calls = set()

def caller_is_main(frame):
    return frame.f_code.co_filename.endswith("__main__.py")

def note(frame, event, argument):
    if event != "call":
        return
    callee, above = frame.f_code.co_filename, frame.f_back
    if not callee.startswith(ROOT):
        return
    while above is not None and not above.f_code.co_filename.startswith(ROOT):
        above = above.f_back
    is_loading = above is not None and above.f_code.co_name == "<module>" and not caller_is_main(above)
    if frame.f_code.co_name != "<module>" and frame.f_code.co_flags & 2 and not is_loading:
        caller = above.f_code.co_filename if above is not None else ""
        calls.add((caller.removeprefix(ROOT), callee.removeprefix(ROOT), frame.f_code.co_qualname))

def save():
    sys.setprofile(None)
    with open(f"{TO}/{os.getpid()}.json", "w") as file:
        json.dump(sorted(calls), file)

atexit.register(save)
threading.setprofile(note)
sys.setprofile(note)
"""


@dataclass(frozen=True, slots=True)
class Journey:
    """`files`: those whose functions were called. `calls`: distinct (file, function of another file)."""

    files: frozenset[str]
    calls: int
    calls_between_folders: int


def measure_journey(root: Path) -> Journey:
    """Replicate a row with the code at `root`."""
    with TemporaryDirectory() as scratch, seaweedfs() as server:
        client = server.client()
        for bucket in ("source", "destination", "ledger"):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket="source", Key="key", Body=b"content")
        folder = Path(scratch) / "hook"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(HOOK)
        environment = (
            os.environ
            | server.environment()
            | {
                "PYTHONPATH": f"{folder}:{root}",
                "HOUSE_ROOT": str(root),
                "HOUSE_TO": str(folder),
                "SEALIFT_LEDGER": "s3://ledger/x",
            }
        )
        arguments = ["replicate", "--source", "s3://source", "--destination", "s3://destination", "--yes"]
        subprocess.run([sys.executable, "-m", "jobs", *arguments], cwd=root, env=environment, check=True)
        calls = {tuple(call) for path in folder.glob("*.json") for call in json.loads(path.read_text())}
    files = frozenset(callee for _, callee, _ in calls)
    between = {call for call in calls if call[0] and call[0] != call[1]}
    far = {call for call in between if os.path.dirname(call[0]) != os.path.dirname(call[1])}
    return Journey(files, len(between), len(far))
