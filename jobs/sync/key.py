"""`sync_key`: brings the copies of one key to where its source is.

Nothing is believed of an event or a row but which key and which versions are meant. A look at both
sides (`look`) shows what is there, the table (`table`) says the next step, the step is taken on the
condition of what was seen, and so on until the table says `done`. Where a condition failed, somebody
else was there: the next look shows what they did. So a crash, a lost race, a late or doubled event
need nothing of their own, and doing a key again is always safe.

A key that is probably new costs no look: one CopyObject, on the condition that nothing is there and
that the source's current object is the one that is meant.

| the key                          | requests of an event                | of a row                          |
|----------------------------------|-------------------------------------|-----------------------------------|
| is new                           | CopyObject                          | CopyObject                        |
| was copied                       | CopyObject, 2 LISTs                 | 2 HEADs, once most rows are there |
| has another version              | CopyObject, 2 LISTs, CopyObject     | 2 HEADs, CopyObject               |
| has n others, `all_versions`     | the same, n CopyObjects             | 2 LISTs, n CopyObjects            |

An event of a version whose class is kept costs a HEAD before the first CopyObject. Where deletes are
mirrored, or a server does not say which version it copied, a HEAD after the last write shows whether the
source is still the same. What listings do not prove costs HEADs, or the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partialmethod
from typing import Any, NamedTuple, Self

from msgspec import Struct

from jobs.core.enums import ARCHIVE_CLASSES, StorageClass
from jobs.core.evidence import Verdict, best_checksum, compare, is_md5, is_md5_etag
from jobs.core.histories import SKEW_SECONDS, keys_of
from jobs.core.model import NULL_VERSION, SIZE_LIMIT, Listed, ObjectInfo, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import Depth, Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    ConfigError,
    Conflict,
    Denied,
    NotFound,
    Redirected,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3.annotations import Pinned
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import stored_checksums
from jobs.s3.compare_bytes import is_damaged
from jobs.s3.copying import Copier, CopyOptions, is_altered
from jobs.s3.lookup import KeyPages
from jobs.s3.store import ABSENT, Guard, Store
from jobs.s3.uploads import ALTERED, NO_RECORDS, UploadRecords
from jobs.sync.edges import NOBODY, End, Look, Version
from jobs.sync.look import CHANGED, Side, compare_versions, look_by_lists, places_of, refusal_end
from jobs.sync.table import WAITING, Act, Overwrite, Rules, Step, next_step

ROUNDS = 12
LOOKS, NEWEST_LOOKS = 6, 2
"""How many comparisons an event has for each version that it names, and for what is on top."""
BET_FROM = 1 / 3
"""The share of new keys among the last ones from which a bet costs less than two HEADs first."""
_MAY_BE_ARCHIVED = ARCHIVE_CLASSES | {StorageClass.INTELLIGENT_TIERING}


class SyncOptions(CopyOptions, frozen=True):
    """How to copy, and what is wanted.

    `limit_bytes`: larger objects are left to another worker. `compares_tags`: a copy without the
    source's tags is none.
    """

    rules: Rules = Rules()
    limit_bytes: int = SIZE_LIMIT
    compares_tags: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From a run's spec, which has others as well. The fields of `rules` are options of their own."""
        rules = Rules(**{name: data[name] for name in Rules._fields if name in data})
        return super().from_dict({**data, "rules": rules._replace(overwrite=Overwrite(rules.overwrite))})


class KeyResult(NamedTuple):
    """What became of a key.

    `outcomes`: row number → outcome. `top`: how what belongs on top ended. `left`: the newest version, if it
    is for another worker or for later. `is_marked`: a delete marker was made.
    """

    outcomes: dict[int, Outcome]
    top: End = End(Status.DONE)
    left: Version | None = None
    is_marked: bool = False


@dataclass(eq=False)
class Sides:
    """Both sides of a route, and what was learned of their servers: the job of one worker, for its whole life.

    `names_copied`: answers to copies name the source's version. `proves_by_etag`: ETags of the form of an MD5
    are one at both sides, as far as was seen. `share_new`: of the last keys.
    """

    chains = staticmethod(keys_of)
    source: Store
    destination: Store
    route: Route
    options: SyncOptions
    budget: ByteBudget
    records: UploadRecords = NO_RECORDS
    names_copied: bool = True
    proves_by_etag: bool = True
    share_new: float = 1.0
    _keeps_versions: bool | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.copier = Copier(self.source, self.destination, self.route, self.options, self.budget, self.records)

    async def keeps_versions(self, *, again: bool = False) -> bool:
        """Whether the destination keeps versions: asked once. Unknown counts as what is wanted.

        `again`: an answer was that of a bucket that keeps none, which may be news.
        """
        all_versions = self.options.rules.all_versions
        async with self._asking:
            if self._keeps_versions is None or (again and self._keeps_versions):
                try:
                    self._keeps_versions = await self.destination.is_versioned(self.route.destination.bucket)
                except (Denied, Redirected, Rejected):  # the command that planned the run could ask
                    self._keeps_versions = all_versions
        if all_versions and not self._keeps_versions:
            bucket, advice = self.route.destination.bucket, "enable its versioning, then continue the run"
            raise ConfigError(f"{bucket} keeps no versions: each one of a key would replace the other", advice=advice)
        return self._keeps_versions

    async def process(self, rows: Sequence[ObjectVersion], *, is_last: bool = False) -> list[Outcome]:
        """The outcomes of one key's rows. Raises what `sync_key` raises, and takes `is_last` as it does."""
        result = await sync_key(self, rows[0].key, rows, is_last=is_last)
        return [result.outcomes[row.row] for row in rows]

    process_last = partialmethod(process, is_last=True)

    async def copy_current(
        self, row: ObjectVersion, guard: Guard, source: ObjectInfo | None = None
    ) -> tuple[Outcome, ObjectVersion | None]:
        """Copy what is current at the source if its ETag is the row's. That is also what S3 says then.

        Also returns which version that was, as a row: None if nothing shows it. A server that does not name the
        version that it copied is asked for the row's.
        """
        is_exactly = is_exact(row.version_id)
        by_etag = row.etag is not None and (self.names_copied or not is_exactly)
        wanted = None if by_etag else row.version_id
        outcome, version_id = await self.copier.copy_object(row, wanted, guard, source)
        if not by_etag or not is_exactly or version_id == row.version_id:
            return outcome, row
        self.names_copied = version_id is not None
        return outcome, row._replace(version_id=version_id) if version_id else None


async def sync_key(
    sides: Sides, key: str, rows: Sequence[ObjectVersion], *, is_event: bool = False, is_last: bool = False
) -> KeyResult:
    """Bring the copies of a key to where its source is. `rows`: the versions that are named.

    `is_event`: a new key is likelier than any other, and what needs many comparisons is left to a run.
    `is_last`: a version whose requests keep failing is given up, and others are copied without it.
    What S3 refuses of an object is an outcome. Raises Unavailable, Conflict or PreconditionFailed
    where a retry may help, ConfigError where the destination keeps no versions of `all_versions`.
    """
    rules = sides.options.rules
    if rules.all_versions:
        await sides.keeps_versions()
    call = _Sync(sides, key, rows, rules, is_event, is_last)
    may_be_new = is_event or rules.all_versions or sides.share_new >= BET_FROM
    if len(rows) == 1 and may_be_new and not is_last:
        try:
            if (result := await call.bet()) is not None:
                return result
        except (*REFUSALS, *CHANGED):  # the looks show why, and how it ends
            sides.share_new *= 7 / 8
    return await call.run()


class _Sync(Struct, dict=True, eq=False):
    """One key, until it is done. What is learned of a version stays with it.

    Most keys end with their bet: what only others need is made when it is asked for.
    `marked`: the source's items that were followed by a delete marker, None if it had none. `missed`:
    versions that a copy did not find, and what was on top. `is_stale`: something was written, and nothing
    has shown since that the source is still the same. `pages`: the copies, as a bet that was not made has
    read them.
    """

    sides: Sides
    key: str
    rows: Sequence[ObjectVersion]
    rules: Rules
    is_event: bool
    is_last: bool
    comparisons: int = 0
    marked: set[Version | None] = set()
    missed: set[tuple[Version, Version | None]] = set()
    has_altered: bool = False
    is_stale: bool = False
    pages: KeyPages | None = None

    @cached_property
    def ours(self) -> Side:
        return Side(self.sides.source, ObjectRef(self.sides.route.source.bucket, self.key))

    @cached_property
    def theirs(self) -> Side:
        return Side(self.sides.destination, self.sides.route.target_of(ObjectVersion(-1, self.key)))

    @cached_property
    def agreed(self) -> set[str]:
        """ETags of copies that a run found wrong, and no comparison since has found intact."""
        return {etag for row in self.rows if (etag := row.repair.condemned_etag)}

    async def bet(self) -> KeyResult | None:
        """Copy the one version that is named as if both sides were known: it, and nothing. None: look."""
        [named], sides = self.rows, self.sides
        row, info = named, None
        if self.is_event and not (sides.copier.is_simple(row) and is_md5(row.etag) and sides.proves_by_etag):
            current = await self.ours.find()
            if current is None or places_of([row], [current]) != [current] or await _is_archived(self.ours, current):
                return None
            row, info = self.ours.row_of(current), current.info
        is_large = (row.size_bytes or 0) > sides.options.limit_bytes
        if is_large or row.is_delete_marker or not sides.copier.is_simple(row):
            return None
        if self.rules.all_versions and not self.is_event:
            pages = KeyPages(sides.destination, *self.theirs.ref[:2])
            await pages.read_page()
            if pages.versions:
                self.pages = pages
                return None
        outcome, copied = await sides.copy_current(row, ABSENT, info)
        sides.share_new += (1 - sides.share_new) / 8
        is_right = copied is row and (sides.names_copied or not is_exact(row.version_id))
        is_open = self.rules.mirrors_deletes or not is_right
        keeps_it = is_exact(outcome.destination_version_id) or not self.rules.all_versions
        if row is named and keeps_it and outcome.evidence is not Evidence.NONE and not is_open:
            return KeyResult({row.row: outcome})
        version = self.ours.named(row)
        await self._take(version, copied, outcome)
        if not keeps_it:
            await sides.keeps_versions(again=True)
        elif copied is row and version.copied and (not is_open or await self.ours.find() is version):
            return KeyResult({named.row: _of_row(named, version, version.copied)})
        return None

    async def run(self) -> KeyResult:
        """Look, and take the steps that the table says, until nothing is left to do."""
        if not self.rules.all_versions:
            if len(self.rows) > 1:
                return self._all(End(Status.BLOCKED, Reason.ONE_OF_SEVERAL))
            if self.rows and self.rows[0].is_delete_marker:
                return self._all(End(Status.BLOCKED, Reason.IS_MARKER))
        last: StoreError | None = None
        for _ in range(ROUNDS):
            try:
                if (result := await self._follow(await self._look())) is not None:
                    return result
            except CHANGED as error:
                last = error
            except REFUSALS as error:  # what was copied before that is copied
                return self._all(refusal_end(error, is_last=self.is_last))
        detail = f"others kept changing this key, {ROUNDS} times over: {last}"
        raise Conflict("sync", str(self.theirs.ref), "Raced", detail)

    def _all(self, end: End, left: Version | None = None) -> KeyResult:
        """All rows end so. A row keeps the outcome of a copy that this call has made of its version."""
        named = ((row, self.ours.versions.get((row.version_id or NULL_VERSION, row.etag))) for row in self.rows)
        copied = {row.row: _of_row(row, each, each.copied) for row, each in named if each and each.copied}
        return KeyResult({row.row: Outcome.of(row, *end) for row in self.rows} | copied, end, left)

    # Looks

    async def _look(self) -> Look:
        self.is_stale = False
        if self.rules.all_versions:
            return await self._list()
        there, here = await self.theirs.find(), await self.ours.find()
        return await self._begin([here] if here else [], [there] if there else [], is_listed=False)

    async def _list(self) -> Look:
        pages, self.pages = self.pages, None
        return await self._begin(*await look_by_lists(self.ours, self.theirs, self.rows, pages))

    async def _begin(self, source: list[Version], copies: list[Version], *, is_listed: bool = True) -> Look:
        """What a look shows, with what is known."""
        keeps_versions = not copies or await self.sides.keeps_versions()
        self.rules = self.rules._replace(keeps_versions=keeps_versions)
        look = Look(
            source,
            copies,
            places_of(self.rows, source),
            skew_seconds=SKEW_SECONDS if self.sides.options.streamed else 0.0,
            agreed_etags=self.agreed,
            trusts_etags=keeps_versions,
            is_listed=is_listed,
        )
        for each in source:
            if (each.size_bytes or 0) > self.sides.options.limit_bytes and each.blocked is None:
                each.blocked = End(Status.BLOCKED, Reason.TOO_LARGE)
        for row, version in zip(self.rows, look.meant, strict=True):
            if version is not None and version.etag and version.etag == row.repair.damaged_etag:
                side, budget = await self.ours.content(version), self.sides.budget
                if side.info.is_archived or not stored_checksums(side.info) or await is_damaged(side, budget):
                    version.blocked = End(Status.DAMAGED, Reason.FOUND_DAMAGED)  # nothing proves its bytes right now
        if source and copies and not (is_listed or copies[0].owner is source[0] or copies[0] in source[0].compared):
            await self._compare(source[0], copies[0])
        return look

    # The steps of one look

    async def _follow(self, look: Look) -> KeyResult | None:
        """Take the steps that one look allows. None: look again."""
        while True:
            step = next_step(look, self.rules)
            if step.act is Act.ASK:
                if self.is_event and self.comparisons >= NEWEST_LOOKS + LOOKS * len(self.rows):
                    return self._all(End(Status.BLOCKED, Reason.TOO_SLOW), look.source[-1])
                for version, copy in step.ask:
                    await self._compare(version, copy)
            elif step.act is Act.DONE:
                # A row that names no version means what is current: where that is gone, nothing is copied.
                is_hidden = not look.source and any(is_exact(row.version_id) for row in self.rows)
                is_open = is_hidden or (look.copies and step.top != End(Status.SAME))
                if is_open and not look.is_listed:
                    try:
                        look = await self._list()
                    except (Denied, Redirected, Rejected):  # nobody may list: what HEADs have shown decides
                        look.is_listed = True
                elif self.is_stale and not await self._is_current(look):
                    return None
                else:
                    return await self._conclude(look, step)
            elif not await self._write(look, step):
                return None

    async def _is_current(self, look: Look) -> bool:
        """True if the source's newest is what the look showed."""
        now, shown = await self.ours.find(), look.source[-1] if look.source else None
        return now is shown or (now is None and shown is not None and shown.is_marker)

    # Comparisons

    async def _compare(self, version: Version, copy: Version) -> None:
        self.comparisons += 1
        is_agreed = copy.etag in self.agreed
        options, verdict = self.sides.options, Verdict(None, Evidence.NONE, Reason.NOTHING_COMPARABLE)
        try:
            verdict = await compare_versions(
                (self.ours, version),
                (self.theirs, copy),
                self.sides.budget,
                must_read=is_agreed,
                has_tags=options.compares_tags,
                limit_bytes=options.limit_bytes,
            )
        except (*REFUSALS, Unavailable) as error:
            version.refusal = refusal_end(error, is_last=self.is_last)
        version.compared = {**version.compared, copy: verdict}
        if verdict.is_source_damaged:
            version.blocked = End(Status.DAMAGED, Reason(verdict.reason), verdict.detail)
        if is_agreed and verdict.reason == Reason.EITHER_DAMAGED:
            self.agreed.discard(copy.etag)

    # Writes

    async def _write(self, look: Look, step: Step) -> bool:
        """Take a step that writes. False: look again."""
        if step.act is Act.MARK:
            assert look.on_top is not None
            deleted = await self.sides.destination.delete(self.theirs.ref, if_match=look.on_top.etag)
            self.is_stale = True
            self.marked.add(step.version)
            if deleted.version_id in (None, NULL_VERSION):
                await self.sides.keeps_versions(again=True)
            return False
        assert step.version is not None
        newest = look.newest(follows_markers=self.rules.follows_markers) or step.version
        if newest is not step.version and newest.blocked is None and await _is_archived(self.ours, newest):
            newest.blocked = End(Status.BLOCKED, Reason.ARCHIVED)  # it could not be put above an older version
            return True
        late_below = max((version.place for version in step.match), default=-1)
        for version in (step.version, *step.then):
            if not await self._append(look, version, is_late=version.place < late_below):
                return False
            if version.blocked is not None:
                break
        return True

    async def _append(self, look: Look, version: Version, *, is_late: bool) -> bool:
        """Copy a version on top. False: look again."""
        try:
            outcome, row = await self._copy(look, version)
        except NotFound as error:
            missed = version, look.on_top
            if missed not in self.missed:
                self.missed.add(missed)
                raise
            # Seen twice and not found: SeaweedFS with a key that ends in /.
            version.blocked = End(Status.BLOCKED, Reason.REFUSED, error.fact)
            return True
        except (*REFUSALS, Conflict, Unavailable) as error:
            if error.code == ALTERED:
                await self._blame(version, error.fact)
                return False
            version.blocked = refusal_end(error, is_last=self.is_last)
            return True
        if is_late and not outcome.reason:
            outcome = outcome._replace(reason=Reason.COPIED_LATE)
        copy = await self._take(version, row, outcome)
        is_right = copy.owner is version
        is_named = self.sides.names_copied or not is_exact(version.version_id)
        self.is_stale = self.rules.mirrors_deletes or not (is_right and is_named and version is look.source[-1])
        if not is_exact(outcome.destination_version_id):
            await self.sides.keeps_versions(again=True)
            return False
        if is_right and self.sides.copier.is_one_write(version.size_bytes or 0):
            look.add_copy(copy)
            return True
        return False

    async def _copy(self, look: Look, version: Version) -> tuple[Outcome, ObjectVersion | None]:
        """Copy a version, pinned, if the top is still what was seen. Also returns which version was copied, as a row:
        None if nothing shows it.
        """
        row, sides = self.ours.row_of(version), self.sides
        guard = ABSENT if look.on_top is None else Guard(etag=look.on_top.etag)
        is_simple = sides.copier.is_simple(row)
        if not is_simple or (version.info is None and not (is_md5(row.etag) and sides.proves_by_etag)):
            info = await self.ours.describe(version)
            if info.is_archived:
                raise ArchivedObject("CopyObject", str(self.ours.ref_of(version)), "InvalidObjectState", "", 403)
            if not is_simple:
                return await sides.copier.copy(row, info, guard), row
        if version is look.source[-1]:
            return await sides.copy_current(row, guard, version.info)
        return (await sides.copier.copy_object(row, row.version_id, guard, version.info))[0], row

    async def _take(self, version: Version, row: ObjectVersion | None, outcome: Outcome) -> Version:
        """The copy that this call has made, for a version, of the one that the row names. None: nothing shows which."""
        made = outcome.destination_version_id, True, False, outcome.size_bytes, outcome.destination_etag
        copy = self.theirs.version(Listed(self.theirs.ref.key, *made, outcome.copy_modified or 0.0, None))
        copy.owner, version = NOBODY, self.ours.named(row) if row else version
        if (proven := await self._prove(version, copy, outcome)) is not None:
            version.copied, copy.owner = proven, version if row else NOBODY
        return copy

    async def _prove(self, version: Version, copy: Version, outcome: Outcome) -> Outcome | None:
        """The outcome of a copy that was just made. None: it has other bytes than its source.

        Where the copy of an MD5 has another ETag, HEADs of both tell, once. It is always so under a KMS key.
        """
        sides, verdict = self.sides, Verdict(None)
        is_open = sides.proves_by_etag and is_md5(version.etag) and copy.etag != version.etag
        if outcome.evidence is not Evidence.NONE or not (is_open or version.info):
            return outcome
        source = await self.ours.describe(version)
        if is_open:
            with suppress(*REFUSALS, Conflict):
                verdict = compare(source, await self.theirs.describe(copy))
                sides.proves_by_etag = is_md5_etag(source) and copy.info is not None and is_md5_etag(copy.info)
        if is_altered(source, outcome) or verdict.reason is Reason.CHECKSUM_DIFFERS:
            await self._blame(version, f"CopyObject: {ALTERED}")
            return None
        return outcome._replace(evidence=verdict.evidence, checksum=best_checksum(source)) if verdict.same else outcome

    async def _blame(self, version: Version, fact: str) -> None:
        """A copy has other bytes than its source should have. Block a damaged source, and one of a second such copy."""
        if await is_damaged(await self.ours.content(version), self.sides.budget):
            version.blocked = End(Status.DAMAGED, Reason.DAMAGED)
        elif self.has_altered:
            version.blocked = End(Status.BLOCKED, Reason.GIVEN_UP, fact)
        self.has_altered = True

    # The end

    async def _conclude(self, look: Look, step: Step) -> KeyResult:
        """The outcomes of all rows."""
        assert step.top is not None
        outcomes, all_versions = self._all(End(Status.MISSING, Reason.SOURCE_GONE)).outcomes, self.rules.all_versions
        for row, meant in zip(self.rows, look.meant, strict=True):
            version = step.target
            # An older version on top does not settle the row of a newer one that is blocked.
            if all_versions or version is None or (meant is not None and meant.place > version.place):
                version = meant
            if version is None:
                continue
            end = step.ends.get(version, step.top)
            outcome = await self._outcome(row, look, version, step.match.get(version), end)
            if outcome.reason in ("", Reason.COPY_INCOMPLETE) and not (all_versions or _is_named(row, version)):
                outcome = outcome._replace(reason=Reason.NEWER_COPIED)
            outcomes[row.row] = outcome
        left = look.newest(follows_markers=self.rules.follows_markers) if step.top.reason in WAITING else None
        return KeyResult(outcomes, step.top, left, bool(self.marked))

    async def _outcome(
        self, row: ObjectVersion, look: Look, version: Version, copy: Version | None, end: End
    ) -> Outcome:
        """The outcome of a row of a version, and its copy, if there is one."""
        if version.copied is not None and end.status is not Status.BLOCKED:
            return _of_row(row, version, version.copied)
        if version.is_marker:
            return Outcome.of(row, *(End(Status.DONE, Reason.DELETED) if version in self.marked else end))
        if version.refusal is not None and end.status is Status.UNKNOWN:
            return Outcome.of(row, *version.refusal)
        is_copy = end.status in (Status.SAME, Status.UNKNOWN)
        if not (copy and is_copy and self.rules.all_versions) and look.copies:
            copy = look.copies[-1]
        outcome = Outcome.of(row, *end)._replace(etag=version.etag, source_modified=version.at)
        if copy is None:
            return outcome
        by_listing = Evidence.MD5_ETAG if copy.etag == version.etag and is_md5(copy.etag) else Evidence.NONE
        verdict = Verdict(None) if not is_copy else version.compared.get(copy) or Verdict(None, by_listing)
        outcome = outcome._replace(
            evidence=verdict.evidence,
            size_bytes=(version.size_bytes if is_copy else 0) or 0,
            destination_version_id=copy.version_id,
            destination_etag=copy.etag,
            checksum=verdict.checksum,
            depth=Depth.STORED if copy in version.compared else Depth.LISTED,
            copy_modified=copy.at,
        )
        if end.status is Status.SAME:
            ours, theirs = Pinned(self.ours.ref_of(version), version.etag), Pinned(self.theirs.ref_of(copy), copy.etag)
            lack = await self.sides.copier.complete_annotations(row, ours, version.size_bytes or 0, theirs)
            if lack and not end.reason:
                outcome = outcome._replace(reason=Reason.COPY_INCOMPLETE, detail=lack)
        return outcome


async def _is_archived(side: Side, version: Version) -> bool:
    return version.storage_class in _MAY_BE_ARCHIVED and (await side.describe(version)).is_archived


def _of_row(row: ObjectVersion, version: Version, copied: Outcome) -> Outcome:
    version.copied = copied._replace(row=row.row, version_id=row.version_id)  # not held twice
    return version.copied


def _is_named(row: ObjectVersion, version: Version) -> bool:
    """True if a row means this version. Without a version id it means an ETag, or what is there."""
    if is_exact(row.version_id):
        return row.version_id == version.version_id
    return row.etag in (None, version.etag) and row.size_bytes in (None, version.size_bytes)
