"""The verify job against the in-memory store: what goes wrong while it reads."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Evidence, Status
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, StoreError
from jobs.ledger.ledger import Ledger
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED
from jobs.verify.copied_rows import CopiedRows
from jobs.verify.job import Verify, VerifyOptions
from tests.doubles.forged_content import with_crc32_of
from tests.doubles.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NotFound, Status.MISMATCHED),  # it is there, and its bytes are not
        (PreconditionFailed, Status.UNVERIFIABLE),
        (Denied, Status.DENIED),
        (ArchivedObject, Status.UNVERIFIABLE),
    ],
)
def test_what_happens_while_reading_is_the_rows_outcome(kind: type[StoreError], status: Status) -> None:
    class Failing(MemoryStore):
        async def get(self, *arguments: Any, **named: Any) -> Any:
            raise kind("GetObject", "s3://there/k", "Sorry")

    async def scene() -> None:
        store = Failing()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
            await store.put(bucket, "k", b"body", Attributes(), guard=UNGUARDED)
        route = Route(Location("here"), Location("there"))
        job = Verify(store, store, route, VerifyOptions(deep=True), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k")])
        assert outcome.status is status
        assert outcome.reason

    asyncio.run(scene())


def test_an_object_of_another_size_than_the_row_says_is_not_the_one_named() -> None:
    """A manifest with sizes and without ETags: another object and its copy were verified as the one that it names."""

    async def scene() -> None:
        store = MemoryStore()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
            await store.put(bucket, "k", b"another", Attributes(), guard=UNGUARDED)
        route = Route(Location("here"), Location("there"))
        job = Verify(store, store, route, VerifyOptions(), ByteBudget(1000))
        for size_bytes, status in ((999, Status.CHANGED), (7, Status.VERIFIED)):
            [outcome] = await job.process([ObjectVersion(0, "k", size_bytes=size_bytes)])
            assert outcome.status is status

    asyncio.run(scene())


def test_a_source_that_is_overwritten_and_copied_between_the_two_looks_has_changed() -> None:
    class Busy(MemoryStore):
        async def head(self, ref: ObjectRef, **named: Any) -> Any:
            if ref.bucket == "there":
                for bucket in ("here", "there"):
                    await self.put(bucket, "k", b"newer", Attributes(), guard=UNGUARDED)
            return await super().head(ref, **named)

    async def scene() -> None:
        store = Busy()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
            await store.put(bucket, "k", b"older", Attributes(), guard=UNGUARDED)
        route = Route(Location("here"), Location("there"))
        job = Verify(store, store, route, VerifyOptions(), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k")])
        assert outcome.status is Status.CHANGED

    asyncio.run(scene())


@pytest.mark.parametrize("known", [None, "SHA256:2pJaMOMff9qnBE4+W6SuF2cN6C1new5631cAQooTejY="])
@pytest.mark.parametrize(
    ("bucket", "now", "status"),
    [
        ("there", None, Status.MISSING),
        ("there", b"ransom", Status.MISMATCHED),
        ("there", b"older", Status.VERIFIED),
        ("here", None, Status.CHANGED),
        ("here", b"newer", Status.CHANGED),
    ],
)
def test_what_becomes_of_a_side_while_it_is_read(
    bucket: str, now: bytes | None, status: Status, known: str | None
) -> None:
    """A source that moves on is judged later, a copy is judged by what it is now."""
    if known and bucket == "here":
        return  # that reads no source

    class Busy(MemoryStore):
        is_read = False

        async def get(self, *arguments: Any, **named: Any) -> Any:
            if not self.is_read:
                self.is_read = True
                if now is None:
                    await self.delete(bucket, "k")
                else:
                    await self.put(bucket, "k", now, Attributes(metadata={"by": "another"}), guard=UNGUARDED)
                raise PreconditionFailed("GetObject", f"s3://{bucket}/k", "Changed")
            return await super().get(*arguments, **named)

    async def scene() -> None:
        store = Busy()
        for name in ("here", "there"):
            store.create_bucket(name)
            await store.put(name, "k", b"older", Attributes(), guard=UNGUARDED)
        job = Verify(
            store, store, Route(Location("here"), Location("there")), VerifyOptions(deep=True), ByteBudget(1000)
        )
        [outcome] = await job.process([ObjectVersion(0, "k", known_checksum=known)])
        assert outcome.status is status, outcome.reason

    asyncio.run(scene())


GOOD = b"salary of Alice: 1000 EUR per month."
FORGED = with_crc32_of(GOOD, b"salary of Alice: 9999 EUR per month.")


@pytest.mark.parametrize(
    ("checksum", "etag", "algorithm", "source", "verdict"),
    [
        ("differs", "looks like another MD5", "against intent", "the same", "different"),
        ("differs", "no MD5, or the content's", "weak", "the same", "different"),
        ("differs", "no MD5, or the content's", "weak", "gone, or another", "changed"),
        ("agrees", "no MD5, or the content's", "weak", "not asked", "same"),
        ("agrees", "looks like another MD5", "against intent", "not asked", "same"),
        ("agrees", "looks like another MD5", "weak", "that is its MD5", "different"),
        ("agrees", "looks like another MD5", "weak", "it is encrypted", "same"),
        ("agrees", "looks like another MD5", "weak", "gone, or another", "unknown"),
    ],
)
def test_all_that_is_known_of_a_proven_row_has_to_agree(
    checksum: str, etag: str, algorithm: str, source: str, verdict: str
) -> None:
    """A copy whose content was forged to the CRC32 that an earlier run recorded has another MD5."""
    asked: list[str] = []

    class Counting(MemoryStore):
        async def head(self, ref: ObjectRef, **named: Any) -> Any:
            asked.append(ref.bucket)
            return await super().head(ref, **named)

    async def scene() -> None:
        store, name = Counting(), "SHA256" if algorithm == "against intent" else "CRC32"
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
        sse = "aws:kms" if source == "it is encrypted" or algorithm == "against intent" else None
        row_etag = (await store.put("here", "k", GOOD, Attributes(sse=sse), guard=UNGUARDED)).etag
        if sse:  # S3 gives such an object an ETag that looks like an MD5
            row_etag = store._buckets.find("HeadObject", ObjectRef("here", "k")).etag = "1" * 32
        if source == "gone, or another":
            await store.put("here", "k", b"other", Attributes(), guard=UNGUARDED)
        is_forged = verdict != "same"
        await store.put("there", "k", FORGED if is_forged else GOOD, Attributes(), guard=UNGUARDED)
        known = full_object(name, b"other" if checksum == "differs" else GOOD)
        rows = [ObjectVersion(0, "k", size_bytes=size, etag=row_etag) for size in (len(GOOD), len(GOOD) + 1)]
        if etag.startswith("no MD5") and checksum == "agrees":
            rows.append(rows[0]._replace(etag="0" * 32 + "-2"))
        rows = [each._replace(known_checksum=f"{name}:{known.value}") for each in rows]
        job = Verify(
            store, store, Route(Location("here"), Location("there")), VerifyOptions(deep=True), ByteBudget(1000)
        )
        first, of_other_size, *rest = await job.process(rows)
        status = {
            "same": Status.VERIFIED,
            "different": Status.MISMATCHED,
            "unknown": Status.UNVERIFIABLE,
            "changed": Status.CHANGED,
        }[verdict]
        assert [each.status for each in (first, *rest)] == [status] * (1 + len(rest)), first.reason
        is_other = source == "gone, or another"  # the source is, so its copy may be there
        assert of_other_size.status is (Status.CHANGED if is_other else Status.MISMATCHED)
        assert ("size differs" in of_other_size.reason) != is_other
        assert (asked.count("here") > 1) == (source != "not asked")  # once for the row of another size

    asyncio.run(scene())


def test_the_table_of_proven_rows_is_the_one_that_is_replayed() -> None:
    lines = [line.strip().strip("|") for line in (Verify._prove_known.__doc__ or "").splitlines() if "|" in line]
    table = [tuple(cell.strip() for cell in line.split("|")) for line in lines[2:]]
    assert table == [
        ("differs", "", "", "", "different"),
        ("agrees", "no MD5, or the content's", "", "not asked", "same"),
        ("agrees", "looks like another MD5", "against intent", "not asked", "same"),
        ("agrees", "looks like another MD5", "weak", "that is its MD5", "different"),
        ("agrees", "looks like another MD5", "weak", "it is encrypted", "same"),
        ("agrees", "looks like another MD5", "weak", "gone, or another", "unknown"),
    ]


@pytest.mark.parametrize(
    ("there", "sse", "asked", "status"),
    [
        (b"body", None, ["there"], Status.VERIFIED),
        (b"body", "aws:kms", ["here", "there", "there"], Status.VERIFIED),  # by the checksums that both keep
        (b"ydob", None, ["here", "here", "there", "there"], Status.MISMATCHED),
        (b"bodies", None, ["here", "here", "there", "there"], Status.MISMATCHED),
        (None, None, ["here", "there", "there"], Status.MISSING),
    ],
)
def test_after_a_copy_the_source_is_asked_only_where_the_destination_proves_nothing(
    there: bytes | None, sse: str | None, asked: list[str], status: Status
) -> None:
    heads: list[str] = []

    class Counting(MemoryStore):
        async def head(self, ref: ObjectRef, **named: Any) -> Any:
            heads.append(ref.bucket)
            return await super().head(ref, **named)

    async def scene() -> None:
        store = Counting()
        for bucket in ("here", "there"):
            store.create_bucket(bucket)
        etag = (await store.put("here", "k", b"body", Attributes(), guard=UNGUARDED)).etag
        if there is not None:
            await store.put("there", "k", there, Attributes(sse=sse), guard=UNGUARDED)
        route, options = Route(Location("here"), Location("there")), VerifyOptions(after_copy="a run")
        copied = CopiedRows(Ledger(store, Location("ledger")), "a run", 0, frozenset({0}))
        job = Verify(store, store, route, options, ByteBudget(1000), copied)
        [outcome] = await job.process([ObjectVersion(0, "k", size_bytes=4, etag=etag)])
        assert outcome.status is status, outcome.reason
        assert ("not asked" in outcome.reason) == (asked == ["there"])
        if there == b"body":
            assert outcome.checksum is not None
        # An ETag that only the manifest knows proves nothing of the source.
        [other] = await job.process([ObjectVersion(0, "k", size_bytes=4, etag="0" * 32)])
        assert other.status is Status.CHANGED
        # A row that the copy did not copy has two sides, whatever lies at the destination.
        await store.delete("here", "k")
        [gone] = await job.process([ObjectVersion(1, "k", size_bytes=4, etag=etag)])
        assert gone.status is Status.CHANGED

    asyncio.run(scene())
    assert sorted(heads[: len(asked)]) == asked


@pytest.mark.parametrize(
    ("versions", "there", "status"),
    [
        ((b"older", b"newer"), b"newer", Status.CHANGED),  # a copy that was made since
        ((b"older", b"newer"), b"older", Status.VERIFIED),
        ((b"older", None), b"newer", Status.CHANGED),
        ((b"older",), b"newer", Status.MISMATCHED),
        ((b"older", b"newer"), None, Status.MISSING),
    ],
)
def test_a_version_that_was_superseded_since_proves_nothing_wrong(
    versions: tuple[bytes | None, ...], there: bytes | None, status: Status
) -> None:
    """The destination may be the copy of a newer one, and a retry would take it for damage."""

    async def scene() -> None:
        store = MemoryStore()
        store.create_bucket("here", versioned=True)
        store.create_bucket("there")
        first = await store.put("here", "k", versions[0] or b"", Attributes(), guard=UNGUARDED)
        for data in versions[1:]:
            if data is None:
                await store.delete("here", "k")
            else:
                await store.put("here", "k", data, Attributes(), guard=UNGUARDED)
        if there is not None:
            await store.put("there", "k", there, Attributes(), guard=UNGUARDED)
        job = Verify(store, store, Route(Location("here"), Location("there")), VerifyOptions(), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k", first.version_id, etag=first.etag)])
        assert outcome.status is status, outcome.reason

    asyncio.run(scene())


def test_a_current_version_without_an_id_in_its_answer_is_still_the_rows() -> None:
    """Some servers leave the id out where a request names none."""

    class Terse(MemoryStore):
        async def head(self, ref: ObjectRef, **named: Any) -> Any:
            info = await super().head(ref, **named)
            return info if ref.version_id else replace(info, version_id=None)

    async def scene() -> None:
        store = Terse()
        store.create_bucket("here", versioned=True)
        store.create_bucket("there")
        written = await store.put("here", "k", b"body", Attributes(), guard=UNGUARDED)
        await store.put("there", "k", b"ydob", Attributes(), guard=UNGUARDED)
        job = Verify(store, store, Route(Location("here"), Location("there")), VerifyOptions(), ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k", written.version_id, etag=written.etag)])
        assert outcome.status is Status.MISMATCHED, outcome.reason

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("asked", "there", "statuses"),
    [
        ((0, 1, 2), (b"one", b"two", b"thr"), "verified verified verified"),
        ((0, 1, 2), (b"one", b"XXX", b"thr"), "verified mismatched verified"),
        ((1, 2), (b"one", b"two"), "verified missing"),  # the third is not copied yet
        ((1,), (b"one",), "missing"),
        ((0, 2), (b"one", b"two"), "verified missing"),
        ((1, 2), (b"two", b"thr"), "verified verified"),
        ((0, 1), (b"two", b"thr"), "missing verified"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_part_of_a_keys_versions_is_no_damage_where_the_copies_are_of_others(
    asked: tuple[int, ...], there: tuple[bytes, ...], statuses: str, deep: bool
) -> None:
    assert _statuses(MemoryStore(), asked, there, deep=deep) == statuses


def test_what_nobody_may_list_at_the_source_is_missing_and_not_damaged() -> None:
    """A retry may replace what is damaged."""

    class Silent(MemoryStore):
        async def list_versions(self, bucket: str, *arguments: Any, **named: Any) -> Any:
            if bucket == "here":
                raise Denied("ListObjectVersions", "here", "AccessDenied", "", 403)
            return await super().list_versions(bucket, *arguments, **named)

    assert _statuses(Silent(), (0, 1, 2), (b"one", b"XXX", b"thr"), deep=False) == "verified missing verified"


def _statuses(store: MemoryStore, asked: tuple[int, ...], there: tuple[bytes, ...], *, deep: bool) -> str:
    """The outcomes of these versions of three, with copies of these contents."""

    async def scene() -> str:
        for bucket in ("here", "there"):
            store.create_bucket(bucket, versioned=True)
        written = [
            await store.put("here", "k", data, Attributes(), guard=UNGUARDED) for data in (b"one", b"two", b"thr")
        ]
        for data in there:
            await store.put("there", "k", data, Attributes(), guard=UNGUARDED)
        options = VerifyOptions(all_versions=True, deep=deep)
        job = Verify(store, store, Route(Location("here"), Location("there")), options, ByteBudget(1000))
        rows = [
            ObjectVersion(at, "k", written[number].version_id, size_bytes=3, etag=written[number].etag)
            for at, number in enumerate(asked)
        ]
        return " ".join(outcome.status for outcome in await job.process(rows))

    return asyncio.run(scene())


@pytest.mark.parametrize(
    ("on_top", "status"),
    [
        (None, Status.MISSING),  # a delete marker
        (b"other", Status.MISMATCHED),
        (b"one", Status.MISMATCHED),  # the copy of an older version
        (b"two!", Status.VERIFIED),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_current_version_whose_copy_is_covered_is_not_verified(
    on_top: bytes | None, status: Status, deep: bool
) -> None:
    async def scene() -> None:
        store = MemoryStore()
        for bucket in ("here", "there"):
            store.create_bucket(bucket, versioned=True)
        rows = []
        for data in (b"one", b"two!"):
            for bucket in ("there", "here"):
                written = await store.put(bucket, "k", data, Attributes(), guard=UNGUARDED)
            rows.append(ObjectVersion(0, "k", written.version_id, size_bytes=len(data), etag=written.etag))
        if on_top is None:
            await store.delete("there", "k")
        else:
            await store.put("there", "k", on_top, Attributes(), guard=UNGUARDED)
        options = VerifyOptions(all_versions=True, deep=deep)
        job = Verify(store, store, Route(Location("here"), Location("there")), options, ByteBudget(1000))
        whole, covered = await job.process(rows)
        assert (whole.status, covered.status) == (Status.VERIFIED, status)
        assert covered.size_bytes == len(on_top or b"")
        # With a newer version at the source, what lies on top may be its copy.
        await store.put("here", "k", b"newer", Attributes(), guard=UNGUARDED)
        assert {each.status for each in await job.process(rows)} == {Status.VERIFIED}

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("on_top", "deep", "status"),
    [
        (b"two!", False, Status.UNVERIFIABLE),
        (b"tWo!", False, Status.UNVERIFIABLE),
        (b"two!", True, Status.VERIFIED),
        (b"tWo!", True, Status.MISMATCHED),
        (b"longer", False, Status.MISMATCHED),
    ],
)
def test_a_version_on_top_that_cannot_be_compared_is_not_called_another_one(
    on_top: bytes, deep: bool, status: Status
) -> None:
    """A copy in parts may lie, without checksums on either side, above an earlier copy of the same."""

    async def scene() -> None:
        store = MemoryStore(default_checksum=None)
        for bucket in ("here", "there"):
            store.create_bucket(bucket, versioned=True)
            written = await store.put(bucket, "k", b"two!", Attributes(), guard=UNGUARDED)
        upload_id = await store.create_multipart("there", "k", Attributes())
        part = await store.put_part("there", "k", upload_id, 1, on_top)
        await store.complete_multipart("there", "k", upload_id, [part], guard=UNGUARDED)
        [source] = (await store.list_versions("here", "k")).entries
        row = ObjectVersion(0, "k", source.version_id, size_bytes=4, etag=written.etag)
        options = VerifyOptions(all_versions=True, deep=deep)
        job = Verify(store, store, Route(Location("here"), Location("there")), options, ByteBudget(1000))
        [outcome] = await job.process([row])
        assert outcome.status is status, outcome.reason

    asyncio.run(scene())


@pytest.mark.parametrize("below", [b"older copy", b"one"])
@pytest.mark.parametrize(("sse", "is_known"), [(None, False), (None, True), ("aws:kms", False)])
def test_a_copy_that_rotted_in_a_longer_history_is_damaged_and_not_missing(
    below: bytes, sse: str | None, is_known: bool
) -> None:
    """A retry reads what is damaged. What is missing it may find by the ETag and checksums that stayed.

    Under KMS the ETags say nothing, and the stored checksums claim that it is the copy.
    """

    async def scene() -> None:
        store = MemoryStore()
        for bucket in ("here", "there"):
            store.create_bucket(bucket, versioned=True)
        await store.put("there", "k", below, Attributes(), guard=UNGUARDED)
        written = await store.put("here", "k", b"two", Attributes(sse=sse), guard=UNGUARDED)
        copy = await store.put("there", "k", b"two", Attributes(sse=sse), guard=UNGUARDED)
        store.rot("there", "k", b"tWo")
        options = VerifyOptions(all_versions=True, deep=True)
        job = Verify(store, store, Route(Location("here"), Location("there")), options, ByteBudget(1000))
        known = f"CRC32:{full_object('CRC32', b'two').value}" if is_known else None
        row = ObjectVersion(0, "k", written.version_id, size_bytes=3, etag=written.etag, known_checksum=known)
        [outcome] = await job.process([row])
        assert (outcome.status, outcome.destination_etag) == (Status.MISMATCHED, copy.etag), outcome
        assert outcome.evidence is (Evidence.CHECKSUM if is_known else Evidence.CONTENT)

    asyncio.run(scene())


@pytest.mark.parametrize("sse", [None, "aws:kms"])
def test_copies_of_other_versions_of_the_same_size_are_not_called_damaged(sse: str | None) -> None:
    async def scene() -> None:
        store = MemoryStore()
        for bucket in ("here", "there"):
            store.create_bucket(bucket, versioned=True)
        for data in (b"one", b"thr"):
            await store.put("there", "k", data, Attributes(sse=sse), guard=UNGUARDED)
        written = await store.put("here", "k", b"two", Attributes(sse=sse), guard=UNGUARDED)
        options = VerifyOptions(all_versions=True, deep=True)
        job = Verify(store, store, Route(Location("here"), Location("there")), options, ByteBudget(1000))
        [outcome] = await job.process([ObjectVersion(0, "k", written.version_id, size_bytes=3, etag=written.etag)])
        assert outcome.status is Status.MISSING, outcome

    asyncio.run(scene())
