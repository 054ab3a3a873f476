"""Objects that a night leaves to people, each counted once.

The reconciliation, the sample, the deep verification and the look at the replica may all find one
object.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from jobs.core.category import Category
from jobs.core.enums import Deletes
from jobs.core.model import Location, ObjectRef
from jobs.core.outcome import Status
from jobs.errors import LedgerError, NotFound
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.nights.calendar import Stage
from jobs.policy.model import Pair
from jobs.runs.request import failures_of
from jobs.s3.downloads import download

_MEMORY = "256MB"
FIRST_KEYS = 10
"""How many of the objects that are left a summary and its page name."""


class KeyFile(NamedTuple):
    """A Parquet file that names objects in its column `key`, and which of its rows count, in SQL.

    `prefix`: what its keys begin with and those of the source do not.
    """

    uri: str
    condition: str
    prefix: str = ""


class CopyRules(NamedTuple):
    """What a pair says of its copies, as far as counting needs it.

    `keeps_extra`, `replica_keeps_extra`: copies without an original are no finding there.
    `copy_prefix`: what the key of a copy has in front of that of its source.
    """

    keeps_extra: bool
    replica_keeps_extra: bool
    copy_prefix: str

    @classmethod
    def of(cls, pair: Pair) -> Self:
        """What the policy says of the pair."""
        replica, is_kept = pair.replica, pair.deletes is Deletes.RETAIN
        return cls(is_kept, replica is not None and not replica.delete_markers, pair.copy_key(""))


async def find_left(ledger: Ledger, stages: Sequence[Mapping[str, Any]], rules: CopyRules) -> tuple[int, list[str]]:
    """Return how many objects the stages of a summary leave, and the keys of the first ones.

    What has no key counts as often as it was found: a line that could not be read, a row that a
    plan left out, each row of a run that stopped. Raises LedgerError, StoreError.
    """
    leaving = [stage for stage in stages if stage["left"]]
    if len(leaving) > 1:
        return await _read_left(ledger, stages, leaving, rules)
    first: list[str] = []
    with contextlib.suppress(LedgerError):  # its count is known: a file that was altered costs the names alone
        _, first = await _read_left(ledger, stages, leaving, rules) if leaving else (0, first)
    return sum(stage["left"] for stage in leaving), first


async def _read_left(
    ledger: Ledger, stages: Sequence[Mapping[str, Any]], leaving: Sequence[Mapping[str, Any]], rules: CopyRules
) -> tuple[int, list[str]]:
    """Return the same as `find_left`, from the files that name what the `leaving` stages leave."""
    import duckdb

    from jobs.tables.duck import connect, in_thread, parquet

    without_key = 0
    with tempfile.TemporaryDirectory(prefix="sealift-left-") as folder:
        scratch = Path(folder)
        with connect(scratch, memory_limit=_MEMORY) as connection:
            connection.execute("CREATE TABLE keys (key VARCHAR)")
            for number, stage in enumerate(leaving):
                found, path = 0, scratch / f"{number}.parquet"
                file = await find_left_file(ledger, stages, stage, rules)
                if file is not None and await fetch(ledger, file.uri, path):
                    key = f"CASE WHEN starts_with(key, $1) THEN substr(key, {len(file.prefix) + 1}) ELSE key END"
                    insert = f"INSERT INTO keys SELECT {key} FROM {parquet(path)} WHERE {file.condition}"
                    try:
                        [(found,)] = (await in_thread(connection, connection.execute, insert, [file.prefix])).fetchall()
                    except duckdb.Error as error:
                        raise LedgerError(f"{file.uri} cannot be read ({error}): it was altered") from error
                without_key += max(0, stage["left"] - found)
            [(keys,)] = connection.execute("SELECT count(DISTINCT key) FROM keys").fetchall()
            rows = connection.execute(f"SELECT DISTINCT key FROM keys ORDER BY key LIMIT {FIRST_KEYS}").fetchall()
    return int(keys) + without_key, [str(key) for (key,) in rows if key is not None]


async def find_left_file(
    ledger: Ledger, stages: Sequence[Mapping[str, Any]], stage: Mapping[str, Any], rules: CopyRules
) -> KeyFile | None:
    """The file that names what a stage leaves, if one does."""
    reconciled = next(each["run_id"] for each in stages if each["stage"] == Stage.RECONCILE)
    match stage["stage"]:
        case Stage.RECONCILE:
            others = [Category.MISSING, Category.STALE, *([Category.EXTRA] if rules.keeps_extra else [])]
            return KeyFile(ledger.uri(reconciled, DIFFERENCES), _findings_but(others))
        case Stage.REPLICA if stage["run_id"]:
            others = [Category.EXTRA] if rules.replica_keeps_extra else []
            return KeyFile(ledger.uri(stage["run_id"], DIFFERENCES), _findings_but(others), rules.copy_prefix)
        case Stage.REPAIR if stage["refused"]:
            return KeyFile(ledger.uri(reconciled, "repair.parquet"), "true")
    if stage["run_id"] and ((await ledger.report(stage["run_id"])) or {}).get("failures_manifest"):
        condition = "true" if stage["stage"] == Stage.REPAIR else f"status <> '{Status.CHANGED}'"
        return KeyFile(await failures_of(ledger, stage["run_id"]), condition)
    return None


def _findings_but(others: Sequence[Category]) -> str:
    """The condition of findings that are of no category of `others`."""
    from jobs.tables.duck import quoted

    return f"is_finding AND category NOT IN ({', '.join(map(quoted, others))})" if others else "is_finding"


async def fetch(ledger: Ledger, uri: str, file: Path) -> bool:
    """Download a file of the ledger. False if somebody removed it."""
    try:
        await download(ledger.store, ObjectRef(*Location.parse(uri)), file)
    except NotFound:
        return False
    return True
