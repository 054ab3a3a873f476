"""The replicate job against the in-memory store: what a server on one machine cannot be made to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Attributes, ObjectInfo, ObjectLock, Repair
from jobs.core.outcome import GOOD, Evidence, Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, Denied, NotFound, PreconditionFailed, StoreError, Throttled, Unavailable
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import UNREAD_LOCK, UNSENT
from jobs.s3.lookup import not_kept
from jobs.s3.store import UNGUARDED, CopySettings
from jobs.sync.key import Sides, SyncOptions
from tests.doubles.hooks import names, once, refuse, watch
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import (
    COPY,
    KIB,
    PARTS,
    ROUTE,
    SOURCE,
    bodies,
    make_store,
    put,
    put_in_parts,
    replicate,
    row_of,
    ticking,
)

LOCK = ObjectLock("GOVERNANCE", "2031-01-01T00:00:00Z", True)


async def test_tags_are_those_of_the_version_that_is_copied_and_not_of_one_that_came_meanwhile() -> None:
    store = make_store()
    row = (await put(store, bytes(7 * KIB), tags={"t": "old"}))._replace(version_id=None)
    store.hook(get_tags=once(lambda: put(store, bytes(7 * KIB), tags={"t": "new"})))
    assert (await replicate(store, row, **PARTS)).status in GOOD
    assert await store.get_tags(COPY) == {"t": "old"}


async def test_a_known_row_costs_one_request_guarded_at_both_ends() -> None:
    store = make_store()
    row, requests = await put(store, b"body"), watch(store)
    outcome = await replicate(store, row)
    assert (outcome.status, outcome.evidence) == (Status.DONE, Evidence.MD5_ETAG)
    [copy] = requests
    assert (copy.operation, copy.place, copy.arguments["settings"]) == ("copy", COPY, CopySettings())
    assert copy.arguments["source_etag"] == row.etag  # the answer names the version that was current
    assert copy.arguments["guard"].absent


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"sse": "aws:kms", "kms_key_id": "arn:key"}, CopySettings("STANDARD_IA", "aws:kms", "arn:key")),
        ({"storage_class": "GLACIER_IR"}, CopySettings(storage_class="GLACIER_IR")),
        ({"storage_class": "STANDARD"}, CopySettings(storage_class="STANDARD")),
    ],
)
async def test_what_is_asked_for_is_set_on_the_copy(options: dict[str, Any], settings: CopySettings) -> None:
    store = make_store()
    row, requests = await put(store, b"body", storage_class="STANDARD_IA"), watch(store)
    await replicate(store, row, **options)
    assert requests[0].arguments["settings"] == settings


async def test_a_storage_class_is_kept_and_a_lock_is_carried_when_asked() -> None:
    store = make_store(object_lock=True)
    row = await put(store, b"body", storage_class="STANDARD_IA", lock=LOCK)
    assert (await replicate(store, row, object_lock=True)).status is Status.DONE
    copied = await store.head(COPY)
    assert (copied.storage_class, copied.attributes.lock) == ("STANDARD_IA", LOCK)


async def test_parts_carry_everything_and_a_full_object_checksum_must_come_out() -> None:
    store = make_store()
    body = bytes(range(256)) * (11 * KIB // 256)
    carried: dict[str, Any] = {"headers": {"content-type": "a/b"}, "metadata": {"m": "1"}, "tags": {"t": "2"}}
    row, requests = await put(store, body, storage_class="STANDARD_IA", **carried), watch(store)
    assert (await replicate(store, row, sse="aws:kms", kms_key_id="arn:key", **PARTS)).status is Status.DONE
    parts = [each.arguments for each in requests if each.operation == "copy_part"]
    assert [(part["start"], part["end"]) for part in parts] == [
        (0, 5 * KIB), (5 * KIB, 10 * KIB), (10 * KIB, 11 * KIB),
    ]  # fmt: skip
    assert {(part["source"].version_id, part["source_etag"]) for part in parts} == {(row.version_id, row.etag)}
    copied = await store.head(COPY)
    assert (copied.attributes.headers["content-type"], copied.attributes.metadata) == ("a/b", {"m": "1"})
    assert await store.get_tags(COPY) == {"t": "2"}
    encryption = (copied.attributes.sse, copied.attributes.kms_key_id)
    assert (copied.storage_class, *encryption) == ("STANDARD_IA", "aws:kms", "arn:key")
    assert bodies(store) == [body]


@pytest.mark.parametrize("stage", ["copy_part", "complete_multipart"])
@pytest.mark.parametrize("kind", [Throttled, Denied, PreconditionFailed])
async def test_an_upload_that_fails_is_aborted(stage: str, kind: type[StoreError]) -> None:
    store = make_store()
    row = await put(store, b"x" * (11 * KIB))
    store.hook(**{stage: refuse(kind(stage, "it", "Sorry"))})
    if kind is Denied:
        assert (await replicate(store, row, **PARTS)).status is Status.BLOCKED
    else:
        with pytest.raises(Conflict if kind is PreconditionFailed else kind):
            await replicate(store, row, **PARTS)
    assert store.uploads("destination") == []


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
async def test_parts_of_other_bytes_twice_are_given_up(code: str) -> None:
    """Of an intact source, by a server whose checksum of the whole never comes out: each try copies all of it."""
    store = make_store()
    row = await put(store, bytes(11 * KIB))
    store.hook(complete_multipart=refuse(Unavailable("CompleteMultipartUpload", "it", code, "", 400)))
    requests = watch(store)
    outcome = await replicate(store, row, **PARTS)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.GIVEN_UP)
    assert names(requests).count("create_multipart") == 2
    assert store.uploads("destination") == []


async def test_metadata_that_s3_cannot_say_is_missed_by_name() -> None:
    store = make_store()
    row = await put(store, bytes(11 * KIB))

    async def describe(request: Request) -> Any:
        return replace(await request(), unsent_metadata=2)

    store.hook(head=describe)
    outcome = await replicate(store, row, **PARTS)
    assert (outcome.status, outcome.reason, outcome.detail) == (Status.DONE, Reason.COPY_INCOMPLETE, UNSENT)


@pytest.mark.parametrize("is_each_time", [False, True])
async def test_streamed_bytes_that_are_not_the_sources_are_read_again_and_never_published(is_each_time: bool) -> None:
    store, requests = make_store(), 0
    row = await put(store, b"body")

    async def alter(request: Request) -> Any:
        nonlocal requests
        requests += 1
        body = await request()
        return body._replace(data=b"X" + body.data[1:]) if is_each_time or requests == 1 else body

    store.hook(get=alter)
    if is_each_time:
        assert (await replicate(store, row, streamed=True)).status is Status.DAMAGED
        assert bodies(store) == []
    else:
        assert (await replicate(store, row, streamed=True)).status is Status.DONE
        assert bodies(store) == [b"body"]


async def put_slowly(store: MemoryStore, meanwhile: Callable[[], Any]) -> None:
    """An upload in parts, which S3 dates by its beginning. `meanwhile` happens before it is complete."""
    upload = await store.create_multipart(SOURCE, Attributes())
    parts = [await store.put_part(upload, number, bytes(size)) for number, size in ((1, 5 * KIB), (2, KIB))]
    await meanwhile()
    await store.complete_multipart(upload, parts, guard=UNGUARDED)


@pytest.mark.parametrize("is_first_in_parts", [False, True])
async def test_a_slow_upload_that_a_run_overtook_is_copied_by_the_next_run(is_first_in_parts: bool) -> None:
    store = make_store(clock=ticking())
    first = await (put_in_parts(store, bytes(5 * KIB), bytes(7)) if is_first_in_parts else put(store, b"first"))
    await put_slowly(store, lambda: replicate(store, first))
    outcome = await replicate(store, await row_of(store))
    assert (outcome.status, outcome.reason) == (Status.DONE, "")
    assert bodies(store)[1:] == [bytes(6 * KIB)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("drops", "lack"),
    [
        ([], ""),
        (["tags"], "asked for, but not shown at the copy: tags"),
        (["lock"], "asked for, but not shown at the copy: retention, legal hold"),
        (["tags", "sse"], "asked for, but not shown at the copy: tags, encryption with aws:kms"),
    ],
)
async def test_what_a_server_drops_of_an_upload_in_parts_is_said(drops: list[str], lack: str, streamed: bool) -> None:
    reason = Reason.COPY_INCOMPLETE if lack else ""
    store = make_store(object_lock=True)
    row = await put(store, bytes(9 * KIB), tags={"t": "1"}, lock=LOCK)
    store.drops = frozenset(drops)
    requests = watch(store)
    asked: dict[str, Any] = {"object_lock": True, "sse": "aws:kms", "kms_key_id": "arn:key"}
    outcome = await replicate(store, row, streamed=streamed, **asked, **PARTS)
    assert (outcome.status, outcome.reason, outcome.detail) == (Status.DONE, reason, lack)
    assert names(requests).count("head") == 5  # both, the copy, and both again


@pytest.mark.parametrize("size_bytes", [1, 7 * KIB])
@pytest.mark.parametrize("legal_hold", [False, True])
async def test_a_retention_that_has_passed_is_left_behind_and_the_legal_hold_is_not(
    size_bytes: int, legal_hold: bool
) -> None:
    now = 1_500_000_000.0
    store = make_store(object_lock=True, clock=lambda: now)
    row = await put(store, bytes(size_bytes), lock=ObjectLock("COMPLIANCE", "2017-07-15T00:00:00Z", legal_hold))
    now = 1_700_000_000.0
    outcome = await replicate(store, row, object_lock=True, **PARTS)
    assert (outcome.status, outcome.reason) == (Status.DONE, Reason.COPY_INCOMPLETE)
    assert outcome.detail == "without the source's retention, which has passed"
    copied = await store.head(COPY)
    assert copied.attributes.lock == (ObjectLock(legal_hold=True) if legal_hold else None)


async def test_locks_that_may_not_be_read_are_asked_for_once_and_said_of_each_copy() -> None:
    asked = list[str]()

    async def hide(request: Request) -> ObjectInfo:
        info: ObjectInfo = await request()
        return replace(info, attributes=replace(info.attributes, lock=None))

    async def deny(request: Request) -> bool:
        asked.append(request.place.key)
        return False

    store = make_store(object_lock=True)
    rows = [(await put(store, body, lock=LOCK))._replace(row=row) for row, body in enumerate([b"1", b"22"])]
    store.hook(head=hide, may_read_locks=deny)
    options = SyncOptions.from_dict({"is_replay": True, "all_versions": True, "object_lock": True})
    outcomes = await Sides(store, store, ROUTE, options, ByteBudget(64 * KIB)).process(rows)
    assert [(each.status, each.detail) for each in outcomes] == [(Status.DONE, UNREAD_LOCK)] * 2
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("asked", "shown", "lost"),
    [
        ("arn:aws:kms:eu-west-1:1:key/k", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("k", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("alias/mine", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("arn:aws:kms:eu-west-1:1:key/k", "arn:aws:kms:eu-west-1:1:key/other", ["the KMS key"]),
        ("arn:aws:kms:eu-west-1:1:key/k", None, ["the KMS key"]),
    ],
)
def test_a_key_is_another_one_only_if_its_name_can_be_compared(asked: str, shown: str | None, lost: list[str]) -> None:
    info = ObjectInfo(1, "e", 0.0, None, "STANDARD", attributes=Attributes(sse="aws:kms", kms_key_id=shown))
    assert not_kept(Attributes(sse="aws:kms", kms_key_id=asked), info, {}) == lost


async def test_a_stream_whose_parts_do_not_fit_into_the_buffer_fails_by_name_and_reads_nothing() -> None:
    store = make_store()
    row = (await put(store, b"body"))._replace(beside=Repair(condemned_etag="none"))  # look first
    buffer_bytes = 64 * KIB * KIB
    requests = watch(store)

    async def large(request: Request) -> ObjectInfo:
        if request.place.bucket == COPY.bucket:
            raise NotFound("HeadObject", str(request.place), "NoSuchKey")
        return ObjectInfo(10_000 * buffer_bytes + 1, row.etag or "", 0.0, row.version_id, "STANDARD")

    store.hook(head=large)
    options = SyncOptions.from_dict({"is_replay": True, "streamed": True})
    worker = Sides(store, store, ROUTE, options, ByteBudget(buffer_bytes))
    [outcome] = await worker.process([row])
    assert (outcome.status, "buffer_mib=65" in outcome.detail) == (Status.BLOCKED, True)
    assert not {"get", "create_multipart"} & set(names(requests))
