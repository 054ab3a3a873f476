"""What Sealift may write at the destination."""

from __future__ import annotations

from typing import Any

from jobs.core.model import ObjectVersion
from jobs.replicate.decision import Overwrite
from tests.doubles.memory_buckets import Version
from tests.simulation.copies.facts import Facts
from tests.simulation.copies.schedule import DESTINATION, PREFIX, SOURCE
from tests.simulation.engine.processes import Process, Request

_TWICE = "a delete marker, written without a guard, came twice or late"


class Copies:
    """Checks each write."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self._listings: dict[tuple[Process, str], float] = {}
        self._makers: dict[int, Process] = {}
        """Who made a version, by its id in memory: versions stay there as long as the world does."""

    def listed(self, request: Request) -> None:
        """A process has looked at what there is of a key."""
        self._listings[request.process, request.key] = self.facts.world.loop.time()

    def written(self, request: Request, before: Version | None, after: Version | None) -> None:
        key, run_id = request.key.removeprefix(PREFIX), request.process.run_id
        self.facts.placed(key, after, run_id)
        self._makers[id(after)] = request.process
        rows = [row for row in self.facts.rows[run_id] if row.key == key]
        options, who = self.facts.specs[run_id]["options"], f"{request.process.name}: {request.name} {key}"
        if self.facts.specs[run_id]["job"] != "replicate":
            self.facts.violate("verify writes nothing", who)
        elif request.name == "delete":
            self._marked(request, rows, before, who)
        elif after is not None:
            meant = [
                (row, each)
                for row in rows
                for each in self.facts.originals(row)
                if self.facts.is_made_of(each, after.data)
            ]
            like = [(row, each) for row, each in meant if _carried(each) == _carried(after)]
            if not meant:
                self.facts.violate("pinned", f"{who}: these are not the bytes of the row's version")
                return
            if not like and self._has_tags_of_another(key, meant, after):
                self.facts.known_limits["tags, which no ETag pins, were those of another version"] += 1
            elif not like and self._has_class_of_another(key, meant, after):
                self.facts.known_limits["an ETag that came again: the class is that of the object listed"] += 1
            else:
                self.facts.demand(like, "faithful", f"{who}: metadata or tags are not the source's: {after.attributes}")
            like = like or meant
            self._check_intact(request.process, meant, before, after, who)
            if options["all_versions"]:
                self._appended(key, rows, like, after, who, excuse=self._excuse(request, before))
            elif before is not None and not before.is_delete_marker:
                self._overwritten(like, before, after, Overwrite(options.get("overwrite", "older")), who)

    def _check_intact(
        self,
        process: Process,
        meant: list[tuple[ObjectVersion, Version]],
        before: Version | None,
        after: Version,
        who: str,
    ) -> None:
        """What was on top was not the intact copy of a version that has rotted since, as S3's checksums show."""
        for row, each in meant:
            whole, began = self.facts.whole(each), self.facts.calls.get((process, row.key), 0.0)
            is_worse = before is not None and not before.is_delete_marker and before.data == whole != after.data
            is_worse &= id(before) not in self.facts.once_flipped  # a second flip may undo what the source's did
            if is_worse and self.facts.was_damaged(each, began):
                self.facts.violate("no intact copy makes way for a damaged source", f"{who} over the bytes as written")

    def is_made(self, version: Version) -> bool:
        """Whether a process has made this version, and nobody else."""
        return id(version) in self._makers

    def _has_tags_of_another(self, key: str, meant: list[tuple[ObjectVersion, Version]], after: Version) -> bool:
        """A manifest without version ids, and a source that others changed while its tags were asked for."""
        is_named = all(row.version_id is not None for row, _ in meant)
        alike = any(_carried(each)[:3] == _carried(after)[:3] for _, each in meant)
        others = [dict(each.attributes.tags) for each in self.facts.sources[key]]
        return not is_named and alike and (SOURCE, key) in self.facts.touches and dict(after.attributes.tags) in others

    def _has_class_of_another(self, key: str, meant: list[tuple[ObjectVersion, Version]], after: Version) -> bool:
        """A manifest without version ids, and a source where the same bytes lay in another class once more: a copy
        takes along what is there, but its class has to be asked for, and comes from the manifest.
        """
        is_named = all(row.version_id is not None for row, _ in meant)
        classes = [each.storage_class for _, each in meant]
        rest = [_carried(each)[:2] + _carried(each)[3:] for _, each in meant]
        is_mixed = after.storage_class in classes and _carried(after)[:2] + _carried(after)[3:] in rest
        return not is_named and is_mixed and (SOURCE, key) in self.facts.touches

    def _excuse(self, request: Request, before: Version | None) -> str:
        """Why the guard of a write let it go over what the process did not look at; empty where it did."""
        if self._is_unseen_marker(request, before):
            return "a delete marker that came meanwhile hid what lies beneath it"
        if before is not None and not before.is_delete_marker and self._came_again(request, before):
            return "an ETag that came again: a history was appended once more"
        return ""

    def _came_again(self, request: Request, version: Version) -> bool:
        """Whether it came after the process had looked, with the ETag of one that was there before."""
        places = self.facts.places[request.key.removeprefix(PREFIX)]
        came = next(each.time for each in places if each.version is version)
        etags = [each.version.etag for each in places if each.version is not None and each.time < came]
        return came >= self._listings.get((request.process, request.key), 0.0) and version.etag in etags

    def _is_unseen_marker(self, request: Request, version: Version | None) -> bool:
        """Whether it is a delete marker that somebody else made after the process had looked, or it itself, after it
        had given the request up.

        `If-None-Match: *` holds where a marker is on top.
        """
        if version is None or not version.is_delete_marker:
            return False
        if self._makers.get(id(version)) is request.process:
            return request.is_late
        came = next(
            each.time for each in self.facts.places[request.key.removeprefix(PREFIX)] if each.version is version
        )
        return came >= self._listings.get((request.process, request.key), 0.0)

    def _overwritten(
        self,
        like: list[tuple[ObjectVersion, Version]],
        before: Version,
        after: Version,
        overwrite: Overwrite,
        who: str,
    ) -> None:
        """An object was there: it was older than its source, or condemned, or all may be overwritten."""
        is_allowed = any(
            row.condemned_etag == before.etag
            or overwrite is Overwrite.ALWAYS
            or (overwrite is Overwrite.OLDER and int(before.last_modified) < int(each.last_modified))
            or (
                overwrite is Overwrite.OLDER
                and self.facts.is_overtaken(row.key, each, self.facts.as_placed(row.key, before))
            )
            for row, each in like
        )
        if not is_allowed and (before.etag, before.data) == (after.etag, after.data):
            self.facts.known_limits["an ETag that came again: the same bytes were written over themselves"] += 1
            return
        self.facts.demand(
            is_allowed, "nothing is destroyed", f"{who} over {before.etag}, which is not older ({overwrite})"
        )

    def _appended(
        self,
        key: str,
        rows: list[ObjectVersion],
        like: list[tuple[ObjectVersion, Version]],
        after: Version,
        who: str,
        *,
        excuse: str,
    ) -> None:
        """In a history, nothing that is newer at the source lies beneath."""
        history = self.facts.sources[key]
        place = max(index for index, each in enumerate(history) for _, o in like if each is o)
        for each in self.facts.world.versions(DESTINATION, PREFIX + key):
            if each is not after and not each.is_delete_marker:
                self._covered(key, rows, place, each, who, excuse=excuse)
        ours = [p for p in self.facts.places[key][:-1] if p.run_id and p.version and p.version.is_delete_marker]
        if ours and not any(each.is_delete_marker for each in history[:place]):
            self.facts.known_limits["a late copy over a delete marker"] += 1

    def _marked(self, request: Request, rows: list[ObjectVersion], before: Version | None, who: str) -> None:
        """A delete marker: one of the source's, and nothing newer than it was current."""
        key = request.key.removeprefix(PREFIX)
        history, ours = self.facts.sources[key], {row.version_id for row in rows if row.is_delete_marker}
        places = [i for i, each in enumerate(history) if each.is_delete_marker and each.version_id in ours]
        self.facts.demand(
            request.named.get("version_id") is None and places,
            "nothing is destroyed",
            f"{who}: no row is a delete marker",
        )
        if before is not None and not before.is_delete_marker and places:
            excuse = _TWICE if self._has_made_one(request) else ""
            self._covered(key, rows, max(places), before, f"{who}, a marker", excuse=excuse)

    def _has_made_one(self, request: Request) -> bool:
        """Whether another attempt has made a delete marker of the key since this one looked.

        It is the same marker, and a copy may be above it by now. A request that makes one has no condition.
        """
        looked = self._listings.get((request.process, request.key), 0.0)
        return any(
            each.version is not None
            and each.version.is_delete_marker
            and each.time >= looked
            and self._makers.get(id(each.version)) not in (None, request.process)
            for each in self.facts.places[request.key.removeprefix(PREFIX)]
        )

    def _covered(
        self, key: str, rows: list[ObjectVersion], place: int, there: Version, who: str, *, excuse: str = ""
    ) -> None:
        """What lies beneath number `place` of the source's history is not a copy of what is newer.

        Nobody can know it of a version that the source has no more, unless a row has its MD5.
        """
        history, now = self.facts.sources[key], self.facts.world.versions(SOURCE, key)
        known = {each.version_id for each in now} | {row.version_id for row in rows if "-" not in (row.etag or "-")}
        at = [i for i, o in enumerate(history) if o.etag == there.etag and self.facts.is_made_of(o, there.data)]
        if not at or min(at) <= place:
            return
        markers = [p for p in self.facts.places[key] if p.version is not None and p.version.is_delete_marker]
        if not any(history[index].version_id in known for index in at):
            self.facts.known_limits["the copy of a version that the source has no more was covered"] += 1
        elif excuse:
            self.facts.known_limits[excuse] += 1
        elif all(self._has_rotted_unseen(history[index]) for index in at):
            self.facts.known_limits["nothing that S3 keeps of a source showed that it is damaged"] += 1
        elif any(not p.run_id for p in markers):
            self.facts.known_limits["a delete marker of others at the destination was taken for the source's"] += 1
        elif len(markers) > self._asked_markers(key):
            self.facts.known_limits[_TWICE] += 1
        else:
            self.facts.violate("an older version is never on top", f"{who}: number {place} over number {min(at)}")

    def _has_rotted_unseen(self, original: Version) -> bool:
        """Whether a version of the source has other bytes than its copy, and nothing says which are right."""
        return id(original) in self.facts.rots and not self.facts.was_damaged(original)

    def _asked_markers(self, key: str) -> int:
        """How many of the source's delete markers any run was asked for."""
        runs = self.facts.rows.values()
        return len({row.version_id for rows in runs for row in rows if row.key == key and row.is_delete_marker})


def _carried(version: Version) -> tuple[Any, ...]:
    """What a copy takes along besides bytes."""
    attributes = version.attributes
    return dict(attributes.headers), dict(attributes.metadata), version.storage_class, dict(attributes.tags)
