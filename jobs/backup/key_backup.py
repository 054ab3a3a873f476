"""The backup of one key: stores the named versions, the newest on top.

One look shows both sides (`key_sides`), and `succession` decides. The job takes all steps that one
look allows, each write on the condition that the top is what it was. Then one HEAD asks whether the
source has changed. If it has, or if a condition failed, another writer was there, and the job looks
at both sides again.

The requests for one event do not grow with the number of versions of its key:

| event                                        | requests                                                       |
|----------------------------------------------|----------------------------------------------------------------|
| a new key                                    | HEAD, CopyObject, HEAD                                         |
| the newest version of a key                  | HEAD, CopyObject (refused), 2 LISTs, 1 or 2 HEADs, CopyObject, HEAD |
| the same again                               | HEAD, CopyObject (refused), 2 LISTs, HEAD                      |
| an older version                             | at most `PAGES` LISTs more, `LOOKS` HEADs more, 2 CopyObjects  |
| each further event of the key in one batch   | HEAD, at most `LOOKS` HEADs, CopyObject                        |

A version above the multipart threshold costs its parts instead of CopyObject, and they are sent
only after the LISTs. Where neither checksums nor ETags can be compared, the bytes of the compared
versions are read as well. Where the newest version's copy may be archived, an older version costs
one HEAD more. Where the copy of a removed version is on top, and deletes are retained, it costs at
most `LOOKS` + 3 HEADs more. Where deletes are mirrored and the newest version's copy is known by
its size alone, two HEADs tell whether another copy may be its own. Where both sides have tags, a
version that matches its copy otherwise costs two GETs of tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from jobs.backup.key_sides import KeySides, look_at, places_of
from jobs.backup.succession import Act, NextStep, can_be_copy, is_older, newest, next_step
from jobs.backup.version_match import Identity, TooLargeToCompare, VersionMatcher, identity
from jobs.core.enums import ARCHIVE_CLASSES, StorageClass
from jobs.core.histories import as_row
from jobs.core.model import NULL_VERSION, Listed, Location, ObjectInfo, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.errors import ArchivedObject, Conflict, NoSuchBucket, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import KEEP, Copier, CopyOptions
from jobs.s3.lookup import find
from jobs.s3.multipart_copy import ALTERED
from jobs.s3.store import ABSENT, Guard, Store
from jobs.s3.uploads import NO_RECORDS, UploadRecords

ROUNDS = 12
_GONE = "the source object is gone"
_ARCHIVED = "the source must be restored from its archive class first"
_NEWEST_ARCHIVED = "the newest version must be restored from its archive class first: it could not be put back on top"
_DAMAGED = "the source is damaged, and a copy that has other bytes may be the last good one: compare both"
_MAY_BE_ARCHIVED = ARCHIVE_CLASSES | {StorageClass.INTELLIGENT_TIERING}
"""Classes whose objects may have to be restored before they can be copied."""


class DamagedNewest(Rejected):
    """The newest version of a key is damaged at the source, so nobody knows what belongs on top."""


@dataclass(frozen=True, slots=True)
class BackupOptions(CopyOptions):
    """How to copy, whether deletes are mirrored, and above which size this worker leaves an object
    to another.
    """

    mirrors_deletes: bool = False
    limit_bytes: int | None = None


class KeyResult(NamedTuple):
    """The result for one key.

    `outcomes`: row number → outcome. A row in `left` has none, since its object is above the limit.
    `history` is the source's, oldest first, as last seen (None: no look was necessary).
    `is_marked`: a delete marker was made. `unfinished`: what belongs on top and is not there.
    """

    outcomes: dict[int, Outcome]
    left: frozenset[int] = frozenset()
    history: Sequence[Listed] | None = None
    is_marked: bool = False
    unfinished: Unfinished | None = None


class Unfinished(NamedTuple):
    """The source's newest version, which this worker could not put on top.

    `is_archived`: it must be restored at the source first. Otherwise it is above the limit.
    `has_copy`: below the top lies its copy, or an object that may be its copy and cannot be
    compared.
    """

    version: Listed
    is_archived: bool
    has_copy: bool


class BackupStores:
    """A pair's two sides, and how to copy between them and within the destination.

    `begun`: the progress of keys whose last attempt failed.
    """

    def __init__(
        self,
        source: Store,
        destination: Store,
        route: Route,
        options: BackupOptions,
        budget: ByteBudget,
        records: UploadRecords = NO_RECORDS,
    ):
        self.source, self.destination, self.route = source, destination, route
        self.options, self.budget = options, budget
        self.begun: dict[str, KeyProgress] = {}
        self.copier = Copier(source, destination, route, options, budget, records)
        inside = Route(Location(route.destination.bucket), Location(route.destination.bucket))
        self.restorer = Copier(destination, destination, inside, replace(options, streamed=False), budget, records)


@dataclass(slots=True)
class KeyProgress:
    """The state of an unfinished key.

    `owes_newest`: an older version is on top until the newest is put back. `retained`: the copy on
    which it lies then, if it is of a version that was newer and was removed. `newest`: the source's
    version that belongs on top, as last seen.
    """

    owes_newest: bool = False
    retained: Identity | None = None
    newest: Listed | None = None


@dataclass(slots=True)
class _Look:
    """The result of one look at both sides, updated after each step.

    `history`: the source's versions that count, oldest first. `found`: a version's identity → the
    place of its copy. `may_show_newest`: an older version was copied that the newest one may equal.
    """

    sides: KeySides
    history: list[Listed]
    found: dict[Identity, int] = field(default_factory=dict)
    has_sought_newest: bool = False
    may_show_newest: bool = False
    has_written: bool = False

    def places(self) -> dict[int, int]:
        """Return `found` by the version's place in the history."""
        named = enumerate(map(identity, self.history))
        return {place: self.found[version] for place, version in named if version in self.found}

    def is_only_of_its_size(self, version: Listed) -> bool:
        """True if the source has no other version of this size."""
        sizes = [each.size_bytes for each in self.sides.whole if not each.is_delete_marker]
        return self.sides.is_whole and sizes.count(version.size_bytes) == 1

    def add(self, version: Listed, key: str, outcome: Outcome) -> int:
        """Add a copy that was just made at `key` on top.

        The copier has seen that it is the current version, or raised Conflict. Returns its place.
        """
        self.has_written = True
        listed = (each.last_modified for each in (*self.sides.whole, *self.sides.copies.copies[-1:]))
        copy = version._replace(
            key=key,
            version_id=outcome.destination_version_id,
            etag=outcome.destination_etag,
            last_modified=max(listed) + 1.0,
        )
        return self.sides.copies.add(copy)


@dataclass(slots=True)
class KeyBackup:
    """The backup of one key."""

    job: BackupStores
    key: str
    rows: Sequence[ObjectVersion]
    outcomes: dict[int, Outcome]
    progress: KeyProgress
    matcher: VersionMatcher
    is_marked: bool = False
    left: set[int] = field(default_factory=set)
    refused: dict[Identity, Unfinished] = field(default_factory=dict)
    unrestored: dict[Identity, Unfinished] = field(default_factory=dict)

    async def settle(self) -> KeyResult:
        """Do what `jobs.backup.job.Backup.settle` promises. Raises StoreError."""
        source, target = ObjectRef(self.job.route.source.bucket, self.key), self._target()
        last: StoreError | None = None
        before: KeySides | None = None
        for _ in range(ROUNDS):
            sides = await look_at(self.job.source, source, self.job.destination, target, self.rows)
            for info in sides.described:
                self.matcher.record_source(info)
            try:
                if await self._take_steps(sides):
                    return self._result(sides)
            except TooLargeToCompare:
                self.left |= {row.row for row in self.rows if row.row not in self.outcomes}
                if (version := self._newest(sides)) is not None:
                    self.refused.setdefault(identity(version), Unfinished(version, is_archived=False, has_copy=False))
                return self._result(sides)
            except NoSuchBucket:
                raise
            except (PreconditionFailed, Conflict, NotFound) as error:
                if isinstance(error, NotFound) and before is not None and _show_the_same(before, sides):
                    raise _uncopyable(error) from error
                last, before = error, sides  # another writer was first, or it is gone: look again
        raise Conflict("backup", str(target), "Raced", f"others kept changing this key, {ROUNDS} times over: {last}")

    def _result(self, sides: KeySides) -> KeyResult:
        known = self.refused | self.unrestored
        unfinished = self._unfinished_of(sides.whole, known)
        if unfinished is None or not unfinished.has_copy:
            # Below a newest version that cannot be copied here, the newest copy belongs on top. One
            # that was refused may be there, too large to be compared here.
            bare = {version for version, each in self.refused.items() if not each.has_copy}
            copied = [version for version in sides.whole if identity(version) not in bare]
            unfinished = self._unfinished_of(copied, known) or unfinished
        return KeyResult(self.outcomes, frozenset(self.left), sides.whole, self.is_marked, unfinished)

    def _unfinished_of(self, history: Sequence[Listed], known: Mapping[Identity, Unfinished]) -> Unfinished | None:
        """Return what is known of the version of this history that belongs on top."""
        place = newest(history, mirrors_deletes=self.job.options.mirrors_deletes)
        return None if place is None else known.get(identity(history[place]))

    def _newest(self, sides: KeySides) -> Listed | None:
        """Return the source's version that belongs on top, copied or not."""
        place = newest(sides.whole, mirrors_deletes=self.job.options.mirrors_deletes)
        return None if place is None else sides.whole[place]

    async def _take_steps(self, sides: KeySides) -> bool:
        """Take every step that one look allows.

        True when none is left and the source has not changed meanwhile.
        """
        look = _Look(sides, sides.whole)
        self._note_newest(sides)
        step = NextStep(Act.COPY)
        while step.act in (Act.COPY, Act.RESTORE):
            look.history = [version for version in sides.whole if identity(version) not in self.refused]
            target = newest(look.history, mirrors_deletes=self.job.options.mirrors_deletes)
            named = self._name(look)
            step = await self._decide(look, named, target)
            if step.act is Act.COPY:
                await self._copy(look, step.place, target, [row for row in self.rows if named[row.row] == step.place])
            elif step.act is Act.RESTORE:
                assert target is not None
                rows = [row for row in self.rows if named[row.row] == target and row.row not in self.outcomes]
                if not await self._restore(look, self._retained(look, step.place), target, rows):
                    step = NextStep(Act.DONE)
        if step.act is Act.MARK and newest(sides.whole, mirrors_deletes=True) is None:
            shown = look.sides.copies.copies[-1]  # a newer copy stays on top
            await self.job.destination.delete(*self._target()[:2], if_match=shown.etag)
            self.is_marked = True
            return False
        if look.has_written and not await self._is_newest(look, target):
            return False
        self.progress.owes_newest, self.progress.retained = False, None
        await self._conclude(look, named)
        return True

    def _note_newest(self, sides: KeySides) -> None:
        """Note what belongs on top. A copy that was noted before has no place above a newer one.

        One that was uploaded in parts is dated by the beginning of that.
        """
        before, version = self.progress.newest, self._newest(sides)
        self.progress.newest = version
        if version is None or before is None:
            self.progress.retained = None
            return
        is_same = identity(version) == identity(before) and version.last_modified == before.last_modified
        is_gone = all(identity(each) != identity(before) for each in sides.whole)
        if not is_same and not (is_gone and version.last_modified < before.last_modified):
            self.progress.retained = None

    def _name(self, look: _Look) -> dict[int, int | None]:
        """Return the place of each row's version among those that count. None: it is gone, or was
        refused.

        A row without a version id or ETag means the key's latest, whether that counts or not.
        """
        whole, counting = look.sides.whole, {identity(version): at for at, version in enumerate(look.history)}
        places = zip(self.rows, places_of(self.rows, whole), strict=True)
        return {row.row: None if at is None else counting.get(identity(whole[at])) for row, at in places}

    async def _decide(self, look: _Look, named: Mapping[int, int | None], target: int | None) -> NextStep:
        """Return the next step.

        Versions are compared in the order in which the steps need the answers.
        """
        mirrors, copies = self.job.options.mirrors_deletes, look.sides.copies
        if target is not None and not look.has_sought_newest:
            look.has_sought_newest = True
            if not await self._find(look, target, is_newest=True):
                await self._check_newest(look.history[target])
        elif target is not None and look.may_show_newest:
            await self._find(look, target, is_newest=True)
        look.may_show_newest = False
        asked = {place for row, place in named.items() if row not in self.outcomes and row not in self.left}
        wanted: list[int] = []
        for place in sorted(place for place in asked if place is not None):
            wanted.append(place)
            if place != target and not await self._find(look, place):
                await self._note_retained(look, target)
                return next_step(
                    look.history, copies.copies, wanted, look.places(), older_on_top=False, mirrors_deletes=mirrors
                )
        is_older_on_top = False
        if target is not None and look.found.get(identity(look.history[target])) != copies.top:
            await self._find(look, target, is_newest=True, is_again=True)
            is_older_on_top = await self._is_older_on_top(look, target)
        return next_step(
            look.history, copies.copies, wanted, look.places(), older_on_top=is_older_on_top, mirrors_deletes=mirrors
        )

    async def _find(self, look: _Look, place: int, *, is_newest: bool = False, is_again: bool = False) -> bool:
        """True if the version at `place` has a copy, which `look.found` then names."""
        version = look.history[place]
        if is_again or identity(version) not in look.found:
            depth = len(look.history) - 1 - place
            is_only = look.is_only_of_its_size(version)
            copies = look.sides.copies
            at = await self.matcher.find_copy(version, copies, depth, is_newest=is_newest, is_only=is_only)
            has_to_show = is_newest and self.job.options.mirrors_deletes
            if at is None or (has_to_show and await self.matcher.has_rival(version, copies.copies, at)):
                return False
            look.found[identity(version)] = at
        return True

    async def _is_older_on_top(self, look: _Look, target: int) -> bool:
        """True if an older version's copy may be on top of the newest one's."""
        copies = look.sides.copies
        if self.job.options.mirrors_deletes or identity(look.history[target]) not in look.found:
            return False  # the newest is put on top in any case
        top = copies.copies[copies.top]
        if top.is_delete_marker:
            return False
        if self.progress.owes_newest or await self._is_of_older_row(look, look.history[target], top):
            return True
        return await self.matcher.is_older_on_top(look.history[:target], top) or not look.sides.is_whole

    async def _note_retained(self, look: _Look, target: int | None) -> None:
        """Before an older version comes on top, note the copy that lies there if deletes are
        retained, and it is of a version that was newer than the newest one and was removed.

        One that is archived cannot be put back.
        """
        copies, progress = look.sides.copies, self.progress
        covered = None if target is None else look.found.get(identity(look.history[target]))
        if target is None or covered in (None, copies.top) or self.job.options.mirrors_deletes or progress.owes_newest:
            return
        top = copies.copies[copies.top]
        if top.is_delete_marker or await self._is_older_on_top(look, target) or await self._is_archived(top):
            return
        progress.retained = identity(top)

    def _retained(self, look: _Look, covered: int) -> int:
        """Return the place of the copy that has to be put back on top.

        The noted one's, else `covered`, the newest version's.
        """
        places = {identity(copy): place for place, copy in enumerate(look.sides.copies.copies)}
        return covered if self.progress.retained is None else places.get(self.progress.retained, covered)

    async def _is_of_older_row(self, look: _Look, newest_version: Listed, top: Listed) -> bool:
        """True if the top copy may be of a row's version that is gone, and was older than the
        newest one.

        A worker that was killed after it had copied that version left the copy there.
        """
        places = places_of(self.rows, look.sides.whole)
        ids = {each.version_id for each in look.sides.whole if not each.is_delete_marker}
        gone = [
            row
            for row, place in zip(self.rows, places, strict=True)
            if place is None or (row.version_id == NULL_VERSION and ids.isdisjoint((NULL_VERSION, None)))
        ]
        older = [row for row in gone if is_older(row, newest_version) and can_be_copy(_listed(row), top)]
        for row in older:
            if not await self.matcher.differs_by_etag(row.etag, newest_version, top):
                return True
        return False

    async def _is_newest(self, look: _Look, target: int | None) -> bool:
        """True if the version that was put on top is still the source's newest."""
        if target is None:
            return False
        info = await find(self.job.source, ObjectRef(self.job.route.source.bucket, self.key))
        return info is not None and identity(info) == identity(look.history[target])

    async def _copy(self, look: _Look, place: int, target: int | None, rows: Sequence[ObjectVersion]) -> None:
        """Put a source version on top."""
        version, copies = look.history[place], look.sides.copies.copies
        covered = None if target is None or target == place else look.found.get(identity(look.history[target]))
        size_bytes, limit = version.size_bytes or 0, self.job.options.limit_bytes
        to_restore = copies[self._retained(look, covered)].size_bytes or 0 if covered is not None else 0
        if limit is not None and max(size_bytes, to_restore) > limit:
            self._refuse(version, rows, None, copies)
            return
        info = await self.matcher.describe(version)
        if info.is_archived:
            self._refuse(version, rows, _ARCHIVED, copies)
            return
        is_retained = covered is not None and self._retained(look, covered) != covered
        can_cover = target is None or covered is None or is_retained or await self._can_cover(look, target, covered)
        if not can_cover:
            self._refuse(version, rows, _NEWEST_ARCHIVED, copies)
            return
        if place != target and await self.matcher.is_damaged(version):
            self.refused[identity(version)] = Unfinished(version, is_archived=False, has_copy=False)
            for row in rows:
                self.outcomes[row.row] = Outcome.of(row, Status.DAMAGED, _DAMAGED)
            return
        # An older version has to be covered again, or hidden where everything was deleted.
        self.progress.owes_newest = self.progress.owes_newest or target is None or covered is not None
        try:
            outcome = await self.job.copier.copy(as_row(version), info, _guard(copies))
        except ArchivedObject:
            self._refuse(version, rows, _ARCHIVED, copies)
            return
        except Conflict as error:
            if error.code == ALTERED:
                self.matcher.record_doubt(version)  # the next look reads it
            raise
        self.matcher.record_copy(identity(version), outcome)
        look.found[identity(version)] = look.add(self._stored(version), self._target().key, outcome)
        is_alone = target is None or place == target or covered is not None
        look.may_show_newest = not is_alone and version.size_bytes == look.history[target or 0].size_bytes
        for asked in rows:
            self.outcomes[asked.row] = outcome._replace(row=asked.row, version_id=asked.version_id)

    async def _can_cover(self, look: _Look, target: int, covered: int) -> bool:
        """True if the newest version can be put on top again: its own copy, or the source, can be
        read.
        """
        is_archived = await self._is_archived(look.sides.copies.copies[covered])
        return not is_archived or not (await self.matcher.describe(look.history[target])).is_archived

    async def _is_archived(self, copy: Listed) -> bool:
        """Costs a HEAD, and only where the copy's class may be an archive."""
        if copy.storage_class not in _MAY_BE_ARCHIVED:
            return False
        return (await self.job.destination.head(self._target()._replace(version_id=copy.version_id))).is_archived

    async def _restore(self, look: _Look, place: int, target: int, rows: Sequence[ObjectVersion]) -> bool:
        """Put one of the destination's copies on top again, or the source's version where that copy
        is archived or has rotted.

        False: this worker cannot. `unrestored` then says why.
        """
        copies, version = look.sides.copies.copies, look.history[target]
        copy, limit = copies[place], self.job.options.limit_bytes
        if limit is not None and (copy.size_bytes or 0) > limit:
            self.unrestored[identity(version)] = Unfinished(version, is_archived=False, has_copy=True)
            return False
        info = await self.job.destination.head(self.job.restorer.route.source_of(as_row(copy)))
        if not info.is_archived:
            # A caller that stops here may leave to a run what a delete marker hides, but not an
            # older version on top.
            self.progress.owes_newest = self.progress.owes_newest or not copies[-1].is_delete_marker
            at = await self._recopy(look, copy, info)
            if identity(copy) == self.progress.retained:
                self.progress.owes_newest, self.progress.retained = at is None, None
            elif at is None or await self.matcher.differs_from_recopy(version, copies[at]):
                await self._check_newest(version)
                await self._copy(look, target, target, rows)
            else:
                look.found[identity(version)] = at
        elif (await self.matcher.describe(version)).is_archived:
            self.unrestored[identity(version)] = Unfinished(version, is_archived=True, has_copy=True)
            return False
        else:
            await self._copy(look, target, target, rows)
        return True

    async def _recopy(self, look: _Look, copy: Listed, info: ObjectInfo) -> int | None:
        """Put one of the destination's copies on top. Returns its place, None if S3 reads other bytes
        than those of its checksum.
        """
        try:
            outcome = await self.job.restorer.copy(as_row(copy), info, _guard(look.sides.copies.copies))
        except Conflict as error:
            if error.code != ALTERED:
                raise
            return None
        self.matcher.record_recopy(copy, outcome)
        return look.add(self._stored(copy), copy.key, outcome)

    def _refuse(
        self, version: Listed, rows: Sequence[ObjectVersion], archived: str | None, copies: Sequence[Listed]
    ) -> None:
        """Take a version that cannot be copied here out of the decision.

        `archived`: what must be restored first. None: it is above the limit.
        """
        is_archived = archived is not None
        # A copy that cannot be compared may be this version's. Then its event has ended already.
        has_copy = any(can_be_copy(version, copy) for copy in copies)
        self.refused[identity(version)] = Unfinished(version, is_archived=is_archived, has_copy=has_copy)
        if archived is None:
            self.left |= {row.row for row in rows}
            return
        for row in rows:
            self.outcomes[row.row] = Outcome.of(row, Status.ARCHIVED, archived)

    async def _check_newest(self, version: Listed) -> None:
        """Raise DamagedNewest, before anything is put on top, for a damaged newest version."""
        if await self.matcher.is_damaged(version):
            ref = ObjectRef(self.job.route.source.bucket, self.key, version.version_id)
            raise DamagedNewest("GetObject", str(ref), "DamagedSource", _DAMAGED, 200)

    async def _conclude(self, look: _Look, named: Mapping[int, int | None]) -> None:
        """Set the outcomes of rows that needed no step: their versions were stored already, or are
        gone.

        Their copies get missing annotations, which a killed worker may not have put.
        """
        for row in self.rows:
            if row.row in self.outcomes or row.row in self.left:
                continue
            index = named[row.row]
            if index is None:
                self.outcomes[row.row] = Outcome.of(row, Status.MISSING, _GONE)
                continue
            version = look.history[index]
            if (unrestored := self.unrestored.get(identity(version))) is not None and unrestored.is_archived:
                self.outcomes[row.row] = Outcome.of(row, Status.ARCHIVED, _NEWEST_ARCHIVED)
                continue
            copy = look.sides.copies.copies[look.found[identity(version)]]
            verdict = self.matcher.verdict(version, copy)
            status = Status.SAME if verdict.same else Status.UNVERIFIABLE
            lack = await self._complete_annotations(version, copy) if verdict.same else ""
            self.outcomes[row.row] = Outcome.of(row, status, lack or verdict.reason)._replace(
                evidence=verdict.evidence,
                size_bytes=version.size_bytes or 0,
                etag=version.etag,
                destination_version_id=copy.version_id,
                destination_etag=copy.etag,
            )

    async def _complete_annotations(self, version: Listed, copy: Listed) -> str:
        source = ObjectRef(self.job.route.source.bucket, self.key, version.version_id)
        there, etag = self._target()._replace(version_id=copy.version_id), copy.etag or ""
        size_bytes = version.size_bytes or 0
        return await self.job.copier.complete_annotations(source, version.etag, size_bytes, there, etag)

    def _stored(self, version: Listed) -> Listed:
        """Return the version with the class that its copy gets."""
        storage_class = self.job.options.storage_class
        return version if storage_class == KEEP else version._replace(storage_class=storage_class)

    def _target(self) -> ObjectRef:
        return self.job.route.target_of(ObjectVersion(-1, self.key))


def _listed(row: ObjectVersion) -> Listed:
    """Return a row as a listing had it while its version was there."""
    return Listed(
        row.key, row.version_id, False, False, row.size_bytes, row.etag, row.last_modified or 0.0, row.storage_class
    )


def _show_the_same(before: KeySides, after: KeySides) -> bool:
    return before.whole == after.whole and before.copies.copies == after.copies.copies


def _uncopyable(error: NotFound) -> Rejected:
    """What a server without directories never does: nobody changed the key, and it is not there."""
    reason = "the server lists this object, and does not find it (SeaweedFS: a key that ends in / is a directory)"
    return error.recast(Rejected, detail=reason)


def _guard(copies: Sequence[Listed]) -> Guard:
    top = copies[-1] if copies else None
    return ABSENT if top is None or top.is_delete_marker else Guard(etag=top.etag)
