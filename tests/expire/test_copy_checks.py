"""What makes a copy's content count as the original's: bytes, or checksums that nobody can forge."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import Verdict
from jobs.core.model import Attributes, ObjectRef
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import ArchivedObject, Denied, NotFound, PreconditionFailed, StoreError, Unavailable
from jobs.expire.copy_checks import Copies, CopyPair
from jobs.expire.rules import Proof
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED, CopySettings
from tests.doubles.forged_content import with_crc32_of
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, one, packed, replica, row_of, shop

KMS = {"sse": "aws:kms"}
CONTENT = b"content of the original, as it was written"
OTHER = with_crc32_of(CONTENT, b"content of some object that means to be it")
assert len(OTHER) == len(CONTENT)


def summed(store: Shop, bucket: str, key: str, data: bytes, algorithm: str | None, **attributes: Any) -> ObjectRef:
    """An object with a checksum of that kind."""
    checksum = full_object(algorithm, data) if algorithm else None
    made = asyncio.run(store.put(bucket, key, data, Attributes(**attributes), guard=UNGUARDED, checksum=checksum))
    return ObjectRef(bucket, key, made.version_id)


def expire_against(store: Shop, ref: ObjectRef, other: ObjectRef) -> Outcome:
    """What becomes of the original where the ledger says that `other` is its copy."""
    info = asyncio.run(store.head(other))
    return one(store, row_of(store, 0, ref, Proof("run", store.now, *other, info.etag)))


@pytest.mark.parametrize("attributes", [{}, KMS], ids=["MD5 ETags", "no MD5 ETags"])
def test_a_crc_that_agrees_does_not_make_other_bytes_a_copy(attributes: dict[str, Any]) -> None:
    store = shop(versioned=False)
    ref = summed(store, "docs", "k", CONTENT, "CRC32", **attributes)
    forged = summed(store, "copies", "k", OTHER, "CRC32", **attributes)
    assert expire_against(store, ref, forged).status is Status.KEPT
    assert store.contents() == {("k", "null"): CONTENT}


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "MD5"])
def test_what_counts_as_proof_of_a_replica(algorithm: str) -> None:
    """Where only a CRC agrees, the bytes are compared."""
    store = shop(versioned=False)
    ref, copy = (summed(store, bucket, "k", CONTENT, algorithm, **KMS) for bucket in ("docs", "copies"))
    outcome = expire_against(store, ref, copy)
    is_crc = algorithm.startswith("CRC")
    assert (outcome.status, outcome.evidence) == (Status.EXPIRED, Evidence.CONTENT if is_crc else Evidence.CHECKSUM), (
        outcome
    )


def test_an_archived_original_is_kept_where_only_its_bytes_could_prove_it() -> None:
    store = shop(versioned=False)
    ref = summed(store, "docs", "k", CONTENT, "CRC32", storage_class="GLACIER", **KMS)
    copy = summed(store, "copies", "k", CONTENT, "CRC32", **KMS)
    assert expire_against(store, ref, copy).status is Status.KEPT
    rotten = summed(store, "docs", "l", CONTENT, "SHA256", storage_class="GLACIER", **KMS)
    assert expire_against(store, rotten, copy).status is Status.EXPIRED


LARGE = 9 << 20
SIZES = [pytest.param(len(CONTENT), id="small"), pytest.param(LARGE, id="over 8 MiB")]


def _padded(data: bytes, size_bytes: int) -> bytes:
    return bytes(size_bytes - len(data)) + data


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("algorithm", [None, "CRC32", "SHA256"])
def test_a_member_with_the_bytes_of_its_original_is_a_copy(size_bytes: int, algorithm: str | None) -> None:
    store = shop(versioned=False, default_checksum=None)
    data = _padded(CONTENT, size_bytes)
    ref = store.put_now("docs", "k", data, **KMS)
    if algorithm is not None:
        ref = summed(store, "docs", "k", data, algorithm, **KMS)
    (proof,) = packed(store, [ref])
    outcome = one(store, row_of(store, 0, ref, proof))
    assert (outcome.status, outcome.evidence) == (
        Status.EXPIRED,
        Evidence.CHECKSUM if algorithm == "SHA256" else Evidence.CONTENT,
    ), outcome


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("kind", list(ArchiveFormat))
@pytest.mark.parametrize(
    ("algorithm", "attributes"),
    [("SHA256", KMS), ("CRC32C", KMS), ("CRC32", KMS), ("CRC32", {}), ("MD5", KMS), (None, {}), (None, KMS)],
)
def test_a_member_of_the_same_size_with_other_bytes_is_no_copy(
    size_bytes: int, algorithm: str | None, attributes: dict[str, Any], kind: ArchiveFormat
) -> None:
    """The archive is of the other object, and so is all that the index says. Its CRC32 is the original's."""
    store = shop(versioned=False, default_checksum=None)
    ref = store.put_now("docs", "k", _padded(CONTENT, size_bytes), **attributes)
    if algorithm is not None:
        ref = summed(store, "docs", "k", _padded(CONTENT, size_bytes), algorithm, **attributes)
    other = store.put_now("docs", "other", _padded(OTHER, size_bytes), **KMS)
    (proof,) = packed(store, [other], kind)
    before = store.contents()
    assert one(store, row_of(store, 0, ref, proof)).status is Status.KEPT
    assert store.contents() == before


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize(("algorithm", "attributes"), [(None, {}), ("SHA256", KMS), ("CRC32", KMS), (None, KMS)])
def test_replica_with_rotten_bytes_below_whole_metadata_keeps_its_original(
    size_bytes: int, algorithm: str | None, attributes: dict[str, Any]
) -> None:
    """Two HEADs say the same of both: sizes, ETags, checksums."""
    store = shop(default_checksum=None)
    data = _padded(CONTENT, size_bytes)
    ref = summed(store, "docs", "k", data, algorithm, **attributes)
    copy = summed(store, "copies", "k", data, algorithm, **attributes)
    store.rot("copies", "k", _padded(OTHER, size_bytes))
    before = store.contents()
    outcome = expire_against(store, ref, copy)
    assert (outcome.status, store.contents()) == (Status.KEPT, before), outcome


def test_replica_made_of_a_rotten_original_keeps_it() -> None:
    """Their bytes are the same, and the original's CRC, which its copy does not have, is of other bytes."""
    store = shop(default_checksum=None)
    ref = summed(store, "docs", "k", CONTENT, "CRC32", **KMS)
    copy = store.put_now("copies", "k", CONTENT[::-1], **KMS)
    store.rot("docs", "k", CONTENT[::-1])
    outcome = expire_against(store, ref, copy)
    assert (outcome.status, "the original is damaged" in outcome.reason) == (Status.KEPT, True), outcome


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_member_that_is_not_what_its_index_says_is_no_copy(size_bytes: int) -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", _padded(CONTENT, size_bytes))
    (proof,) = packed(store, [ref])
    damaged = replace(proof, member={**(proof.member or {}), "sha256": "0" * 64})
    assert one(store, row_of(store, 0, ref, damaged)).status is Status.KEPT
    assert store.contents() == {("k", "null"): _padded(CONTENT, size_bytes)}


def verdicts(store: Shop, *pairs: CopyPair, **options: Any) -> list[Verdict]:
    return asyncio.run(Copies(store, store, ByteBudget(16 << 20), **options).compare(pairs))


def pair_of(store: Shop, ref: ObjectRef, proof: Proof) -> CopyPair:
    return CopyPair(ref, asyncio.run(store.head(ref)), proof)


def reading(store: Shop) -> tuple[set[ObjectRef], Counter[str]]:
    """Which versions are read from now on, and how many bytes of each bucket."""
    refs, read_bytes = set[ObjectRef](), Counter[str]()

    async def note(request: Request) -> Any:
        body = await request()
        refs.add(request.place)
        read_bytes[request.place.bucket] += len(body.data)
        return body

    store.hook(get=note)
    return refs, read_bytes


def test_each_pair_gets_its_own_verdict_in_its_place() -> None:
    """Replicas, members of two archives, and what nobody has, in one call."""
    store = shop()
    refs = [store.put_now("docs", str(number), CONTENT + bytes([number])) for number in range(6)]
    wrong = store.put_now("docs", "wrong", CONTENT + b"w")
    (second,) = packed(store, [refs[4]])
    archive = ObjectRef("cold", "a.tar")
    asyncio.run(store.copy(archive, second.etag or "", "copies", "a.tar", CopySettings(), guard=UNGUARDED))
    asyncio.run(store.delete("cold", "a.tar"))
    copied = asyncio.run(store.head(ObjectRef("copies", "a.tar")))
    kept = replace(second, bucket="copies", etag=copied.etag, version_id=copied.version_id)
    first = packed(store, [refs[0], wrong, refs[2]])
    proofs = [first[0], first[1], first[2], replica(store, refs[3]), kept, replace(first[0], key="none")]
    pairs = [pair_of(store, ref, proof) for ref, proof in zip(refs, proofs, strict=True)]
    assert [each.same for each in verdicts(store, *pairs)] == [True, False, True, True, True, None]


def test_a_lost_copy_is_named_in_its_place_and_each_place_is_asked_once() -> None:
    store, asked = shop(), list[str]()
    refs = [store.put_now("docs", str(number), CONTENT) for number in range(4)]
    members = packed(store, refs[:2])
    there = replica(store, refs[2])
    gone, older, secret = replace(there, key="gone"), replace(there, version_id="v0"), replace(there, key="secret")

    async def deny(request: Request) -> Any:
        asked.append(request.place.key)
        if request.place.key == "secret":
            raise Denied("HeadObject", "secret", "AccessDenied")
        return await request()

    store.hook(head=deny)
    copies = Copies(store, store, ByteBudget(16 << 20))
    reasons = asyncio.run(copies.find_lost([gone, *members, there, secret, older, gone]))
    assert [bool(reason) for reason in reasons] == [True, False, False, False, True, True, True]
    assert sorted(asked) == ["2", "2", "a.tar", "gone", "secret"]


@pytest.mark.parametrize("algorithm", [None, "SHA256"])
def test_the_bytes_of_a_replica_are_those_of_the_version_that_was_looked_at(algorithm: str | None) -> None:
    """The original's are read only where S3 keeps no SHA or MD5 of them."""
    store = shop(default_checksum=None)
    ref = summed(store, "docs", "k", CONTENT, algorithm, **KMS)
    proof = replica(store, ref, CONTENT)
    pair = pair_of(store, ref, proof)
    refs, _ = reading(store)
    assert verdicts(store, pair)[0].same is True
    copy = ObjectRef(proof.bucket, proof.key, proof.version_id)
    assert refs == ({copy} if algorithm else {copy, ref})
    assert proof.version_id


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_read_that_fails_once_is_repeated_alone(algorithm: str) -> None:
    """A read of terabytes that began again after each error might never end."""
    store, begun = shop(default_checksum=None), Counter[int]()
    ref = summed(store, "docs", "k", bytes(LARGE), algorithm, **KMS)
    pair = pair_of(store, ref, replica(store, ref, bytes(LARGE)))

    async def fail_once(request: Request) -> Any:
        start = request.arguments["start"]
        begun[start] += 1
        if start and begun[start] == 1:
            raise Unavailable("GetObject", "k", "SlowDown")
        return await request()

    store.hook(get=fail_once)
    assert verdicts(store, pair)[0].same is True
    sides = 1 if algorithm == "SHA256" else 2
    assert begun == {0: sides, 8 << 20: sides + 1}


@pytest.mark.parametrize("size_bytes", SIZES)
def test_an_original_that_was_overwritten_meanwhile_is_not_the_one_that_was_looked_at(size_bytes: int) -> None:
    """What is there now equals the member. It is not the object that the proof and HEAD are about."""
    store = shop(versioned=False, default_checksum=None)
    ref = store.put_now("docs", "k", _padded(CONTENT, size_bytes), **KMS)
    other = store.put_now("docs", "other", _padded(OTHER, size_bytes), **KMS)
    pair = pair_of(store, ref, packed(store, [other])[0])
    store.put_now("docs", "k", _padded(OTHER, size_bytes), **KMS)
    assert verdicts(store, pair)[0].same is None


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_member_of_another_size_is_no_copy_and_nothing_is_read_for_it(size_bytes: int) -> None:
    store = shop(default_checksum=None)
    ref = store.put_now("docs", "k", Random(1).randbytes(size_bytes), **KMS)
    other = store.put_now("docs", "other", Random(1).randbytes(size_bytes + 1), **KMS)
    pair = pair_of(store, ref, packed(store, [other])[0])
    _, read_bytes = reading(store)
    assert verdicts(store, pair)[0].same is False
    assert read_bytes["docs"] == 0
    assert read_bytes["cold"] < 1 << 20


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_member_that_s3_copied_is_proven_by_the_checksum_that_the_index_has(size_bytes: int) -> None:
    """Nobody here has read its bytes, so the index has no SHA-256 of them."""
    store = shop(versioned=False, default_checksum=None)
    data = _padded(CONTENT, size_bytes)
    ref = store.put_now("docs", "k", data, **KMS)
    (proof,) = packed(store, [ref])
    proven = list(full_object("CRC64NVME", data))
    copied = replace(proof, member={**(proof.member or {}), "sha256": None, "checksums": [proven]})
    assert verdicts(store, pair_of(store, ref, copied)) == [Verdict(True, Evidence.CONTENT)]


@pytest.mark.parametrize("error", [NotFound, PreconditionFailed, ArchivedObject, Denied])
@pytest.mark.parametrize("operation", ["head", "get"])
@pytest.mark.parametrize("attributes", [{}, KMS], ids=["MD5 ETags", "no MD5 ETags"])
def test_a_copy_that_cannot_be_read_proves_nothing(
    error: type[StoreError], operation: str, attributes: dict[str, Any]
) -> None:
    store = shop(default_checksum=None)
    ref = store.put_now("docs", "k", CONTENT, **attributes)
    pair = pair_of(store, ref, replica(store, ref))

    async def refuse(request: Request) -> Any:
        if request.place.bucket == "copies":
            raise error(operation, str(request.place), "Injected", "", 403)
        return await request()

    store.hook(**{operation: refuse})
    assert verdicts(store, pair)[0].same is None


def test_a_short_answer_proves_nothing() -> None:
    """The server says that it is the whole object."""
    store = shop()
    ref = store.put_now("docs", "k", CONTENT)
    pair = pair_of(store, ref, replica(store, ref))

    async def shorten(request: Request) -> Any:
        body = await request()
        return body._replace(data=body.data[:-1]) if request.place.bucket == "copies" else body

    store.hook(get=shorten)
    assert verdicts(store, pair)[0].same is False
