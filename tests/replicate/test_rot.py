"""Bytes that rot below an ETag that stays: which side is at fault, and what a retry does about it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import NotFound
from jobs.replicate.decision import Overwrite
from jobs.replicate.job import Replicate, ReplicateOptions
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.lookup import key_history
from jobs.s3.store import UNGUARDED
from jobs.verify.attestation import Attestation
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.memory_store import MemoryStore

GOOD, ROTTEN = b"the good content", b"the gOOd content"
ROUTE = Route(Location("here"), Location("there"))


class Pair(MemoryStore):
    """An object and its copy, with what S3 keeps beside their bytes. `sse`: the source's encryption."""

    def __init__(self, *, versioned: bool = False, sse: str | None = None) -> None:
        super().__init__(minimum_part_bytes=1)
        self.sse = sse
        for bucket in ("here", "there"):
            self.create_bucket(bucket, versioned=versioned)

    async def copied(self) -> ObjectVersion:
        await self.put("here", "k", GOOD, Attributes(sse=self.sse), guard=UNGUARDED)
        source = await self.head(ObjectRef("here", "k"))
        row = ObjectVersion(0, "k", None, size_bytes=len(GOOD), etag=source.etag, last_modified=source.last_modified)
        assert (await self.replicate(row)).status is Status.COPIED
        return row

    async def verify(self, row: ObjectVersion, copied: Any = None, **options: Any) -> Outcome:
        job = Verify(self, self, ROUTE, VerifyOptions(**options), ByteBudget(1 << 20), copied)
        [outcome] = await job.process([row])
        return outcome

    async def replicate(self, row: ObjectVersion, overwrite: Overwrite = Overwrite.OLDER) -> Outcome:
        options = ReplicateOptions(overwrite=overwrite)
        [outcome] = await Replicate(self, self, ROUTE, options, ByteBudget(1 << 20)).process([row])
        return outcome

    async def replay(self, row: ObjectVersion) -> Outcome:
        options = ReplicateOptions(all_versions=True)
        [outcome] = await Replicate(self, self, ROUTE, options, ByteBudget(1 << 20)).process([row])
        return outcome

    async def there(self) -> bytes:
        return (await self.get(ObjectRef("there", "k"))).data


class AllCopied:
    """The rows of a run that copied them all."""

    async def has(self, row: int) -> bool:
        return True


def condemned(row: ObjectVersion, outcome: Outcome) -> ObjectVersion:
    """The row of a retry, as the failed rows of a verify run have it."""
    if outcome.status is Status.DAMAGED:
        return row._replace(source_attested=f"{row.source_attested or ''} damaged:etag={row.etag}".strip())
    assert outcome.status is Status.MISMATCHED
    return row._replace(condemned_etag=outcome.destination_etag)


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_copy_that_rotted_is_copied_again_and_proven_by_its_bytes(versioned: bool, is_known: bool) -> None:
    store = Pair(versioned=versioned)
    row = await store.copied()
    proven = await store.verify(row, deep=True)
    store.rot("there", "k", ROTTEN)
    if is_known:
        row = row._replace(known_checksum=proven.checksum)
    found = await store.verify(row, deep=True)
    assert found.status is Status.MISMATCHED
    again = await store.replicate(condemned(row, found))
    assert (again.status, again.evidence) == (Status.COPIED, Evidence.CONTENT), again
    assert await store.there() == GOOD
    same = await store.replicate(condemned(row, found))
    assert (same.status, same.evidence) == (Status.SAME, Evidence.CONTENT), "it is read, and not copied once more"
    assert (await store.verify(condemned(row, found))).evidence is Evidence.CONTENT


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_damaged_original_is_restored_by_a_run_with_swapped_sides_and_its_retry(versioned: bool) -> None:
    """As `expire` advises where it keeps a damaged original."""

    store = Pair(versioned=versioned)
    row = await store.copied()
    store.rot("here", "k", ROTTEN)
    assert (await store.verify(row, deep=True)).status is Status.DAMAGED
    back, budget = Route(ROUTE.destination, ROUTE.source), ByteBudget(1 << 20)
    copy = await store.head(ObjectRef("there", "k"))
    swapped = ObjectVersion(0, "k", None, size_bytes=len(GOOD), etag=copy.etag, last_modified=copy.last_modified)
    [found] = await Verify(store, store, back, VerifyOptions(deep=True), budget).process([swapped])
    assert found.status is Status.MISMATCHED
    retry = Replicate(store, store, back, ReplicateOptions(), budget)
    [restored] = await retry.process([condemned(swapped, found)])
    assert restored.status is Status.COPIED
    assert (await store.get(ObjectRef("here", "k"))).data == GOOD
    now = await store.head(ObjectRef("here", "k"))
    assert (await store.verify(row._replace(etag=now.etag), deep=True)).status is Status.VERIFIED


async def test_a_copy_that_rots_again_at_once_is_not_called_copied() -> None:
    class Bad(Pair):
        async def copy(self, *arguments: Any, **named: Any) -> Any:
            written = await super().copy(*arguments, **named)
            self.rot("there", "k", ROTTEN)
            return written

    store = Bad()
    row = await store.copied()
    found = await store.verify(row, deep=True)
    again = await store.replicate(condemned(row, found))
    assert (again.status, again.evidence) == (Status.MISMATCHED, Evidence.CONTENT)
    assert "reads as other bytes still" in again.reason


class Lossy(Pair):
    """GET finds nothing of what is in the buckets `lost`, which HEAD still shows, until it is written again."""

    def __init__(self, *, versioned: bool = False) -> None:
        super().__init__(versioned=versioned)
        self.lost: set[str] = set()

    async def get(self, ref: ObjectRef, **named: Any) -> Any:
        if ref.bucket in self.lost:
            raise NotFound("GetObject", str(ref), "NoSuchKey")
        return await super().get(ref, **named)

    async def copy(self, source: ObjectRef, source_etag: Any, bucket: str, *arguments: Any, **named: Any) -> Any:
        written = await super().copy(source, source_etag, bucket, *arguments, **named)
        self.lost.discard(bucket)
        return written


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_copy_whose_bytes_are_lost_is_wrong_and_copied_again(versioned: bool, is_known: bool) -> None:
    """It was unverifiable, and a retry found it the same."""

    store = Lossy(versioned=versioned)
    row = await store.copied()
    proven = await store.verify(row, deep=True)
    store.lost = {"there"}
    if is_known:
        row = row._replace(known_checksum=proven.checksum)
    found = await store.verify(row, deep=True)
    assert (found.status, found.evidence, "are lost" in found.reason) == (
        Status.MISMATCHED,
        Evidence.CONTENT,
        True,
    )
    again = await store.replicate(condemned(row, found))
    assert (again.status, again.evidence) == (Status.COPIED, Evidence.CONTENT), again
    assert await store.there() == GOOD


async def test_a_source_whose_bytes_are_lost_is_damaged() -> None:
    store = Lossy()
    row = await store.copied()
    store.lost = {"here"}
    found = await store.verify(row, deep=True)
    assert (found.status, "are lost" in found.reason) == (Status.DAMAGED, True), found


@pytest.mark.parametrize("is_written_again", [False, True])
async def test_a_copy_that_goes_away_while_it_is_read_is_not_lost(is_written_again: bool) -> None:
    class Leaving(Pair):
        async def get(self, ref: ObjectRef, **named: Any) -> Any:
            if ref.bucket == "there":
                await self.delete("there", "k")
                if is_written_again:
                    await self.put("there", "k", GOOD, Attributes(), guard=UNGUARDED)
                raise NotFound("GetObject", str(ref), "NoSuchKey")
            return await super().get(ref, **named)

    store = Leaving(versioned=True)
    row = await store.copied()
    found = await store.verify(row, deep=True)
    assert found.status is (Status.UNVERIFIABLE if is_written_again else Status.MISSING), found


async def test_a_condemned_row_is_verified_by_bytes_though_nobody_asked_for_it() -> None:
    store = Pair()
    row = await store.copied()
    store.rot("there", "k", ROTTEN)
    assert (await store.verify(row)).status is Status.VERIFIED, "what S3 keeps beside the bytes agrees"
    assert (await store.verify(row._replace(condemned_etag="any"))).status is Status.MISMATCHED
    known = row._replace(condemned_etag="any", known_checksum="CRC32:AAAAAA==")
    assert (await store.verify(known, copied=AllCopied())).reason == "content differs at byte 5"


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize("way", ["deep", "at rest"])
async def test_a_damaged_source_is_never_copied_over_the_good_copy(way: str, overwrite: Overwrite) -> None:
    store = Pair(sse="aws:kms" if way == "at rest" else None)
    row = await store.copied()
    store.rot("here", "k", ROTTEN)
    if way == "deep":
        found = await store.verify(row, deep=True)
    else:
        attested = Attestation(full_object("CRC64NVME", ROTTEN), None, row.etag).spelled()
        report = {"uri": "s3://reports/m.json", "computed_at": time.time() + 60, "age_hours": 1.0}
        row = row._replace(source_attested=attested)
        found = await store.verify(row, source_checksums=report)
    assert found.status is Status.DAMAGED, found
    assert "source" in found.reason
    again = await store.replicate(condemned(row, found), overwrite)
    assert again.status is Status.DAMAGED, again
    assert await store.there() == GOOD
    # Also where the file of failed rows condemns the copy: S3 is asked, not the file.
    forged = await store.replicate(row._replace(condemned_etag=(await store.head(ObjectRef("there", "k"))).etag))
    assert forged.status is Status.DAMAGED
    assert await store.there() == GOOD


async def test_a_damaged_source_is_not_copied_where_nothing_is_and_one_that_was_restored_is() -> None:
    store = Pair()
    row = await store.copied()
    store.rot("here", "k", ROTTEN)
    marked = condemned(row, await store.verify(row, deep=True))
    await store.delete("there", "k")
    assert (await store.replicate(marked)).status is Status.DAMAGED
    await store.put("here", "k", GOOD, Attributes(), guard=UNGUARDED)
    assert (await store.replicate(marked)).status is Status.COPIED
    assert await store.there() == GOOD


async def test_a_version_in_a_history_is_not_the_same_by_an_etag_that_was_condemned() -> None:
    store = Pair(versioned=True)
    row = (await store.copied())._replace(version_id=(await store.head(ObjectRef("here", "k"))).version_id)
    store.rot("there", "k", ROTTEN)
    found = await store.verify(row, deep=True, all_versions=True)
    again = await store.replay(condemned(row, found))
    assert again.status is Status.COPIED, again
    assert await store.there() == GOOD


@pytest.mark.parametrize("sse", [None, "aws:kms"])
async def test_a_version_that_rotted_in_a_longer_history_is_copied_again_by_a_retry(sse: str | None) -> None:
    """Its older version was expired at the source, and its copy was not."""

    store = Pair(versioned=True, sse=sse)
    await store.put("there", "k", b"an older version", Attributes(), guard=UNGUARDED)
    await store.put("here", "k", GOOD, Attributes(sse=sse), guard=UNGUARDED)
    source = await store.head(ObjectRef("here", "k"))
    row = ObjectVersion(0, "k", source.version_id, size_bytes=len(GOOD), etag=source.etag, last_modified=1.0)
    assert (await store.replay(row)).status is Status.COPIED
    store.rot("there", "k", ROTTEN)
    found = await store.verify(row, deep=True, all_versions=True)
    again = await store.replay(condemned(row, found))
    assert again.status is Status.COPIED, again
    assert await store.there() == GOOD
    assert len(await key_history(store, "there", "k")) == 3, "nothing is deleted"
    assert (await store.replay(condemned(row, found))).status is Status.SAME, "it is not copied once more"
    assert (await store.verify(row, deep=True, all_versions=True)).status is Status.VERIFIED


async def test_a_rotten_copy_below_a_newer_one_is_not_called_the_same_nor_put_on_top() -> None:
    store = Pair(versioned=True)
    await store.put("there", "k", b"an older version", Attributes(), guard=UNGUARDED)
    rows = []
    for data in (GOOD, b"a newer version"):
        written = await store.put("here", "k", data, Attributes(), guard=UNGUARDED)
        rows.append(ObjectVersion(0, "k", written.version_id, size_bytes=len(data), etag=written.etag))
        assert (await store.replay(rows[-1])).status is Status.COPIED
        if data == GOOD:
            store.rot("there", "k", ROTTEN)
    found = await store.verify(rows[0], deep=True, all_versions=True)
    assert (await store.replay(rows[0])).status is Status.SAME, "what S3 keeps beside the bytes agrees"
    assert (await store.replay(condemned(rows[0], found))).status is Status.CHANGED
    assert await store.there() == b"a newer version"


async def test_a_damaged_version_is_not_put_on_top_of_a_history() -> None:
    store = Pair(versioned=True)
    row = (await store.copied())._replace(version_id=(await store.head(ObjectRef("here", "k"))).version_id)
    store.rot("here", "k", ROTTEN)
    found = await store.verify(row, deep=True, all_versions=True)
    assert (await store.replay(condemned(row, found))).status is Status.DAMAGED
    forged = row._replace(condemned_etag=found.destination_etag)
    assert (await store.replay(forged)).status is Status.DAMAGED
    assert await store.there() == GOOD


@pytest.mark.parametrize("condemns", [False, True])
async def test_a_damaged_version_whose_copy_only_its_bytes_show_is_not_put_on_top_of_it(condemns: bool) -> None:
    """The bytes were read and the damage was seen, and the version was copied as one without a copy."""

    store = Pair(versioned=True)
    written = await store.put("here", "k", GOOD, Attributes(), guard=UNGUARDED)
    await uploaded_in_parts(store, (GOOD[:6], GOOD[6:]), "there")
    store.rot("here", "k", ROTTEN)
    row = ObjectVersion(0, "k", written.version_id, size_bytes=len(GOOD), etag=written.etag)
    copy = (await store.head(ObjectRef("there", "k"))).etag
    outcome = await store.replay(row._replace(condemned_etag=copy) if condemns else row)
    assert outcome.status is Status.DAMAGED, outcome
    assert "the source is damaged" in outcome.reason
    assert await store.there() == GOOD


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_copy_of_a_damaged_source_is_not_proven_by_its_bytes(versioned: bool) -> None:
    """Both sides have the same bytes, and they are not those that S3 keeps a checksum of."""

    store = Pair(versioned=versioned)
    written = await store.put("here", "k", GOOD, Attributes(), guard=UNGUARDED)
    store.rot("here", "k", ROTTEN)
    await uploaded_in_parts(store, (ROTTEN[:6], ROTTEN[6:]), "there")
    row = ObjectVersion(0, "k", written.version_id, size_bytes=len(GOOD), etag=written.etag, last_modified=1.0)
    verified = await store.verify(row, deep=True, all_versions=versioned)
    assert verified.status is Status.DAMAGED, verified
    copy = (await store.head(ObjectRef("there", "k"))).etag
    for known in (row, row._replace(condemned_etag=copy)):
        retried = await (store.replay(known) if versioned else store.replicate(known))
        assert retried.status is Status.DAMAGED, retried
    assert "and so is the copy" in retried.reason


async def uploaded_in_parts(store: MemoryStore, pieces: tuple[bytes, ...], bucket: str = "here") -> ObjectVersion:
    """An object of which S3 keeps nothing that the whole content could be held against."""
    upload = await store.create_multipart(bucket, "k", Attributes(), checksum_algorithm="SHA256", is_composite=True)
    parts = [await store.put_part(bucket, "k", upload, number, data) for number, data in enumerate(pieces, 1)]
    await store.complete_multipart(bucket, "k", upload, parts, guard=UNGUARDED)
    info = await store.head(ObjectRef(bucket, "k"))
    return ObjectVersion(0, "k", None, size_bytes=info.size_bytes, etag=info.etag, last_modified=info.last_modified)


async def test_a_source_without_checksums_that_rotted_does_not_replace_an_intact_copy() -> None:
    pair = Pair()
    row = await uploaded_in_parts(pair, (GOOD[:6], GOOD[6:]))
    assert (await pair.replicate(row)).status is Status.COPIED
    pair.rot("here", "k", ROTTEN)
    found = await pair.verify(row, deep=True)
    assert (found.status, "either may be wrong" in found.reason) == (Status.MISMATCHED, True)
    retried = await pair.replicate(row._replace(condemned_etag=found.destination_etag))
    assert retried.status is Status.CHANGED, retried.reason
    assert await pair.there() == GOOD
    # Who has looked at both can still say so.
    forced = await pair.replicate(row._replace(condemned_etag=found.destination_etag), Overwrite.ALWAYS)
    assert forced.status is Status.COPIED


async def test_a_copy_that_rotted_is_replaced_though_the_source_has_no_checksum() -> None:
    pair = Pair()
    row = await uploaded_in_parts(pair, (GOOD[:6], GOOD[6:]))
    assert (await pair.replicate(row)).status is Status.COPIED
    pair.rot("there", "k", ROTTEN)
    found = await pair.verify(row, deep=True)
    assert found.status is Status.MISMATCHED
    retried = await pair.replicate(row._replace(condemned_etag=found.destination_etag))
    assert (retried.status, await pair.there()) == (Status.COPIED, GOOD), retried.reason
