"""Copies in parts that fail, are killed, and go on: what is sent again, what is believed, and what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.backup.job import Backup, BackupOptions
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.run import SPEC_VERSION
from jobs.errors import Conflict, Denied, LedgerError, StoreError, Throttled, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.ledger.uploads import ShardUploads
from jobs.replicate.decision import Overwrite
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import ABSENT, UNGUARDED
from jobs.s3.uploads import BegunUpload, abort_unfinished
from tests.doubles.memory_store import MemoryStore
from tests.doubles.sized_store import Killed, SizedStore

MIB = 1024 * 1024
TB = 10**12
PLACE = Location("destination", "out/")
ROUTE = Route(Location("source", "in/"), PLACE)
PARTS: dict[str, Any] = {"multipart_threshold_bytes": 6 * MIB, "part_size_bytes": 5 * MIB}
RUN = "20261125T003345Z-replicate-aaaaaa"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    monkeypatch.setattr("jobs.s3.uploads.backoff_seconds", lambda attempt, jitter: 0.0)


class Failing:
    """A store whose requests fail as `fail` says. `asked` has their names."""

    def __init__(self, store: MemoryStore, fail: Callable[[str, tuple[Any, ...]], BaseException | None]):
        self._store, self._fail = store, fail
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if (error := self._fail(name, arguments)) is not None:
                raise error
            return await getattr(self._store, name)(*arguments, **named)

        return call


def make_store(kind: type[MemoryStore] = MemoryStore, **options: Any) -> Any:
    store = kind(**options)
    for bucket in ("source", "destination", "ledger"):
        store.create_bucket(bucket)
    return store


def records_of(store: Any) -> ShardUploads:
    """What a new attempt at the shard knows."""
    return ShardUploads(Ledger(store, Location("ledger", "x")), RUN, 0)


async def replicate(store: Any, row: ObjectVersion, records: ShardUploads, **options: Any) -> Outcome:
    job = Replicate(store, store, ROUTE, ReplicateOptions(**options), ByteBudget(64 * MIB), records)
    [outcome] = await job.process([row])
    return outcome


async def put_source(store: MemoryStore, body: bytes = bytes(11 * MIB), **attributes: Any) -> ObjectVersion:
    written = await store.put("source", "in/k", body, Attributes(**attributes), guard=UNGUARDED)
    info = await store.head(ObjectRef("source", "in/k"))
    return ObjectVersion(0, "in/k", written.version_id, True, False, len(body), written.etag, info.last_modified, "")


def dies_at(name: str, number: int) -> Callable[[str, tuple[Any, ...]], BaseException | None]:
    """A process that is gone when it sends its request number `number` of this name, and ever after."""
    left = [number]

    def fail(operation: str, arguments: tuple[Any, ...]) -> BaseException | None:
        left[0] -= operation == name
        return Killed() if left[0] <= 0 else None

    return fail


@pytest.mark.parametrize("has_checksum", [True, False])
async def test_a_copy_of_5_tb_that_was_killed_sends_one_percent_again_at_most(has_checksum: bool) -> None:
    store = make_store(SizedStore)
    store.checksums = store.checksums if has_checksum else ()
    size_bytes = 5 * TB
    store.sizes["source", "in/k"] = size_bytes, "0" * 32 + "-9999"
    row = ObjectVersion(0, "in/k", None, True, False, size_bytes, "0" * 32 + "-9999", 1_700_000_000.0, "STANDARD")
    store.killed_at_bytes = 0.9 * size_bytes
    with pytest.raises(Killed):
        await replicate(store, row, records_of(store))
    store.killed_at_bytes = float("inf")
    outcome = await replicate(store, row, records_of(store))
    assert outcome.status is Status.COPIED
    assert size_bytes <= store.copied_bytes <= 1.01 * size_bytes
    assert store.sizes["destination", "out/k"][0] == size_bytes
    assert store.uploads("destination") == []


async def test_an_upload_goes_on_with_the_parts_that_are_there_and_proves_the_copy_as_before() -> None:
    store = make_store()
    row = await put_source(store, b"x" * (31 * MIB))
    killed = Failing(store, dies_at("copy_part", 4))
    with pytest.raises(Killed):
        await replicate(killed, row, records_of(store), **PARTS)
    resumed = Failing(store, lambda operation, arguments: None)
    outcome = await replicate(resumed, row, records_of(store), **PARTS)
    assert (outcome.status, resumed.asked.count("copy_part"), resumed.asked.count("create_multipart")) == (
        Status.COPIED, 7 - 3, 0,
    )  # fmt: skip
    assert outcome.evidence.value == "checksum"
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"x" * (31 * MIB)
    assert await records_of(store).unfinished() == []


@pytest.mark.parametrize(
    ("body", "attributes"),
    [(b"y" * (11 * MIB), {}), (b"x" * (12 * MIB), {}), (b"x" * (11 * MIB), {"metadata": {"other": "1"}})],
)
async def test_an_upload_of_another_source_version_is_aborted_and_not_gone_on_with(
    body: bytes, attributes: Any
) -> None:
    store = make_store()
    killed = Failing(store, dies_at("copy_part", 3))
    with pytest.raises(Killed):
        await replicate(killed, await put_source(store, b"x" * (11 * MIB)), records_of(store), **PARTS)
    [left] = store.uploads("destination")
    records, row = records_of(store), await put_source(store, body, **attributes)
    assert (await replicate(store, row, records, **PARTS)).status is Status.COPIED
    assert (await store.get(ObjectRef("destination", "out/k"))).data == body
    assert store.uploads("destination") == [left]
    await abort_unfinished(store, records, PLACE)
    assert store.uploads("destination") == []


async def test_an_upload_with_a_part_of_another_size_is_aborted() -> None:
    store = make_store()
    row = await put_source(store, b"x" * (11 * MIB))
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
    [left] = store.uploads("destination")
    await store.put_part("destination", "out/k", left, 2, b"of another's")
    assert (await replicate(store, row, records_of(store), **PARTS)).status is Status.COPIED
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"x" * (11 * MIB)
    assert store.uploads("destination") == []


async def test_uploads_that_this_run_did_not_record_are_left_alone() -> None:
    store = make_store()
    row = await put_source(store)
    foreign = await store.create_multipart("destination", "out/k", Attributes())
    other_run = ShardUploads(Ledger(store, Location("ledger", "x")), RUN.replace("aaaaaa", "bbbbbb"), 0)
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 2)), row, other_run, **PARTS)
    [_, theirs] = store.uploads("destination")
    records = records_of(store)
    assert (await replicate(store, row, records, **PARTS)).status is Status.COPIED
    await abort_unfinished(store, records, PLACE)
    assert store.uploads("destination") == [foreign, theirs]


async def test_a_forged_record_makes_nobody_abort_an_upload_elsewhere() -> None:
    store = make_store()
    row = await put_source(store)
    route, killed = Route(ROUTE.source, Location("source", "out/")), Failing(store, dies_at("copy_part", 2))
    elsewhere = Replicate(store, killed, route, ReplicateOptions(**PARTS), ByteBudget(64 * MIB), records_of(store))
    with pytest.raises(Killed):
        await elsewhere.process([row])
    await abort_unfinished(store, records_of(store), PLACE)
    assert len(store.uploads("source")) == 1


@pytest.mark.parametrize("name", ["copy_part", "complete_multipart", "create_multipart", "list_parts"])
@pytest.mark.parametrize("kind", [Throttled, Unavailable])
async def test_a_request_that_fails_for_a_moment_is_sent_again_and_nothing_else(
    name: str, kind: type[StoreError]
) -> None:
    store = make_store()
    row = await put_source(store)
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 2)), row, records_of(store), **PARTS)
    if name == "create_multipart":
        for upload in await records_of(store).unfinished():
            await store.abort_multipart(*upload[:3])
    left = [2]

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        left[0] -= operation == name
        return kind(operation, "k", "InternalError", "", 200) if operation == name and left[0] >= 0 else None

    again = Failing(store, fail)
    assert (await replicate(again, row, records_of(store), **PARTS)).status is Status.COPIED
    counts = {each: again.asked.count(each) for each in ("create_multipart", "copy_part", "complete_multipart")}
    is_new = name == "create_multipart"
    assert counts == {
        "create_multipart": is_new * 3,
        "copy_part": 2 + is_new + 2 * (name == "copy_part"),
        "complete_multipart": 1 + 2 * (name == "complete_multipart"),
    }


async def test_a_row_that_is_tried_again_goes_on_with_its_upload() -> None:
    store = make_store()
    row, records = await put_source(store, bytes(31 * MIB)), records_of(store)
    down = [True]

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        is_last = operation == "copy_part" and arguments[-1] == 7
        return Unavailable(operation, "k", "InternalError", "", 500) if is_last and down[0] else None

    failing = Failing(store, fail)
    with pytest.raises(Unavailable):
        await replicate(failing, row, records, **PARTS)
    assert len(store.uploads("destination")) == 1
    down[0] = False
    failing.asked.clear()
    assert (await replicate(failing, row, records, **PARTS)).status is Status.COPIED
    assert (failing.asked.count("copy_part"), failing.asked.count("create_multipart")) == (1, 0)


async def test_a_part_in_flight_that_survives_an_abort_is_aborted_again() -> None:
    store = make_store()
    row = await put_source(store)

    def changes(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        return Conflict(operation, "k", "Raced", "", 409) if operation == "complete_multipart" else None

    store.survivors = 2
    with pytest.raises(Conflict):
        await replicate(Failing(store, changes), row, records_of(store), **PARTS)
    assert store.uploads("destination") == []


async def test_an_upload_that_could_not_be_aborted_is_aborted_at_the_end_of_the_shard() -> None:
    store = make_store()
    row, records = await put_source(store), records_of(store)

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        if operation == "complete_multipart":
            return Conflict(operation, "k", "Raced", "", 409)
        return Unavailable(operation, "k", "InternalError", "", 500) if operation == "abort_multipart" else None

    with pytest.raises(Conflict):
        await replicate(Failing(store, fail), row, records, **PARTS)
    assert len(store.uploads("destination")) == 1
    await abort_unfinished(store, records, PLACE)
    assert store.uploads("destination") == []


COPY = ObjectRef("destination", "out/k")
BODY = b"S" * (11 * MIB)


async def leave_upload(store: Any) -> ObjectVersion:
    """The row of an object whose copy was killed behind its second part."""
    row = await put_source(store, BODY)
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
    return row


async def overtake(store: Any, what: str) -> None:
    """What others do at the copy's key."""
    if what == "delete marker":
        await store.delete(*COPY[:2])
    else:
        await store.put(*COPY[:2], b"foreign", Attributes(), guard=UNGUARDED)


def at_destination(store: MemoryStore, key: str = "out/k") -> list[int | None]:
    """The size of each version, oldest first. None: a delete marker."""
    found = store._buckets.named["destination"].versions.get(key, [])
    return [None if each.is_delete_marker else len(each.data) for each in found]


@pytest.mark.parametrize("denied", ["", "list_versions"])
@pytest.mark.parametrize(
    ("versioned", "what", "there"),
    [
        (True, "delete marker", [None, len(BODY)]),
        (True, "object", [7, len(BODY)]),
        (False, "object", [len(BODY)]),
    ],
)
async def test_an_upload_that_was_overtaken_is_not_gone_on_with(
    versioned: bool, what: str, there: list[int | None], denied: str
) -> None:
    store = MemoryStore()
    for bucket in ("source", "ledger"):
        store.create_bucket(bucket)
    store.create_bucket("destination", versioned)
    row = await leave_upload(store)
    await overtake(store, what)

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        is_denied = operation == denied and arguments[0] == "destination"
        return Denied(operation, "k", "AccessDenied", "", 403) if is_denied else None

    records, again = records_of(store), Failing(store, fail)
    try:
        outcome = await replicate(again, row, records, **PARTS, overwrite=Overwrite.ALWAYS)
    except Conflict:  # who may not list does not see the marker before
        assert (denied, what) == ("list_versions", "delete marker")
        outcome = await replicate(again, row, records, **PARTS, overwrite=Overwrite.ALWAYS)
        there.insert(0, len(BODY))
    assert outcome.status is Status.COPIED
    assert (await store.get(COPY)).data == BODY
    assert at_destination(store) == there
    assert store.uploads("destination") == []


@pytest.mark.parametrize("what", ["delete marker", "object"])
async def test_a_worker_whose_clock_is_wrong_by_years_sees_that_its_copy_is_not_current(what: str) -> None:
    store = make_store(clock=lambda: 1_500_000_000.0)
    row, records = await leave_upload(store), records_of(store)
    await overtake(store, what)
    with pytest.raises(Conflict, match="Raced"):
        await replicate(store, row, records, **PARTS, overwrite=Overwrite.ALWAYS)
    assert (await replicate(store, row, records, **PARTS, overwrite=Overwrite.ALWAYS)).status is Status.COPIED
    assert (await store.get(COPY)).data == BODY


class Meddled(MemoryStore):
    """Others write at the copy's key while its first part is copied."""

    meddling = ""

    async def copy_part(self, *arguments: Any) -> Any:
        what, self.meddling = self.meddling, ""
        if what:
            await overtake(self, what)
        return await super().copy_part(*arguments)

    async def put_part(self, *arguments: Any, **named: Any) -> Any:
        what, self.meddling = self.meddling, ""
        if what:
            await overtake(self, what)
        return await super().put_part(*arguments, **named)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_copy_that_a_delete_marker_overtakes_while_its_parts_are_sent_is_made_again(streamed: bool) -> None:
    store = make_store(Meddled)
    row, records = await put_source(store, BODY), records_of(store)
    store.meddling = "delete marker"
    with pytest.raises(Conflict, match="Raced"):
        await replicate(store, row, records, **PARTS, streamed=streamed)
    assert (await replicate(store, row, records, **PARTS, streamed=streamed)).status is Status.COPIED
    assert (await store.get(COPY)).data == BODY


async def put_by(store: MemoryStore, kind: str) -> ObjectVersion:
    """A source object whose checksum is `kind`: of the whole object, of its parts, or missing."""
    if kind in ("whole", "none"):
        return await put_source(store, BODY)
    upload = await store.create_multipart("source", "in/k", Attributes(), checksum_algorithm=kind, is_composite=True)
    pieces = [BODY[start : start + 5 * MIB] for start in range(0, len(BODY), 5 * MIB)]
    parts = [await store.put_part("source", "in/k", upload, n, piece) for n, piece in enumerate(pieces, 1)]
    written = await store.complete_multipart("source", "in/k", upload, parts, guard=ABSENT)
    info = await store.head(ObjectRef("source", "in/k"))
    return ObjectVersion(0, "in/k", written.version_id, True, False, len(BODY), written.etag, info.last_modified, "")


@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("kind", ["whole", "CRC32C", "SHA256", "none"])
async def test_parts_that_were_there_are_published_only_if_the_source_proves_them(kind: str, is_forged: bool) -> None:
    store = make_store(default_checksum=None if kind == "none" else "CRC64NVME")
    row = await put_by(store, kind)
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
    [left] = store.uploads("destination")
    if is_forged:
        await store.put_part(*COPY[:2], left, 1, b"X" * (5 * MIB))
    records, again = records_of(store), Failing(store, lambda operation, arguments: None)
    is_refused = is_forged and kind != "none"
    if is_refused:
        with pytest.raises(Conflict):
            await replicate(again, row, records, **PARTS)
    assert at_destination(store) == []
    outcome = await replicate(again, row, records, **PARTS)
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "none" if kind == "none" else "checksum")
    assert (await store.get(COPY)).data == BODY
    assert again.asked.count("create_multipart") == is_refused
    await abort_unfinished(store, records, PLACE)
    assert store.uploads("destination") == []


@pytest.mark.parametrize(("forged", "sent_again"), [(None, 1), (1, 2), (3, 1)])
async def test_a_part_without_a_checksum_is_believed_only_if_this_run_sent_it(
    forged: int | None, sent_again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.s3.multipart_copy.PARTS_IN_FLIGHT", 1)

    store = make_store(default_checksum=None)
    row = await put_by(store, "none")
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
    [left] = store.uploads("destination")
    if forged is not None:
        start = (forged - 1) * 5 * MIB
        await store.put_part(*COPY[:2], left, forged, b"X" * min(5 * MIB, len(BODY) - start))
    again = Failing(store, lambda operation, arguments: None)
    outcome = await replicate(again, row, records_of(store), **PARTS)
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "none")
    assert again.asked.count("copy_part") == sent_again
    assert (await store.get(COPY)).data == BODY
    assert store.uploads("destination") == []


async def test_a_record_of_parts_that_was_altered_is_refused_by_name() -> None:
    store, upload = make_store(), BegunUpload("destination", "out/k", "id", {"key": "out/k"}, 7.5)
    records = records_of(store)
    await records.begun(upload)
    await records.sent(upload, [(2, "b"), (1, "a")])
    await records.sent(upload, [(3, "c")])
    assert await records.sent_parts(upload) == {(1, "a"), (2, "b"), (3, "c")}
    assert await records.unfinished() == [upload]
    name = next(name for name in await records.ledger.names(RUN, "uploads/00000/") if "-parts-" in name)
    await store.put(
        "ledger",
        f"x/runs/{RUN}/uploads/00000/{name}",
        b'{"parts": [["1", "a"]], "spec_version": %d}' % SPEC_VERSION,
        Attributes(),
        guard=UNGUARDED,
    )
    with pytest.raises(LedgerError, match=f"{name} was altered"):
        await records.sent_parts(upload)


async def test_the_record_of_an_earlier_release_says_no_time() -> None:
    store, upload = make_store(), BegunUpload("destination", "out/k", "id", {"key": "out/k"}, 7.5)
    records = records_of(store)
    await records.begun(upload)
    [name] = await records.ledger.names(RUN, "uploads/00000/")
    document = await records.ledger.document(RUN, f"uploads/00000/{name}")
    del document["begun_at"]
    await store.put(
        "ledger", f"x/runs/{RUN}/uploads/00000/{name}", json.dumps(document).encode(), Attributes(), guard=UNGUARDED
    )
    assert await records_of(store).unfinished() == [upload._replace(begun_at=0.0)]


def back_up(store: Any, records: ShardUploads) -> Backup:
    return Backup(store, store, ROUTE, BackupOptions(**PARTS), ByteBudget(64 * MIB), records)


async def test_the_newest_version_ends_on_top_though_an_older_one_came_while_its_copy_was_killed() -> None:
    store = make_store()
    rows = [(await put_source(store, body))._replace(row=row) for row, body in enumerate([b"1", b"22", BODY])]
    with pytest.raises(Killed):
        await back_up(Failing(store, dies_at("copy_part", 3)), records_of(store)).process(rows[1:])
    late = Backup(store, store, ROUTE, BackupOptions(**PARTS, limit_bytes=6 * MIB), ByteBudget(64 * MIB))
    await late.settle("in/k", rows[:1])
    await back_up(store, records_of(store)).process(rows[1:])
    assert at_destination(store)[-1] == len(BODY)


async def test_a_backup_that_a_delete_marker_overtakes_puts_the_newest_on_top_again() -> None:
    store = make_store(Meddled)
    row = (await put_source(store, BODY))._replace(storage_class="STANDARD")
    store.meddling = "delete marker"
    [outcome] = await back_up(store, records_of(store)).process([row])
    assert outcome.status in (Status.COPIED, Status.SAME)
    assert at_destination(store) == [len(BODY), None, len(BODY)]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_backup_whose_large_copy_is_there_sends_no_part(streamed: bool) -> None:
    store = make_store()
    row = (await put_source(store, BODY))._replace(storage_class="STANDARD")
    asked = Failing(store, lambda operation, arguments: None)
    options = BackupOptions(**PARTS, streamed=streamed)
    job = Backup(asked, asked, ROUTE, options, ByteBudget(64 * MIB), records_of(store))
    assert [outcome.status for outcome in await job.process([row])] == [Status.COPIED]
    asked.asked.clear()
    assert [outcome.status for outcome in await job.process([row])] == [Status.SAME]
    assert not {"create_multipart", "copy_part", "put_part"} & set(asked.asked)


@pytest.mark.parametrize("is_forged", [False, True])
async def test_a_stream_that_was_killed_sends_no_part_again_that_has_the_sources_bytes(is_forged: bool) -> None:
    """It reads all of the source again: the whole is hashed, and a part is believed by the SHA-256 of these bytes."""

    store = make_store()
    body = b"".join(bytes([number]) * (8 * MIB) for number in range(5)) + b"end"
    row = await put_source(store, body)
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("put_part", 4)), row, records_of(store), **PARTS, streamed=True)
    [upload_id] = store.uploads("destination")
    if is_forged:
        await store.put_part("destination", "out/k", upload_id, 2, b"!" * (8 * MIB))
    resumed = Failing(store, lambda operation, arguments: None)
    outcome = await replicate(resumed, row, records_of(store), **PARTS, streamed=True)
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "md5_etag")
    assert resumed.asked.count("put_part") == 3 + is_forged
    assert resumed.asked.count("create_multipart") == 0
    assert (await store.get(COPY)).data == body
    assert await records_of(store).unfinished() == []


async def test_a_stream_goes_on_with_no_upload_of_a_copy_by_the_service() -> None:
    """Its parts have other sizes and another checksum."""

    store = make_store()
    row = await put_source(store, b"x" * (21 * MIB))
    with pytest.raises(Killed):
        await replicate(Failing(store, dies_at("copy_part", 3)), row, records_of(store), **PARTS)
    resumed = Failing(store, lambda operation, arguments: None)
    await replicate(resumed, row, records_of(store), **PARTS, streamed=True)
    assert resumed.asked.count("create_multipart") == 1
    assert (await store.get(COPY)).data == b"x" * (21 * MIB)
