"""The guard of a ledger write, by the table of `jobs.ledger.write_rules`."""

from __future__ import annotations

from jobs.ledger.write_rules import Change, change_of
from jobs.s3.store import ABSENT, UNGUARDED, Guard


def ledger_guard(name: str, replaced_etag: str | None = None) -> Guard:
    """The condition of a write of the file `name`, relative to the ledger.

    `replaced_etag`: the ETag of the file to replace. Raises ValueError when the table forbids that.
    """
    change = change_of(name)
    if replaced_etag is not None:
        if change is not Change.KNOWN:
            raise ValueError(f"{name} is never replaced")
        return Guard(etag=replaced_etag)
    return UNGUARDED if change is Change.ALWAYS else ABSENT
