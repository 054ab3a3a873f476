"""The expire job against a store that does what servers cannot: holds, races, crashes. Nothing unproven is deleted."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.archive import Member
from jobs.core.expiry import Proof
from jobs.core.model import Attributes, Location, ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.policy_choices import ArchiveFormat
from jobs.errors import ConfigError, StoreError, Unavailable
from jobs.expire import Expire, ExpireOptions
from jobs.s3.archive_upload import ArchiveUpload
from jobs.s3.archive_writer import ArchiveWriter
from jobs.s3.copies import Copies
from jobs.s3.member_tables import from_batch
from jobs.s3.memory import MemoryStore
from jobs.s3.store import UNGUARDED, Deleted
from jobs.s3.streams import ByteBudget
from jobs.s3.tombstones import Tombstones
from jobs.s3.unhiding import unhide

DAY = 86_400.0
NOW = 1_750_000_000.0


class Shop(MemoryStore):
    """Originals in `docs`, copies in `copies`, archives in `cold`; time passes when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.now = NOW
        numbers = itertools.count(1)
        super().__init__(clock=lambda: self.now, new_id=lambda: f"v{next(numbers)}", **options)
        self.before_delete: Callable[[], None] = lambda: None
        self.after_delete: Callable[[], None] = lambda: None
        for bucket in ("copies", "cold", "ledger"):
            self.create_bucket(bucket, versioned=bucket != "ledger")

    async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
        self.before_delete()
        deleted = await super().delete(bucket, key, **more)
        if ".sealift-" not in key:
            self.after_delete()
        return deleted

    async def delete_versions(self, bucket: str, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        self.before_delete()
        told = await super().delete_versions(bucket, versions)
        self.after_delete()
        return told

    def put_now(self, bucket: str, key: str, data: bytes, **attributes: Any) -> ObjectRef:
        made = asyncio.run(self.put(bucket, key, data, Attributes(**attributes), guard=UNGUARDED))
        return ObjectRef(bucket, key, made.version_id)

    def contents(self, bucket: str = "docs") -> dict[tuple[str, str | None], bytes]:
        """Every version that is there: (key, version id) → content; delete markers are `None`'s."""

        async def read() -> dict[tuple[str, str | None], bytes]:
            found = {}
            for each in (await self.list_versions(bucket, "")).entries:
                if not each.is_delete_marker:
                    ref = ObjectRef(bucket, each.key, each.version_id if each.version_id != "null" else None)
                    found[each.key, each.version_id] = (await self.get(ref)).data
            return found

        return asyncio.run(read())


def shop(*, versioned: bool = True, **options: Any) -> Shop:
    made = Shop(**options)
    made.create_bucket("docs", versioned=versioned, object_lock=versioned)
    return made


def row_of(store: Shop, number: int, ref: ObjectRef, proof: Proof | None) -> ObjectVersion:
    info = asyncio.run(store.head(ref))
    return ObjectVersion(
        number,
        ref.key,
        ref.version_id,
        size_bytes=info.size_bytes,
        etag=info.etag,
        proof=proof.encode() if proof else None,
    )


def replica(store: Shop, ref: ObjectRef, data: bytes | None = None) -> Proof:
    """A copy of the object, or of other bytes, and the proof that the ledger would have of it."""
    content = asyncio.run(store.get(ref)).data if data is None else data
    copy = store.put_now("copies", ref.key, content)
    etag = asyncio.run(store.head(copy)).etag
    return Proof("run", store.now, "copies", ref.key, copy.version_id, etag)


def packed(store: Shop, refs: Sequence[ObjectRef], kind: ArchiveFormat = ArchiveFormat.TAR_ZST) -> list[Proof]:
    """The objects in one archive, and the proofs."""

    async def pack() -> list[Proof]:
        writer = ArchiveWriter(ArchiveUpload(store, "cold", "a.tar", Attributes(), 8 << 20), kind)
        for ref in refs:
            body = await store.get(ref)
            member = Member(
                ref.key,
                ref.version_id,
                True,
                len(body.data),
                body.info.etag,
                0.0,
                "STANDARD",
                {},
                {},
                {},
                (),
                hashlib.sha256(body.data).hexdigest(),
            )
            await writer.add(member, body.data)
        written = await writer.finish()
        writer.index_file.seek(0)
        members = list(from_batch(pq.read_table(io.BytesIO(writer.index_file.read()))))
        await writer.close()
        names = ("key", "size_bytes", "etag", "sha256", "offset", "frame_start", "frame_offset", "frame_length")
        return [
            Proof(
                "run",
                store.now,
                "cold",
                "a.tar",
                written.version_id,
                written.etag,
                {name: getattr(member, name) for name in names},
            )
            for member in members
        ]

    return asyncio.run(pack())


def job(store: Shop, *, delete: bool = True, grace_days: float = 0.0) -> Expire:
    copies = Copies(store, store, ByteBudget(16 << 20))
    tombstones = Tombstones(store, Location("ledger", "runs"), "docs", "run-1")
    return Expire(store, copies, "docs", ExpireOptions(grace_days * DAY, delete), tombstones, lambda: store.now)


def work(expire: Expire, rows: Sequence[ObjectVersion]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        return [outcome for group in expire.chains(rows) for outcome in await expire.process(group)]

    return asyncio.run(run())


def one(store: Shop, row: ObjectVersion, **options: Any) -> Outcome:
    (outcome,) = work(job(store, **options), [row])
    return outcome


def test_a_current_version_is_hidden_first_and_removed_a_grace_period_later() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    assert one(store, row, grace_days=30).reason == "in the grace period: written less than 30 days ago"
    store.now += 31 * DAY
    hidden = one(store, row, grace_days=30)
    assert (hidden.status, hidden.evidence) == (Status.EXPIRED, Evidence.CHECKSUM)
    assert "hidden by the delete marker" in hidden.reason
    assert store.contents() == {("k", ref.version_id): b"content"}
    kept = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert "hidden beneath a newer version" in kept[0].reason
    marker = hidden.reason.split()[5].rstrip(":")
    asyncio.run(store.delete("docs", "k", version_id=marker))  # undone
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"
    one(store, row, grace_days=30)
    store.now += 31 * DAY
    removed = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert removed[0].status is Status.EXPIRED
    assert store.contents() == {}


def job_of_another_run(store: Shop, grace_days: float) -> Expire:
    made = job(store, grace_days=grace_days)
    return replace(made, tombstones=Tombstones(store, Location("ledger", "runs"), "docs", "run-2"))


def test_exactly_the_version_that_was_proven_is_removed() -> None:
    store = shop()
    first = store.put_now("docs", "k", b"first")
    second = store.put_now("docs", "k", b"second")
    rows = [row_of(store, 0, first, replica(store, first))]
    assert work(job(store), rows)[0].status is Status.EXPIRED
    assert store.contents() == {("k", second.version_id): b"second"}


@pytest.mark.parametrize("named", [True, False])
def test_without_versions_only_the_proven_object_goes(named: bool) -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))._replace(version_id="null" if named else None)
    store.before_delete = lambda: store_over(store, b"newer")
    assert "changed or went away" in one(store, row).reason
    assert store.contents() == {("k", "null"): b"newer"}
    store.before_delete = lambda: None
    assert "this one has" in one(store, row).reason
    store_over(store, b"content")
    assert one(store, row).status is Status.EXPIRED
    assert store.contents() == {}


def store_over(store: Shop, data: bytes) -> None:
    """A write that nobody waits for: another client's."""
    home = store._buckets
    home.write(ObjectRef("docs", "k"), data, hashlib.md5(data).hexdigest(), Attributes(), ())


@pytest.mark.parametrize("kind", list(ArchiveFormat))
def test_members_are_read_and_held_against_their_originals(kind: ArchiveFormat) -> None:
    store = shop(versioned=False)
    refs = [store.put_now("docs", f"k{n}", b"%d" % n * (n * 700)) for n in range(40)]
    rows = [
        row_of(store, n, ref, proof) for n, (ref, proof) in enumerate(zip(refs, packed(store, refs, kind), strict=True))
    ]
    outcomes = work(job(store), rows)
    assert {outcome.status for outcome in outcomes} == {Status.EXPIRED}
    assert store.contents() == {}


def test_a_large_member_is_streamed() -> None:
    store = shop(versioned=False)
    refs = [store.put_now("docs", key, bytes(9 << 20) + key.encode()) for key in ("a", "b")]
    good, bad = packed(store, refs)
    assert good.member is not None
    rows = [row_of(store, 0, refs[0], good), row_of(store, 1, refs[1], replace(bad, member=good.member))]
    outcomes = work(job(store), rows)
    assert [outcome.status for outcome in outcomes] == [Status.EXPIRED, Status.KEPT]
    assert "not the original's" in outcomes[1].reason


def test_without_any_checksum_the_bytes_of_both_are_read() -> None:
    store = shop(versioned=False, default_checksum=None)
    encrypted = {"sse": "aws:kms"}  # its ETag is no MD5
    refs = [store.put_now("docs", key, b"some content", **encrypted) for key in ("packed", "copied", "other")]
    proofs = [*packed(store, refs[:1]), replica(store, refs[1]), replica(store, refs[2], b"same length!")]
    rows = [row_of(store, n, ref, proof) for n, (ref, proof) in enumerate(zip(refs, proofs, strict=True))]
    outcomes = work(job(store), rows)
    assert [outcome.status for outcome in outcomes] == [Status.EXPIRED, Status.EXPIRED, Status.KEPT]
    assert [outcome.evidence for outcome in outcomes[:2]] == [Evidence.CONTENT] * 2


@pytest.mark.parametrize(
    "lock", [ObjectLock(legal_hold=True), ObjectLock("GOVERNANCE", "2099-01-01T00:00:00Z")], ids=["hold", "retention"]
)
def test_what_is_locked_stays(lock: ObjectLock) -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content", lock=lock)
    outcome = one(store, row_of(store, 0, ref, replica(store, ref)))
    assert outcome.status is Status.KEPT
    assert "legal hold" in outcome.reason or "GOVERNANCE" in outcome.reason


Corruption = Callable[[Shop, ObjectRef, Proof], Proof]


def _overwritten(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    asyncio.run(store.delete("copies", ref.key, version_id=proof.version_id))
    store.put_now("copies", ref.key, b"Content")
    return replace(proof, version_id=None)


def _gone(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    asyncio.run(store.delete("copies", ref.key, version_id=proof.version_id))
    return proof


def _forged(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    other = store.put_now("copies", ref.key, b"Content")
    return replace(proof, version_id=other.version_id, etag=asyncio.run(store.head(other)).etag)


def _itself(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    return replace(proof, bucket="docs", version_id=ref.version_id, etag=asyncio.run(store.head(ref)).etag)


def _frozen(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    (made,) = packed(store, [ref])
    data = asyncio.run(store.get(ObjectRef("cold", "a.tar"))).data
    frozen = store.put_now("cold", "a.tar", data, storage_class="DEEP_ARCHIVE")
    return replace(made, version_id=frozen.version_id)


def _flipped(store: Shop, ref: ObjectRef, proof: Proof) -> Proof:
    """The archive altered, and every trace of that in the ledger forged: its ETag, and the member's SHA-256."""
    (made,) = packed(store, [ref], ArchiveFormat.TAR)
    data = bytearray(asyncio.run(store.get(ObjectRef("cold", "a.tar"))).data)
    assert made.member is not None
    data[made.member["offset"]] ^= 1
    flipped = store.put_now("cold", "a.tar", bytes(data))
    start = made.member["offset"]
    sha256 = hashlib.sha256(data[start : start + made.member["size_bytes"]]).hexdigest()
    etag = asyncio.run(store.head(flipped)).etag
    return replace(made, version_id=flipped.version_id, etag=etag, member={**made.member, "sha256": sha256})


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (_overwritten, "another object now"),
        (_gone, "nothing is at s3://copies/k"),
        (_forged, "not the same"),
        (_itself, "the original itself"),
        (_frozen, "must be restored"),
        (_flipped, "not the original's"),
    ],
)
def test_a_copy_that_is_not_what_the_ledger_says_saves_its_original(
    corrupt: Corruption, reason: str, versioned: bool
) -> None:
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, corrupt(store, ref, replica(store, ref)))
    before = store.contents()
    outcome = one(store, row)
    assert (outcome.status, reason in outcome.reason) == (Status.KEPT, True), outcome.reason
    assert store.contents() == before


class Killed(BaseException):
    """A process that ends at this very moment."""


def _kill() -> None:
    raise Killed


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_killed_attempt_deleted_is_expired_by_this_run(versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(3)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    if hidden and versioned:
        for ref in refs:
            asyncio.run(store.delete("docs", ref.key))
    store.after_delete = _kill
    with pytest.raises(Killed):
        work(job(store), rows)
    store.after_delete = lambda: None
    outcomes = work(job(store), rows)
    assert [outcome.status for outcome in outcomes] == [Status.EXPIRED] * 3
    assert any("earlier attempt" in outcome.reason for outcome in outcomes)
    assert len(store.contents()) == (3 if versioned and not hidden else 0)  # one step a run, however often it began
    if versioned and not hidden:
        undone = asyncio.run(unhide(store, job(store).tombstones))
        assert (undone.markers, undone.problems) == (3, [])
        assert asyncio.run(store.get(ObjectRef("docs", "k2"))).data == b"content"


def test_what_a_killed_attempt_deleted_is_expired_also_when_something_new_is_there() -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.after_delete = _kill
    with pytest.raises(Killed):
        one(store, row)
    store_over(store, b"newer")
    assert one(store, row).status is Status.EXPIRED
    assert store.contents() == {("k", "null"): b"newer"}


@pytest.mark.parametrize("versioned", [True, False])
def test_a_delete_whose_answer_was_lost_is_told_from_another_clients_write(versioned: bool) -> None:
    """Repeated, such a delete finds nothing, or its own marker."""

    class Lossy(Shop):
        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            if ".sealift-" not in key:
                await super().delete(bucket, key, **more)
            return await super().delete(bucket, key, **more)

    store = Lossy()
    store.create_bucket("docs", versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    outcome = one(store, row)
    assert outcome.status is Status.EXPIRED
    assert ("hidden by the delete marker v" in outcome.reason) is versioned
    if versioned:
        assert asyncio.run(unhide(store, job(store).tombstones)).markers == 1
        assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"


def test_a_version_that_somebody_wrote_over_meanwhile_is_not_called_expired() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.before_delete = lambda: store_over(store, b"newer")
    outcome = one(store, row)
    assert (outcome.status, "changed or went away" in outcome.reason) == (Status.KEPT, True)
    assert set(store.contents().values()) == {b"content", b"newer"}


def test_what_somebody_else_deleted_is_missing_not_expired() -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    asyncio.run(store.delete("docs", "k"))
    assert one(store, row).status is Status.MISSING


def test_what_may_pass_is_tried_again_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))

    class Down(Shop):
        async def head(self, ref: ObjectRef, **more: Any) -> Any:
            raise Unavailable("HeadObject", str(ref), "InternalError", status=500)

    store.__class__ = Down
    monkeypatch.setattr("jobs.s3.tries.backoff_seconds", lambda *given: 0.0)
    with pytest.raises(Unavailable):
        one(store, row)
    store.__class__ = Shop
    assert store.contents() == {("k", "null"): b"content"}


def test_a_server_that_ignores_if_match_is_found_out_before_anything_goes() -> None:
    class Careless(Shop):
        async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
            return await super().delete(bucket, key, **more)

    store = Careless()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    with pytest.raises(ConfigError, match="whatever If-Match says"):
        one(store, row)
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"
    assert [key for key, _ in store.contents()] == ["k"]


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "copy", "miscopy", "lose", "hold", "expire", "expire", "dry run"]),
        st.sampled_from("ab"),
    ),
    min_size=5,
    max_size=16,
)


@settings(max_examples=60, deadline=None)
@given(events, st.booleans())
def test_no_history_makes_a_version_go_that_no_copy_holds(history: list[tuple[str, str]], versioned: bool) -> None:
    """Whatever is expired, its bytes are in `copies` at that moment, and it was under no hold."""
    store = shop(versioned=versioned)
    rows: dict[tuple[str, str | None], ObjectVersion] = {}
    held: set[tuple[str, str | None]] = set()
    for number, (what, key) in enumerate(history):
        there = store.contents()
        latest = max((version for name, version in there if name == key), default=None, key=str)
        ref = ObjectRef("docs", key, latest if versioned else None)
        if what == "put":
            store.put_now("docs", key, f"{key}{number}".encode())
        elif what == "hold" and versioned:
            made = store.put_now("docs", key, f"{key}{number}".encode(), lock=ObjectLock(legal_hold=True))
            held.add((key, made.version_id))
        elif what == "delete" and versioned:
            asyncio.run(store.delete("docs", key))
        elif what in ("copy", "miscopy") and latest is not None:
            rows[key, latest] = row_of(store, number, ref, replica(store, ref, b"??" if what == "miscopy" else None))
        elif what == "lose":
            for name, version in list(store.contents("copies")):
                if name == key:
                    asyncio.run(store.delete("copies", name, version_id=version))
        elif what in ("expire", "dry run"):
            store.now += 31 * DAY
            given_rows = [row._replace(row=place) for place, row in enumerate(rows.values())]
            made_job = replace(
                job(store, delete=what == "expire", grace_days=30),
                tombstones=Tombstones(store, Location("ledger", "runs"), "docs", f"run-{number}"),
            )
            work(made_job, given_rows)
            gone = {place: data for place, data in there.items() if place not in store.contents()}
            assert not (gone and what == "dry run")
            assert not held & set(gone)
            safe = set(store.contents("copies").values())
            assert all(data in safe for data in gone.values())
