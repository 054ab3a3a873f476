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
| is new                           | CopyObject, HEAD                    | CopyObject                        |
| was copied                       | CopyObject, 2 LISTs                 | 2 HEADs, once most rows are there |
| has another version              | CopyObject, 2 LISTs, CopyObject, HEAD | 2 HEADs, CopyObject             |
| has n others, `all_versions`     | the same, n CopyObjects             | 2 LISTs, n CopyObjects, HEAD      |

An event of a version whose class is kept costs a HEAD before the first CopyObject, and no other HEAD
unless deletes are mirrored. What listings do not prove costs HEADs, or the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from jobs.core.enums import ARCHIVE_CLASSES, StorageClass
from jobs.core.evidence import Verdict, best_checksum, compare, is_md5, is_md5_etag
from jobs.core.histories import SKEW_SECONDS, as_row
from jobs.core.model import NULL_VERSION, Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, Route, is_exact
from jobs.core.outcome import GOOD, Evidence, Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import (
    REFUSALS,
    ArchivedObject,
    ConfigError,
    Conflict,
    Denied,
    NoSuchBucket,
    NotFound,
    PreconditionFailed,
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
from jobs.s3.lookup import KeyPages, find
from jobs.s3.store import ABSENT, Guard, Store
from jobs.s3.uploads import ALTERED, NO_RECORDS, UploadRecords
from jobs.sync.facts import Side, compare_versions
from jobs.sync.look import Identity, Look, identity, look_by_heads, look_by_lists, places_of
from jobs.sync.table import Act, Edge, Edges, End, Item, Overwrite, Rules, Step, View, align, next_step, rivals

ROUNDS = 12
LOOKS, NEWEST_LOOKS = 6, 2
"""How many comparisons an event has for each version that it names, and for what is on top."""
BET_FROM = 1 / 3
"""The share of new keys among the last ones from which a bet costs less than two HEADs first."""
_MAY_BE_ARCHIVED = ARCHIVE_CLASSES | {StorageClass.INTELLIGENT_TIERING}
SUSPENDED = (
    "the destination bucket {bucket} keeps no versions, so each version of a key would replace the one before "
    "for good: enable its versioning, then continue the run"
)
NEWER = "it is of a newer version"
_OWN_REFUSALS = ("BufferTooSmall", "EntityTooLarge")
"""Codes of requests that the client does not send. Their messages say what to set."""
_WAITING = (Reason.ARCHIVED, Reason.NEWEST_ARCHIVED, Reason.TOO_LARGE)
_NOBODYS = ("", "")
"""The source version of a copy that this call wrote and that is no version's copy."""


@dataclass(frozen=True, slots=True)
class SyncOptions(CopyOptions):
    """How to copy, what is wanted, and what may be replaced.

    `keeps_replaced`: an object that is replaced has to stay, as a version. `limit_bytes`: larger
    objects are left to another worker. `compares_tags`: a copy without the source's tags is none.
    `is_replay`: see `Rules`.
    """

    all_versions: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    mirrors_deletes: bool = False
    keeps_replaced: bool = False
    limit_bytes: int | None = None
    compares_tags: bool = False
    is_replay: bool = False

    @property
    def follows_markers(self) -> bool:
        """Whether a delete marker of the source is made at the destination."""
        return self.mirrors_deletes or (self.is_replay and self.all_versions)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From a run's spec, which has others as well."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**known | {"overwrite": Overwrite(known.get("overwrite", Overwrite.OLDER))})


class Left(NamedTuple):
    """A version that this worker cannot copy, compare or put on top: archived, or above the limit.

    `has_copy`: the destination has a copy of it, or what may be one.
    """

    version: Listed
    reason: Reason
    has_copy: bool


class KeyResult(NamedTuple):
    """What became of a key.

    `outcomes`: row number → outcome. `top`: how what belongs on top ended. `left`: versions for another
    worker, or for later, named or not. `is_marked`: a delete marker was made.
    """

    outcomes: dict[int, Outcome]
    top: End = End(Status.DONE)
    left: Sequence[Left] = ()
    is_marked: bool = False


class Sides:
    """Both sides of a route, and what was learned of their servers. One for a worker's whole life."""

    def __init__(
        self,
        source: Store,
        destination: Store,
        route: Route,
        options: SyncOptions,
        budget: ByteBudget,
        records: UploadRecords = NO_RECORDS,
    ):
        self.source, self.destination, self.route = source, destination, route
        self.options, self.budget = options, budget
        self.copier = Copier(source, destination, route, options, budget, records)
        inside = Route(Location(route.destination.bucket), Location(route.destination.bucket))
        self.recopier = Copier(destination, destination, inside, replace(options, streamed=False), budget, records)
        self.names_copied = True
        """Whether answers to copies name the source's version."""
        self.proves_by_etag = True
        """Whether the ETags of both sides are MD5s, as far as was seen."""
        self.copies_have_md5s = True
        """Whether an ETag of the form of an MD5 is one at the destination, as far as was seen."""
        self.share_new = 1.0
        self._keeps_versions: bool | None = None
        self._asking = asyncio.Lock()

    async def keeps_versions(self, *, again: bool = False) -> bool:
        """Whether the destination keeps versions: asked once. Unknown counts as what is wanted.

        `again`: an answer was that of a bucket that keeps none, which may be news.
        """
        async with self._asking:
            if self._keeps_versions is None or (again and self._keeps_versions):
                try:
                    self._keeps_versions = await self.destination.is_versioned(self.route.destination.bucket)
                except (Denied, Redirected, Rejected):  # the command that planned the run could ask
                    self._keeps_versions = self.options.all_versions
        if self.options.all_versions and not self._keeps_versions:
            raise ConfigError(SUSPENDED.format(bucket=self.route.destination.bucket))
        return self._keeps_versions

    def note_bet(self, *, is_new: bool) -> None:
        """Learn how many keys are new."""
        self.share_new += (is_new - self.share_new) / 8


async def sync_key(
    sides: Sides, key: str, rows: Sequence[ObjectVersion], *, is_event: bool = False, is_last: bool = False
) -> KeyResult:
    """Bring the copies of a key to where its source is. `rows`: the versions that are named.

    `is_event`: the source may have changed a moment ago, so it is looked at after each write.
    `is_last`: a version whose requests keep failing is given up, and others are copied without it.
    What S3 refuses of an object is an outcome. Raises Unavailable, Conflict or PreconditionFailed
    where a retry may help, ConfigError where the destination keeps no versions of `all_versions`.
    """
    return await _Sync(sides, key, rows, is_event=is_event, is_last=is_last).run()


class _Sync:
    """One key, until it is done. What was learned is kept by the versions' identities."""

    def __init__(self, sides: Sides, key: str, rows: Sequence[ObjectVersion], *, is_event: bool, is_last: bool):
        self.sides, self.key, self.rows = sides, key, rows
        self.options, self.copier = sides.options, sides.copier
        self.is_event, self.is_last = is_event, is_last
        self.known: dict[tuple[Identity, Identity], tuple[Verdict, str | None]] = {}
        self.own: dict[Identity, Identity] = {}
        self.copied: dict[Identity, Outcome] = {}
        self.blocked: dict[Identity, tuple[End, str]] = {}
        self.errors: dict[Identity, StoreError] = {}
        self.missed: set[tuple[Identity, Identity | None]] = set()
        self.doubted: set[Identity] = set()
        self.unreadable: set[Identity] = set()
        self.marked: set[Identity] = set()
        self.looks_left = NEWEST_LOOKS + LOOKS * len(rows)
        self.agreed = {row.condemned_etag for row in rows if row.condemned_etag}
        """ETags of copies that a run found wrong, and no comparison since has found intact."""
        self.must_list = self.cannot_list = False
        self.is_marked = self.has_altered = False
        self.is_stale = False
        """Something was written, and nothing has shown since that the source is still the same."""
        self.pages: KeyPages | None = None
        self.bet: Outcome | None = None
        """A copy that this call made before it looked. Only a comparison says of which version it is."""

    @cached_property
    def ours(self) -> Side:  # most bets need neither side
        return Side(self.sides.source, ObjectRef(self.sides.route.source.bucket, self.key))

    @cached_property
    def theirs(self) -> Side:
        return Side(self.sides.destination, self.sides.route.target_of(ObjectVersion(-1, self.key)))

    async def run(self) -> KeyResult:
        if not self.options.all_versions:
            if len(self.rows) > 1:
                return self._all(End(Status.BLOCKED, Reason.ONE_OF_SEVERAL))
            if self.rows and self.rows[0].is_delete_marker:
                return self._all(End(Status.BLOCKED, Reason.IS_MARKER))
        try:
            result = await self._rounds()
        except NoSuchBucket:
            raise
        except REFUSALS as error:  # what was copied before that is copied
            result = self._all(*_refusal(error))
            return result._replace(outcomes=result.outcomes | self._copied_rows())
        is_blocked = result.top.status is Status.BLOCKED and result.top.reason not in _WAITING
        if is_blocked and result.outcomes and all(each.status in GOOD for each in result.outcomes.values()):
            return self._all(result.top)  # an older version may be on top, and no other row would bring the key back
        return result

    def _all(self, end: End, detail: str = "") -> KeyResult:
        return KeyResult({row.row: _ended(row, end, detail) for row in self.rows}, end)

    def _copied_rows(self) -> dict[int, Outcome]:
        """The rows whose version this call has copied, by what the rows say."""
        return {
            row.row: outcome._replace(row=row.row, version_id=row.version_id)
            for row in self.rows
            if (outcome := self.copied.get((row.version_id or NULL_VERSION, row.etag))) is not None
        }

    async def _rounds(self) -> KeyResult:
        last: StoreError | None = None
        for attempt in range(ROUNDS + 1):
            try:
                result = await (self._follow(await self._look()) if attempt else self._bet())
                if result is not None:
                    return result
            except NoSuchBucket:
                raise
            except (PreconditionFailed, Conflict, NotFound) as error:
                last = error
        detail = f"others kept changing this key, {ROUNDS} times over: {last}"
        raise Conflict("sync", str(self.theirs.ref), "Raced", detail)

    # The bet

    async def _bet(self) -> KeyResult | None:
        """Copy the one version that is named onto a key that is probably new. None: look."""
        options = self.options
        if options.all_versions:
            await self.sides.keeps_versions()
        if len(self.rows) != 1 or options.streamed or options.object_lock:
            return None
        row = self.rows[0]
        if not self.is_event and options.all_versions:
            self.pages = KeyPages(self.sides.destination, *self.theirs.ref[:2])
            await self.pages.read_page()
            if self.pages.versions:
                return None
        elif not self.is_event and self.sides.share_new < BET_FROM:
            return None
        info = None
        if self.is_event and not (self.copier.is_simple(row) and is_md5(row.etag) and self.sides.proves_by_etag):
            info = await find(self.sides.source, self.ours.ref)
            if info is None or not _is_of(row, info) or info.is_archived:
                return None
            self.ours.record(info)
            row = row._replace(size_bytes=info.size_bytes, etag=info.etag, storage_class=info.storage_class)
        is_large = options.limit_bytes is not None and (row.size_bytes or 0) > options.limit_bytes
        if is_large or row.is_delete_marker or not self.copier.is_simple(row):
            return None
        try:
            outcome, is_right = await self._copy_current(row, ABSENT, info)
        except (PreconditionFailed, Conflict, NotFound, ArchivedObject) as error:
            self.sides.note_bet(is_new=False)
            if isinstance(error, NoSuchBucket):
                raise
            return None
        self.sides.note_bet(is_new=True)
        self.is_stale = True
        self.own[_made(outcome)], self.bet = _NOBODYS, outcome
        if is_right is False or (info is not None and await self._is_altered(info, outcome)):
            return None
        if outcome.evidence is Evidence.NONE and info is None and self.sides.proves_by_etag:
            self.sides.proves_by_etag = False  # these ETags prove nothing, or the bytes are others: look
            return None
        if is_right is None or (self.is_event and (info is None or options.mirrors_deletes)):
            after = await find(self.sides.source, self.ours.ref)
            if after is None or not _is_of(row, after):
                if is_right:
                    me = row.version_id or NULL_VERSION, row.etag
                    self.own[_made(outcome)], self.copied[me] = me, outcome
                return None
        return KeyResult({row.row: outcome})

    async def _copy_current(
        self, row: ObjectVersion, guard: Guard, info: ObjectInfo | None
    ) -> tuple[Outcome, bool | None]:
        """Copy what is current at the source if its ETag is the row's. That is also what S3 says then.

        Also returns whether it is the row's version: None if nothing shows it. A server that does not
        name the version that it copied is asked for the row's.
        """
        is_exactly = is_exact(row.version_id)
        by_etag = row.etag is not None and (self.sides.names_copied or not is_exactly)
        outcome, version_id = await self.copier.copy_object(row, None if by_etag else row.version_id, guard, info)
        if not by_etag or not is_exactly:
            return outcome, True
        if version_id is None:
            self.sides.names_copied = False
            return outcome, None
        return outcome, version_id == row.version_id

    # Looks

    async def _look(self) -> Look:
        self.is_stale = False
        if self.options.all_versions or self.must_list:
            return await self._list()
        look = await look_by_heads(self.sides.source, self.ours.ref, self.sides.destination, self.theirs.ref)
        is_hidden = not look.source and any(is_exact(row.version_id) for row in self.rows)
        return await self._list() if is_hidden else look

    async def _list(self) -> Look:
        pages = self.pages or KeyPages(self.sides.destination, *self.theirs.ref[:2])
        self.pages = None
        return await look_by_lists(self.sides.source, self.ours.ref, pages, self.rows)

    async def _list_as_well(self, look: Look) -> Look:
        """The histories, where HEADs do not decide. The look itself if nobody may list them."""
        try:
            return await self._list()
        except (Denied, Redirected, Rejected):
            self.cannot_list = True
            return look

    # The steps of one look

    async def _follow(self, look: Look) -> KeyResult | None:
        """Take the steps that one look allows. None: look again."""
        places, edges, rules = await self._begin(look)
        while True:
            view = self._view(look, edges, places)
            if (damaged := self._damaged_newest(look)) is not None:
                return await self._conclude(look, view, places, Step(Act.DONE, top=damaged, match=align(view)))
            step = next_step(view, rules)
            if step.act is Act.ASK:
                for pair in step.ask:
                    await self._compare(look, edges, view.named, *pair)
                if self.agreed != rules.agreed_etags:
                    return None
            elif step.act is Act.DONE:
                if not look.is_listed and step.top != End(Status.SAME) and not self.cannot_list and look.copies:
                    self.must_list = True
                    look = await self._list_as_well(look)
                    places, edges, rules = await self._begin(look)
                elif self.is_stale and not await self._is_current(look):
                    return None
                else:
                    return await self._conclude(look, view, places, step)
            elif not await self._write(look, view, step):
                return None

    async def _begin(self, look: Look) -> tuple[list[int | None], Edges, Rules]:
        """What a look shows, with what is known."""
        for side, infos in zip((self.ours, self.theirs), look.heads, strict=True):
            for info in infos:
                side.record(info)
        places, options = places_of(self.rows, look.source), self.options
        newest = look.newest(follows_markers=False)
        older = sum(place not in (None, newest) for place in places)
        self.looks_left = min(self.looks_left, NEWEST_LOOKS + LOOKS * older)
        keeps_versions = not look.copies or await self.sides.keeps_versions()
        skew_seconds = SKEW_SECONDS if options.streamed else 0.0
        rules = Rules(
            options.all_versions,
            options.mirrors_deletes,
            options.overwrite,
            keeps_versions,
            skew_seconds,
            frozenset(self.agreed),
            options.keeps_replaced,
            is_replay=options.is_replay,
        )
        edges = Edges(
            [*map(Item.of, look.source)],
            [*map(Item.of, look.copies)],
            skew_seconds=skew_seconds,
            agreed_etags=rules.agreed_etags,
        )
        ours = {identity(each): place for place, each in enumerate(look.source)}
        theirs = {identity(each): place for place, each in enumerate(look.copies)}
        for (one, other), (verdict, _) in self.known.items():
            if one in ours and other in theirs:
                edges.learn(ours[one], theirs[other], _edge(verdict))
        if not look.is_listed and look.source and look.copies:
            self._compare_heads(look, edges)
        for row, place in zip(self.rows, places, strict=True):
            if place is not None and row.is_found_damaged and row.etag == look.source[place].etag:
                await self._check_damage(look.source[place])
        return places, edges, rules

    def _view(self, look: Look, edges: Edges, places: Sequence[int | None]) -> View:
        limit = self.options.limit_bytes
        blocked = {
            place: self.blocked[identity(each)][0].reason or Reason.REFUSED
            for place, each in enumerate(look.source)
            if identity(each) in self.blocked
        }
        unreadable = {place for place, each in enumerate(look.copies) if identity(each) in self.unreadable}
        if limit is not None:
            large = [place for place, each in enumerate(look.source) if (each.size_bytes or 0) > limit]
            blocked |= {place: Reason.TOO_LARGE for place in large if place not in blocked}
            unreadable |= {place for place, each in enumerate(look.copies) if (each.size_bytes or 0) > limit}
        ours = {identity(each): place for place, each in enumerate(look.source)}
        owners = {place: self.own.get(identity(each)) for place, each in enumerate(look.copies)}
        own = {place: ours.get(owner, -1) for place, owner in owners.items() if owner is not None}
        doubted = {ours[each] for each in self.doubted if each in ours}
        named = {place for place in places if place is not None}
        return View(edges, named, blocked, unreadable, own, doubted)

    def _damaged_newest(self, look: Look) -> End | None:
        """How the key ends if its newest object is damaged: nobody knows what belongs on top."""
        newest = self._newest(look)
        end = None if newest is None else self.blocked.get(identity(look.source[newest]))
        return end[0] if end is not None and end[0].status is Status.DAMAGED else None

    def _newest(self, look: Look) -> int | None:
        return look.newest(follows_markers=self.options.follows_markers)

    async def _is_current(self, look: Look) -> bool:
        """True if the source's newest is what the look showed."""
        now, shown = await find(self.sides.source, self.ours.ref), look.source[-1:]
        if now is None:
            return not shown or shown[0].is_delete_marker
        return bool(shown) and identity(now) == identity(shown[0])

    # Comparisons

    def _compare_heads(self, look: Look, edges: Edges) -> None:
        """Compare what two HEADs have shown. Tags, and bytes that count, are left to be asked for."""
        [source], [copy] = look.heads
        verdict = compare(source, copy)
        is_open = verdict.same and (copy.etag in self.agreed or (self.options.compares_tags and source.tag_count))
        if verdict.same is None or is_open:
            edges.learn(0, 0, Edge.UNASKED)
        else:
            self.known[identity(source), identity(copy)] = verdict, best_checksum(source)
            edges.learn(0, 0, _edge(verdict))

    async def _compare(self, look: Look, edges: Edges, named: Collection[int], place: int, at: int) -> None:
        """Compare a version with a copy. An event compares a few: a copy that is not found is made again."""
        if self.is_event and self.looks_left <= 0:
            # Too many older versions may be what is on top: the newest once more above it is a small price.
            is_top = at == len(look.copies) - 1 and place != look.newest(follows_markers=False)
            edges.learn(
                place, at, Edge.SAME if is_top and place not in named and self.options.all_versions else Edge.NO
            )
            return
        self.looks_left -= 1
        version, copy = look.source[place], look.copies[at]
        is_agreed = copy.etag in self.agreed
        options, verdict, checksum = self.options, Verdict(None, Evidence.NONE, Reason.NOTHING_COMPARABLE), None
        try:
            verdict, checksum = await compare_versions(
                (self.ours, version),
                (self.theirs, copy),
                self.sides.budget,
                must_read=is_agreed,
                has_tags=options.compares_tags,
                limit_bytes=options.limit_bytes,
            )
        except NotFound as error:
            if isinstance(error, NoSuchBucket):
                raise
            raise Conflict(error.operation, error.target, "Raced", "it went away while it was read") from error
        except (*REFUSALS, Unavailable) as error:
            if isinstance(error, Unavailable) and not (self.is_last and error.is_of_object):
                raise
            self.errors[identity(version)] = error
        self.known[identity(version), identity(copy)] = verdict, checksum
        edges.learn(place, at, _edge(verdict))
        if verdict.is_source_damaged:
            self.blocked[identity(version)] = End(Status.DAMAGED, Reason(verdict.reason)), verdict.detail
        if is_agreed and verdict.is_copy_intact:
            self.agreed.discard(copy.etag)

    async def _check_damage(self, version: Listed) -> None:
        """Block a version that was found damaged, unless its bytes are right now."""
        info = await self.ours.describe(version)
        is_proven = stored_checksums(info) and not info.is_archived and not await self._is_damaged(version, info)
        if not is_proven:
            self.blocked[identity(version)] = End(Status.DAMAGED, Reason.FOUND_DAMAGED), ""

    async def _is_damaged(self, version: Listed, info: ObjectInfo) -> bool:
        return await is_damaged(self.ours.content(version, info), self.sides.budget)

    # Writes

    async def _write(self, look: Look, view: View, step: Step) -> bool:
        """Take a step that writes. False: look again."""
        if step.act is Act.MARK:
            assert look.top is not None
            deleted = await self.sides.destination.delete(*self.theirs.ref[:2], if_match=look.top.etag)
            self.is_marked = self.is_stale = True
            self.marked |= {identity(each) for each in look.source[step.place :][:1] if each.is_delete_marker}
            if deleted.version_id in (None, NULL_VERSION):
                await self.sides.keeps_versions(again=True)
            return False
        if step.act is Act.AGAIN:
            return await self._again(look, step)
        newest, newest_copied = self._newest(look), max(step.match, default=-1)
        if newest not in (None, step.place) and await self._find_archived(look, view, newest, step.match.get(newest)):
            return True
        for place in (step.place, *step.then):
            if not await self._append(look, view, place, is_late=place < newest_copied):
                return False
            if identity(look.source[place]) in self.blocked:
                break
            newest_copied = max(newest_copied, place)
        return True

    async def _find_archived(self, look: Look, view: View, newest: int, at: int | None) -> bool:
        """True if it is news that the newest version, or its copy, the one at `at`, is archived.

        Then it could not be put back above an older version.
        """
        version = look.source[newest]
        is_news = newest not in view.blocked and await _is_archived(self.ours, version)
        if is_news:
            self.blocked[identity(version)] = End(Status.BLOCKED, Reason.ARCHIVED), ""
        if at is not None and at not in view.unreadable_copies and await _is_archived(self.theirs, look.copies[at]):
            self.unreadable.add(identity(look.copies[at]))
            is_news = True
        return is_news

    async def _append(self, look: Look, view: View, place: int, *, is_late: bool) -> bool:
        """Copy a version on top. False: look again."""
        version, me = look.source[place], identity(look.source[place])
        more = rivals(view, place) if self.options.all_versions else set()
        try:
            outcome, is_right = await self._copy(look, place)
        except (Denied, Redirected, ArchivedObject, Rejected) as error:
            self.blocked[me] = _refusal(error)
            return True
        except NotFound as error:
            missed = me, identity(look.copies[-1]) if look.copies else None
            if isinstance(error, NoSuchBucket) or missed not in self.missed:
                self.missed.add(missed)
                raise
            # Listed twice, with nothing changed, and not found: SeaweedFS with a key that ends in /.
            self.blocked[me] = End(Status.BLOCKED, Reason.REFUSED), error.fact
            return True
        except (Conflict, Unavailable) as error:
            if error.code == ALTERED:
                return await self._blame(version, error)
            if isinstance(error, Conflict) or not (self.is_last and error.is_of_object):
                raise
            self.blocked[me] = _refusal(error)
            return True
        is_current = place == len(look.source) - 1 and bool(is_right)
        is_current &= self.sides.names_copied or not is_exact(version.version_id)
        self.is_stale = self.is_event or self.options.mirrors_deletes or not is_current
        self.doubted |= {identity(look.source[other]) for other in more}
        info = self.ours.known(version)
        if info is None and outcome.evidence is Evidence.NONE:
            info = await self.ours.describe(version)
        if info is not None and await self._is_altered(info, outcome):
            self.own[_made(outcome)] = _NOBODYS
            what = Conflict("CopyObject", str(self.theirs.ref), ALTERED, "the copy's checksum is not the source's")
            return await self._blame(version, what)
        self.own[_made(outcome)] = me if is_right else _NOBODYS
        if is_right is not False:
            self.copied[me] = outcome._replace(reason=outcome.reason or (Reason.COPIED_LATE if is_late else ""))
        if not is_exact(outcome.destination_version_id):
            await self.sides.keeps_versions(again=True)
            return False
        return bool(is_right) and self.copier.is_one_write(version.size_bytes or 0) and self._put(look, view, outcome)

    async def _is_altered(self, source: ObjectInfo, outcome: Outcome) -> bool:
        """True if a copy that was just made has another checksum than its source, or another MD5 as its ETag.

        An ETag under a KMS key has that form and is none. A HEAD of a copy tells, once.
        """
        etag, sides = outcome.destination_etag, self.sides
        if is_altered(source, outcome):
            return True
        if not (sides.copies_have_md5s and is_md5_etag(source) and is_md5(etag) and etag != source.etag):
            return False
        try:
            copy = await find(sides.destination, self.theirs.ref._replace(version_id=outcome.destination_version_id))
        except REFUSALS:
            return False
        sides.copies_have_md5s = sides.proves_by_etag = copy is None or is_md5_etag(copy)
        return copy is not None and copy.etag == etag and sides.copies_have_md5s

    def _put(self, look: Look, view: View, outcome: Outcome) -> bool:
        """Add a copy that was just made to the look."""
        at = max((each.last_modified for each in (*look.source, *look.copies)), default=0.0)
        made = outcome.destination_version_id, True, False, outcome.size_bytes, outcome.destination_etag, at, None
        look.copies.append(Listed(self.theirs.ref.key, *made))
        view.edges.add_copy(Item.of(look.copies[-1]))
        return True

    async def _copy(self, look: Look, place: int) -> tuple[Outcome, bool | None]:
        """Copy a version, pinned, if the top is still what was seen. Also returns whether it is the version."""
        version, guard = look.source[place], _guard(look)
        row, info = as_row(version), self.ours.known(version)
        try:
            if not self.copier.is_simple(row) or (
                info is None and not (is_md5(row.etag) and self.sides.proves_by_etag)
            ):
                info = info or await self.ours.describe(version)
                if info.is_archived:
                    raise ArchivedObject("CopyObject", str(self.ours.ref_of(version)), "InvalidObjectState", "", 403)
                if not self.copier.is_simple(row):
                    return await self.copier.copy(row, info, guard), True
            if place == len(look.source) - 1:
                outcome, is_right = await self._copy_current(row, guard, info)
            else:
                outcome, is_right = (await self.copier.copy_object(row, row.version_id, guard, info))[0], True
        except NotFound as error:
            if guard.etag is None or isinstance(error, NoSuchBucket):
                raise
            raise Conflict(error.operation, error.target, "Raced", "source or destination is gone") from error
        self.sides.proves_by_etag &= info is not None or outcome.evidence is not Evidence.NONE
        return outcome, is_right

    async def _blame(self, version: Listed, error: StoreError) -> bool:
        """A copy has other bytes than its source should have. Block a damaged source, else look again."""
        if await self._is_damaged(version, await self.ours.describe(version)):
            self.blocked[identity(version)] = End(Status.DAMAGED, Reason.DAMAGED), ""
            return True
        if self.has_altered and isinstance(error, Conflict):  # S3's own copies: a third would come out the same
            self.blocked[identity(version)] = End(Status.BLOCKED, Reason.GIVEN_UP), error.fact
            return True
        if self.has_altered:
            raise error
        self.has_altered = True
        return False

    async def _again(self, look: Look, step: Step) -> bool:
        """Copy one of the destination's copies on top, since the source cannot be read. False: look again."""
        copy = look.copies[step.place]
        info = await self.theirs.describe(copy)
        try:
            if info.is_archived:
                raise ArchivedObject("CopyObject", str(self.theirs.ref_of(copy)), "InvalidObjectState", "", 403)
            outcome = await self.sides.recopier.copy(as_row(copy), info, _guard(look))
        except (Denied, Redirected, ArchivedObject, Rejected, Conflict) as error:
            if isinstance(error, Conflict) and error.code != ALTERED:
                raise
            self.unreadable.add(identity(copy))
            return True
        self.is_stale = True
        owner = next((place for place, at in step.match.items() if at == step.place), None)
        self.own[_made(outcome)] = _NOBODYS if owner is None else identity(look.source[owner])
        return False

    # The end

    async def _conclude(self, look: Look, view: View, places: Sequence[int | None], step: Step) -> KeyResult:
        """The outcomes of all rows."""
        assert step.top is not None
        matches = step.match
        newest = self._newest(look)
        target = step.target
        outcomes, copied_rows = dict[int, Outcome](), self._copied_rows()
        for row, place in zip(self.rows, places, strict=True):
            at = target if target is not None and not self.options.all_versions else place
            if at is None:
                if row.row in copied_rows:
                    outcomes[row.row] = copied_rows[row.row]
                    continue
                gone = End(Status.MISSING, Reason.SOURCE_GONE)
                outcomes[row.row] = _ended(row, gone, "marker" if row.is_delete_marker else "")
                continue
            end = step.top if at == target else step.ends.get(at, step.top)
            is_on_top = not self.options.all_versions and look.top is not None  # whatever else it matches
            copy_at = len(look.copies) - 1 if is_on_top else matches.get(at)
            outcome = await self._outcome(row, look, view, at, copy_at, end)
            is_newer = not self.options.all_versions and not _is_named(row, look.source[at])
            outcomes[row.row] = _of_newer(outcome) if is_newer else outcome
        left = [
            Left(look.source[place], reason, next(view.near(place), None) is not None)
            for place, reason in self._left(look, view, matches, step.top).items()
            if place in view.named or place == newest
        ]
        return KeyResult(outcomes, step.top, left, self.is_marked)

    def _left(self, look: Look, view: View, matches: Mapping[int, int], top: End) -> dict[int, Reason]:
        """The versions that another worker, or a later one, can copy, put on top, or compare."""
        newest = self._newest(look)
        left: dict[int, Reason] = {
            place: reason
            for place, reason in view.blocked.items()
            if reason in (Reason.TOO_LARGE, Reason.ARCHIVED)
            and (place not in matches or (place == newest and top.reason is reason))
        }
        for place, at in matches.items():
            verdict = self.known.get((identity(look.source[place]), identity(look.copies[at])))
            if verdict is not None and verdict[0].reason == Reason.TOO_LARGE:
                left[place] = Reason.TOO_LARGE
        return left

    async def _outcome(
        self, row: ObjectVersion, look: Look, view: View, place: int, at: int | None, end: End
    ) -> Outcome:
        """The outcome of a row whose version is at `place`, and its copy at `at`."""
        version = look.source[place]
        me, copied = identity(version), self.copied.get(identity(version))
        if copied is not None:
            return copied._replace(row=row.row, version_id=row.version_id)
        if version.is_delete_marker:
            return _ended(row, End(Status.DONE, Reason.DELETED) if me in self.marked else end)
        if me in self.errors and end.status is Status.UNKNOWN:
            return _ended(row, *_refusal(self.errors[me]))
        is_copy = end.status in (Status.SAME, Status.UNKNOWN)
        if at is None or not is_copy:
            at = len(look.copies) - 1
        outcome = _ended(row, end, "" if is_copy else self.blocked.get(me, (end, ""))[1])
        outcome = outcome._replace(etag=version.etag, source_modified=version.last_modified)
        if at < 0:
            return outcome
        copy = look.copies[at]
        outcome = outcome._replace(
            destination_version_id=copy.version_id, destination_etag=copy.etag, copy_modified=copy.last_modified
        )
        if not is_copy:
            return outcome
        verdict, checksum = self.known.get((me, identity(copy)), (None, None))
        if self.bet is not None and _made(self.bet) == identity(copy) and end.status is Status.SAME:
            evidence = verdict.evidence if verdict else self.bet.evidence
            return self.bet._replace(row=row.row, version_id=row.version_id, evidence=evidence, checksum=checksum)
        if end.status is Status.SAME:
            ours, theirs = Pinned(self.ours.ref_of(version), version.etag), Pinned(self.theirs.ref_of(copy), copy.etag)
            lack = await self.copier.complete_annotations(row, ours, version.size_bytes or 0, theirs)
            if lack and not end.reason:
                outcome = outcome._replace(reason=Reason.COPY_INCOMPLETE, detail=lack)
        is_md5_proof = verdict is None and copy.etag == version.etag and is_md5(copy.etag)
        evidence = verdict.evidence if verdict else Evidence.MD5_ETAG if is_md5_proof else Evidence.NONE
        return outcome._replace(evidence=evidence, size_bytes=version.size_bytes or 0, checksum=checksum)


async def _is_archived(side: Side, version: Listed) -> bool:
    return version.storage_class in _MAY_BE_ARCHIVED and (await side.describe(version)).is_archived


def _ended(row: ObjectVersion, end: End, detail: str = "") -> Outcome:
    return Outcome.of(row, end.status, end.reason or "", detail)


def _of_newer(outcome: Outcome) -> Outcome:
    """The outcome of a row whose key has a newer object by now, and says so."""
    if outcome.reason == Reason.COPY_INCOMPLETE:
        return outcome._replace(detail=f"{outcome.detail}; {NEWER}")
    return outcome._replace(reason=outcome.reason or Reason.NEWER_COPIED)


def _refusal(error: StoreError) -> tuple[End, str]:
    """How S3's refusal of an object ends, and which one it was."""
    if isinstance(error, NotFound):
        return End(Status.MISSING, Reason.SOURCE_GONE), error.fact
    if isinstance(error, ArchivedObject):
        return End(Status.BLOCKED, Reason.ARCHIVED), ""
    is_given_up, is_rejected = isinstance(error, Unavailable), isinstance(error, Rejected)
    reason = Reason.GIVEN_UP if is_given_up else Reason.REFUSED if is_rejected else Reason.DENIED
    return End(Status.BLOCKED, reason), error.detail if error.code in _OWN_REFUSALS else error.fact


def _made(outcome: Outcome) -> Identity:
    return outcome.destination_version_id or NULL_VERSION, outcome.destination_etag


def _guard(look: Look) -> Guard:
    return ABSENT if look.top is None else Guard(etag=look.top.etag)


def _edge(verdict: Verdict) -> Edge:
    return Edge.UNKNOWN if verdict.same is None else Edge.SAME if verdict.same else Edge.NO


def _is_of(row: ObjectVersion, info: ObjectInfo) -> bool:
    """True if HEAD of the key shows the row's version."""
    if row.version_id in (None, NULL_VERSION):
        return info.version_id in (None, NULL_VERSION) and row.etag in (None, info.etag)
    return info.version_id == row.version_id


def _is_named(row: ObjectVersion, version: Listed) -> bool:
    """True if a row means this version. Without a version id it means an ETag, or what is there."""
    if is_exact(row.version_id):
        return row.version_id == version.version_id
    return row.etag in (None, version.etag) and row.size_bytes in (None, version.size_bytes)
