"""What the simulator found in archives, each as the shortest scene that shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from jobs.archives.files import read_own_index
from jobs.archives.index import ArchiveIndex, completed
from jobs.cli.archives import _renew
from jobs.compact.job import Compact, CompactOptions
from jobs.compact.packing import PackingRule
from jobs.compact.savings import Economy, Prices
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Status
from jobs.errors import Conflict, DamagedArchive, Denied, Unavailable
from jobs.expire.copy_checks import Copies, CopyPair
from jobs.expire.rules import Proof
from jobs.restore.job import Restore, RestoreOptions
from jobs.restore.thaw_requests import ThawRequests
from jobs.restore.thawing import Tier
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, Written
from jobs.s3.uploads import ObjectUpload
from tests.doubles.memory_store import MemoryStore
from tests.simulation.copies.tables import PART_BYTES, SCALE, replaced
from tests.simulation.copies.test_findings import Meddling, world
from tests.simulation.engine.campaign import play
from tests.simulation.engine.courses import make

ARCHIVES, LEDGER = Location("destination", "cold"), Location("ledger", "x")


def scene_world(**given: Any) -> MemoryStore:
    store = world(**given)
    store.create_bucket("ledger")
    return store


def index_in(store: Any) -> ArchiveIndex:
    return ArchiveIndex(store, LEDGER)


def compact(store: Any) -> Compact:
    economy = Economy({"STANDARD": Prices(0.02, 0.0, 0.0, 0.0, 0.0)}, "STANDARD", 0.0, None)
    options = CompactOptions(PackingRule(format=ArchiveFormat.TAR), economy, "STANDARD")
    route = Route(Location("source"), ARCHIVES)
    return Compact(store, store, route, options, ByteBudget(1_000_000), index_in(store), "run")


def restore(store: Any, **options: Any) -> Restore:
    route, thaws = Route(Location("source"), Location("destination")), ThawRequests(store, LEDGER, "run", Tier.BULK, 3)
    budget = ByteBudget(1_000_000)
    return Restore(store, store, store, route, RestoreOptions(**options), budget, index_in(store), thaws)


async def put(store: MemoryStore, data: bytes, bucket: str = "source", **attributes: Any) -> Written:
    return await store.put(bucket, "k", data, Attributes(**attributes), guard=UNGUARDED)


def row(written: Written, size_bytes: int, **given: Any) -> ObjectVersion:
    return ObjectVersion(0, "k", written.version_id, size_bytes=size_bytes, etag=written.etag)._replace(**given)


async def pack(store: MemoryStore, *rows: ObjectVersion) -> Location:
    """Compact these; where the archive is."""
    outcomes = await compact(store).process(rows)
    assert {outcome.status for outcome in outcomes} == {Status.PACKED}
    [record] = await index_in(store).records()
    return record.location


def damage(store: MemoryStore, bucket: str, key: str, at: int) -> None:
    """Flip a bit at rest."""
    [*_, version] = store._buckets.named[bucket].versions[key]
    version.data = version.data[:at] + bytes([version.data[at] ^ 8]) + version.data[at + 1 :]


def index_key(archive: Location) -> str:
    return f"x/archives/{archive.bucket}/{archive.key}.parquet"


def test_a_damaged_page_of_an_index_is_a_damaged_archive_and_reindex_mends_it():
    """Arrow's own errors broke every worker that met it; `archives reindex` looked at the footer, and left it."""

    async def scene() -> None:
        store = scene_world()
        archive = await pack(store, row(await put(store, b"bytes"), 5))
        index, key = index_in(store), index_key(archive)
        good = [member async for part in index.members(archive) for member in part]
        [pages_end] = [group.end for group in (await index._open(archive)).groups()]
        found = 0
        for at in range(4, pages_end):
            damage(store, "ledger", key, at)
            try:
                async for _ in index.members(archive):
                    pass
            except DamagedArchive:
                found += 1
                if found % 20 == 1:
                    assert (await _renew(index, store, archive)).is_new
                    assert [member async for part in index.members(archive) for member in part] == good
                    continue
            damage(store, "ledger", key, at)
        assert found > pages_end // 4

    asyncio.run(scene())


def test_the_damaged_index_of_a_cold_archive_stays_until_there_is_another_one():
    """It was dropped first, and a restore then said that no archive has what lies in that one."""

    async def scene() -> None:
        store = scene_world()
        archive = await pack(store, row(await put(store, b"bytes"), 5))
        index, ref = index_in(store), ObjectRef(*archive)
        damage(store, "ledger", index_key(archive), 10)
        packed = await store.get(ref)
        await store.put(
            *archive, packed.data, replace(packed.info.attributes, storage_class="GLACIER"), guard=UNGUARDED
        )
        told = await _renew(index, store, archive)
        assert not told.is_new
        assert "restore the archive there, then reindex it" in told.problem
        assert await index.records(ARCHIVES)
        store.restore(ref)
        assert (await _renew(index, store, archive)).is_new
        assert [member.key async for part in index.members(archive) for member in part] == ["k"]

    asyncio.run(scene())


def test_a_reindex_that_cannot_write_leaves_the_damaged_index():
    """It was dropped before the other one was written: whoever asked in between heard that no archive has it."""

    async def scene() -> None:
        store = scene_world()
        archive = await pack(store, row(await put(store, b"bytes"), 5))
        index, key = index_in(store), index_key(archive)
        damage(store, "ledger", key, 10)
        damaged = await store.get(ObjectRef("ledger", key))

        async def refuse(*given: Any, **more: Any) -> Written:
            raise Denied("PutObject", key, "AccessDenied", "who reads only", 403)

        store.put, put_again = refuse, store.put  # type: ignore[method-assign]  # of this one instance
        with pytest.raises(Denied):
            await _renew(index, store, archive)
        store.put = put_again  # type: ignore[method-assign]  # of this one instance
        assert (await store.get(ObjectRef("ledger", key))).data == damaged.data
        assert (await _renew(index, store, archive)).is_new
        assert [member.key async for part in index.members(archive) for member in part] == ["k"]

    asyncio.run(scene())


def test_an_archive_whose_own_index_is_damaged_is_packed_again_and_compared():
    """A killed attempt had not indexed it yet: each later one ended with exit 10, and nothing could be done."""

    async def scene() -> None:
        store = scene_world()
        written = await put(store, b"bytes")
        archive = await pack(store, row(written, 5))
        index = index_in(store)
        await index.forget(archive, await index.etag(archive) or "")
        record, own_index = await read_own_index(store, archive)
        data = (await store.get(ObjectRef(*archive))).data
        damage(store, archive.bucket, archive.key, data.index(own_index) + len(own_index) - 2)
        with pytest.raises(DamagedArchive):
            completed(*await read_own_index(store, archive))
        [outcome] = await compact(store).process([row(written, 5)])
        assert (outcome.status, outcome.destination_etag) == (Status.PACKED, record.etag)

    asyncio.run(scene())


def test_an_upload_whose_completion_was_answered_to_nobody_is_looked_for():
    """S3 knows no such upload any more: compact broke, and restore called its own object unrestorable."""

    async def scene() -> None:
        store = scene_world(checksum=None)

        class Losing(Meddling):
            def __getattr__(self, name: str) -> Any:
                real = getattr(store, name)

                async def lose(*arguments: Any, **named: Any) -> Any:
                    await real(*arguments, **named)
                    raise Unavailable("CompleteMultipartUpload", "k", "TimedOut", "", 0)

                return (
                    lose if name == "complete_multipart" and not store._buckets.named["destination"].versions else real
                )

        upload = ObjectUpload(Losing(store, "", store.close), "destination", "k", Attributes(), PART_BYTES)
        small = MemoryStore(minimum_part_bytes=PART_BYTES)
        store._minimum_part_bytes = small._minimum_part_bytes
        await upload.write(b"more than one part")
        with pytest.raises(Conflict):
            await upload.finish()
        assert (await store.get(ObjectRef("destination", "k"))).data == b"more than one part"

    asyncio.run(scene())


def test_a_member_has_the_tags_of_the_version_that_was_read():
    """Named by its key alone, the object was read, then the tags of whatever was current by then."""

    async def scene() -> None:
        store = scene_world()
        written = await put(store, b"bytes", tags={"of": "this"})

        async def others() -> None:
            await put(store, b"newer", tags={"of": "another"})

        meddling = Meddling(store, "get_tags", others)
        await compact(meddling).process([row(written, 5, version_id=None)])
        [found] = await index_in(store).find("k")
        assert (found.member.version_id, found.member.tags) == (written.version_id, {"of": "this"})

    asyncio.run(scene())


@pytest.mark.parametrize("act", ["delete", "replace"])
def test_an_empty_original_is_not_proven_by_an_archive_that_is_gone(act: str):
    """Its member has no bytes that would have to be read: nobody looked whether the archive was there."""

    async def scene() -> None:
        store = scene_world()
        written = await put(store, b"")
        archive = await pack(store, row(written, 0))
        [found] = await index_in(store).find("k")
        fields = ("key", "size_bytes", "etag", "sha256", "offset", "frame_start", "frame_offset", "frame_length")
        member = {name: getattr(found.member, name) for name in fields}
        proof = Proof("run", 0.0, *archive, found.record.version_id, found.record.etag, member)
        ref = ObjectRef("source", "k", written.version_id)
        pair = CopyPair(ref, await store.head(ref), proof)
        copies = Copies(store, store, ByteBudget(1_000))
        assert [each.same for each in await copies.compare([pair])] == [True]
        if act == "delete":
            await store.delete(*archive, version_id=found.record.version_id)
        else:
            pair = pair._replace(proof=replace(proof, version_id=None))
            await store.put(*archive, b"another", Attributes(), guard=UNGUARDED)
        assert [each.same for each in await copies.compare([pair])] == [None]

    asyncio.run(scene())


def test_an_archived_object_in_the_way_is_the_rows_affair():
    """It was to be read for the comparison, S3 refused, and the run ended with 3 whenever it was tried."""

    async def scene() -> None:
        store = scene_world(checksum=None)
        archive = await pack(store, row(await put(store, b"bytes"), 5))
        await put(store, b"other", "destination", storage_class="GLACIER", sse="aws:kms")
        [member] = await restore(store).process([ObjectVersion(0, "k", archive=str(archive))])
        assert (member.status, "an archived object" in member.reason) == (Status.UNRESTORABLE, True)
        again = await put(store, b"bytes", sse="aws:kms")
        [version] = await restore(store, is_history=True).process([row(again, 5)])
        assert (version.status, "an archived object" in version.reason) == (Status.UNRESTORABLE, True)

    asyncio.run(scene())


def test_a_version_that_was_copied_in_parts_for_a_lost_answer_is_not_in_its_own_way():
    """The second Complete met the object of the first, and the row was unrestorable: PreconditionFailed."""

    async def scene() -> None:
        store = scene_world()
        store._minimum_part_bytes = PART_BYTES
        written = await put(store, bytes(60))

        async def others() -> None:
            await store.put("destination", "k", bytes(60), Attributes(), guard=UNGUARDED)

        job = restore(
            Meddling(store, "complete_multipart", others),
            is_history=True,
            multipart_threshold_bytes=16,
            part_size_bytes=8,
        )
        with replaced(SCALE):
            [outcome] = await job.process([row(written, 60)])
        assert (outcome.status, outcome.reason) == (Status.SAME, "")

    asyncio.run(scene())


def test_a_flipped_replica_that_others_replaced_after_its_proof_is_seen():
    """Only CRCs agree, so that both sides are read."""
    course = play(make(1_142_825))
    assert course.model.violations == []
    assert not course.model.known_limits


def test_what_was_archived_and_expired_is_restored_though_the_same_content_came_again_later():
    course = play(make(5_030_529))
    assert course.model.violations == []


def test_an_archived_object_that_is_in_its_own_place_is_not_in_its_own_way():
    """As of a time, in place: what nothing could prove and nobody could read was "another object"."""

    async def scene() -> None:
        store = scene_world(checksum=None)
        written = await put(store, b"bytes", sse="aws:kms", storage_class="GLACIER")
        job = restore(store, is_history=True)
        job.route = Route(Location("source"), Location("source"))
        [outcome] = await job.process([row(written, 5)])
        assert (outcome.status, outcome.reason) == (Status.SAME, "the object itself")

    asyncio.run(scene())


def test_an_archived_object_of_the_same_bytes_is_not_in_the_way_of_what_was_read():
    """What was uploaded in parts has no MD5 to compare with; its bytes have."""

    async def scene() -> None:
        store = scene_world(checksum=None)
        upload = await store.create_multipart("source", "k", Attributes())
        part = await store.put_part("source", "k", upload, 1, b"bytes")
        parted = await store.complete_multipart("source", "k", upload, [part], guard=UNGUARDED)
        archive = await pack(store, row(parted, 5))
        await put(store, b"bytes", "destination", storage_class="GLACIER")
        [outcome] = await restore(store).process([row(parted, 5, archive=str(archive))])
        assert (outcome.status, outcome.evidence) == (Status.SAME, Evidence.MD5_ETAG)

    asyncio.run(scene())
