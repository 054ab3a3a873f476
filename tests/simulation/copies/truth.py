"""Whether what Sealift says of a row can be true."""

from __future__ import annotations

from jobs.core.model import ObjectVersion
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.replicate.decision import Overwrite
from tests.doubles.memory_buckets import Version
from tests.simulation.copies import tables
from tests.simulation.copies.facts import Facts, Placed, is_flipped
from tests.simulation.copies.schedule import DESTINATION, SOURCE, Kind


class Truth:
    """Checks outcomes against what happened."""

    def __init__(self, facts: Facts):
        self.facts = facts

    def check(self, run_id: str, outcome: Outcome) -> None:
        rows = [row for row in self.facts.rows[run_id] if row.row == outcome.row]
        if not rows or (rows[0].key, rows[0].version_id) != (outcome.key, outcome.version_id):
            self.facts.violate("accounted", f"{run_id}: row {outcome.row} is about another object")
            return
        if why := self._falsehood(run_id, rows[0], outcome):
            self.facts.violate(f"{outcome.status} is true", f"{run_id} row {outcome.row} {outcome.key}: {why}")

    def _falsehood(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        """Why the outcome cannot be true; empty when it can."""
        status, spec, key = outcome.status, self.facts.specs[run_id], row.key
        originals = {self.facts.whole(each) for each in self.facts.originals(row)}
        here = [p for p in self.facts.places[key] if p.is_object and self._is_named(p, outcome)]
        if status is Status.COPIED:
            copies = [p for p in here if p.run_id == run_id and self._is_made_of_row(p.data, row)]
            if not copies:
                return "this run has not made that copy"
            return "" if any(not p.is_below for p in copies) else "that copy was never current"
        if status in (Status.SAME, Status.VERIFIED) and row.is_delete_marker:
            return (
                ""
                if any(p.version and p.version.is_delete_marker for p in self.facts.places[key])
                else "no marker there"
            )
        if status in (Status.SAME, Status.VERIFIED):
            rotten = [each for each in self.facts.originals(row) if id(each) in self.facts.rots]
            if any(p.version and p.version.data == each.data for p in here if is_flipped(p) for each in rotten):
                self.facts.known_limits["both sides rotted to the same bytes"] += 1
                return ""
            self._check_intact(run_id, row, outcome, here)
            equal = [p for p in here if self._is_made_of_row(p.data, row) and self._was_there(p, run_id)]
            if not equal:
                return "no object there had its bytes"
            if outcome.evidence is Evidence.NONE:
                return "proven by nothing"
            if outcome.evidence is Evidence.CONTENT and not any(self._was_read(run_id, p) for p in equal):
                return "its bytes were not read, or were others"
            if status is Status.VERIFIED and spec["options"].get("deep") and outcome.evidence is not Evidence.CONTENT:
                return "deep, but not read"
            return ""
        if status is Status.DELETED:
            made = [
                p for p in self.facts.places[key] if p.run_id == run_id and p.version and p.version.is_delete_marker
            ]
            return "" if made else "this run has made no marker"
        if status is Status.MISMATCHED:
            is_in_doubt = any(
                id(each) in self.facts.rots and not self.facts.was_damaged(each) for each in self.facts.originals(row)
            )
            # An empty object has a delete marker's bytes, and readers get it.
            return "" if is_in_doubt or row.is_delete_marker else self._false_alarm(here, originals)
        if status is Status.DAMAGED:
            is_damaged = any(self.facts.was_damaged(each) for each in self.facts.originals(row))
            return "" if is_damaged else "its source is intact"
        return self._unexcused(spec["job"], row, outcome, originals)

    def _is_named(self, placed: Placed, outcome: Outcome) -> bool:
        version = placed.version
        return (
            version is not None
            and version.etag == outcome.destination_etag
            and outcome.destination_version_id in (None, version.version_id)
        )

    def _was_there(self, placed: Placed, run_id: str) -> bool:
        """Whether it was current (in histories: there) at some time of the run."""
        key_places = next(each for each in self.facts.places.values() if placed in each)
        later = key_places[key_places.index(placed) + 1 :]
        return self.facts.schedule.all_versions or not later or later[0].time >= self.facts.starts[run_id]

    def _is_made_of_row(self, data: bytes | None, row: ObjectVersion) -> bool:
        return data is not None and any(self.facts.is_made_of(each, data) for each in self.facts.originals(row))

    def _check_intact(self, run_id: str, row: ObjectVersion, outcome: Outcome, here: list[Placed]) -> None:
        """What is called proven is proven of what was written at the source, not of what it rotted to."""
        originals = self.facts.originals(row)
        is_intact = any(
            any(p.data == self.facts.whole(each) for p in here)
            and (outcome.evidence is not Evidence.CONTENT or self._was_source_read(run_id, each))
            for each in originals
        )
        if is_intact or not any(id(each) in self.facts.rots for each in originals):
            return
        if any(self.facts.was_damaged(each) for each in originals):
            what = f"{run_id} row {row.row} {row.key}: {outcome.status} by {outcome.evidence}"
            self.facts.violate("damaged is never proven", what)
        else:
            self.facts.known_limits["nothing that S3 keeps of a source showed that it is damaged"] += 1

    def _was_source_read(self, run_id: str, original: Version) -> bool:
        return self._has_read(run_id, SOURCE, original.etag, self.facts.whole(original))

    def _was_read(self, run_id: str, placed: Placed) -> bool:
        assert placed.version is not None
        assert placed.data is not None
        return self._has_read(run_id, DESTINATION, placed.version.etag, placed.data)

    def _has_read(self, run_id: str, bucket: str, etag: str, data: bytes) -> bool:
        step = tables.RANGE_BYTES
        ranges = ((start, data[start : start + step]) for start in range(0, len(data), step))
        return all((run_id, bucket, etag, *each) in self.facts.reads for each in ranges)

    def _false_alarm(self, here: list[Placed], originals: set[bytes]) -> str:
        for placed in here:
            was_flipped = id(placed.version) in self.facts.once_flipped  # and perhaps back again
            if placed.data not in originals or is_flipped(placed) or was_flipped:
                return ""
        return "what is there has its bytes" if here else ""

    def _must_replace(self, job: str, row: ObjectVersion) -> bool:
        """Whether the destination's object has to make way, whatever its date."""
        schedule, there = self.facts.schedule, self.facts.places[row.key][-1:]
        if job != "replicate" or schedule.all_versions or schedule.overwrite is not Overwrite.OLDER or not there:
            return False
        if is_flipped(there[0]) or self.facts.world.network.fired:
            return False
        is_archived = any(each.is_archived for each in self.facts.sources[row.key])
        overtaken = [
            each for each in self.facts.originals(row) if self.facts.is_overtaken(row.key, each, there[0].data)
        ]
        return bool(overtaken) and not is_archived and all(each.data != there[0].data for each in overtaken)

    def _is_hemmed(self, row: ObjectVersion, outcome: Outcome) -> bool:
        """Whether a newer version of a history is at the destination already: nothing can be put below it."""
        originals = self.facts.originals(row)
        ours = self.facts.sources[row.key]
        newer = ours[min((ours.index(each) for each in originals), default=len(ours)) + 1 :]
        return self.facts.schedule.all_versions and any(
            placed.version is not None
            and placed.time <= outcome.finished_at
            and any(
                placed.version.is_delete_marker if each.is_delete_marker else self._is_copy(placed, each)
                for each in newer
            )
            for placed in self.facts.places[row.key]
        )

    def _is_copy(self, placed: Placed, original: Version) -> bool:
        return placed.data is not None and self.facts.is_made_of(original, placed.data)

    def _unexcused(self, job: str, row: ObjectVersion, outcome: Outcome, originals: set[bytes]) -> str:
        """Why a row that ended badly should not have."""
        status, key, network = outcome.status, row.key, self.facts.world.network
        is_touched = any((side, key) in self.facts.touches for side in (SOURCE, DESTINATION))
        has_rotted = any(id(each) in self.facts.rots for each in self.facts.sources[key])
        if status is Status.FAILED:
            is_hindered = network.has_hit(key) or is_touched or row.is_delete_marker
            return "" if is_hindered or has_rotted else "nothing went wrong with its key"
        if status is Status.DENIED:
            return "" if network.has_hit(key, (Kind.DENIED,)) else "nothing about its key was denied"
        if status is Status.ARCHIVED:
            if any(each.is_archived for each in self.facts.originals(row)):
                return ""
            if self.facts.schedule.all_versions and any(each.is_archived for each in self.facts.sources[key]):
                self.facts.known_limits["an archived version of a history hides what the others are"] += 1
                return ""
            return "it is not archived"
        if status is Status.UNVERIFIABLE:
            is_archived = any(each.is_archived for each in self.facts.sources[key])
            return "" if not self.facts.schedule.deep or is_archived or row.is_delete_marker else "it could be read"
        if status is Status.MISSING and job == "replicate":
            return "" if (SOURCE, key) in self.facts.touches else "nobody has removed it"
        if status is Status.MISSING:
            there = [p for p in self.facts.places[key] if p.time < outcome.finished_at]
            is_there = (
                bool(there) and all(p.version is not None for p in there) and not self.facts.schedule.all_versions
            )
            return "it was there" if is_there and not is_touched and not there[-1].run_id and there[-1].data else ""
        if status is Status.CHANGED and not is_touched and self._must_replace(job, row):
            return "the source was uploaded in parts, and a copy of the version below it is there"
        if status is Status.CHANGED:
            others = any(p.data not in originals or is_flipped(p) for p in self.facts.places[key] if p.is_object)
            if is_touched or others or has_rotted or (job == "replicate" and self._is_hemmed(row, outcome)):
                return ""
            return "nothing changed"
        return f"{status} is no outcome of {job}"
