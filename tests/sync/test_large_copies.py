"""Copies in parts that fail, are killed, and go on: what is sent again, what is believed, and what is left."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectVersion, Route
from jobs.core.outcome import Evidence, Status
from jobs.errors import Conflict, StoreError, Throttled, Unavailable
from jobs.ledger.ledger import Ledger
from jobs.ledger.uploads import ShardUploads, unfinished_uploads
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import Upload
from jobs.s3.uploads import abort_unfinished
from jobs.sync.key import Sides, SyncOptions
from jobs.sync.table import Overwrite
from tests.doubles.hooks import kill, names, refuse, watch
from tests.doubles.memory_store import MemoryStore
from tests.sync.scene import COPY, KIB, PARTS, ROUTE, bodies, job, make_store, put, put_in_parts, replicate

PLACE = ROUTE.destination
NUMBERS = itertools.count()
RUN = "20261125T003345Z-replicate-aaaaaa"
BODY = b"S" * (11 * KIB)
MARKER = None


def records_of(store: MemoryStore, run_id: str = RUN) -> ShardUploads:
    """What a new attempt at the shard knows."""
    return ShardUploads(Ledger(store, Location("ledger", "x")), run_id, 0, f"attempt{next(NUMBERS)}")


async def unfinished(store: MemoryStore) -> list[Upload]:
    return await unfinished_uploads(Ledger(store, Location("ledger", "x")), RUN)


async def end_run(store: MemoryStore) -> list[Upload]:
    """Abort what the run has left, as its fold does. Returns the uploads that are there then."""
    await abort_unfinished(store, await unfinished(store), PLACE)
    return store.uploads("destination")


async def kill_copy(
    store: MemoryStore, row: ObjectVersion, number: int, operation: str = "copy_part", run_id: str = RUN, **options: Any
) -> Upload:
    """Copy the row until the request `number` of this operation. Returns the upload that is left."""
    worker = job(store, records_of(store, run_id), **{**PARTS, **options})
    await kill(store, operation, number, worker.process([row]))
    return store.uploads("destination")[-1]


async def go_on(store: MemoryStore, row: ObjectVersion, **options: Any) -> tuple[Status, Evidence]:
    """As another attempt at the shard."""
    outcome = await replicate(store, row, records=records_of(store), **{**PARTS, **options})
    return outcome.status, outcome.evidence


@pytest.mark.parametrize("has_checksum", [True, False])
async def test_a_copy_in_thousands_of_parts_that_was_killed_sends_one_percent_again_at_most(
    has_checksum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.core.part_sizes.MIN_PART_BYTES", 1)
    store, count = make_store(default_checksum="CRC64NVME" if has_checksum else None), 2_000
    tiny: dict[str, Any] = {"multipart_threshold_bytes": 1, "part_size_bytes": 1}
    row = await put(store, bytes(count))
    await kill_copy(store, row, count * 9 // 10 + 1, **tiny)
    requests = watch(store)
    assert (await go_on(store, row, **tiny))[0] is Status.DONE
    assert count // 10 <= names(requests).count("copy_part") <= count * 11 // 100
    assert (bodies(store), store.uploads("destination")) == ([bytes(count)], [])


@pytest.mark.parametrize(
    ("sizes", "killed_at", "sent_again", "evidence"),
    # Uneven parts prove nothing: 10, 6 and 10 KiB are as many as equal ones would be.
    [([31], 4, 4, Evidence.CHECKSUM), ([10, 6, 10], 3, 4, Evidence.NONE)],
)
async def test_an_upload_goes_on_with_the_parts_that_are_there_and_proves_the_copy_as_before(
    sizes: list[int], killed_at: int, sent_again: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.s3.multipart_copy.PARTS_IN_FLIGHT", 1)
    store = make_store()
    pieces = [bytes([size]) * (size * KIB) for size in sizes]
    row = await (put_in_parts(store, *pieces, algorithm="SHA256") if len(pieces) > 1 else put(store, pieces[0]))
    await kill_copy(store, row, killed_at)
    requests = watch(store)
    assert await go_on(store, row) == (Status.DONE, evidence)
    assert (names(requests).count("copy_part"), names(requests).count("create_multipart")) == (sent_again, 0)
    assert bodies(store) == [b"".join(pieces)]
    assert await unfinished(store) == []


@pytest.mark.parametrize(
    ("body", "attributes"),
    [(b"y" * len(BODY), {}), (b"S" * (12 * KIB), {}), (BODY, {"metadata": {"other": "1"}}), (BODY, None)],
)
async def test_an_upload_of_another_source_or_with_a_part_of_another_is_not_gone_on_with_and_aborted_at_the_runs_end(
    body: bytes, attributes: Any
) -> None:
    store = make_store()
    row = await put(store, BODY)
    left = await kill_copy(store, row, 3)
    if attributes is None:
        await store.put_part(left, 2, b"of another's")
    else:
        row = await put(store, body, **attributes)
    assert (await go_on(store, row))[0] is Status.DONE
    assert (bodies(store), store.uploads("destination")) == ([body], [left])
    assert await end_run(store) == []


async def test_uploads_that_this_run_did_not_record_are_left_alone() -> None:
    store = make_store()
    row = await put(store, BODY)
    foreign = await store.create_multipart(COPY, Attributes())
    theirs = await kill_copy(store, row, 2, run_id=RUN.replace("aaaaaa", "bbbbbb"))
    assert (await go_on(store, row))[0] is Status.DONE
    assert await end_run(store) == [foreign, theirs]


async def test_a_forged_record_makes_nobody_abort_an_upload_elsewhere() -> None:
    store = make_store()
    row = await put(store, BODY)
    elsewhere = Route(ROUTE.source, Location("source", "out/"))
    options, budget = SyncOptions.from_dict({"is_replay": True, **PARTS}), ByteBudget(64 * KIB)
    worker = Sides(store, store, elsewhere, options, budget, records_of(store))
    await kill(store, "copy_part", 2, worker.process([row]))
    await end_run(store)
    assert len(store.uploads("source")) == 1


@pytest.mark.parametrize("operation", ["copy_part", "complete_multipart", "create_multipart", "list_parts"])
@pytest.mark.parametrize("kind", [Throttled, Unavailable])
async def test_a_request_that_fails_for_a_moment_is_sent_again_and_nothing_else(
    operation: str, kind: type[StoreError]
) -> None:
    store = make_store()
    row = await put(store, BODY)
    left = await kill_copy(store, row, 2)
    is_new = operation == "create_multipart"
    if is_new:
        await store.abort_multipart(left)
    requests = watch(store)
    error = kind(operation, "k", "InternalError", "", 200)
    store.hook(**{operation: refuse(error, lambda request: names(requests).count(operation) <= 2)})
    assert (await go_on(store, row))[0] is Status.DONE
    assert {each: names(requests).count(each) for each in ("create_multipart", "copy_part", "complete_multipart")} == {
        "create_multipart": is_new * 3,
        "copy_part": 2 + is_new + 2 * (operation == "copy_part"),
        "complete_multipart": 1 + 2 * (operation == "complete_multipart"),
    }


async def test_a_row_that_is_tried_again_goes_on_with_its_upload() -> None:
    store = make_store()
    row, records = await put(store, bytes(31 * KIB)), records_of(store)
    down = Unavailable("UploadPartCopy", "k", "InternalError", "", 500)
    store.hook(copy_part=refuse(down, lambda request: request.arguments["number"] == 7))
    with pytest.raises(Unavailable):
        await replicate(store, row, records=records, **PARTS)
    store.hook(copy_part=None)
    requests = watch(store)
    assert (await replicate(store, row, records=records, **PARTS)).status is Status.DONE
    assert (names(requests).count("copy_part"), names(requests).count("create_multipart")) == (1, 0)


@pytest.mark.parametrize("is_abort_refused", [False, True])
async def test_an_upload_that_ends_in_a_race_is_aborted_sooner_or_later(
    is_abort_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, though parts in flight survive two aborts, or at the end of the run."""
    store = make_store()
    row, records = await put(store, BODY), records_of(store)
    store.hook(complete_multipart=refuse(Conflict("CompleteMultipartUpload", "k", "Raced", "", 409)))
    monkeypatch.setattr("jobs.sync.key.ROUNDS", 1)
    if is_abort_refused:
        store.hook(abort_multipart=refuse(Unavailable("AbortMultipartUpload", "k", "InternalError", "", 500)))
    store.survivors = 2
    with pytest.raises(Conflict):
        await replicate(store, row, records=records, **PARTS)
    assert len(store.uploads("destination")) == is_abort_refused
    store.hook(abort_multipart=None)
    assert await end_run(store) == []


async def overtake(store: MemoryStore, body: bytes | None) -> None:
    """What others do at the copy's key."""
    await (store.delete(COPY) if body is MARKER else put(store, body, COPY))


@pytest.mark.parametrize(("versioned", "other"), [(True, MARKER), (True, b"foreign"), (False, b"foreign")])
async def test_an_upload_that_was_overtaken_ends_below_and_the_copy_is_made_again_on_top(
    versioned: bool, other: bytes | None
) -> None:
    store = make_store(versioned=versioned, clock=time.time)
    row = await put(store, BODY)
    await kill_copy(store, row, 3)
    await overtake(store, other)
    status, _ = await go_on(store, row, overwrite=Overwrite.ALWAYS)
    assert status in (Status.DONE, Status.SAME)
    assert (bodies(store), await end_run(store)) == ([BODY, other, BODY] if versioned else [BODY], [])


async def put_by(store: MemoryStore, kind: str) -> ObjectVersion:
    """A source object whose checksum is `kind`: of the whole object, of its parts, or missing."""
    if kind in ("whole", "none"):
        return await put(store, BODY)
    pieces = [BODY[start : start + 5 * KIB] for start in range(0, len(BODY), 5 * KIB)]
    return await put_in_parts(store, *pieces, algorithm=kind)


@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("kind", ["whole", "CRC32C", "SHA256", "none"])
async def test_parts_that_were_there_are_published_only_if_the_source_proves_them(kind: str, is_forged: bool) -> None:
    store = make_store(default_checksum=None if kind == "none" else "CRC64NVME")
    row = await put_by(store, kind)
    left = await kill_copy(store, row, 3)
    if is_forged:
        await store.put_part(left, 1, b"X" * (5 * KIB))
    requests = watch(store)
    is_refused = is_forged and kind != "none"
    assert await go_on(store, row) == (Status.DONE, Evidence.NONE if kind == "none" else Evidence.CHECKSUM)
    assert bodies(store) == [BODY]
    assert names(requests).count("create_multipart") == is_refused
    assert await end_run(store) == []


@pytest.mark.parametrize(("forged", "sent_again"), [(None, 1), (1, 2), (3, 1)])
async def test_a_part_without_a_checksum_is_believed_only_if_this_run_sent_it(
    forged: int | None, sent_again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.s3.multipart_copy.PARTS_IN_FLIGHT", 1)
    store = make_store(default_checksum=None)
    row = await put(store, BODY)
    left = await kill_copy(store, row, 3)
    if forged is not None:
        start = (forged - 1) * 5 * KIB
        await store.put_part(left, forged, b"X" * min(5 * KIB, len(BODY) - start))
    requests = watch(store)
    assert await go_on(store, row) == (Status.DONE, Evidence.NONE)
    assert names(requests).count("copy_part") == sent_again
    assert (bodies(store), store.uploads("destination")) == ([BODY], [])


def backup(store: MemoryStore, **options: Any) -> Sides:
    chosen = SyncOptions.from_dict({"is_replay": True, "all_versions": True, **PARTS, **options})
    return Sides(store, store, ROUTE, chosen, ByteBudget(64 * KIB), records_of(store))


async def test_the_newest_version_ends_on_top_though_an_older_one_came_while_its_copy_was_killed() -> None:
    """The one below it comes in parts as well, and is read as itself."""
    store, below = make_store(), b"b" * len(BODY)
    rows = [(await put(store, body))._replace(row=row) for row, body in enumerate([b"1", below, BODY])]
    await kill(store, "copy_part", 6, backup(store).process(rows[1:]))
    await backup(store, limit_bytes=6 * KIB).process(rows[:1])
    await backup(store).process(rows[1:])
    assert (bodies(store)[0], bodies(store)[-1]) == (below, BODY)


@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("kept", ["CRC64NVME", None])
async def test_a_stream_that_was_killed_sends_no_part_again_that_has_the_sources_bytes(
    is_forged: bool, kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads all of the source again: the whole is hashed. A part is believed by the SHA-256 of these bytes or, where
    it has the source's weaker checksum, by its ETag in the ledger as well.
    """
    monkeypatch.setattr("jobs.s3.multipart_copy.PARTS_IN_FLIGHT", 1)
    store = make_store(default_checksum=kept)
    body = b"".join(bytes([number]) * (8 * KIB) for number in range(5)) + b"end"
    row = await put(store, body)
    left = await kill_copy(store, row, 4, "put_part", streamed=True)
    if is_forged:
        await store.put_part(left, 2, b"!" * (8 * KIB))
    requests = watch(store)
    assert await go_on(store, row, streamed=True) == (Status.DONE, Evidence.MD5_ETAG)
    assert [each.algorithm for each in store.stored(*COPY[:2])[-1].checksums] == [kept or "SHA256"]
    assert names(requests).count("put_part") == 3 + is_forged
    assert names(requests).count("create_multipart") == 0
    assert bodies(store) == [body]
    assert await unfinished(store) == []


async def test_a_stream_goes_on_with_no_upload_of_a_copy_by_the_service() -> None:
    """Its parts have other sizes and another checksum."""
    store = make_store()
    row = await put(store, b"x" * (21 * KIB))
    await kill_copy(store, row, 3)
    requests = watch(store)
    await go_on(store, row, streamed=True)
    assert names(requests).count("create_multipart") == 1
    assert bodies(store) == [b"x" * (21 * KIB)]
