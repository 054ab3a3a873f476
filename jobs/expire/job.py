"""The expire job: looks at originals, compares each with its copy, and deletes what is proven.

No other job deletes. A row says where a listing, or an archive's index, has a copy
(`jobs.expire.rules.CopyAt`). The job asks S3 for the original and its locks, reads the copy's bytes,
and compares them with what S3 keeps of the original, else with the original's own bytes. Nothing
that the ledger or a listing says of the copy's content counts. What cannot be read, or not in time,
is unknown: never an error, never a wait without end. Then `jobs.expire.rules.decide` decides:

- A current version in a bucket that keeps versions gets a delete marker, if it still has the
  compared ETag. Removing the marker undoes that. A later run, a grace period after that, removes the
  version below the marker.
- Any other version is removed for good: by its version id or, where there are none, only if it has
  the compared ETag. A null version below others is removed by that id as well, while the bucket
  keeps versions, since no write makes one then.

Tombstones are announced before anything is deleted (`jobs.ledger.tombstones`). So what a killed
attempt deleted is `done` by this run, not missing. Each delete is sent at most `FRESH_SECONDS`
after the look at the original and its copy that it relies on (`Store.delete`, `send_by`). If a
comparison took longer, or the machine slept, both are looked at again. Locks are never bypassed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from jobs.archives.reader import ArchiveReader, content_checksums
from jobs.core.algorithms import Protection
from jobs.core.elapsed import TOO_LATE, elapsed_seconds
from jobs.core.enums import SKIP_ANNOTATIONS, Step
from jobs.core.evidence import Verdict, compare, with_checksums
from jobs.core.model import NULL_VERSION, Attributes, Checksum, Location, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Outcome, PartlyDone, Status
from jobs.core.reasons import Cause, Reason, Why
from jobs.errors import (
    REFUSALS,
    AuthenticationFailed,
    ConfigError,
    Conflict,
    DamagedArchive,
    Denied,
    NotFound,
    PreconditionFailed,
    Rejected,
    SealiftError,
    StoreError,
    Unavailable,
)
from jobs.expire.rules import ATTEMPT_SECONDS, Candidate, CopyAt, Terms, decide, refuse_copy
from jobs.runs.kind import Opened
from jobs.s3.annotations import AnnotationPair
from jobs.s3.byte_ranges import ContentSide
from jobs.s3.checksums import ContentCheck
from jobs.s3.compare_bytes import check_bytes, check_pieces
from jobs.s3.gated_store import NoAnswer, patient
from jobs.s3.lookup import KeyLooks, TagReader, find
from jobs.s3.retries import gather_bounded, retry, together

if TYPE_CHECKING:
    from jobs.ledger.tombstones import Tombstone, Tombstones

GROUP_ROWS = 128
GROUP_BYTES = 256 * 1024**2
"""Rows are compared and then deleted in groups of this size: small, so that little time passes
between the two, and a slow server is in time."""
GROUPS_AT_ONCE = 2
REQUESTS_AT_ONCE = 64

FRESH_SECONDS = 5.0
"""How long after the beginning of a look at the original, its copy and their places a delete may be sent."""

Content = Verdict | Checksum
"""What is known of a copy's bytes: whether they are the original's, else the SHA-256 that the original's must have."""
_DIFFERS = Verdict(False, Evidence.CHECKSUM, Reason.CONTENT_DIFFERS)


@dataclass(eq=False)
class Expire:
    """The expire job of one worker: `process` takes what `chains` cuts out of a shard.

    `look`: at the documents of both places, for S3's time. `terms`: at the time of the plan, when the
    bucket's conditions were tried. `patience_seconds`: for one request of a comparison, with all its tries.

    Options of the run: `delete`: it is no dry run. `apart`: originals and copies are on different services.
    `by_checksum`: no copy is read. What S3 keeps of it counts, also of archived ones. `annotations`: an original may
    have some that its copy lacks, if it says `skip`.
    """

    opened: Opened
    look: Callable[[], Awaitable[float]]
    tombstones: Tombstones
    terms: Terms
    clock: Callable[[], float] = time.time
    patience_seconds: float = 60.0

    def __post_init__(self) -> None:
        sides = self.opened.source, self.opened.destination
        self._originals, self._copies = (patient(each, self.patience_seconds) for each in sides)
        self._annotations = AnnotationPair(self._originals, self._copies, self.opened.budget)
        self._own: dict[ArchiveReader, list[Any]] = {}
        self._tags, self._options = TagReader(self._originals), self.opened.spec.options

    def chains(self, rows: Iterable[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
        """Yield the rows of a shard in groups, in order. One object that is larger than a group is alone."""
        group, size_bytes = list[ObjectVersion](), 0
        for row in rows:
            if group and (len(group) == GROUP_ROWS or size_bytes + (row.size_bytes or 0) > GROUP_BYTES):
                yield group
                group, size_bytes = [], 0
            group.append(row)
            size_bytes += row.size_bytes or 0
        if group:
            yield group

    async def process(self, rows: Sequence[ObjectVersion]) -> list[Outcome]:
        """Return one outcome for each row, in order.

        Raises Unavailable or Conflict where a retry may help. Raises ConfigError for a bucket or a place that
        is not as it was. Raises PartlyDone, with either, where deletes have begun, or where the worker has to end.
        """
        seen_at = elapsed_seconds()
        # The plan weighed the shares: what became due after it was not weighed.
        terms = self.terms._replace(now=min(await self._look_at_places(), self.clock(), self.terms.now))
        there, outcomes = await self._look_at_all(rows)
        compared = await self.compare([each for each in there if decide(each, terms) is None])
        going: list[Candidate] = []
        for original in there:
            each = compared.get(original.row.row, original)
            decision = decide(each, terms)
            if isinstance(decision, Cause):
                outcomes[each.row.row] = _kept(each.row, *decision)
            elif decision is not None:
                going.append(each._replace(step=decision))
        if going and self._options["delete"]:
            outcomes |= await self._remove(going, seen_at)
        else:
            outcomes |= {each.row.row: _deleted(each.row, self._tombstone(each), Status.LEFT) for each in going}
        return [outcomes[row.row] for row in rows]

    # Looks.

    async def _look_at_places(self, *others: Callable[[], Awaitable[None]]) -> float:
        """S3's time, the earliest of all answers. Raises ConfigError where a delete would do something
        else than it would have when the run was planned. `others`: looks at the same time.
        """
        now, *_ = await together(self.look(), self._check_versioning(), *(look() for look in others))
        return float(now)

    async def _check_versioning(self) -> None:
        if await retry(lambda: self.opened.source.is_versioned(self.tombstones.bucket)) is not self.terms.is_versioned:
            raise ConfigError(
                f"s3://{self.tombstones.bucket} keeps versions since the run was planned, or no longer",
                advice="plan again",
            )

    async def _look_at_all(self, rows: Sequence[ObjectVersion]) -> tuple[list[Candidate], dict[int, Outcome]]:
        """Return the originals that are there, and the outcomes of the rest.

        What this run deleted is not missing. What it hid it must not remove: below any marker, once
        it has announced that.
        """
        looks = KeyLooks(self._originals, self.tombstones.bucket)
        looked = await gather_bounded(partial(self._look, looks), rows, REQUESTS_AT_ONCE)
        announced: Mapping[int, Tombstone] = {}
        if not all(isinstance(each, Outcome) or (each and not each.above and not each.is_replaced) for each in looked):
            announced = await self.tombstones.announced(rows[0].row, rows[-1].row)
        there: list[Candidate] = []
        outcomes: dict[int, Outcome] = {}
        for row, each in zip(rows, looked, strict=True):
            stone = announced.get(row.row)
            if isinstance(each, Outcome):
                outcomes[row.row] = each
            elif stone and (each is None or each.is_replaced):  # whatever its delete was to do
                outcomes[row.row] = _deleted(row, stone._replace(step=Step.REMOVE))
            elif stone and each and (marker := each.marker) and stone.step is Step.HIDE:
                is_own = marker.last_modified <= stone.recorded_at + ATTEMPT_SECONDS  # else somebody else's delete
                outcomes[row.row] = _deleted(row, stone) if is_own else _kept(row, Reason.DELETED, "source")
            elif each is None:
                outcomes[row.row] = Outcome.of(row, Status.MISSING, Reason.SOURCE_GONE)
            else:
                there.append(each)
        return there, outcomes

    async def _look(self, looks: KeyLooks, row: ObjectVersion) -> Candidate | Outcome | None:
        """Return the original as it is now, None when it is gone, an outcome when S3 does not show it."""
        if row.beside is None:
            return _kept(row, Reason.COPY_MISSING)
        try:
            return await find_original(looks, row, cast(CopyAt, row.beside), is_versioned=self.terms.is_versioned)
        except NoAnswer as error:  # in time: the others of its group do not wait for it
            return Outcome.refused(row, error.recast(Unavailable))
        except REFUSALS as error:
            return Outcome.refused(row, error)

    async def _look_at_copy(self, looks: Mapping[str, KeyLooks], at: CopyAt) -> ObjectInfo | Cause:
        """What is current at the key of a copy, or of its archive, or why that does not count."""
        try:
            copy = await looks[at.bucket].current(at.key)
        except StoreError as error:
            return _cause(error)
        return refuse_copy(at, copy, by_checksum=self._options["by_checksum"]) or copy or Cause(Reason.COPY_MISSING)

    def _copy_looks(self, candidates: Iterable[Candidate]) -> dict[str, KeyLooks]:
        """A new look at the copies, by bucket. Each key is asked for once."""
        return {each.at.bucket: KeyLooks(self._copies, each.at.bucket) for each in candidates}

    async def _look_again(self, going: Sequence[Candidate], seen_at: float) -> tuple[dict[int, Outcome], float]:
        """Return the outcomes of what is not as it was, and when the looks at the rest began."""
        began = elapsed_seconds()
        # after the tombstones: who owns the run now reads them, or is seen here
        await self._look_at_places(partial(retry, self.opened.look_at_owner))
        is_old = seen_at <= began - FRESH_SECONDS / 2
        stale = [each for each in going if is_old or each.deleted_id == NULL_VERSION]
        return await self.find_changed(stale), began if is_old else seen_at

    async def find_changed(self, compared: Sequence[Candidate]) -> dict[int, Outcome]:
        """Return the outcomes of those that, or whose copies, are no longer the objects that were compared."""
        originals, copies = KeyLooks(self._originals, self.tombstones.bucket), self._copy_looks(compared)

        async def find_change(each: Candidate) -> Outcome | None:
            copy, now = await self._look_at_copy(copies, each.at), await self._look(originals, each.row)
            if isinstance(copy, Cause):
                return _kept(each.row, *copy)
            if isinstance(now, Outcome):
                return now
            is_same = now and each == now._replace(verdict=each.verdict, copy=copy, step=each.step)
            return None if is_same else _kept(each.row, Reason.SOURCE_CHANGED, "" if copy == each.copy else "copy")

        return {end.row: end for end in await gather_bounded(find_change, compared, REQUESTS_AT_ONCE) if end}

    # The comparison.

    async def compare(self, originals: Sequence[Candidate]) -> dict[int, Candidate]:
        """Compare bytes, metadata, headers, tags and annotations of each with its copy → by row.

        What is current at the copy's key counts. Each read is pinned to its version and ETag.
        """
        looks, at_one_place = self._copy_looks(originals), defaultdict[CopyAt, list[Candidate]](list)
        for each in originals:
            at_one_place[replace(each.at, member=None)].append(each)
        found = await gather_bounded(partial(self._compare_at, looks), at_one_place.values(), REQUESTS_AT_ONCE)
        return {each.row.row: each for part in found for each in part}

    async def _compare_at(self, looks: Mapping[str, KeyLooks], originals: Sequence[Candidate]) -> list[Candidate]:
        """Compare originals with what is at one place: a copy, or their archive."""
        copy = await self._look_at_copy(looks, originals[0].at)
        if isinstance(copy, Cause):
            return [each._replace(verdict=_unknown(copy)) for each in originals]
        contents: dict[int, Content | None] = {each.row.row: self._refute(each, copy) for each in originals}
        unread = _unknown(Cause(Reason.ARCHIVE_DAMAGED, f"{originals[0].at.place}: its own index says otherwise"))
        try:
            async for each, content in self._read([each for each in originals if not contents[each.row.row]], copy):
                contents[each.row.row] = content
        except (StoreError, DamagedArchive) as error:  # of an archive: the rest is not tried
            unread = _unknown(_cause(error))

        async def judge(original: Candidate) -> Candidate:
            try:
                verdict = await self._judge(original, contents[original.row.row] or unread)
                verdict = (await self._find_lack(original, copy) if verdict.same else None) or verdict
            except StoreError as error:
                verdict = _unknown(_cause(error))
            return original._replace(verdict=verdict, copy=copy)

        return await gather_bounded(judge, originals, REQUESTS_AT_ONCE)

    def _refute(self, original: Candidate, copy: ObjectInfo) -> Content | None:
        """What is known without bytes, if that is enough. What a member is and carries, its index says."""
        at, ref, info, there = original.at, original.ref, original.info, copy
        if not self._options["apart"] and (ref.bucket, ref.key) == (at.bucket, at.key):
            return _unknown(Cause(Reason.KEPT, "itself"))
        if member := at.member:
            carried = Attributes(member.headers, member.metadata)
            there = ObjectInfo(member.size_bytes, "", 0.0, None, "", content_checksums(member), carried)
        verdict = compare(info, there, Protection.INTENT)
        if verdict.same is False or (self._options["by_checksum"] and not member):
            return verdict
        return _indexed(at, copy) if self._options["by_checksum"] else None

    async def _read(
        self, originals: Sequence[Candidate], copy: ObjectInfo
    ) -> AsyncGenerator[tuple[Candidate, Content], None]:
        """What is at one place: a replica, or the members of an archive that its own index has, as the row has them."""
        from jobs.archives.index import members_of, read_own_groups  # pyarrow loads there

        at, of_member = originals[0].at if originals else None, {id(each.at.member): each for each in originals}
        if at is None or at.member is None:
            for each in originals:
                theirs = ContentSide(self._copies, ObjectRef(each.at.bucket, each.at.key, copy.version_id), copy)
                yield each, _known(await check_bytes(theirs, each.info, self.opened.budget, _hashed(each.info)))
            return
        ref = ObjectRef(at.bucket, at.key, copy.version_id)
        reader = ArchiveReader(self._copies, ref, copy.etag, self.opened.budget)
        packed = [each.at.member for each in originals if each.at.member]
        if reader not in self._own:  # rows come archive by archive
            self._own = {reader: await read_own_groups(self._copies, Location(at.bucket, at.key), ref.version_id)}
        own = members_of(self._own[reader], [each.key for each in packed])
        async with aclosing(reader.contents([each for each in packed if each in own])) as members:
            async for member, content in members:
                original = of_member[id(member)]
                if isinstance(content, Cause):
                    yield original, _unknown(content)
                    continue
                try:
                    yield original, _known(await check_pieces(content, original.info, _hashed(original.info)))
                except DamagedArchive as error:
                    yield original, _unknown(_cause(error))

    async def _judge(self, original: Candidate, content: Content) -> Verdict:
        """Whether content is the original's, by the original's bytes, read now, if nothing else says it."""
        info = original.info
        if isinstance(content, Verdict):
            return content
        if info.is_archived:
            return _unknown(Cause(Reason.ARCHIVED, "source"))
        source = ContentSide(self._originals, original.ref, info)
        check = await check_bytes(source, with_checksums(info, (content,)), self.opened.budget)
        evidence = Evidence.CHECKSUM if self._options["by_checksum"] else Evidence.CONTENT
        return _DIFFERS if check.is_refuted else Verdict(True, evidence)

    async def _find_lack(self, original: Candidate, copy: ObjectInfo) -> Verdict | None:
        """Why the copy lacks tags or annotations of the original, or nobody knows. None: it has all."""
        at, ref = original.at, original.ref
        replica = ObjectRef(at.bucket, at.key, copy.version_id)
        if tags := await self._tags.read_surely(ref, original.info.tag_count):
            there = at.member.tags if at.member else await self._copies.get_tags(replica)
            if not tags.items() <= there.items():
                return Verdict(False, Evidence.NONE, Reason.METADATA_DIFFERS, "tags")
        is_unasked = self._options["annotations"] == SKIP_ANNOTATIONS
        if is_unasked or await self._annotations.has_all(ref, None if at.member else replica):
            return None
        return _unknown(Cause(Reason.METADATA_DIFFERS, "annotations"))

    # Deletes.

    async def _remove(self, going: Sequence[Candidate], seen_at: float) -> dict[int, Outcome]:
        """Announce, look again, delete, confirm → what became of each row.

        Raises PartlyDone where some have none: a retry looks what became of those whose answer was lost, or the
        worker has to end.
        """
        name = await self.tombstones.announce(list(map(self._tombstone, going)))
        try:
            outcomes, seen_at = await self._look_again(going, seen_at)
        except SealiftError:  # no delete was sent, so what is gone is no work of this run
            await self.tombstones.confirm(name, [])
            raise
        fresh = [each for each in going if each.row.row not in outcomes]
        delete = partial(self._delete, send_by=seen_at + FRESH_SECONDS)
        ended = await gather_bounded(delete, fresh, REQUESTS_AT_ONCE)
        outcomes |= {end.row: end for end, _ in ended if isinstance(end, Outcome)}
        errors = [end for end, _ in ended if not isinstance(end, Outcome)]
        try:
            await self.tombstones.confirm(name, [stone for end, stone in ended if _may_be_gone(end)])
        except SealiftError as error:  # what was done is done without it
            errors.append(error)
        errors.sort(key=lambda each: isinstance(each, Unavailable | Conflict))  # what ends the run comes first
        if errors:
            raise PartlyDone(errors[0], list(outcomes.values())) from errors[0]
        return outcomes

    async def _delete(self, each: Candidate, send_by: float) -> tuple[Outcome | SealiftError, Tombstone]:
        """Delete one → what became of it, or an error, and its tombstone.

        What was deleted or replaced meanwhile counts as this run's only if an answer was lost: then
        a retry looks at it, also if it was refused when it was sent again. Somebody else's delete is
        not for this run to undo.
        """
        row, stone = each.row, self._tombstone(each)
        ref = ObjectRef(self.tombstones.bucket, row.key, each.deleted_id)
        etag = each.info.etag if each.deleted_id is None else None
        try:
            made = await self.opened.source.delete(ref, if_match=etag, send_by=send_by)
        except (PreconditionFailed, NotFound, Denied, Rejected) as error:
            if not error.was_sent_once:
                return error.recast(Conflict, detail="an answer was lost"), stone
            if isinstance(error, Denied | Rejected):
                return _kept(row, Reason.REFUSED, error.fact), stone
            return _kept(row, Reason.SOURCE_CHANGED), stone
        except SealiftError as error:
            return error, stone
        step, marker_id = each.ended(made.version_id)
        stone = stone._replace(step=step, marker_version_id=marker_id)
        return _deleted(row, stone), stone

    def _tombstone(self, each: Candidate) -> Tombstone:
        from jobs.ledger.tombstones import Tombstone

        row, at, ref, info, _, verdict, copy, step = each
        return Tombstone(
            row.row, row.key, ref.version_id, info.etag, info.size_bytes, info.last_modified, step, at.place,
            copy.version_id if copy else None, copy.etag if copy else None,
            (verdict.evidence if verdict else Evidence.NONE).value, None, self.clock(),
        )  # fmt: skip


async def find_original(looks: KeyLooks, row: ObjectVersion, at: CopyAt, *, is_versioned: bool) -> Candidate | None:
    """Return the row's version as S3 has it now, None when it is gone.

    A row without a version id names the null version: a listing without versions gave it. One
    request where the version is current. A current object may be another than the row's, and the
    caller must see that.
    """
    wanted, current = row.version_id or NULL_VERSION, await looks.current(row.key)
    has_others = is_versioned or is_exact(row.version_id)
    is_top = current is not None and (not has_others or (current.version_id or NULL_VERSION) == wanted)
    history = await looks.history(row.key) if has_others and not is_top else []
    named = (not each.is_delete_marker and each.version_id == wanted for each in history)
    place = next((place for place, is_named in enumerate(named) if is_named), None)
    info = current if is_top or row.version_id is None else None
    if place is not None:
        info = await retry(lambda: find(looks.store, ObjectRef(looks.bucket, row.key, wanted)))
    if info is None:
        return None
    above = () if place is None else tuple(history[place + 1 :])
    version_id = info.version_id or (None if place is None else wanted)
    return Candidate(row, at, ObjectRef(looks.bucket, row.key, version_id), info, above)


def _indexed(at: CopyAt, archive: ObjectInfo) -> Content:
    """The member's SHA-256 by the index, if S3 keeps of the archive the checksum that its index has."""
    algorithm, _, value = (at.checksum or "").partition(":")
    as_indexed = replace(archive, etag="", checksums=(Checksum(algorithm, value, "-" in value),))
    if not compare(as_indexed, archive, Protection.INTENT).same:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the archive"))
    if at.member is None or at.member.sha256 is None:
        return _unknown(Cause(Reason.NOTHING_COMPARABLE, "SHA-256 of the member"))
    return content_checksums(at.member)[0]


def _known(copy: ContentCheck) -> Content:
    """What the bytes of a copy say, by what S3 keeps of the original."""
    if copy.is_refuted:
        return _DIFFERS
    return copy.checksum("SHA256") if copy.evidence is Evidence.NONE else Verdict(True, copy.evidence)


def _hashed(info: ObjectInfo) -> str | None:
    """Without anything strong of the original, its bytes are read and hashed as well."""
    return "SHA256" if ContentCheck(info).evidence is Evidence.NONE else None


def _unknown(cause: Cause) -> Verdict:
    return Verdict(None, Evidence.NONE, *cause)


def _cause(error: StoreError | DamagedArchive) -> Cause:
    """Why one side cannot be read. Credentials that are not accepted end the run."""
    if isinstance(error, AuthenticationFailed):
        raise error
    if isinstance(error, DamagedArchive):
        return Cause(Reason.ARCHIVE_DAMAGED, str(error))
    return Cause(Reason.REFUSED, error.fact)


def _may_be_gone(end: Outcome | SealiftError) -> bool:
    """Whether a delete was done, or may have been before its error. What stops the worker, or is late, was not sent."""
    if isinstance(end, Outcome):
        return end.status is Status.DONE
    if not isinstance(end, StoreError) or end.code == TOO_LATE:
        return False
    return not end.was_sent_once or isinstance(end, Unavailable | Conflict)


def _kept(row: ObjectVersion, reason: Why, detail: str = "") -> Outcome:
    """Return the outcome of an original that stays."""
    return Outcome.of(row, Status.LEFT if reason == Reason.TOO_NEW else Status.BLOCKED, reason, detail)


def _deleted(row: ObjectVersion, stone: Tombstone, status: Status = Status.DONE) -> Outcome:
    """Return the outcome of an original that went, or would go, with its copy."""
    what = "hidden" if stone.step is Step.HIDE else "removed"
    return Outcome.of(row, status, Reason.DELETED, what)._replace(
        evidence=next((each for each in Evidence if each == stone.evidence), Evidence.NONE),
        size_bytes=stone.size_bytes,
        destination_version_id=stone.copy_version_id,
        destination_etag=stone.copy_etag,
    )
