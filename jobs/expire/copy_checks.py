"""Copy checks: compare each copy with its original as both are now.

The bytes of each replica and of each archive member are read, and compared with what S3 keeps of
the original, or with the original's bytes. The caller is about to delete the original, so nothing
that the ledger, an index, or S3 says of the copy's content counts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from jobs.archives.model import ArchiveRecord, Member
from jobs.archives.reader import ArchiveReader, MemberRead, is_large
from jobs.core.enums import ArchiveFormat
from jobs.core.evidence import Protection, Verdict, compare
from jobs.core.model import Checksum, Location, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.errors import (
    ArchivedObject,
    DamagedArchive,
    Denied,
    NotFound,
    PreconditionFailed,
    Redirected,
    Rejected,
)
from jobs.expire.rules import Proof, refuse_copy
from jobs.s3.annotations.comparing import AnnotationComparison
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import Hasher
from jobs.s3.compare_bytes import ContentSide, check_bytes, compare_content, hash_content
from jobs.s3.lookup import find
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Store
from jobs.s3.stored_checksums import ContentCheck

COPIES_AT_ONCE = 64
ARCHIVES_AT_ONCE = 4

_REFUSALS = (NotFound, PreconditionFailed, ArchivedObject, Denied, Redirected, Rejected, DamagedArchive)


class CopyPair(NamedTuple):
    """An original, with the version id that names it, as HEAD described it, and where its copy
    should be.
    """

    ref: ObjectRef
    info: ObjectInfo
    proof: Proof


@dataclass(frozen=True, slots=True)
class Copies:
    """Compares copies with originals. `streamed`: they are on different services.

    `ignores_annotations`: an original may have annotations that its copy lacks.
    """

    source: Store
    destination: Store
    budget: ByteBudget
    streamed: bool = False
    ignores_annotations: bool = False
    annotations: AnnotationComparison = field(init=False)

    def __post_init__(self) -> None:
        comparison = AnnotationComparison.between(self.source, self.destination, self.budget)
        object.__setattr__(self, "annotations", comparison)

    async def compare(self, pairs: Sequence[CopyPair]) -> list[Verdict]:
        """Return for each pair whether the copy equals the original, bit by bit, and has its
        annotations.

        Unreadable copies are unknown.

        A copy counts only if it is the object that the proof pins (ETag, version), and current at
        its key. Raises Unavailable where a retry may help.
        """
        verdicts: dict[int, Verdict] = {}
        archives: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
        replicas: list[int] = []
        for place, (ref, _, proof) in enumerate(pairs):
            if not self.streamed and (proof.bucket, proof.key) == (ref.bucket, ref.key):
                verdicts[place] = Verdict(False, Evidence.NONE, "the proof names the original itself")
            elif proof.member is None:
                replicas.append(place)
            else:
                archives[_place(proof)].append(place)

        async def replica(place: int) -> None:
            verdicts[place] = await self._compare_replica(pairs[place])

        async def archive(places: Sequence[int]) -> None:
            found = await self._compare_members([pairs[place] for place in places])
            verdicts.update(zip(places, found, strict=True))

        async def annotated(place: int) -> None:
            if lack := await self._lacking_annotations(pairs[place]):
                verdicts[place] = _unknown(lack)

        await gather_bounded(replica, replicas, COPIES_AT_ONCE)
        await gather_bounded(archive, archives.values(), ARCHIVES_AT_ONCE)
        if not self.ignores_annotations:
            same = [place for place in range(len(pairs)) if verdicts[place].same]
            await gather_bounded(annotated, same, COPIES_AT_ONCE)
        return [verdicts[place] for place in range(len(pairs))]

    async def _lacking_annotations(self, pair: CopyPair) -> str:
        """Return why the copy lacks annotations of the original, else an empty text.

        The proof names the copy's version. Without a version id, the key's current object counts.
        """
        ref, _, proof = pair
        copy = None if proof.member else ObjectRef(proof.bucket, proof.key, proof.version_id)
        try:
            return await self.annotations.find_lack(ref, copy)
        except _REFUSALS as error:
            return f"nobody knows whether the copy has its annotations: {error}"

    async def find_lost(self, proofs: Sequence[Proof]) -> list[str]:
        """Return for each proof why its copy no longer counts, else an empty text.

        Asks for each place once.
        """
        places = {_place(proof): proof for proof in proofs}

        async def look(proof: Proof) -> str:
            try:
                return await self._check_there(proof)
            except _REFUSALS as error:
                return _refused(proof, error).reason

        reasons = dict(zip(places, await gather_bounded(look, places.values(), COPIES_AT_ONCE), strict=True))
        return [reasons[_place(proof)] for proof in proofs]

    async def _compare_replica(self, pair: CopyPair) -> Verdict:
        ref, info, proof = pair
        try:
            copy = await self._find(proof)
            if (reason := refuse_copy(proof, copy)) or copy is None:
                return _unknown(reason)
            verdict = compare(info, copy, Protection.INTENT)
            if verdict.same is False:
                return verdict
            original = ContentSide(self.source, ref, info, is_retried=True)
            place = ObjectRef(proof.bucket, proof.key, copy.version_id)
            read = ContentSide(self.destination, place, copy, is_retried=True)
            if ContentCheck(info).evidence is not Evidence.NONE:
                check = await check_bytes(read, info, self.budget)
                return _differs(proof) if check.is_refuted else Verdict(True, check.evidence)
            if info.is_archived:
                return _unknown(f"the original must be restored before its bytes can be compared: {verdict.reason}")
            return await self._compare_bytes(original, read)
        except _REFUSALS as error:
            return _refused(proof, error)

    async def _compare_bytes(self, original: ContentSide, copy: ContentSide) -> Verdict:
        """Compare both, and the bytes that both have with the checksums that S3 keeps of the
        original.
        """
        check = ContentCheck(original.info)
        verdict, _ = await compare_content(original, copy, self.budget, check)
        if verdict.same and check.is_refuted:
            return Verdict(False, Evidence.CHECKSUM, "the original is damaged, and its copy has the same bytes")
        return verdict

    async def _compare_members(self, pairs: Sequence[CopyPair]) -> list[Verdict]:
        """Compare members of one archive."""
        reader = ArchiveReader(self.destination, _record(pairs[0].proof), self.budget)
        members = [_member(pair.proof) for pair in pairs]
        places = {id(member): place for place, member in enumerate(members)}
        verdicts: dict[int, Verdict] = {}
        try:
            if reason := await self._check_there(pairs[0].proof):
                return [_unknown(reason)] * len(pairs)
            small = [member for member in members if not is_large(member)]
            found = reader.read(small)
            async with aclosing(cast("AsyncGenerator[list[MemberRead], None]", found)) as reads:
                async for members_read in reads:
                    for read in members_read:
                        place = places[id(read.member)]
                        verdicts[place] = await self._judge(pairs[place], read)
            for place, member in enumerate(members):
                if is_large(member):
                    verdicts[place] = await self._judge_large(pairs[place], member, reader)
        except _REFUSALS as error:
            why = _refused(pairs[0].proof, error)
            return [verdicts.get(place, why) for place in range(len(pairs))]
        return [verdicts[place] for place in range(len(pairs))]

    async def _find(self, proof: Proof) -> ObjectInfo | None:
        """Return what is current at the key of the copy, or of its archive."""
        return await retry(lambda: find(self.destination, ObjectRef(proof.bucket, proof.key)))

    async def _check_there(self, proof: Proof) -> str:
        """Return why the copy or its archive no longer counts, else an empty text.

        Nothing else proves empty members.
        """
        return refuse_copy(proof, await self._find(proof))

    async def _judge(self, pair: CopyPair, read: MemberRead) -> Verdict:
        """Compare a member's bytes with the original's stored checksums, else with the original's
        bytes.
        """
        ref, info, proof = pair
        data = read.data
        if data is None:
            return _unknown(f"the member of {proof.place} cannot be proven: {read.reason}")
        if len(data) != info.size_bytes:
            return _differs(proof)
        check = ContentCheck(info)
        await asyncio.to_thread(check.update, data)
        if check.is_refuted:
            return _differs(proof)
        if check.evidence is not Evidence.NONE:
            return Verdict(True, check.evidence)
        try:
            original = (await retry(lambda: self.source.get(ref, if_match=info.etag))).data
        except _REFUSALS as error:
            return _unknown(f"the original cannot be read: {error}")
        return Verdict(True, Evidence.CONTENT) if original == data else _differs(proof)

    async def _judge_large(self, pair: CopyPair, member: Member, reader: ArchiveReader) -> Verdict:
        """Compare a member that does not fit into memory, in the same way."""
        ref, info, proof = pair
        if member.size_bytes != info.size_bytes:
            return _differs(proof)
        check, hasher = ContentCheck(info), Hasher("SHA256")
        async with aclosing(reader.stream(member)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(check.update, piece)
                if check.evidence is Evidence.NONE:
                    await asyncio.to_thread(hasher.update, piece)
        if check.is_refuted:
            return _differs(proof)
        if check.evidence is not Evidence.NONE:
            return Verdict(True, check.evidence)
        try:
            original = ContentSide(self.source, ref, info, is_retried=True)
            [digest] = await hash_content(original, ["SHA256"], self.budget)
        except _REFUSALS as error:
            return _unknown(f"the original cannot be read: {error}")
        return Verdict(True, Evidence.CONTENT) if hasher.spelled() == digest else _differs(proof)


def _place(proof: Proof) -> tuple[object, ...]:
    return proof.bucket, proof.key, proof.version_id, proof.etag


def _record(proof: Proof) -> ArchiveRecord:
    """Return what a reader needs of an archive: where it is, and what pins it."""
    return ArchiveRecord(
        location=Location(proof.bucket, proof.key),
        format=ArchiveFormat.TAR,
        size_bytes=0,
        etag=proof.etag or "",
        version_id=proof.version_id,
        storage_class="",
        members=0,
        member_bytes=0,
        first_key="",
        last_key="",
        source_bucket="",
        created_at=0.0,
    )


def _member(proof: Proof) -> Member:
    """Return the proof's member: its place, and its checksums in the index."""
    known = dict(proof.member or {})
    checksums = tuple(Checksum(*each) for each in known.pop("checksums", ()))
    blank = Member("", None, True, 0, None, 0.0, "", {}, {}, {})
    return blank._replace(**known, checksums=checksums)


def _differs(proof: Proof) -> Verdict:
    return Verdict(False, Evidence.CHECKSUM, f"the bytes in {proof.place} are not the original's")


def _unknown(reason: str) -> Verdict:
    return Verdict(None, Evidence.NONE, reason)


def _refused(proof: Proof, error: Exception) -> Verdict:
    if isinstance(error, NotFound):
        return _unknown(f"nothing is at {proof.place}")
    if isinstance(error, PreconditionFailed):
        return _unknown(f"{proof.place} is not the object that was proven")
    if isinstance(error, ArchivedObject):
        return _unknown(f"{proof.place} must be restored before its bytes can be compared")
    return _unknown(str(error))
