"""Leases: who may work at a run, and at one of its shards. The last claim wins.

    <ledger>/runs/<run id>/
      launches/000000.json             a command, a submission to Batch, or a cancel: the last one wins
      leases/00000/000000.json         an attempt at shard 0: the last one wins
      leases/00000/000000-ended.json   that attempt has ended and touches no object any more

Each document is written once, under the next free number. A worker looks for the document with the
number after its own, and stops when it exists. It sends a write only after a look that found no
such document. If the last look is older than `FRESH_SECONDS`, the worker looks again. If that new
look takes long, it must have begun at most `OLDEST_LOOK_SECONDS` ago.

So a new attempt has its shard for itself `LEASE_SECONDS` after its own claim at the latest, and
at once if the attempt before it has ended. No clock is compared with another one: each worker
measures from its own requests, on a clock that also runs while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import Location, ObjectRef
from jobs.errors import Interrupted, LedgerError, NotFound, PreconditionFailed, StoreError, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import retry

LOOK_SECONDS = 4.0
FRESH_SECONDS = 5.0
DELETE_FRESH_SECONDS = 1.0
"""Before a write, or a delete, the worker looks again if the last look began longer ago than
this.
"""
OLDEST_LOOK_SECONDS = 10.0
"""How long ago that new look may have begun when the request is sent: the ledger may be slow.

A look that began after the next attempt's claim finds it. So an old attempt sends its last request
at most 10 s after that claim. The next attempt sends its first one `LEASE_SECONDS` after it, which
leaves the last request 10 s to end.
"""
LEASE_SECONDS = 20.0
"""How long an attempt waits for an earlier one that has not ended.

The last request of that one is over by then.
"""
POLL_SECONDS = 1.0

LAUNCHES, LEASES, ENDED = "launches/", "leases/", "-ended.json"
BATCH = "batch-"
"""The prefix of a launch's id that is a submission to Batch."""


def holder(batch_job_id: str | None) -> dict[str, Any]:
    """This process, for people who read its claim in the ledger."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"host": os.uname().nodename, "pid": os.getpid(), "batch_job_id": batch_job_id, "since": since}


class Launch(NamedTuple):
    """A launch: its number in the run, and its id. `batch-000` is the first submission to Batch."""

    number: int
    id: str


class OpenLease(NamedTuple):
    """An attempt at a shard that has not ended, and the process that made it."""

    shard: int
    number: int
    holder: Mapping[str, Any]

    def __str__(self) -> str:
        return f"shard {self.shard} by {holder_text(self.holder)} since {self.holder.get('since')}"


def holder_text(document: Mapping[str, Any]) -> str:
    """Who wrote a launch or a lease, for people."""
    if document.get("batch_job_id"):
        return f"Batch job {document['batch_job_id']}"
    return f"process {document.get('pid')} on {document.get('host')}"


async def write_launch(ledger: Ledger, run_id: str, launch_id: str, who: Mapping[str, Any], what: str) -> Launch:
    """Claim the run: the workers of all earlier launches stop.

    `what` describes the launch to people. If the last launch has this id already, it is returned.
    """
    last = await last_launch(ledger, run_id)
    if last is not None and last.id == launch_id:
        return last
    document = {**who, "id": launch_id, "what": what, "token": secrets.token_hex(8)}
    number = await _write_next(ledger, run_id, LAUNCHES, 0 if last is None else last.number + 1, document)
    return Launch(number, launch_id)


async def last_launch(ledger: Ledger, run_id: str) -> Launch | None:
    """The launch that wins. None for a run whose workers people started by hand."""
    names = await ledger.names(run_id, LAUNCHES)
    number = _next(names) - 1
    return Launch(number, await _launch_id(ledger, run_id, f"{number:06d}.json")) if number >= 0 else None


async def launch_ids(ledger: Ledger, run_id: str) -> set[str]:
    """The ids of all launches of a run."""
    names = await ledger.names(run_id, LAUNCHES)
    return {await _launch_id(ledger, run_id, name) for name in names}


async def _launch_id(ledger: Ledger, run_id: str, name: str) -> str:
    return str((await ledger.document(run_id, LAUNCHES + name)).get("id", ""))


async def open_leases(ledger: Ledger, run_id: str, limit: int) -> list[OpenLease]:
    """The first `limit` attempts that have not ended: at work, killed, or about to stop."""
    names = set(await ledger.names(run_id, LEASES))
    leases = []
    for name in sorted(name for name in names if _is_open(name, names))[:limit]:
        shard = _number(name.partition("/")[0])
        leases.append(OpenLease(shard, _number(name), await ledger.document(run_id, LEASES + name)))
    return leases


@dataclass(slots=True)
class Lease:
    """One attempt's right to work at a shard.

    `launch_id`: the launch that started it. None: a person did.
    """

    ledger: Ledger
    run_id: str
    shard: int
    launch_id: str | None = None
    who: Mapping[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = elapsed_seconds
    superseded_by: str = field(default="", init=False)
    """The launch that has claimed the whole run since, if any."""
    _launch: Launch | None = field(default=None, init=False)
    _number: int = field(default=-1, init=False)
    _looked_at: float = field(default=0.0, init=False)
    """When the last look that ended well began."""
    _look_ended_at: float = field(default=0.0, init=False)
    _refusal: str = field(default="", init=False)
    _may_delete: bool = field(default=True, init=False)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def claim(self, must_end: Callable[[], bool]) -> None:
        """Claim the shard, and wait for earlier attempts that may be at work, unless `must_end`.

        Raises Interrupted when another launch has claimed the run, or another attempt the shard.
        """
        self._looked_at = self.clock()
        self._launch = await last_launch(self.ledger, self.run_id)
        if self.launch_id is not None and (self._launch is None or self._launch.id != self.launch_id):
            name = f"{LAUNCHES}{self._launch.number if self._launch else 0:06d}.json"
            self._lose(name, await self.ledger.document(self.run_id, name))
        names = await self.ledger.names(self.run_id, self._folder)
        document = {**self.who, "launch": self.launch_id, "token": secrets.token_hex(8)}
        self._number = await _write_next(self.ledger, self.run_id, self._folder, _next(names), document)
        claimed_at = self.clock()
        while self._number > 0 and (rivals := await self._rivals()) and not must_end():
            if self.clock() - claimed_at >= LEASE_SECONDS:
                await asyncio.gather(*map(self._write_end, rivals))
                return
            await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Raises Interrupted when another launch has claimed the run, or another attempt the shard,
        since.
        """
        began = self.clock()
        following = 0 if self._launch is None else self._launch.number + 1
        launches, claims = f"{LAUNCHES}{following:06d}.json", f"{self._folder}{self._number + 1:06d}.json"
        for name, is_there in zip(
            (launches, claims), await asyncio.gather(self._exists(launches), self._exists(claims)), strict=True
        ):
            if not is_there:
                continue
            document = await self.ledger.document(self.run_id, name)
            if name == launches and document.get("id") == self.launch_id:  # two callers made the same submission
                self._launch = Launch(following, str(document["id"]))
                await self.look()
                return
            self._lose(name, document)
        self._looked_at = max(self._looked_at, began)  # a slow look may end after one that began later
        self._look_ended_at = self.clock()

    async def hold(self, *, deletes: bool = False) -> None:
        """Call this before each write. Raises Interrupted when the write must not be sent."""
        limit, called_at = DELETE_FRESH_SECONDS if deletes else FRESH_SECONDS, self.clock()
        if self._may_send(deletes=deletes) and called_at - self._looked_at > limit:
            async with self._looking:  # many wait here at once: one look serves them all
                if self._look_ended_at < called_at or self._age() > OLDEST_LOOK_SECONDS:
                    await self._look_often()
            self._may_send(deletes=deletes)

    def end_deletes(self) -> None:
        """Refuse all further deletes."""
        self._may_delete = False

    def end_writes(self, why: str) -> None:
        """Refuse all further writes, for this reason."""
        self._refusal = self._refusal or why

    async def end(self) -> None:
        """Record that this attempt sends nothing more, so that the next attempt need not wait."""
        if self._number >= 0:
            await self._write_end(self._number)

    @property
    def _folder(self) -> str:
        return f"{LEASES}{self.shard:05d}/"

    def _may_send(self, *, deletes: bool) -> bool:
        """True, or raises Interrupted."""
        if self._refusal:
            raise Interrupted(self._refusal)
        if deletes and not self._may_delete:
            raise Interrupted(
                f"run {self.run_id}, shard {self.shard}: stopped before a delete: what is deleted is recorded"
            )
        return True

    def _age(self) -> float:
        return self.clock() - self._looked_at

    async def _look_often(self) -> None:
        try:
            await retry(self._look_in_time)
        except Unavailable as error:
            self.end_writes(
                f"run {self.run_id}: cannot read from the ledger whether shard {self.shard} is still ours: {error}"
            )

    async def _look_in_time(self) -> None:
        """Raises Unavailable for a look that took longer than a write may rely on."""
        await self.look()
        if (seconds := self._age()) > OLDEST_LOOK_SECONDS:
            limit = f"a write needs an answer within {OLDEST_LOOK_SECONDS:.0f} s"
            why = f"the ledger takes too long to answer, {seconds:.1f} s: {limit}"
            place, again = self.ledger.uri(self.run_id, self._folder), "run it again when the ledger is faster"
            raise Unavailable("look at", place, "SlowAnswer", why, advice=again)

    async def _rivals(self) -> list[int]:
        """The numbers of the earlier attempts that may be at work.

        The local executor waits for a worker's end before it starts the next one at a shard. So an
        attempt of the same launch is dead.
        """
        names = await self.ledger.names(self.run_id, self._folder)
        open_ = [_number(name) for name in names if _is_open(name, names) and _number(name) < self._number]
        if self.launch_id is None or self.launch_id.startswith(BATCH):
            return open_
        rivals = []
        for number in open_:
            document = await self.ledger.document(self.run_id, f"{self._folder}{number:06d}.json")
            if document.get("launch") == self.launch_id:
                await self._write_end(number)
            else:
                rivals.append(number)
        return rivals

    async def _write_end(self, number: int) -> None:
        with contextlib.suppress(StoreError):  # then the next attempt waits
            name = f"{self._folder}{number:06d}{ENDED}"
            await self.ledger.write_document(self.run_id, name, {"at": time.time(), "by": dict(self.who)})

    async def _exists(self, name: str) -> bool:
        place = Location.parse(self.ledger.uri(self.run_id, name))
        try:
            await self.ledger.store.head(ObjectRef(place.bucket, place.key))
        except NotFound:
            return False
        return True

    def _lose(self, name: str, document: Mapping[str, Any]) -> NoReturn:
        if name.startswith(LAUNCHES):
            self.superseded_by = f"{document.get('what', 'another command')} ({holder_text(document)}) took over"
            why = f"run {self.run_id}: {self.superseded_by}"
        else:
            why = f"run {self.run_id}, shard {self.shard}: {holder_text(document)} took over"
        self.end_writes(why)
        raise Interrupted(why)


async def _write_next(ledger: Ledger, run_id: str, folder: str, number: int, document: Mapping[str, Any]) -> int:
    """Write the document under the first free number from this one on. Returns the number."""
    while True:
        try:
            await ledger.write_document(run_id, f"{folder}{number:06d}.json", document)
            return number
        except PreconditionFailed:
            number += 1


def _next(names: Sequence[str]) -> int:
    """The first free number.

    A worker looks there, and a forged document with a higher number must not hide it.
    """
    taken = set(map(_number, names))
    return next(number for number in itertools.count() if number not in taken)


def _number(name: str) -> int:
    """The number in a document's name. Raises LedgerError for an invalid name."""
    digits = name.rpartition("/")[2].removesuffix(ENDED).removesuffix(".json")
    if not (digits.isascii() and digits.isdigit()):
        raise LedgerError(f"{name!r} is not a lease or a launch", advice="remove it from the ledger")
    return int(digits)


def _is_open(name: str, names: Collection[str]) -> bool:
    """True for the claim of an attempt without a record of its end."""
    return not name.endswith(ENDED) and name.removesuffix(".json") + ENDED not in names
