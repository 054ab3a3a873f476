"""Whether what archive runs say of a row can be true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.core.model import Location, ObjectVersion, is_exact
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.restore.as_of import DISPUTED, OVERWRITTEN
from tests.doubles.memory_buckets import Version
from tests.simulation.archives.contents import at_its_place
from tests.simulation.archives.copies import Copy
from tests.simulation.archives.schedule import ARCHIVES
from tests.simulation.copies.facts import stand
from tests.simulation.copies.schedule import DESTINATION, LEDGER, PREFIX, SOURCE, Kind
from tests.simulation.engine.network import HITTING, VERSIONING
from tests.simulation.engine.processes import EPOCH

if TYPE_CHECKING:
    from tests.simulation.archives.model import ArchiveModel

PROBE = ".sealift-"
"""What the keys of Sealift's own probes and marks have in them, which are nobody's objects."""
_OUTCOMES = {
    "compact": {"packed", "skipped", "changed", "missing", "denied", "archived", "failed"},
    "verify": {"verified", "mismatched", "unverifiable", "missing", "archived", "denied", "failed"},
    "expire": {"expired", "kept", "waiting", "missing", "denied", "failed", "skipped"},
    "restore": {"restored", "same", "thawing", "unrestorable", "denied", "failed", "skipped"},
    "replicate": {"copied", "same", "deleted", "changed", "missing", "archived", "denied", "failed", "skipped"},
}


class ArchiveBooks:
    """Checks plans, outcomes and reports against what happened."""

    def __init__(self, model: ArchiveModel):
        self.model = model
        self.damage: dict[tuple[str, str], bool] = {}
        """By run and archive: whether something was wrong with a member's bytes when the run was planned."""

    # Plans.

    def planned(self, run_id: str) -> None:
        """The rows of a run are known."""
        spec = self.model.specs[run_id]
        if spec["job"] == "verify":
            self._check_all_members(run_id)
        elif spec["job"] == "restore" and spec["options"]["is_history"] and spec["retry_of"] is None:
            for key in [each for each in self.model.sources if PROBE not in each]:
                self._check_as_of(run_id, key, spec["options"]["at"])

    def _check_all_members(self, run_id: str) -> None:
        """Every member of every archive has a row, and every archive."""
        model, rows = self.model, self.model.rows[run_id]
        asked = {(row.archive, row.key, row.version_id) for row in rows}
        for key, (record, members) in model.holdings.indexes().items():
            uri = str(record.location)
            wanted = {(uri, each.key, each.version_id) for each in members}
            uris = {row.archive for row in rows}
            if uri in uris or record.created_at < EPOCH + model.starts[run_id] - 1:
                model.demand(
                    wanted <= asked and any(row.key == uri for row in rows),
                    "verify asks for every member",
                    f"{run_id}: {key}",
                )
            self.damage[run_id, uri] = any(
                not self._is_intact(copy, record.etag, [member], -1.0)
                for copy in self._current(key)
                for member in members
            )

    def _current(self, key: str) -> list[Copy]:
        """The archive that a reader gets. One with the same ETag may lie below it or below a marker."""
        there = self.model.world.versions(DESTINATION, key)[-1:]
        copies = [each for each in self.model.holdings.all if each.key == key and each.gone_at is None and each.run_id]
        return [each for each in copies if any(each.version is version for version in there)]

    def _is_intact(self, copy: Copy, etag: str, members: list, since: float) -> bool:
        """Whether the members could be read at their place at some time from then on (below zero: now)."""
        holdings = self.model.holdings
        states = {copy.version.data} if since < 0 else holdings.data_since(copy, since)
        return copy.version.etag != etag or all(
            any(at_its_place(data, each) in self._bytes(each.key, each.etag) for data in states) for each in members
        )

    def _bytes(self, key: str, etag: str | None) -> set[bytes]:
        return {each.data for each in self.model.sources[key] if each.etag == etag and not each.is_delete_marker}

    def _check_as_of(self, run_id: str, key: str, at: float) -> None:
        """What was on top then is what is restored, as far as anybody can still know it."""
        model = self.model
        history = [each for each in model.sources[key] if id(each) not in model.deletes.markers]
        then = [each for each in history if each.last_modified <= at]
        if not then or model.touch_times.get((SOURCE, key), -1.0) >= model.starts[run_id]:
            return
        top = then[-1]
        unknown = [each for each in history if model.deletes.taken.get(id(each)) == ""]
        same_second = [each for each in history if int(each.last_modified) == int(top.last_modified)]
        if unknown or len(same_second) > 1 or key in model.deletes.mistaken or self._is_unconfirmed(key):
            return
        if any(id(each) in model.deletes.late for each in model.world.versions(SOURCE, key)):
            model.known_limits["a delete whose client was gone came late"] += 1  # nothing tells it from others' deletes
            return
        rows = [row for row in model.rows[run_id] if row.key == key and row.archive != DISPUTED]
        if any(row.archive == OVERWRITTEN for row in rows):
            return  # nothing is restored of it: `_restored` demands the reason
        if top.is_delete_marker:
            model.demand(not rows, "as it was", f"{run_id}: {key} was deleted at {at}, {rows} are restored")
            return
        named = [row for row in rows if row.etag == top.etag and row.version_id in (None, "null", top.version_id)]
        model.demand(named, "as it was", f"{run_id}: {key} was {top.version_id} {top.etag}, not {rows}")

    def _is_unconfirmed(self, key: str) -> bool:
        """Whether an expire run hid the key, and died before it could say so."""
        stones = [(done, each) for some in self.model.deletes.stones.values() for done, each in some if each.key == key]
        return any(not done for done, _ in stones) and not all(
            any(later and other.version_id == each.version_id and other.step is each.step for later, other in stones)
            for done, each in stones
            if not done
        )

    # Outcomes.

    def check(self, run_id: str, outcome: Outcome) -> None:
        """One outcome of a checkpoint."""
        model = self.model
        rows = [row for row in model.rows[run_id] if row.row == outcome.row]
        if not rows or (rows[0].key, rows[0].version_id or outcome.version_id) != (outcome.key, outcome.version_id):
            model.violate("accounted", f"{run_id}: row {outcome.row} is about another object")
            return
        job, row = model.specs[run_id]["job"], rows[0]
        if outcome.status not in _OUTCOMES[job]:
            model.violate("accounted", f"{outcome.status} is no outcome of {job}")
            return
        look = {
            "compact": self._compacted,
            "verify": self._verified,
            "expire": self._expired,
            "restore": self._restored,
        }
        why = look[job](run_id, row, outcome) if job in look else ""
        if outcome.status is Status.DENIED and not self._was_struck(run_id, row, Kind.DENIED):
            why = "nothing about its keys was denied"
        is_hindered = self._was_struck(run_id, row) or self._is_touched(run_id, row) or model.holdings.flips
        if outcome.status is Status.FAILED and not is_hindered:
            why = "nothing went wrong with its keys"
        if (
            outcome.status in (Status.KEPT, Status.WAITING, Status.UNRESTORABLE, Status.SKIPPED, Status.THAWING)
            and not outcome.reason
        ):
            why = "it has no reason"
        model.demand(
            not why, f"{outcome.status} is true", f"{run_id} {row.key} {row.version_id}: {why} ({outcome.reason})"
        )

    def _keys_beside(self, run_id: str, row: ObjectVersion) -> set[str]:
        """The keys of the rows that were handed to the job with this one: an archive's members fail together."""
        return self.model.beside[run_id, row.row] | {row.key}

    def _was_struck(self, run_id: str, row: ObjectVersion, *kinds: Kind) -> bool:
        """Whether such a fault hit a request about the keys, an archive, an index or a tombstone."""
        keys = self._keys_beside(run_id, row)
        return any(
            (bucket == SOURCE and (at in keys or PROBE in at))
            or (bucket == DESTINATION and (at.startswith(ARCHIVES) or at.removeprefix(PREFIX) in keys or PROBE in at))
            or (bucket == DESTINATION and at == VERSIONING)  # which each history needs
            or (bucket == LEDGER and not at.startswith("x/runs/"))
            for kind in kinds or HITTING
            for bucket, at in self.model.world.network.hits.get(kind, ())
        )

    def _is_touched(self, run_id: str, row: ObjectVersion) -> bool:
        """Whether others changed one of the keys, or an archive."""
        keys = self._keys_beside(run_id, row)
        return any(at in keys or at.startswith(ARCHIVES) for _, at in self.model.touches)

    def _compacted(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        model = self.model
        is_touched = (SOURCE, row.key) in model.touches or any(
            id(each) in model.deletes.taken or id(each) in model.deletes.hidden for each in model.sources[row.key]
        )
        if outcome.status is Status.PACKED:
            return self._lost(row, outcome)
        if outcome.status in (Status.MISSING, Status.CHANGED):
            return "" if is_touched else "nobody has changed it"
        if outcome.status is Status.ARCHIVED:
            return "" if any(each.is_archived for each in model.sources[row.key]) else "it is not archived"
        return ""

    def _lost(self, row: ObjectVersion, outcome: Outcome) -> str:
        """Why a packed row cannot be found by the index and read back."""
        holdings = self.model.holdings
        etags = {copy.version.etag for copy in holdings.all if copy.key.startswith(ARCHIVES) and copy.run_id}
        if outcome.destination_etag not in etags:
            return "no archive has the ETag that it names"
        originals = holdings.originals(row)
        named = [copy for copy in holdings.all if copy.version.etag == outcome.destination_etag]
        if all(holdings.is_spoiled(copy.key) for copy in named):
            return ""
        for copy in named:
            _, members = holdings.index_of(copy.key) or (None, [])
            for member in members:
                if (
                    member.key == row.key
                    and row.version_id in (None, member.version_id)
                    and row.etag in (None, member.etag)
                ):
                    content = at_its_place(copy.version.data, member)
                    if any(each.data == content and _is_of(each, member.version_id) for each in originals):
                        return ""
        return "the index does not lead to its bytes"

    def _verified(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        model, key = self.model, Location.parse(row.archive or "").key
        if outcome.status is Status.VERIFIED:
            return self._falsely_verified(run_id, row, outcome, key)
        if outcome.status is Status.MISMATCHED:
            is_disputed = "other content" in outcome.reason
            return "" if model.holdings.is_spoiled(key) or is_disputed else "nothing is wrong with it"
        if outcome.status in (Status.MISSING, Status.UNVERIFIABLE):
            is_bare = "no checksum" in outcome.reason or "no index has it" in outcome.reason
            return "" if model.holdings.is_spoiled(key) or is_bare else "it is there"
        if outcome.status is Status.ARCHIVED:
            return "" if model.schedule.archive_class == "GLACIER" else "it is not archived"
        return ""

    def _falsely_verified(self, run_id: str, row: ObjectVersion, outcome: Outcome, key: str) -> str:
        model, since = self.model, self.model.starts[run_id]
        copies = [copy for copy in model.holdings.all if copy.key == key and copy.run_id]
        if row.key == row.archive:
            return "" if copies else "no archive was there"
        if outcome.evidence is Evidence.NONE:
            return "proven by nothing"
        found = model.holdings.index_of(key)
        members = [
            each for each in (found[1] if found else []) if (each.key, each.version_id) == (row.key, row.version_id)
        ]
        if found is None or not members:
            return "" if model.holdings.is_spoiled(key) else "no index has it"
        if members[0].size_bytes:  # an empty one proves itself; the archive's own row says whether that is there
            if not any(self._is_intact(copy, found[0].etag, members, since) for copy in copies):
                return "its bytes are others"
            if not any(each == key for each, _, _ in model.holdings.reads[run_id]):
                return "its bytes were not read"
        claims = row.proof is not None
        return "two archives have it, and that is not said" if claims and "two archives" not in outcome.reason else ""

    def _expired(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        model = self.model
        originals = model.holdings.originals(row)
        taken = [model.deletes.taken.get(id(each)) for each in originals]
        hidden = [model.deletes.hidden.get(id(each)) for each in originals]
        if outcome.status is Status.EXPIRED:
            if run_id in taken or run_id in hidden:
                return ""
            announced = any(stone.key == row.key for _, stone in model.deletes.stones[run_id])
            is_gone = not any(self._is_on_top(row.key, each) for each in originals)
            return "" if announced and is_gone and (SOURCE, row.key) in model.touches else "this run has not taken it"
        if outcome.status is Status.MISSING:
            if run_id in taken and not all(each in ("", run_id) for each in taken):
                return "this run has taken it"
            return (
                "this run has taken it"
                if taken == [run_id]
                else ""
                if any(each is not None for each in taken)
                else "it is there"
            )
        if outcome.status is Status.KEPT and ("legal hold" in outcome.reason or "retention" in outcome.reason):
            return "" if model.locks.was_held(originals, model.starts[run_id]) else "it is not locked"
        if outcome.status is Status.SKIPPED:
            return "it was asked to delete" if model.specs[run_id]["options"]["delete"] else ""
        return ""

    def _is_on_top(self, key: str, version: Version) -> bool:
        there = self.model.world.versions(SOURCE, key)
        return bool(there) and there[-1] is version

    def _restored(self, run_id: str, row: ObjectVersion, outcome: Outcome) -> str:
        model = self.model
        wanted = {each.data for each in model.holdings.originals(row)}
        place = Location.parse(model.specs[run_id]["destination"]["uri"])
        key = place.key + row.key
        if place.bucket == DESTINATION:
            there = [each.version for each in model.holdings.all if each.key == key]
        else:
            there = list(model.sources[row.key])
        seen = {data for version in there for data in (version.data, *self._before(version))}
        if outcome.status in (Status.RESTORED, Status.SAME):
            return "" if seen & wanted else "no object there has its bytes"
        if outcome.status is Status.THAWING:
            is_cold = any(each.version.storage_class == "GLACIER" for each in model.holdings.all)
            is_cold |= any(each.storage_class == "GLACIER" for each in model.sources[row.key])
            return "" if is_cold else "nothing is archived"
        if outcome.status is Status.UNRESTORABLE:
            if row.archive == OVERWRITTEN:
                return "" if self._is_overwritten(row.key, model.specs[run_id]["options"]["at"]) else "it is known"
            is_barred = self._is_barred(row, outcome, seen - wanted) or self._is_frozen(place.bucket, key, outcome)
            return "" if is_barred else "it could be restored"
        return ""

    def _is_overwritten(self, key: str, at: float) -> bool:
        """Whether an object without a version id was written after that time."""
        return any(not is_exact(each.version_id) and each.last_modified > at for each in self.model.sources[key])

    def _is_frozen(self, bucket: str, key: str, outcome: Outcome) -> bool:
        """Whether what is there is archived, and no checksum says what it is."""
        there = self.model.world.versions(bucket, key)
        is_unknown = bool(there) and there[-1].is_archived and all(each.is_composite for each in there[-1].checksums)
        return is_unknown and "an archived object is at the destination" in outcome.reason

    def _before(self, version: Version) -> list[bytes]:
        return [data for _, data in self.model.holdings.flips[id(version)]]

    def _is_barred(self, row: ObjectVersion, outcome: Outcome, others: set[bytes]) -> bool:
        """Whether something is in the way, or what is to be restored was changed or taken by somebody."""
        model = self.model
        is_touched = (SOURCE, row.key) in model.touches or (DESTINATION, row.key) in model.touches
        is_taken = any(id(each) in model.deletes.taken for each in model.holdings.originals(row))
        if row.archive is None:
            return bool(others) or is_touched or is_taken
        is_left = "it is a copy that expire left" in outcome.reason
        is_spoiled = row.archive == DISPUTED or model.holdings.is_spoiled(Location.parse(row.archive).key)
        return bool(others) or is_touched or is_spoiled or is_left

    # Reports.

    def reported(self, run_id: str) -> None:
        """The run has ended: what a verification had to find, it has found."""
        if self.model.specs[run_id]["job"] != "verify":
            return
        chosen = stand(self.model.outcomes[run_id])
        for (run, uri), is_damaged in self.damage.items():
            if run == run_id and is_damaged:
                found = [chosen[row.row] for row in self.model.rows[run_id] if row.archive == uri]
                bad = [each for each in found if each.status not in (Status.VERIFIED,)]
                self.model.demand(
                    bad or not found, "verify finds each flipped bit", f"{run_id}: {uri} is called intact"
                )

    def is_expected(self, job: str, row: ObjectVersion, outcome: Outcome) -> bool:
        """Whether it is what a run comes to that nothing hinders."""
        model = self.model
        is_cold = model.schedule.archive_class == "GLACIER" or any(
            each.storage_class == "GLACIER" for each in model.sources[row.key]
        )
        good = {
            "compact": {"packed"}, "verify": {"verified"},
            "expire": {"expired"} if model.schedule.deletes else {"skipped"},
            "restore": {"restored", "same"}, "replicate": {"copied", "same", "deleted"},
        }[job]  # fmt: skip
        if outcome.status in good:
            return True
        if job == "expire":
            is_locked = model.locks.was_held(model.sources[row.key], 0.0)
            is_kept = is_cold or is_locked or self._is_superseded(row)
            return is_kept or outcome.status is Status.MISSING or "nothing proves" in outcome.reason
        if job == "restore":
            return is_cold or outcome.status is Status.UNRESTORABLE
        if job == "compact":
            is_annotated = any(each.annotations for each in model.sources[row.key])
            return is_cold or is_annotated or row.is_delete_marker or outcome.status is Status.MISSING
        return is_cold or "no checksum" in outcome.reason

    def _is_superseded(self, row: ObjectVersion) -> bool:
        """Whether a newer version of other content came to the key, and no archive holds this one."""
        history = [each for each in self.model.sources[row.key] if not each.is_delete_marker]
        own = [n for n, each in enumerate(history) if _is_of(each, row.version_id)]
        is_packed = any(
            member.key == row.key and member.version_id == row.version_id
            for _, members in self.model.holdings.indexes().values()
            for member in members
        )
        return not is_packed and any(each.etag != row.etag for n in own for each in history[n + 1 :])


def _is_of(version: Version, version_id: str | None) -> bool:
    return version_id in (None, version.version_id)
