"""The restore job against a store that fails in every way: no wrong byte lands, nothing is replaced, no row is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import AuthenticationFailed, Denied, NoSuchBucket, StoreError, Throttled, Unavailable
from jobs.restore.as_of import NOT_RESTORED
from jobs.restore.kind import KIND
from jobs.s3 import checksums
from jobs.s3.store import ABSENT, UNGUARDED, Restoring
from tests.compact.samples import OBJECTS, RULE, failing, filled, index_of, make, opened, work
from tests.doubles.examples import examples
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import Request

KINDS = [ArchiveFormat.TAR, ArchiveFormat.TAR_ZST]
ALL_RESTORED = {Status.DONE}
MIB = 1 << 20


class Scene:
    """Objects that were packed; `rows` name them in their archives."""

    def __init__(self, objects: dict[str, bytes], kind: ArchiveFormat, storage_class: str = "GLACIER_IR", **more: Any):
        self.objects, self.kind = objects, kind
        self.store, packed = filled(objects, **more)
        packer = make(self.store, kind, 64 * MIB, replace(RULE, target_bytes=64 * MIB), storage_class=storage_class)
        assert {each.status for each in work(packer, packed).values()} == {Status.DONE}
        self.store.create_bucket("back")
        self.index = index_of(self.store)
        self.requests: Counter[tuple[str, Restoring]] = Counter()
        self.rows = asyncio.run(self._rows())
        self.store.hook(request_restore=self._count, put=summed, put_part=summed)

    async def _rows(self) -> list[ObjectVersion]:
        rows = []
        for record in await self.index.records():
            async for members in self.index.members(record.location):
                rows += [
                    ObjectVersion(0, each.key, each.version_id, size_bytes=each.size_bytes, etag=each.etag,
                                  archive=str(record.location))
                    for each in members
                ]  # fmt: skip
        return [row._replace(row=number) for number, row in enumerate(rows)]

    async def _count(self, request: Request) -> Restoring:
        answer: Restoring = await request()
        self.requests[request.place.key, answer] += 1
        return answer

    def job(self, budget_bytes: int = 64 * MIB, at: float | None = None, tier: str = "Bulk", **more: Any) -> Any:
        options = {"archives": None, "source_prefix": "", "storage_class": "STANDARD", "at": at, "tier": tier, **more}
        assert KIND.open_job is not None
        return KIND.open_job(opened(self.store, "restore", Location("back"), options, budget_bytes))

    def restore(self, rows: Sequence[ObjectVersion] | None = None, **options: Any) -> dict[str, Outcome]:
        return work(self.job(**options), self.rows if rows is None else rows)

    def restored(self) -> dict[str, bytes]:
        return {key: versions[-1].data for key, versions in self.versions("back").items()}

    def versions(self, bucket: str) -> dict[str, list[Version]]:
        return self.store._buckets.named[bucket].versions

    def archives(self) -> list[Version]:
        return [versions[-1] for versions in self.versions("cold").values()]

    def refs(self) -> list[ObjectRef]:
        return [ObjectRef("cold", key) for key in self.versions("cold")]


async def summed(request: Request) -> Any:
    """What is written back has a checksum, as a bucket with Object Lock demands."""
    assert request.place.bucket != "back" or request.arguments["checksum"] is not None
    return await request()


def statuses(outcomes: dict[str, Outcome]) -> dict[str, int]:
    return dict(Counter(each.status.value for each in outcomes.values()))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_is_what_was_there(kind: ArchiveFormat) -> None:
    objects = OBJECTS | {
        key: key.encode() for key in ("../../etc/passwd", "/abs", "a//b", "a/", "a", "a/b", "..", "e\u0301")
    }
    scene = Scene(objects, kind, headers={"content-type": "a/b"}, metadata={"who": "me"}, tags={"team": "docs"})
    outcomes = scene.restore()
    assert {each.status for each in outcomes.values()} == ALL_RESTORED
    assert {each.evidence for each in outcomes.values()} == {Evidence.CHECKSUM}
    assert scene.restored() == objects
    for key, versions in scene.versions("back").items():
        original, copy = scene.versions("docs")[key][-1], versions[-1]
        assert (copy.etag, copy.checksums) == (original.etag, original.checksums)
        assert copy.attributes.headers == {"content-type": "a/b"}
        assert (copy.attributes.metadata, copy.attributes.tags) == ({"who": "me"}, {"team": "docs"})
    assert statuses(scene.restore()) == {"same": len(objects)}


@pytest.mark.parametrize("kind", KINDS)
def test_large_members_pass_through_in_parts_and_only_when_proven(kind: ArchiveFormat) -> None:
    rng = random.Random(5)
    objects = {"a": b"small", "b": rng.randbytes(6 * MIB), "c": b"", "d": rng.randbytes(11 * MIB + 5)}
    scene = Scene(objects, kind)
    assert {each.status for each in scene.restore(budget_bytes=16 * MIB).values()} == ALL_RESTORED
    assert scene.restored() == objects
    scene = Scene(objects, kind)
    (archive,) = scene.archives()
    archive.data = tampered(archive.data, len(archive.data) - 10 * MIB)
    outcomes = scene.restore()
    assert outcomes["d"].status is Status.BLOCKED
    assert outcomes["d"].reason == Reason.ARCHIVE_DAMAGED
    assert scene.restored() == {key: data for key, data in objects.items() if key != "d"}
    assert scene.store.uploads("back") == []


def test_cold_archives_are_asked_for_once_and_gone_on_with_when_they_have_thawed() -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR_ZST, "GLACIER")
    outcomes = scene.restore(tier="Standard")
    assert statuses(outcomes) == {"blocked": len(OBJECTS)}
    assert outcomes["k/1"].reason == Reason.THAWING
    assert outcomes["k/1"].detail.endswith("(Standard: up to 5 hours)")
    assert set(scene.requests.values()) == {1}
    assert statuses(scene.restore()) == {"blocked": len(OBJECTS)}
    assert {answer for _, answer in scene.requests} == {Restoring.REQUESTED, Restoring.UNDER_WAY}
    first, *others = scene.refs()
    scene.store.restore(first)
    half = statuses(scene.restore())
    assert half["done"] == len(scene.restored()) > 0
    assert half["blocked"] == len(OBJECTS) - half["done"]
    for ref in others:
        scene.store.restore(ref)
    assert set(statuses(scene.restore())) == {"same", "done"}
    assert scene.restored() == OBJECTS
    for ref in scene.refs():
        scene.store.end_restore(ref)
    scene.requests.clear()
    assert statuses(scene.restore()) == {"same": len(OBJECTS)}
    assert not scene.requests, "what is there already thaws nothing"


def tampered(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@settings(max_examples=examples(25), deadline=None)
@given(kind=st.sampled_from(KINDS), place=st.floats(0, 1, exclude_max=True), is_cut=st.booleans())
def test_of_a_damaged_archive_no_wrong_byte_is_restored_and_what_is_lost_is_named(
    kind: ArchiveFormat, place: float, is_cut: bool
) -> None:
    scene = Scene(OBJECTS, kind)
    damaged = scene.archives()[-1]
    at = int(place * len(damaged.data))
    damaged.data = damaged.data[:at] if is_cut else tampered(damaged.data, at)
    outcomes = scene.restore()
    found = scene.restored()
    for key, outcome in outcomes.items():
        if outcome.status is Status.DONE:
            assert found.pop(key) == OBJECTS[key]
        else:
            assert outcome.status is Status.BLOCKED
            assert outcome.reason in (Reason.ARCHIVE_DAMAGED, Reason.CHECKSUM_DIFFERS)
    assert found == {}
    if not is_cut and kind is ArchiveFormat.TAR:
        assert statuses(outcomes).get("blocked", 0) <= 1


def test_an_archive_that_was_written_anew_gives_what_still_proves_itself() -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR)
    (ref, *_), (first, *_) = scene.refs(), scene.archives()

    async def overwrite() -> None:
        at = first.data.index(OBJECTS["k/2"])
        await scene.store.delete(ObjectRef(ref.bucket, ref.key, first.version_id))
        await scene.store.put(ObjectRef(ref.bucket, ref.key), tampered(first.data, at), Attributes(), guard=UNGUARDED)

    asyncio.run(overwrite())
    outcomes = scene.restore()
    gone = [key for key, each in outcomes.items() if each.status is Status.BLOCKED]
    assert "k/2" in gone
    assert scene.restored() == {key: data for key, data in OBJECTS.items() if key not in gone}


def test_archives_that_are_gone_denied_or_not_indexed_are_accounted_for() -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR)
    first, second, third = scene.refs()
    scene.store.hook(head=failing(second.key, Denied))
    asyncio.run(scene.store.delete(ObjectRef("ledger", f"archives/cold/{third.key}.parquet")))
    del scene.versions("cold")[first.key]
    outcomes = scene.restore()
    by_archive = {row.key: row.archive for row in scene.rows}
    why = {by_archive[key]: (each.status, each.reason, each.detail) for key, each in outcomes.items()}
    gone, denied, unknown = (f"s3://cold/{each.key}" for each in (first, second, third))
    assert why == {
        gone: (Status.MISSING, Reason.ARCHIVE_GONE, gone),
        denied: (Status.BLOCKED, Reason.DENIED, "head: Denied"),
        unknown: (Status.BLOCKED, Reason.NOT_INDEXED, unknown),
    }
    assert scene.restored() == {}


def test_nothing_is_ever_replaced() -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR_ZST)
    for key, data in (("k/3", b"newer"), ("k/4", OBJECTS["k/4"])):
        checksum = checksums.full_object("CRC32", data)
        asyncio.run(scene.store.put(ObjectRef("back", key), data, Attributes(), guard=UNGUARDED, checksum=checksum))
    outcomes = scene.restore()
    assert (outcomes["k/3"].status, outcomes["k/4"].status) == (Status.BLOCKED, Status.SAME)
    assert outcomes["k/3"].reason == Reason.DESTINATION_DIFFERS
    assert scene.restored() == OBJECTS | {"k/3": b"newer"}
    assert all(len(versions) == 1 for versions in scene.versions("back").values())


def test_what_is_there_is_read_where_nothing_that_is_kept_of_it_compares_and_nobody_waits_for_ever() -> None:
    objects = {f"k/{n}": bytes([n]) * 30_000 for n in range(8)}
    scene = Scene(objects, ArchiveFormat.TAR)
    scene.restore()
    for versions in scene.versions("back").values():
        versions[-1].etag, versions[-1].checksums = "opaque-2", ()
    scene.versions("back")["k/3"][-1].data = b"x" * 30_000

    async def within_time() -> list[Outcome]:
        job = scene.job(budget_bytes=70_000)
        chains = [job.process(chain) for chain in job.chains(scene.rows)]
        return [each for found in await asyncio.wait_for(asyncio.gather(*chains), 30) for each in found]

    outcomes = {each.key: each.status for each in asyncio.run(within_time())}
    assert outcomes.pop("k/3") is Status.BLOCKED
    assert set(outcomes.values()) == {Status.SAME}


@pytest.mark.parametrize("error", [Denied, AuthenticationFailed, NoSuchBucket])
def test_an_object_that_cannot_be_written_is_its_own_outcome_unless_no_other_request_will_survive(
    error: type[StoreError],
) -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR)
    scene.store.hook(put=failing("k/5", error))
    with contextlib.nullcontext() if error is Denied else pytest.raises(error):
        outcomes = scene.restore()
        assert outcomes.pop("k/5").status is Status.BLOCKED
        assert {each.status for each in outcomes.values()} == ALL_RESTORED


@pytest.mark.parametrize("error", [Throttled, Unavailable])
@pytest.mark.parametrize("after", [False, True])
def test_what_may_pass_is_tried_again(error: type[StoreError], after: bool) -> None:
    scene = Scene(OBJECTS, ArchiveFormat.TAR)
    scene.store.hook(put=failing("k/5", error, times=3, after=after))
    assert set(statuses(scene.restore())) <= {"done", "same"}
    assert scene.restored() == OBJECTS
    assert all(len(versions) == 1 for versions in scene.versions("back").values())


def test_versions_that_the_bucket_still_has_are_copied() -> None:
    store, rows = filled(OBJECTS)
    scene = Scene.__new__(Scene)
    scene.store, scene.rows, scene.index = store, rows, index_of(store)
    store.create_bucket("back")

    async def change() -> None:
        await store.put(ObjectRef("docs", "k/1"), b"something newer", Attributes(), guard=UNGUARDED)
        await store.delete(ObjectRef("docs", "k/2"))
        await store.delete(ObjectRef("docs", "k/3", next(row.version_id for row in rows if row.key == "k/3")))
        await store.put(ObjectRef("back", "k/4"), b"other", Attributes(), guard=ABSENT)

    asyncio.run(change())
    cold = scene.versions("docs")["k/6"][-1]
    cold.attributes = replace(cold.attributes, storage_class="GLACIER")
    outcomes = scene.restore()
    assert statuses(outcomes) == {"done": 7, "blocked": 3}
    assert (outcomes["k/3"].status, outcomes["k/6"].status) == (Status.BLOCKED, Status.BLOCKED)
    gone = {"k/3", "k/4", "k/6"}
    assert scene.restored() == {key: data for key, data in OBJECTS.items() if key not in gone} | {"k/4": b"other"}
    store.restore(ObjectRef("docs", "k/6", cold.version_id))
    assert statuses(scene.restore()) == {"done": 1, "blocked": 2, "same": 7}


def test_rows_that_no_archive_has_are_accounted_for() -> None:
    rows = [ObjectVersion(number, name, archive=name) for number, name in enumerate(NOT_RESTORED)]
    outcomes = Scene(OBJECTS, ArchiveFormat.TAR).restore(rows)
    assert {key: (each.status, each.reason, each.detail) for key, each in outcomes.items()} == NOT_RESTORED


@pytest.mark.parametrize("options", [{}, {"at": 300.0}])
def test_a_version_that_was_uploaded_in_parts_may_not_have_been_there_at_the_time_asked_for(options):
    scene = Scene({"k": b"x"}, ArchiveFormat.TAR)
    put = scene.store.put(ObjectRef("docs", "whole"), b"whole", Attributes(), guard=UNGUARDED)
    whole = asyncio.run(put)
    upload = asyncio.run(scene.store.create_multipart(ObjectRef("docs", "parts"), Attributes()))
    checksum = checksums.full_object("CRC64NVME", b"parts")
    part = asyncio.run(scene.store.put_part(upload, 1, b"parts", checksum=checksum))
    parts = asyncio.run(scene.store.complete_multipart(upload, [part], guard=UNGUARDED))
    rows = [
        ObjectVersion(number, key, each.version_id, size_bytes=5, etag=each.etag)
        for number, (key, each) in enumerate((("whole", whole), ("parts", parts)))
    ]
    outcomes = scene.restore(rows, **options)
    assert {each.status for each in outcomes.values()} == ALL_RESTORED
    assert outcomes["whole"].reason == ""
    assert outcomes["parts"].reason == (Reason.ORDER_UNKNOWN if options else "")


def test_a_version_that_is_streamed_back_has_its_annotations_also_where_a_worker_was_killed_before_they_came() -> None:
    scene = Scene({"a": b"content"}, ArchiveFormat.TAR)
    original = scene.versions("docs")["a"][-1]
    original.annotations = {"labels": b"cat"}
    rows = [row._replace(archive=None) for row in scene.rows]
    assert statuses(scene.restore(rows, streamed=True)) == {"done": 1}
    copy = scene.versions("back")["a"][-1]
    assert copy.annotations == original.annotations
    copy.annotations = {}
    assert statuses(scene.restore(rows, streamed=True)) == {"same": 1}
    assert copy.annotations == original.annotations
