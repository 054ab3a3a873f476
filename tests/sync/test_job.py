"""The replicate job against the in-memory store: what a server on one machine cannot be made to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectInfo, ObjectLock
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, Denied, NotFound, PreconditionFailed, StoreError, Throttled, Unavailable
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import UNSENT
from jobs.s3.lookup import not_kept
from jobs.s3.store import UNGUARDED, CopySettings
from jobs.sync.job import SyncJob
from jobs.sync.key import SyncOptions
from tests.doubles.hooks import names, once, refuse, watch
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import (
    COPY,
    KIB,
    PARTS,
    ROUTE,
    SOURCE,
    bodies,
    job,
    make_store,
    numbered,
    put,
    put_in_parts,
    replay,
    replicate,
    row_of,
    statuses,
    ticking,
)

LOCK = ObjectLock("GOVERNANCE", "2031-01-01T00:00:00Z", True)


async def test_tags_are_those_of_the_version_that_is_copied_and_not_of_one_that_came_meanwhile() -> None:
    store = make_store()
    row = (await put(store, bytes(7 * KIB), tags={"t": "old"}))._replace(version_id=None)
    store.hook(get_tags=once(lambda: put(store, bytes(7 * KIB), tags={"t": "new"})))
    assert (await replicate(store, row, **PARTS)).status in GOOD
    assert await store.get_tags(COPY) == {"t": "old"}


async def test_a_copy_that_would_be_lost_for_good_is_left_where_the_run_has_to_keep_it() -> None:
    """In a bucket without versions the copy that differs may be the last good one: a night replaced it."""
    store = make_store(versioned=False, clock=ticking())
    assert (await replicate(store, await put(store, b"first"), keeps_replaced=True)).status is Status.DONE
    row = await put(store, b"damaged by somebody")
    outcome = await replicate(store, row, keeps_replaced=True)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.ONLY_COPY)
    assert bodies(store) == [b"first"]
    assert (await replicate(store, row)).status is Status.DONE  # who asks for it by hand, gets it

    versioned = make_store(clock=ticking())
    for body in (b"first", b"second"):
        outcome = await replicate(versioned, await put(versioned, body), keeps_replaced=True)
        assert (outcome.status, outcome.reason) == (Status.DONE, "")


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


async def test_parts_of_other_bytes_twice_are_given_up() -> None:
    """Of an intact source, by a server whose checksum of the whole never comes out: each try copies all of it."""
    store = make_store()
    row = await put(store, bytes(11 * KIB))
    store.hook(complete_multipart=refuse(Unavailable("CompleteMultipartUpload", "it", "BadDigest", "", 400)))
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


async def test_no_permission_is_denied_and_an_archived_source_is_archived() -> None:
    store = make_store()
    row = await put(store, b"body")
    store.hook(every=refuse(Denied("CopyObject", "s3://source/in/k", "AccessDenied")))
    denied = await replicate(store, row)
    assert (denied.status, denied.detail) == (Status.BLOCKED, "CopyObject: AccessDenied")
    store = make_store()
    row = await put(store, b"body", storage_class="DEEP_ARCHIVE")
    for known in (row, row._replace(etag=None, version_id=None)):  # with and without a look
        assert (await replicate(store, known)).status is Status.BLOCKED


@pytest.mark.parametrize(("operation", "size_bytes"), [("copy_part", 7 * KIB), ("copy", 1)])
async def test_a_source_that_is_archived_between_the_look_and_the_copy_is_named(
    operation: str, size_bytes: int
) -> None:
    """The refusal of a copy names the place of the copy, which the reason asked people to restore."""
    store = make_store()
    row = (await put(store, bytes(size_bytes), storage_class="GLACIER"))._replace(etag=None)
    store.restore(SOURCE)

    async def cool_down(request: Request) -> Any:
        store.end_restore(SOURCE)
        return await request()

    store.hook(**{operation: cool_down})
    outcome = await replicate(store, row, **PARTS)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.ARCHIVED)


@pytest.mark.parametrize(("error", "raised"), [(Throttled, Throttled), (PreconditionFailed, Conflict)])
async def test_throttling_and_races_are_the_workers_business(error: type[StoreError], raised: type[StoreError]) -> None:
    store = make_store()
    row = await put(store, b"body")
    store.hook(copy=refuse(error("CopyObject", "x", "SlowDown", "", 503)))
    with pytest.raises(raised):
        await replicate(store, row)


async def test_an_older_version_never_becomes_current_over_a_newer_one() -> None:
    """Of one copy a key it is done with the newer one. In a history it comes late, and the newer one again above it."""
    store = make_store(clock=ticking())
    first, second = await put(store, b"one"), await put(store, b"two!")
    assert (await replicate(store, second)).status is Status.DONE
    outcome = await replicate(store, first)
    assert (outcome.status, outcome.reason) == (Status.SAME, Reason.NEWER_COPIED)
    assert bodies(store) == [b"two!"]
    outcome = await replicate(store, first, all_versions=True)
    assert (outcome.status, outcome.reason) == (Status.DONE, Reason.COPIED_LATE)
    assert bodies(store) == [b"two!", b"one", b"two!"]
    assert (await replicate(store, first, all_versions=True)).status is Status.SAME


@pytest.mark.parametrize(
    ("on_top", "options", "status", "readers_get"),
    [
        ("marker", {}, Status.DONE, b"two!"),
        ("other", {}, Status.CHANGED, b"other"),
        ("other", {"overwrite": "never"}, Status.CHANGED, b"other"),
        ("other", {"overwrite": "always"}, Status.DONE, b"two!"),
        ("older copy", {}, Status.DONE, b"two!"),
        ("condemned", {}, Status.DONE, b"two!"),
        ("the same again", {}, Status.SAME, b"two!"),
        ("copy of a newer version", {}, Status.SAME, b"newer"),
    ],
)
async def test_a_current_version_whose_copy_is_covered_comes_on_top_again(
    on_top: str, options: dict[str, Any], status: Status, readers_get: bytes
) -> None:
    store = make_store(clock=ticking())
    rows = [(await put(store, b"one"))._replace(is_latest=False), await put(store, b"two!")]
    assert set(statuses(await replay(store, rows))) == {Status.DONE}
    if on_top == "marker":
        await store.delete(*COPY[:2])
    else:
        contents = {"older copy": b"one", "the same again": b"two!", "copy of a newer version": b"newer"}
        body = contents.get(on_top, b"other")
        written = await put(store, body, COPY)
        if on_top == "copy of a newer version":
            await put(store, body)
        if on_top == "condemned":
            rows[1] = rows[1]._replace(condemned_etag=written.etag)
    before = bodies(store)
    assert statuses(await replay(store, rows, **options)) == [Status.SAME, status]
    assert bodies(store)[: len(before)] == before  # nothing is lost
    assert bodies(store)[-1] == readers_get
    rest = Status.CHANGED if status is Status.CHANGED else Status.SAME
    assert statuses(await replay(store, rows, **options)) == [Status.SAME, rest]


async def test_a_copy_that_something_hides_each_time_is_copied_once_more_and_then_left_to_people() -> None:
    """A lifecycle rule puts a delete marker onto each copy: every run made one more version of it."""
    store = make_store(clock=ticking())
    rows = [(await put(store, b"one"))._replace(is_latest=False), await put(store, b"two!")]

    async def last(**options: Any) -> Outcome:
        return (await replay(store, rows, **options))[-1]

    for _ in range(2):
        assert (await last()).status is Status.DONE
        await store.delete(*COPY[:2])
    before = bodies(store)
    for _ in range(3):
        outcome = await last()
        assert (outcome.status, outcome.reason) == (Status.CHANGED, Reason.HIDDEN_AGAIN)
    assert bodies(store) == before
    assert (await last(overwrite="always")).status is Status.DONE
    assert (await last()).status is Status.SAME
    rows.append(await put(store, b"three"))  # a newer version was never hidden
    assert (await last()).status is Status.DONE


async def test_what_cannot_be_compared_is_read_before_it_is_called_the_same() -> None:
    store = make_store()
    row = await put(store, b"body", sse="aws:kms")
    assert (await replicate(store, row)).status is Status.DONE
    again = await replicate(store, row)
    assert again.status is Status.SAME
    assert again.evidence in (Evidence.CHECKSUM, Evidence.CONTENT)


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


async def test_a_history_that_may_not_be_compared_is_denied_and_breaks_no_run() -> None:
    store = make_store()
    row = await put(store, b"body", sse="aws:kms")
    await put(store, b"BODY", COPY, sse="aws:kms")
    store.hook(head=refuse(Denied("HeadObject", "it", "AccessDenied")))
    assert statuses(await replay(store, [row])) == [Status.BLOCKED]


@pytest.mark.parametrize("is_newer_asked_too", [False, True])
async def test_each_version_of_the_same_bytes_gets_a_copy_of_its_own(is_newer_asked_too: bool) -> None:
    """The older one was archived, so a run copied the newer one alone. Then a retry has the older one alone."""
    store = make_store()
    older, newer = numbered([await put(store, b"body", metadata={"n": str(n)}) for n in range(2)])
    worker = job(store, all_versions=True)
    [copied] = await worker.process([newer])
    found, *_ = await worker.process([older, newer] if is_newer_asked_too else [older])
    assert (copied.status, found.status) == (Status.DONE, Status.DONE)
    kept = [each.attributes.metadata["n"] for each in store.stored(*COPY[:2])]
    assert kept == ["1", "0", "1"]


async def put_slowly(store: MemoryStore, meanwhile: Callable[[], Any]) -> None:
    """An upload in parts, which S3 dates by its beginning. `meanwhile` happens before it is complete."""
    upload = await store.create_multipart(*SOURCE[:2], Attributes())
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


@pytest.mark.parametrize("versioned", [True, False])
async def test_a_newer_object_of_others_is_not_replaced_because_the_source_was_uploaded_in_parts(
    versioned: bool,
) -> None:
    store = make_store(versioned=versioned, clock=ticking())
    await put(store, b"first")
    row = await put_in_parts(store, bytes(5 * KIB), bytes(KIB))
    await put(store, b"other", COPY)
    outcome = await replicate(store, row)
    assert (outcome.status, outcome.reason) == (Status.CHANGED, Reason.ORDER_UNKNOWN)


@pytest.mark.parametrize("older", [[], [b"good"]])
async def test_a_version_that_is_not_current_replaces_nothing_though_older_content_came_again(
    older: list[bytes],
) -> None:
    """The source went from A to B, in parts, and back to A: the destination's A is no copy of the first one."""
    store = make_store(clock=ticking())
    for body in older:
        await put(store, body)
    row = await put_in_parts(store, bytes(5 * KIB), bytes(KIB))
    assert (await replicate(store, await put(store, b"good"))).status is Status.DONE
    assert (await replicate(store, row)).reason is Reason.NEWER_COPIED
    assert bodies(store) == [b"good"]


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


async def test_an_upload_of_which_nothing_was_asked_is_looked_at_once_whether_it_is_current() -> None:
    store = make_store()
    row, requests = await put(store, bytes(7 * KIB)), watch(store)
    await replicate(store, row, **PARTS)
    assert (names(requests).count("head"), names(requests).count("get_tags")) == (5, 1)


async def test_a_copy_that_may_not_be_looked_at_is_said_to_be_unknown() -> None:
    store = make_store()
    row, requests = await put(store, bytes(7 * KIB), tags={"t": "1"}), watch(store)
    denied = Denied("HeadObject", "it", "AccessDenied")
    store.hook(head=refuse(denied, lambda request: "complete_multipart" in names(requests)))
    outcome = await replicate(store, row, **PARTS)
    assert (outcome.status, outcome.reason) == (Status.DONE, Reason.COPY_INCOMPLETE)


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
    row = (await put(store, b"body"))._replace(condemned_etag="none")  # look first
    buffer_bytes = 64 * KIB * KIB
    requests = watch(store)

    async def large(request: Request) -> ObjectInfo:
        if request.place.bucket == COPY.bucket:
            raise NotFound("HeadObject", str(request.place), "NoSuchKey")
        return ObjectInfo(10_000 * buffer_bytes + 1, row.etag or "", 0.0, row.version_id, "STANDARD")

    store.hook(head=large)
    worker = SyncJob(store, store, ROUTE, SyncOptions(is_replay=True, streamed=True), ByteBudget(buffer_bytes))
    [outcome] = await worker.process([row])
    assert (outcome.status, "buffer_mib=65" in outcome.detail) == (Status.BLOCKED, True)
    assert not {"get", "create_multipart"} & set(names(requests))


async def test_a_large_part_is_read_in_pieces_within_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.core.part_sizes.MAX_PARTS", 2)
    body = bytes(range(256)) * (37 * KIB // 256)
    store = make_store()
    row, requests = await put(store, body), watch(store)
    outcome = await replicate(store, row, streamed=True)
    assert (outcome.status, outcome.evidence) == (Status.DONE, Evidence.MD5_ETAG)
    assert bodies(store) == [body]
    sizes = [each.arguments["end"] - each.arguments["start"] for each in requests if each.operation == "get"]
    assert (max(sizes), sum(sizes)) == (8 * KIB, len(body))
    assert names(requests).count("put_part") == 2
