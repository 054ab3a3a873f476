"""Record of a long listing, so that the next process continues one that was killed.

    <cache>/sealift/listings/<digest>/state.json   what is left to list, and which parts count
    <cache>/sealift/listings/<digest>/part-00000   entries, in msgpack under zstd
    <cache>/sealift/listings/<digest>/lock         held by the process that lists

The digest is made of all that decides what a listing shows: bucket, prefix, options, endpoint,
account and Sealift's version. `<cache>` is `XDG_CACHE_HOME`, else `~/.cache`. A folder that another
user could write to is not read. A record counts for a day, and only if its listing took at least a
minute. A shorter listing begins again. A listing that decides about deletions never uses a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import zstandard

from jobs import __version__
from jobs.core.model import Listed, Location
from jobs.core.run import Side
from jobs.errors import ConfigError
from jobs.s3.listing import ListingState
from jobs.s3.sessions import account_of, service_of

RECORD_SECONDS = 60.0
SAVE_SECONDS = 20.0
SAVE_ROWS = 50_000
MAX_AGE_SECONDS = 86_400.0
PAGE_ROWS = 1_000


class _State(NamedTuple):
    """`begun_at`: epoch seconds. `parts`: the SHA-256 of each part. `left`: what is left to list."""

    begun_at: float
    parts: tuple[str, ...]
    left: ListingState


class ListingRecord:
    """The record of one listing. One process holds it at a time. Satisfies `Recorder`.

    `begun_at` (epoch seconds): when its first entry was listed. `left`: what is left to list, None
    for a new listing. Where the folder cannot be written, nothing is recorded.
    """

    def __init__(self, folder: Path, now: float):
        self._folder, self._lock = folder, -1
        self.begun_at, self.left = now, cast("ListingState | None", None)
        self._parts: tuple[str, ...] = ()
        self._entries: list[Listed] = []
        self._saved_at = time.monotonic()
        self._is_kept = True
        self._pending: deque[tuple[list[Listed], ListingState]] = deque()
        self._writing = threading.RLock()
        if _read_state(folder, now) is None or not self._acquire():
            return
        state = _read_state(folder, now)  # another process may have continued it until it was locked
        if state is not None:
            self.begun_at, self._parts, self.left = state

    def pages(self) -> Iterator[list[Listed]]:
        """Pages of entries that earlier processes listed, in their order.

        Raises ConfigError for a damaged record, and removes it.
        """
        for number, digest in enumerate(self._parts):
            try:
                data = self._part(number).read_bytes()
                if _digest(data) != digest:
                    raise ValueError("the file is not the one that was written")
                entries = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data), type=list[Listed])
            except (OSError, ValueError, zstandard.ZstdError) as error:
                self.forget()
                what = f"the record of a listing that was stopped is damaged ({self._part(number)}: {error})"
                raise ConfigError(f"{what}, and was removed: start the same command again") from error
            for start in range(0, len(entries), PAGE_ROWS):
                yield entries[start : start + PAGE_ROWS]

    def add(self, entries: Sequence[Listed]) -> None:
        """Add entries. They count once `save` has written them with the state after them."""
        if self._is_kept:
            self._entries.extend(entries)

    @property
    def is_due(self) -> bool:
        """Whether `save` is to be called now."""
        has_waited = time.monotonic() - self._saved_at >= SAVE_SECONDS
        return self._is_kept and (has_waited or len(self._entries) >= SAVE_ROWS)

    async def save(self, left: ListingState) -> None:
        """Write the added entries, and what is left to list after them."""
        self._cut(left)
        await asyncio.to_thread(self._drain)

    def save_last(self, left: ListingState) -> None:
        """Save a listing that ends early. Forget one of less than a minute."""
        if time.time() - self.begun_at < RECORD_SECONDS:
            self.forget()
        else:
            self._cut(left)
            self._drain()
            self._release()

    def forget(self) -> None:
        """Remove the record: its listing is used, or cannot be continued."""
        with self._writing:
            self._is_kept, self._entries = False, []
            if self._lock >= 0:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._release()

    def _cut(self, left: ListingState) -> None:
        """Pair the entries so far with what is left to list after them."""
        self._pending.append((self._entries, left))
        self._entries, self._saved_at = [], time.monotonic()

    def _drain(self) -> None:
        """Write the pairs in order. A thread of a cancelled `save` may still be writing."""
        with self._writing:
            while self._pending:
                self._write(*self._pending.popleft())

    def _write(self, entries: list[Listed], left: ListingState) -> None:
        if not self._is_kept or not self._acquire():
            self._is_kept = False
            return
        try:
            if not self._parts:  # the state of another process would count parts that this one replaces
                (self._folder / "state.json").unlink(missing_ok=True)
            if entries:
                data = zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(entries))
                self._part(len(self._parts)).write_bytes(data)
                self._parts = (*self._parts, _digest(data))
            if time.time() - self.begun_at >= RECORD_SECONDS:
                draft = self._folder / "state.new"
                draft.write_bytes(msgspec.json.encode(_State(self.begun_at, self._parts, left)))
                draft.replace(self._folder / "state.json")
        except (OSError, ValueError):  # the disk is full, or a key is not UTF-8
            self.forget()

    def _acquire(self) -> bool:
        """Lock the folder for this process.

        False if another process holds it, or another user could write to it.
        """
        if self._lock >= 0:
            return True
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(self._folder):
                return False
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino != os.stat(self._folder / "lock").st_ino:  # it was removed meanwhile
                raise BlockingIOError
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}"


def open_record(side: Side, location: Location, *, versions: bool) -> ListingRecord:
    """The record of a listing of this place. Removes records that are older than a day.

    `versions`: the listing has all versions. Raises ConfigError for unknown endpoints or profiles.
    """
    service = service_of(side)
    identity = {
        "bucket": location.bucket,
        "prefix": location.key,
        "versions": versions,
        "service": service,
        "account": None if service.is_aws else [account_of(side), os.environ.get("AWS_ACCESS_KEY_ID")],
        "owner": side.owner,
        "sealift": __version__,
    }
    spelled = json.dumps(identity, sort_keys=True).encode("utf-8", "surrogatepass")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    folder, now = cache / "sealift" / "listings", time.time()
    with contextlib.suppress(OSError):
        for old in folder.iterdir():
            if old.is_dir() and old.stat().st_mtime < now - MAX_AGE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    return ListingRecord(folder / hashlib.sha256(spelled).hexdigest()[:32], now)


def describe_age(records: Sequence[ListingRecord]) -> str:
    """What a plan says of a continued listing: how old its first part is. Empty for a new one."""
    since = [record.begun_at for record in records if record.left is not None]
    return f", of which the first part is as of {_spelled(min(since))}" if since else ""


def _spelled(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_private(folder: Path) -> bool:
    """Whether no other user can have written to the folder."""
    found = folder.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read_state(folder: Path, now: float) -> _State | None:
    """The state of a record that may be continued. None without a record, and for an old one."""
    try:
        if not _is_private(folder):
            return None
        state = msgspec.json.decode((folder / "state.json").read_bytes(), type=_State)
    except (OSError, ValueError):
        return None
    return state if now - MAX_AGE_SECONDS < state.begun_at <= now else None
