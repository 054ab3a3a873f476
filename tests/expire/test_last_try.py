"""Expire where S3 never answers for one object: the outcomes of the others are true."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from jobs.core.model import Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, PartlyDone, Status
from jobs.core.run import Plan, ShardSummary
from jobs.errors import Interrupted, StoreError, Unavailable
from jobs.expire.job import Expire
from jobs.expire.undo import unhide
from jobs.ledger.ledger import Ledger
from jobs.runs.worker import Worker
from jobs.s3.store import Deleted
from jobs.tables.rows import expiry_schema, read_outcomes, write_parquet
from tests.expire.scene import Shop, job, replica, row_of

BAD = "k1"
ROWS = 4


class Sick(Shop):
    """A server that fails at each request of one kind for one object. `at`: which kind."""

    at = ""
    bad: frozenset[str] | set[str] = frozenset({BAD})
    status = 500

    def _fail(self, operation: str, bucket: str, key: str) -> None:
        if key in self.bad and self.at == f"{operation} {bucket}":
            raise Unavailable(operation, f"s3://{bucket}/{key}", "InternalError", status=self.status)

    async def head(self, ref: ObjectRef, **more: Any) -> Any:
        self._fail("head", ref.bucket, ref.key)
        return await super().head(ref, **more)

    async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
        self._fail("delete", bucket, key)
        return await super().delete(bucket, key, **more)

    async def delete_versions(self, bucket: str, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        error = Unavailable("DeleteObjects", f"s3://{bucket}/{BAD}", "InternalError", status=200)
        sick = [place for place, (key, _) in enumerate(versions) if key == BAD and self.at == f"delete {bucket}"]
        told = await super().delete_versions(bucket, [each for n, each in enumerate(versions) if n not in sick])
        for place in sick:
            told.insert(place, error)
        return told


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jobs.runs.worker", "jobs.s3.retries"):
        monkeypatch.setattr(f"{module}.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.parametrize("at", ["delete docs", "head docs", "head copies"])
@pytest.mark.parametrize(("versioned", "hidden"), [(True, False), (True, True), (False, False)])
def test_what_is_told_of_each_row_is_what_became_of_its_object(at: str, versioned: bool, hidden: bool) -> None:
    store = Sick()
    store.create_bucket("docs", versioned=versioned)
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(ROWS)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    if hidden:
        for ref in refs:
            asyncio.run(store.delete("docs", ref.key))
    store.at = at
    told = asyncio.run(work(store, rows))
    store.at = ""
    gone = {ref.key for ref in refs if not is_there(store, ref, hidden)}
    assert {key for key, status in told.items() if status is Status.EXPIRED} == gone
    assert gone == {ref.key for ref in refs} - {BAD}
    assert told[BAD] is Status.FAILED
    if at == "delete docs" and versioned and not hidden:
        assert asyncio.run(unhide(store, job(store).tombstones)).markers == len(gone)


def test_where_all_objects_fail_the_group_gives_up_after_some_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.expire.job.FAILING_PARTS", 4)
    store, rows = sick_rows(64)
    store.bad = {row.key for row in rows}
    store.at = "head docs"
    asked = []
    real = Expire.process

    async def process(made: Expire, part: Sequence[ObjectVersion]) -> list[Outcome]:
        asked.append(len(part))
        return await real(made, part)

    monkeypatch.setattr(Expire, "process", process)
    told = asyncio.run(job(store).process_last(rows))
    assert [each.row for each in told] == list(range(64))
    assert {each.status for each in told} == {Status.FAILED}
    assert asked == [64, 32, 16, 8, 8, 16, 32]


def test_a_silent_server_is_not_asked_for_each_half() -> None:
    store, rows = sick_rows(4)
    store.at, store.status = "delete docs", 0
    told = asyncio.run(job(store).process_last(rows))
    assert [each.status for each in told] == [Status.EXPIRED, Status.FAILED, Status.EXPIRED, Status.EXPIRED]
    assert "gave up" in told[1].reason


def test_a_stop_at_the_last_try_keeps_the_outcomes_of_the_parts_before(monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = sick_rows(4)
    store.at = "delete docs"
    real = Expire.process

    async def process(made: Expire, part: Sequence[ObjectVersion]) -> list[Outcome]:
        if part[0].row >= 2:
            raise Interrupted("stopped before a delete")
        return await real(made, part)

    monkeypatch.setattr(Expire, "process", process)
    with pytest.raises(PartlyDone) as stop:
        asyncio.run(job(store).process_last(rows))
    assert [(each.key, each.status) for each in stop.value.outcomes] == [("k0", Status.EXPIRED), ("k1", Status.FAILED)]


def sick_rows(count: int) -> tuple[Sick, list[ObjectVersion]]:
    """A server with so many proven originals, and their rows."""
    store = Sick()
    store.create_bucket("docs")
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(count)]
    return store, [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]


def is_there(store: Shop, ref: ObjectRef, hidden: bool) -> bool:
    """Whether the original is as it was: current or, if others hid it before, there at all."""
    versions = asyncio.run(store.list_versions("docs", ref.key)).entries
    return any(not each.is_delete_marker and (hidden or each.is_latest) for each in versions)


async def work(store: Shop, rows: Sequence[ObjectVersion]) -> dict[str, Status]:
    """What a worker makes of the rows: key → status."""
    ledger = Ledger(store, Location("ledger", "shard"))
    columns = {name: [getattr(row, name) for row in rows] for name in expiry_schema().names}
    await ledger.write_shard("run", 0, write_parquet(pa.table(columns, schema=expiry_schema())))
    await ledger.publish_plan("run", Plan(len(rows), 0, (ShardSummary(len(rows), 0),)))
    await Worker(ledger, "run", 0, job(store)).run()
    [checkpoint] = await ledger.checkpoints("run")
    data = await ledger.checkpoint_data("run", checkpoint, range(len(rows)))
    return {outcome.key: outcome.status for outcome in read_outcomes(data)}
