"""Scratch folders, which go away with their process: the next one removes what a killed one has left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_SECONDS = 3600.0
"""Folders that are younger may not be locked yet."""
_locks: dict[Path, int] = {}


def make_scratch(kind: str) -> Path:
    """A new folder `sealift-KIND-…`, locked while this process lives. `remove_scratch` removes it."""
    for left in Path(tempfile.gettempdir()).glob(f"sealift-{kind}-*"):
        with suppress(OSError):  # it is gone, somebody else's, or locked by a process that lives
            if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                os.close(_locked(left))
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=f"sealift-{kind}-"))
    _locks[folder] = _locked(folder)
    return folder


def remove_scratch(folder: Path) -> None:
    """Remove a folder of `make_scratch`, if it is still there."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A folder for as long as the block lasts."""
    folder = make_scratch(kind)
    try:
        yield folder
    finally:
        remove_scratch(folder)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Raises OSError if another one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
