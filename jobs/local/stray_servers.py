"""Stray servers: those that a killed `sealift local` left at work on a folder.

Each server's working directory is the folder that it was started for. The kernel says so of the
process itself, so no file of an earlier start can name a process that is another one by now.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

PROCESSES = Path("/proc")
STOP_SECONDS = 15.0


def data_folder(folder: Path) -> Path:
    """Return where SeaweedFS keeps what belongs to this folder."""
    return folder.resolve() / "s3"


def stop_strays(folder: Path) -> list[int]:
    """Stop servers of the caller's that work on the folder. Returns their process ids.

    Call it with the folder's lock held: then the process that started them has ended. A system
    without `/proc` has no strays for this function.
    """
    stopped = []
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
                if _stop_stray(int(entry.name), folder):
                    stopped.append(int(entry.name))
    return stopped


def _stop_stray(pid: int, folder: Path) -> bool:
    """Stop a process if it is a server of the folder. Raises OSError if it cannot be looked at."""
    if not _is_server_of(pid, folder):
        return False
    handle = os.pidfd_open(pid)
    try:
        if not _is_server_of(pid, folder):  # the id may have gone to another process meanwhile
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], STOP_SECONDS)[0]:
                break
        return True
    finally:
        os.close(handle)


def _is_server_of(pid: int, folder: Path) -> bool:
    process = PROCESSES / str(pid)
    if process.stat().st_uid != os.geteuid():
        return False
    program, *arguments = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
    return (
        Path(program).name == "weed"
        and arguments[:1] == ["mini"]
        and f"-dir={data_folder(folder)}" in arguments
        and (process / "cwd").samefile(folder)
    )
