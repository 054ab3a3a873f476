"""Owner of a run: the command, the submission to Batch or the cancel that came last.

    <ledger>/runs/<run id>/owner/000001.json

Each document is written once, under the next number. A look is a HEAD of the number after one's own:
if it is there, the run has another owner, and the worker ends with an exit code that Batch does not
retry. A worker looks every `LOOK_SECONDS` and at each checkpoint. Without an answer for
`SILENT_SECONDS` it writes a checkpoint and ends.

The next owner waits for nobody, so two workers may do a row at once. That is harmless:

| a write                           | done twice, or late                                               |
|-----------------------------------|-------------------------------------------------------------------|
| an object, a copy, a delete marker| has a condition: the second one is refused, and its worker looks   |
| an upload in parts                | is its attempt's, and appears only by a write with a condition     |
| an abort of an upload             | is of the attempt's own, before the run has ended (`uploads`)      |
| an annotation, a restore request  | says the same again                                                |
| a file of the ledger              | has a name of its own, or is written once                          |
| an outcome                        | counts once: the fold takes one for each row                       |
| a delete of an original           | needs a look that began at most `FRESH_SECONDS` before             |

Where a server ignores conditions (`--unguarded`), each write is looked at first instead, and the
plan says that a race can lose a write.

No clock is compared with another: each worker measures from its own looks, on a clock that also runs
while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from jobs.core.elapsed import elapsed_seconds
from jobs.core.model import ObjectRef
from jobs.errors import Conflict, Interrupted, NotFound, PreconditionFailed, TakenOver, Unavailable
from jobs.ledger.files import last_number, numbered
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import retry

LOOK_SECONDS = 30.0
SILENT_SECONDS = 60.0
FRESH_SECONDS = 5.0
FOLDER = "owner/"
BATCH = "batch-"
"""The prefix of an owner's id that is a submission to Batch."""


def process_began(pid: int) -> str | None:
    """The boot of this machine and the tick of it at which a process began: no later one of the same id has
    both. None where the system has no /proc. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        tick = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {tick}"
    except (OSError, IndexError):
        return None


class Owner(Struct):
    """One owner of a run, as those see it who work for it. `number` 0: nobody has claimed the run."""

    ledger: Ledger
    run_id: str
    number: int
    clock: Callable[[], float] = elapsed_seconds
    lost: TakenOver | None = None
    """Who owns the run since, if anybody does."""
    looked_at: float = -math.inf
    """When the last look that was answered began."""
    _may_delete: bool = True
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def age_seconds(self) -> float:
        """How long ago the last look began that was answered."""
        return self.clock() - self.looked_at

    async def look(self) -> None:
        """Raises TakenOver if the run has another owner since. Raises StoreError without an answer."""
        began, name = self.clock(), FOLDER + numbered(self.number + 1)
        if self.lost is None:
            try:
                await self.ledger.store.head(ObjectRef(*self.ledger.at(self.run_id, name)))
            except NotFound:
                self.looked_at = max(self.looked_at, began)  # a slow look may end after one that began later
                return
            by = await self.ledger.read(self.run_id, name, dict)
            self.lost = TakenOver(f"run {self.run_id}: {by.get('what', 'another command')} took over")
        raise self.lost

    async def check(self) -> float:
        """Call this before each delete. Returns the moment by which it has to be sent.

        Raises TakenOver, and Interrupted after `end_deletes` or without an answer.
        """
        if not self._may_delete:
            raise Interrupted(f"run {self.run_id}: stopped before a delete: what is deleted is recorded")
        async with self._looking:  # many wait here at once: one look serves them all
            if self.lost is not None or self.age_seconds > FRESH_SECONDS / 2:
                try:
                    await retry(self.look)
                except (Unavailable, Conflict) as error:  # the delete's own error would say that it may be done
                    raise Interrupted(f"run {self.run_id}: the ledger does not say who owns it: {error}") from error
        return self.looked_at + FRESH_SECONDS

    def end_deletes(self) -> None:
        """Refuse all further deletes."""
        self._may_delete = False


async def claim_run(ledger: Ledger, run_id: str, what: str, *, owner_id: str = "") -> Owner:
    """Own the run from now on: the workers of all earlier owners stop.

    `what`: the owner, for people. `owner_id`: all who claim the run by this id are one owner, whoever
    owns the run since. Empty: this process, another owner for each call.
    """
    document: dict[str, Any] = {"id": owner_id, "what": what}
    if not owner_id:  # the rest is for people who read it, and for those who ask whether the process lives
        since, pid, host = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), os.getpid(), os.uname().nodename
        document = {"id": secrets.token_hex(8), "what": f"{what} (process {pid} on {host})", "host": host, "pid": pid}
        document |= {"since": since, "began": process_began(pid)}
    for number in itertools.count(1):
        with contextlib.suppress(PreconditionFailed):
            await ledger.write_document(run_id, FOLDER + numbered(number), document)
            return Owner(ledger, run_id, number)
    raise AssertionError("numbers have no end")


async def last_owner(ledger: Ledger, run_id: str) -> tuple[int, Mapping[str, Any]]:
    """The number and the document of the run's owner. 0, and an empty one, for a run without an owner."""
    number = await last_number(ledger.store, ledger.at(run_id, FOLDER))
    return number, await ledger.read(run_id, FOLDER + numbered(number), dict) if number else {}
