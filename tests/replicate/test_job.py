"""The replicate job against the in-memory store: what a server on one machine cannot be made to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectInfo, ObjectLock, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import Conflict, Denied, NotFound, PreconditionFailed, StoreError, Throttled
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import key_history, not_kept
from jobs.s3.store import UNGUARDED, CopySettings
from tests.doubles.memory_store import MemoryStore
from tests.simulation.engine.loop import run_at_once

MIB = 1024 * 1024
SOURCE_ARCHIVED = "the source must be restored from its archive class first"
ROUTE = Route(Location("source", "in/"), Location("destination", "out/"))


class Scene(MemoryStore):
    """A store that remembers requests, and fails those that `fail` says."""

    def __init__(self, object_lock: bool = False, is_versioned: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.requests: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.fail: Callable[[str, tuple[Any, ...]], StoreError | None] = lambda operation, arguments: None
        for bucket in ("source", "destination"):
            self.create_bucket(bucket, is_versioned, object_lock)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        recorded = ("head", "get", "put", "copy", "get_tags", "delete", "create_multipart", "copy_part", "put_part")
        if name not in (*recorded, "complete_multipart", "abort_multipart", "list_versions"):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self.requests.append((name, arguments, named))
            if (error := self.fail(name, arguments)) is not None:
                raise error
            return await found(*arguments, **named)

        return call

    def names(self) -> list[str]:
        return [name for name, _, _ in self.requests]

    async def put_source(self, body: bytes = b"body", **attributes: Any) -> ObjectVersion:
        """One object and the manifest row that an inventory would have of it."""
        written = await self.put("source", "in/k", body, Attributes(**attributes), guard=UNGUARDED)
        info = await self.head(ObjectRef("source", "in/k"))
        self.requests.clear()
        return ObjectVersion(
            0, "in/k", written.version_id, True, False, len(body), written.etag, info.last_modified, info.storage_class
        )

    async def replicate(self, row: ObjectVersion, **options: Any) -> Outcome:
        job = Replicate(self, self, ROUTE, ReplicateOptions(**options), ByteBudget(64 * MIB))
        [outcome] = await job.process([row])
        return outcome


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


async def test_tags_are_those_of_the_version_that_is_copied_and_not_of_one_that_came_meanwhile() -> None:
    store = Scene()
    row = (await store.put_source(bytes(6 * MIB), tags={"t": "old"}))._replace(version_id=None)
    newer = Attributes(tags={"t": "new"})

    async def overwrite() -> None:
        await store.put("source", "in/k", bytes(6 * MIB), newer, guard=UNGUARDED)

    def meanwhile(operation: str, arguments: tuple[Any, ...]) -> None:
        if operation == "get_tags":
            run_at_once(overwrite())

    store.fail = meanwhile
    outcome = await store.replicate(row, multipart_threshold_bytes=5 * MIB, part_size_bytes=5 * MIB)
    assert outcome.status is Status.COPIED
    store.fail = lambda operation, arguments: None
    assert await store.get_tags(ObjectRef("destination", "out/k")) == {"t": "old"}


async def test_a_copy_that_would_be_lost_for_good_is_left_where_the_run_has_to_keep_it() -> None:
    """In a bucket without versions the copy that differs may be the last good one: a night replaced it."""

    ticks = iter(range(1, 1000))
    store = Scene(is_versioned=False, clock=lambda: float(next(ticks)))
    row = await store.put_source(b"first")
    assert (await store.replicate(row, keeps_replaced=True)).status is Status.COPIED
    row = await store.put_source(b"damaged by somebody")
    outcome = await store.replicate(row, keeps_replaced=True)
    assert (outcome.status, "enable the bucket's versioning" in outcome.reason) == (Status.FAILED, True)
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"first"
    assert (await store.replicate(row)).status is Status.COPIED  # who asks for it by hand, gets it

    versioned = Scene(clock=lambda: float(next(ticks)))
    assert (await versioned.replicate(await versioned.put_source(b"first"), keeps_replaced=True)).reason == ""
    row = await versioned.put_source(b"second")
    assert (await versioned.replicate(row, keeps_replaced=True)).status is Status.COPIED


async def test_a_known_row_costs_one_request_guarded_at_both_ends() -> None:
    store = Scene()
    row = await store.put_source()
    outcome = await store.replicate(row)
    assert (outcome.status, outcome.evidence) == (Status.COPIED, Evidence.MD5_ETAG)
    [(name, arguments, named)] = store.requests
    assert name == "copy"
    assert arguments == (
        ObjectRef("source", "in/k", row.version_id),
        row.etag,
        "destination",
        "out/k",
        CopySettings(),
    )
    assert named["guard"].absent


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"sse": "aws:kms", "kms_key_id": "arn:key"}, CopySettings("STANDARD_IA", "aws:kms", "arn:key")),
        ({"storage_class": "GLACIER_IR"}, CopySettings(storage_class="GLACIER_IR")),
        ({"storage_class": "STANDARD"}, CopySettings(storage_class="STANDARD")),
    ],
)
async def test_what_is_asked_for_is_set_on_the_copy(options: dict[str, Any], settings: CopySettings) -> None:
    store = Scene()
    await store.replicate(await store.put_source(storage_class="STANDARD_IA"), **options)
    assert store.requests[0][1][4] == settings


async def test_a_storage_class_is_kept_and_a_lock_is_carried_when_asked() -> None:
    lock = ObjectLock("GOVERNANCE", "2031-01-01T00:00:00Z", True)

    store = Scene(object_lock=True)
    row = await store.put_source(storage_class="STANDARD_IA", lock=lock)
    outcome = await store.replicate(row, object_lock=True)
    assert outcome.status is Status.COPIED
    copied = await store.head(ObjectRef("destination", "out/k"))
    assert (copied.storage_class, copied.attributes.lock) == ("STANDARD_IA", lock)


async def test_parts_carry_everything_and_a_full_object_checksum_must_come_out() -> None:
    store = Scene()
    body = bytes(range(256)) * (11 * MIB // 256)
    row = await store.put_source(
        body, headers={"content-type": "a/b"}, metadata={"m": "1"}, tags={"t": "2"}, storage_class="STANDARD_IA"
    )
    outcome = await store.replicate(
        row, multipart_threshold_bytes=6 * MIB, part_size_bytes=5 * MIB, sse="aws:kms", kms_key_id="arn:key"
    )
    assert outcome.status is Status.COPIED
    parts = [arguments for name, arguments, _ in store.requests if name == "copy_part"]
    assert [(part[2], part[3]) for part in parts] == [(0, 5 * MIB), (5 * MIB, 10 * MIB), (10 * MIB, 11 * MIB)]
    assert {part[1] for part in parts} == {row.etag}
    assert {part[0].version_id for part in parts} == {row.version_id}
    copied = await store.head(ObjectRef("destination", "out/k"))
    assert (copied.attributes.headers["content-type"], copied.attributes.metadata) == ("a/b", {"m": "1"})
    assert await store.get_tags(ObjectRef("destination", "out/k")) == {"t": "2"}
    assert (copied.storage_class, copied.attributes.sse, copied.attributes.kms_key_id) == (
        "STANDARD_IA", "aws:kms", "arn:key",
    )  # fmt: skip
    assert (await store.get(ObjectRef("destination", "out/k"))).data == body


@pytest.mark.parametrize("stage", ["copy_part", "complete_multipart"])
@pytest.mark.parametrize("kind", [Throttled, Denied, PreconditionFailed])
async def test_an_upload_that_fails_is_aborted(stage: str, kind: type[StoreError]) -> None:
    store = Scene()
    row = await store.put_source(b"x" * (11 * MIB))
    store.fail = lambda operation, arguments: kind(operation, "it", "Sorry") if operation == stage else None
    if kind is Denied:
        outcome = await store.replicate(row, multipart_threshold_bytes=6 * MIB)
        assert outcome.status is Status.DENIED
    else:
        with pytest.raises(kind):
            await store.replicate(row, multipart_threshold_bytes=6 * MIB)
    assert "abort_multipart" in store.names()
    assert store.uploads("destination") == []


async def test_no_permission_is_denied_and_an_archived_source_is_archived() -> None:
    store = Scene()
    row = await store.put_source()
    store.fail = lambda operation, arguments: Denied(operation, "s3://source/in/k", "AccessDenied")
    denied = await store.replicate(row)
    assert (denied.status, "AccessDenied" in denied.reason) == (Status.DENIED, True)
    store = Scene()
    row = await store.put_source(storage_class="DEEP_ARCHIVE")
    for known in (row, row._replace(etag=None, version_id=None)):  # with and without a look
        archived = await store.replicate(known)
        assert (archived.status, archived.reason) == (Status.ARCHIVED, SOURCE_ARCHIVED)


@pytest.mark.parametrize("size_bytes", [6 * MIB, 1])
async def test_a_source_that_is_archived_between_the_look_and_the_copy_is_named(size_bytes: int) -> None:
    """The refusal of a copy names the place of the copy, which the reason asked people to restore."""

    store = Scene()
    row = (await store.put_source(bytes(size_bytes), storage_class="GLACIER"))._replace(etag=None)
    store.restore(ObjectRef("source", "in/k"))

    def cool_down(operation: str, arguments: tuple[Any, ...]) -> None:
        if operation.startswith("copy"):
            store.end_restore(ObjectRef("source", "in/k"))

    store.fail = cool_down
    outcome = await store.replicate(row, multipart_threshold_bytes=5 * MIB, part_size_bytes=5 * MIB)
    assert (outcome.status, outcome.reason) == (Status.ARCHIVED, SOURCE_ARCHIVED)


async def test_throttling_and_races_are_the_workers_business() -> None:
    store = Scene()
    row = await store.put_source()
    store.fail = lambda operation, arguments: Throttled(operation, "x", "SlowDown", "", 503)
    with pytest.raises(Throttled):
        await store.replicate(row)
    store.fail = lambda operation, arguments: (
        PreconditionFailed(operation, "x", "Raced") if operation == "copy" else None
    )
    with pytest.raises(Conflict):
        await store.replicate(row)


async def test_the_pinned_version_is_copied_though_a_newer_one_is_current() -> None:
    store = Scene()
    row = await store.put_source(b"one")
    await store.put("source", "in/k", b"two", Attributes(), guard=UNGUARDED)
    assert (await store.replicate(row)).status is Status.COPIED
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"one"


async def test_an_older_version_never_becomes_current_over_a_newer_one() -> None:
    ticks = iter(range(1, 1000))
    store = Scene(clock=lambda: float(next(ticks)))
    first = await store.put_source(b"one")
    second = await store.put_source(b"two!")
    assert (await store.replicate(second)).status is Status.COPIED
    late = await store.replicate(first)
    assert (late.status, "newer" in late.reason) == (Status.CHANGED, True)
    replayed = await store.replicate(first, all_versions=True)
    assert (replayed.status, "below" in replayed.reason) == (Status.CHANGED, True)
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"two!"


@pytest.mark.parametrize(
    ("on_top", "options", "status", "readers_get"),
    [
        ("marker", {}, Status.COPIED, b"two!"),
        ("other", {}, Status.CHANGED, b"other"),
        ("other", {"overwrite": "never"}, Status.CHANGED, b"other"),
        ("other", {"overwrite": "always"}, Status.COPIED, b"two!"),
        ("older copy", {}, Status.COPIED, b"two!"),
        ("condemned", {}, Status.COPIED, b"two!"),
        ("the same again", {}, Status.SAME, b"two!"),
        ("copy of a newer version", {}, Status.SAME, b"newer"),
    ],
)
async def test_a_current_version_whose_copy_is_covered_comes_on_top_again(
    on_top: str, options: dict[str, Any], status: Status, readers_get: bytes
) -> None:
    ticks = iter(range(1, 1000))
    store = Scene(clock=lambda: float(next(ticks)))
    rows = [(await store.put_source(b"one"))._replace(is_latest=False), await store.put_source(b"two!")]

    async def replay(**asked: Any) -> list[Outcome]:
        chosen = ReplicateOptions.from_dict({"all_versions": True, **asked})
        return await Replicate(store, store, ROUTE, chosen, ByteBudget(64 * MIB)).process(rows)

    async def version_ids() -> set[str | None]:
        return {each.version_id for each in await key_history(store, "destination", "out/k")}

    assert {each.status for each in await replay()} == {Status.COPIED}
    if on_top == "marker":
        await store.delete("destination", "out/k")
    else:
        bodies = {"older copy": b"one", "the same again": b"two!", "copy of a newer version": b"newer"}
        body = bodies.get(on_top, b"other")
        written = await store.put("destination", "out/k", body, Attributes(), guard=UNGUARDED)
        if on_top == "copy of a newer version":
            await store.put_source(body)
        if on_top == "condemned":
            rows[1] = rows[1]._replace(condemned_etag=written.etag)
    before = await version_ids()
    first, second = await replay(**options)
    assert (first.status, second.status) == (Status.SAME, status), second.reason
    assert before <= await version_ids()  # nothing is lost
    assert (await store.get(ObjectRef("destination", "out/k"))).data == readers_get
    rest = await replay(**options)
    assert [each.status for each in rest] == [Status.SAME, status if status is Status.CHANGED else Status.SAME]


async def test_a_copy_that_something_hides_each_time_is_copied_once_more_and_then_left_to_people() -> None:
    """A lifecycle rule puts a delete marker onto each copy: every run made one more version of it."""

    ticks = iter(range(1, 1000))
    store = Scene(clock=lambda: float(next(ticks)))
    rows = [(await store.put_source(b"one"))._replace(is_latest=False), await store.put_source(b"two!")]

    async def replay(**asked: Any) -> Outcome:
        chosen = ReplicateOptions.from_dict({"all_versions": True, **asked})
        return (await Replicate(store, store, ROUTE, chosen, ByteBudget(64 * MIB)).process(rows))[-1]

    async def hide() -> int:
        await store.delete("destination", "out/k")
        return len(await key_history(store, "destination", "out/k"))

    assert (await replay()).status is Status.COPIED
    await hide()
    assert (await replay()).status is Status.COPIED
    versions = await hide()
    for _ in range(3):
        outcome = await replay()
        assert (outcome.status, "lifecycle rule" in outcome.reason) == (Status.CHANGED, True)
    assert len(await key_history(store, "destination", "out/k")) == versions
    assert (await replay(overwrite="always")).status is Status.COPIED
    assert (await replay()).status is Status.SAME
    rows.append(await store.put_source(b"three"))  # a newer version was never hidden
    assert (await replay()).status is Status.COPIED


async def test_what_cannot_be_compared_is_read_before_it_is_called_the_same() -> None:
    store = Scene()
    row = await store.put_source(b"body", sse="aws:kms")
    outcome = await store.replicate(row)
    assert outcome.status is Status.COPIED
    store.requests.clear()
    again = await store.replicate(row)
    assert again.status is Status.SAME
    assert again.evidence in (Evidence.CHECKSUM, Evidence.CONTENT)


async def test_streamed_bytes_that_are_not_the_sources_are_never_published() -> None:
    class Altering(Scene):
        async def get(self, *arguments: Any, **named: Any) -> Any:
            body = await super().get(*arguments, **named)
            return body._replace(data=b"X" + body.data[1:])

    store = Altering()
    row = await store.put_source(b"body")
    outcome = await store.replicate(row, streamed=True)
    assert (outcome.status, outcome.reason[:22]) == (Status.DAMAGED, "the source is damaged:")
    assert "put" not in store.names()


async def test_streamed_bytes_that_were_altered_on_their_way_are_read_again() -> None:
    class Altering(Scene):
        async def get(self, *arguments: Any, **named: Any) -> Any:
            body = await super().get(*arguments, **named)
            is_first = self.names().count("get") == 1
            return body._replace(data=b"X" + body.data[1:]) if is_first else body

    store = Altering()
    row = await store.put_source(b"body")
    with pytest.raises(StoreError, match="not the source"):
        await store.replicate(row, streamed=True)
    assert "put" not in store.names()
    assert (await store.replicate(row, streamed=True)).status is Status.COPIED


async def test_a_history_that_may_not_be_compared_is_denied_and_breaks_no_run() -> None:
    store = Scene()
    row = await store.put_source(b"body", sse="aws:kms")
    await store.put("destination", "out/k", b"BODY", Attributes(sse="aws:kms"), guard=UNGUARDED)
    store.fail = lambda operation, arguments: Denied(operation, "it", "AccessDenied") if operation == "head" else None
    outcome = await store.replicate(row, all_versions=True)
    assert (outcome.status, "AccessDenied" in outcome.reason) == (Status.DENIED, True)


@pytest.mark.parametrize("is_newer_asked_too", [False, True])
async def test_a_copy_that_may_be_of_another_version_of_the_same_bytes_is_said_to_be(is_newer_asked_too: bool) -> None:
    """The older one was archived, so a run copied the newer one alone. Then a retry has the older one alone."""

    store = Scene()
    older, newer = [await store.put_source(b"body", metadata={"n": str(n)}) for n in range(2)]
    job = Replicate(store, store, ROUTE, ReplicateOptions(all_versions=True), ByteBudget(MIB))
    [copied] = await job.process([newer])
    found, *_ = await job.process([older, newer] if is_newer_asked_too else [older])
    assert (copied.status, found.status) == (Status.COPIED, Status.SAME)
    assert ("may be the copy of another" in found.reason) != is_newer_asked_too


def begin_upload(store: Scene, last_bytes: int = MIB) -> Callable[[], None]:
    """Begin an upload in two parts at the source. The result completes it."""
    upload = run_at_once(store.create_multipart("source", "in/k", Attributes()))
    parts = [
        run_at_once(store.put_part("source", "in/k", upload, number, bytes(size)))
        for number, size in ((1, 5 * MIB), (2, last_bytes))
    ]

    def complete() -> None:
        run_at_once(store.complete_multipart("source", "in/k", upload, parts, guard=UNGUARDED))

    return complete


async def row_of(store: Scene) -> ObjectVersion:
    info = await store.head(ObjectRef("source", "in/k"))
    return ObjectVersion(0, "in/k", info.version_id, True, False, info.size_bytes, info.etag, info.last_modified, "")


@pytest.mark.parametrize("is_first_in_parts", [False, True])
async def test_a_slow_upload_that_a_run_overtook_is_copied_by_the_next_run(is_first_in_parts: bool) -> None:
    clock = [100.0]
    store = Scene(clock=lambda: clock[0])
    first = await store.put_source(b"first")
    if is_first_in_parts:  # its copy has another ETag
        begin_upload(store, 7)()
        first = await row_of(store)
    clock[0] = 200.0
    complete = begin_upload(store)
    clock[0] = 300.0
    assert (await store.replicate(first)).status is Status.COPIED
    clock[0] = 400.0
    complete()
    row = await row_of(store)
    assert row.last_modified == 200.0
    outcome = await store.replicate(row)
    assert (outcome.status, outcome.reason) == (Status.COPIED, "")
    assert (await store.head(ObjectRef("destination", "out/k"))).size_bytes == 6 * MIB


@pytest.mark.parametrize("is_versioned", [True, False])
async def test_a_newer_object_of_others_is_not_replaced_because_the_source_was_uploaded_in_parts(
    is_versioned: bool,
) -> None:
    store = Scene(is_versioned=is_versioned)
    await store.put_source(b"first")
    begin_upload(store)()
    await store.put("destination", "out/k", b"other", Attributes(), guard=UNGUARDED)
    outcome = await store.replicate(await row_of(store))
    assert outcome.status is Status.CHANGED
    assert "which is newer is unknown" in outcome.reason
    assert "--overwrite always" in outcome.reason


async def test_the_copy_of_a_version_above_the_row_is_not_replaced() -> None:
    clock = [100.0]
    store = Scene(clock=lambda: clock[0])
    begin_upload(store)()
    row = await row_of(store)
    clock[0] = 200.0
    assert (await store.replicate(await store.put_source(b"newer"))).status is Status.COPIED
    assert (await store.replicate(row)).status is Status.CHANGED


async def test_a_version_that_is_not_current_replaces_nothing_though_older_content_came_again() -> None:
    """The source went from A to B, in parts, and back to A: the destination's A is no copy of the first one."""

    clock = [100.0]
    store = Scene(is_versioned=True, clock=lambda: clock[0])
    await store.put_source(b"good")
    clock[0] = 200.0
    begin_upload(store)()
    row = await row_of(store)
    clock[0] = 300.0
    assert (await store.replicate(await store.put_source(b"good"))).status is Status.COPIED
    assert (await store.replicate(row)).status is Status.CHANGED
    assert (await store.get(ObjectRef("destination", "out/k"))).data == b"good"


LOCK = ObjectLock("GOVERNANCE", "2031-01-01T00:00:00Z", True)
LARGE = {"multipart_threshold_bytes": 5 * MIB, "part_size_bytes": 5 * MIB}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("drops", "reason"),
    [
        ({}, ""),
        ({"tags"}, "asked for, but not shown at the copy: tags"),
        ({"lock"}, "asked for, but not shown at the copy: retention, legal hold"),
        ({"sse"}, "asked for, but not shown at the copy: encryption with aws:kms"),
        ({"tags", "lock", "sse"}, "asked for, but not shown at the copy: tags, retention, legal hold, encryption with aws:kms"),  # noqa: E501
    ],
)  # fmt: skip
async def test_what_a_server_drops_of_an_upload_in_parts_is_said(drops: set[str], reason: str, streamed: bool) -> None:
    store = Scene(object_lock=True)
    row = await store.put_source(bytes(9 * MIB), tags={"t": "1"}, lock=LOCK)
    store.drops = frozenset(drops)
    outcome = await store.replicate(
        row, streamed=streamed, object_lock=True, sse="aws:kms", kms_key_id="arn:key", **LARGE
    )
    assert (outcome.status, outcome.reason) == (Status.COPIED, reason)
    assert store.names().count("head") == 3


async def test_an_upload_of_which_nothing_was_asked_is_looked_at_once_whether_it_is_current() -> None:
    store = Scene()
    await store.replicate(await store.put_source(bytes(6 * MIB)), **LARGE)
    assert (store.names().count("head"), store.names().count("get_tags")) == (3, 1)


async def test_a_copy_that_may_not_be_looked_at_is_said_to_be_unknown() -> None:
    store = Scene()
    row = await store.put_source(bytes(6 * MIB), tags={"t": "1"})
    store.fail = lambda operation, arguments: (
        Denied(operation, "it", "AccessDenied") if operation == "head" and "complete_multipart" in store.names() else None  # noqa: E501
    )  # fmt: skip
    outcome = await store.replicate(row, **LARGE)
    assert (outcome.status, "nobody knows" in outcome.reason) == (Status.COPIED, True)


@pytest.mark.parametrize("size_bytes", [1, 6 * MIB])
@pytest.mark.parametrize("legal_hold", [False, True])
async def test_a_retention_that_has_passed_is_left_behind_and_the_legal_hold_is_not(
    size_bytes: int, legal_hold: bool
) -> None:
    clock = [1_500_000_000.0]
    store = Scene(object_lock=True, clock=lambda: clock[0])
    lock = ObjectLock("COMPLIANCE", "2017-07-15T00:00:00Z", legal_hold)
    row = await store.put_source(bytes(size_bytes), lock=lock)
    clock[0] = 1_700_000_000.0
    outcome = await store.replicate(row, object_lock=True, **LARGE)
    assert (outcome.status, outcome.reason) == (Status.COPIED, "without the source's retention, which has passed")
    copied = await store.head(ObjectRef("destination", "out/k"))
    assert copied.attributes.lock == (ObjectLock(legal_hold=True) if legal_hold else None)


@pytest.mark.parametrize(
    ("asked", "told", "names"),
    [
        ("arn:aws:kms:eu-west-1:1:key/k", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("k", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("alias/mine", "arn:aws:kms:eu-west-1:1:key/k", []),
        ("arn:aws:kms:eu-west-1:1:key/k", "arn:aws:kms:eu-west-1:1:key/other", ["the KMS key"]),
        ("arn:aws:kms:eu-west-1:1:key/k", None, ["the KMS key"]),
    ],
)
def test_a_key_is_another_one_only_if_its_name_can_be_compared(asked: str, told: str | None, names: list[str]) -> None:
    info = ObjectInfo(1, "e", 0.0, None, "STANDARD", attributes=Attributes(sse="aws:kms", kms_key_id=told))
    assert not_kept(Attributes(sse="aws:kms", kms_key_id=asked), info, {}) == names


async def test_a_stream_whose_parts_do_not_fit_into_the_buffer_fails_by_name_and_reads_nothing() -> None:
    store = Scene()
    row = (await store.put_source())._replace(condemned_etag="none")  # look first
    size_bytes = 10_000 * 64 * MIB + 1

    async def head(ref: ObjectRef) -> ObjectInfo:
        if ref.bucket == "destination":
            raise NotFound("HeadObject", str(ref), "NoSuchKey")
        return ObjectInfo(size_bytes, row.etag or "", 0.0, row.version_id, "STANDARD")

    store.head = head  # type: ignore[method-assign, assignment]
    outcome = await store.replicate(row, streamed=True)
    assert outcome.status is Status.FAILED
    assert "SEALIFT_BUFFER_MIB=65" in outcome.reason
    assert "in/k" in outcome.reason
    assert not {"get", "create_multipart"} & set(store.names())


async def test_a_large_part_is_read_in_pieces_within_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.core.part_sizes.MAX_PARTS", 2)
    body = bytes(range(256)) * (37 * MIB // 256)

    store = Scene()
    outcome = await store.replicate(await store.put_source(body), streamed=True)
    assert (outcome.status, outcome.evidence) == (Status.COPIED, Evidence.MD5_ETAG)
    assert (await store.get(ObjectRef("destination", "out/k"))).data == body
    spans = [(named["start"], named["end"]) for name, _, named in store.requests if name == "get" and named]
    assert max(end - start for start, end in spans) == 8 * MIB
    assert sum(end - start for start, end in spans) == len(body)
    assert store.names().count("put_part") == 2
