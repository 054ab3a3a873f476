"""What expire deletes, and what keeps an original: nothing unproven goes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, ObjectLock, ObjectRef
from jobs.core.outcome import Evidence, Status
from jobs.expire.rules import Proof
from jobs.reports.document import iso_time
from jobs.s3.store import UNGUARDED
from tests.expire.scene import (
    DAY,
    Shop,
    job,
    job_of_another_run,
    one,
    packed,
    replica,
    row_of,
    shop,
    store_over,
    work,
)


def test_a_current_version_is_hidden_first_and_removed_a_grace_period_later() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    assert one(store, row, grace_days=30).reason == "in the grace period: written less than 30 days ago"
    store.now += 31 * DAY
    hidden = one(store, row, grace_days=30)
    assert (hidden.status, hidden.evidence) == (Status.EXPIRED, Evidence.MD5_ETAG)
    assert "hidden by the delete marker" in hidden.reason
    assert store.contents() == {("k", ref.version_id): b"content"}
    kept = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert "hidden below a newer version" in kept[0].reason
    marker = hidden.reason.split()[5].rstrip(":")
    asyncio.run(store.delete("docs", "k", version_id=marker))  # undone
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"
    one(store, row, grace_days=30)
    store.now += 31 * DAY
    removed = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert removed[0].status is Status.EXPIRED
    assert store.contents() == {}


def test_an_upload_in_parts_that_began_long_ago_ends_no_grace_period() -> None:
    """S3 dates it by its beginning, and it lies between the version and the marker that has just hidden it."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    upload = asyncio.run(store.create_multipart("docs", "k", Attributes()))
    store.now += 31 * DAY
    assert one(store, row, grace_days=30).status is Status.EXPIRED
    part = asyncio.run(store.put_part("docs", "k", upload, 1, b"slow"))
    asyncio.run(store.complete_multipart("docs", "k", upload, [part], guard=UNGUARDED))
    store.now += 29 * DAY
    [waiting] = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert waiting.status is Status.WAITING
    assert "hidden below a newer version" in waiting.reason
    store.now += 2 * DAY
    [removed] = asyncio.run(job_of_another_run(store, 30).process([row]))
    assert (removed.status, list(store.contents().values())) == (Status.EXPIRED, [b"slow"])


def test_exactly_the_version_that_was_proven_is_removed() -> None:
    store = shop()
    first = store.put_now("docs", "k", b"first")
    second = store.put_now("docs", "k", b"second")
    rows = [row_of(store, 0, first, packed(store, [first])[0])]
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
    assert "another ETag" in one(store, row).reason
    store_over(store, b"content")
    assert one(store, row).status is Status.EXPIRED
    assert store.contents() == {}


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


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_clock_that_is_ahead_of_s3s_ends_no_grace_period(versioned: bool, hidden: bool) -> None:
    """It was hidden by one command, and removed for good by the next one, a minute after it was written."""
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    if hidden and versioned:
        store.now += 31 * DAY
        asyncio.run(store.delete("docs", "k"))
    before = store.contents()
    ahead = replace(job(store, grace_days=30), clock=lambda: store.now + 40 * DAY)
    outcome = work(ahead, [row])[0]
    assert (outcome.status, "in the grace period" in outcome.reason) == (Status.WAITING, True), outcome
    assert store.contents() == before
    store.now += 31 * DAY
    assert work(ahead, [row])[0].status is Status.EXPIRED


def test_a_clock_that_is_ahead_of_s3s_ends_no_retention() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content", lock=ObjectLock("GOVERNANCE", iso_time(store.now + DAY)))
    row = row_of(store, 0, ref, replica(store, ref))
    outcome = work(replace(job(store), clock=lambda: store.now + 40 * DAY), [row])[0]
    assert (outcome.status, "GOVERNANCE" in outcome.reason) == (Status.KEPT, True), outcome


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
        (_gone, "nothing is at the key of its copy"),
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
