"""Planning runs over archives in pure Python, for few rows: what they would do, found by requests of the same kind.

A full schedule plans with the real commands (DuckDB, Parquet) and demands that these come to the same rows.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from jobs.archives.files import is_there, list_archives
from jobs.archives.index import ArchiveIndex, Damage, collecting
from jobs.archives.model import ArchiveRecord, Member
from jobs.compact.grouping import cut
from jobs.compact.packing import PackingRule, period
from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Location, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Outcome, fold
from jobs.core.run import Plan, RunSpec, ShardSummary
from jobs.expire.rules import PROOFS, Proof
from jobs.ledger.agreement import begin_second
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.tombstones import DONE, FOLDER, INTENT
from jobs.restore.as_of import current_at, pick, pick_asked
from jobs.runs import sharding
from jobs.runs.request import Planned
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import Store
from tests.simulation.archives import tables as archive_tables
from tests.simulation.copies import tables
from tests.simulation.copies.cutting import is_mark
from tests.simulation.copies.schedule import SOURCE

_COLD = ("GLACIER", "DEEP_ARCHIVE")


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans a run by its spec. `rows_per_shard`: as the settings say."""

    store: Store
    ledger: Ledger
    archives: Location
    rows_per_shard: int

    @property
    def index(self) -> ArchiveIndex:
        """The index of all archives."""
        return ArchiveIndex(self.ledger.store, self.ledger.location)

    async def listing(self, *, versions: bool) -> list[ObjectVersion]:
        """The source's bucket, as a manifest has it."""
        found = []
        async with aclosing(list_all(self.store, Location(SOURCE), versions=versions, concurrency=1)) as pages:
            async for page in pages:
                for key, version_id, is_latest, is_marker, size, etag, modified, storage_class, _ in page:
                    time = int(modified * 1e6) / 1e6
                    found.append(
                        ObjectVersion(0, key, version_id, is_latest, is_marker, size, etag, time, storage_class)
                    )
        return found

    # What the verbs do with rows.

    async def compact(self, spec: RunSpec, rows: Sequence[ObjectVersion], *, all_versions: bool) -> Planned:
        """`jobs.compact.plan.plan_groups`: what no archive holds, in packing order, whole groups to a shard."""
        by_id, by_content = await self._archived(spec)
        taken = [
            row
            for row in rows
            if (all_versions or (row.is_latest and not row.is_delete_marker))
            and not is_mark(row)
            and (row.key, row.version_id) not in by_id
            and (
                row.version_id not in (None, NULL_VERSION)
                or (row.key, row.etag, row.size_bytes, int(row.last_modified or 0)) not in by_content
            )
        ]
        order = sorted(
            enumerate(taken),
            key=lambda each: (
                period(each[1].last_modified), each[1].key.encode(), each[1].is_latest, each[1].last_modified or 0.0,
                -each[0],
            ),
        )  # fmt: skip
        sizes = [row.size_bytes or 0 for _, row in order]
        wanted = sharding.count_shards(len(order), sum(sizes), rows_per_shard=self.rows_per_shard, processes=1) or 1
        rows_max, bytes_max = -(-len(order) // wanted), -(-sum(sizes) // wanted)
        slices: list[list[ObjectVersion]] = [[]]
        for group in cut((row for _, row in order), PackingRule.from_dict(spec.options["rule"])):
            slices[-1] += group
            size_bytes = sum(row.size_bytes or 0 for row in slices[-1])
            if len(slices[-1]) >= rows_max or size_bytes >= bytes_max > 0:
                slices.append([])
        return planned(spec, slices, len(rows) - len(taken))

    async def _archived(self, spec: RunSpec) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
        """Members of archives in the class that is asked for: by version id, and by content where ids are null."""
        by_id: set[tuple[Any, ...]] = set()
        by_content: set[tuple[Any, ...]] = set()
        damage: Damage = []
        for record in await self.index.records(self.archives, damage):
            is_own = record.source_bucket == spec.source.location.bucket
            is_stored = is_own and record.storage_class == spec.options["storage_class"]
            if is_stored and await is_there(self.store, record):
                for each in await self._members(record, damage):
                    if each.version_id not in (None, NULL_VERSION):
                        by_id.add((each.key, each.version_id))
                    by_content.add((each.key, each.etag, each.size_bytes, int(each.last_modified)))
        return by_id, by_content

    async def verify(self, spec: RunSpec) -> Planned:
        """`jobs.verify.archives_rows.plan_archives`: the members of each archive, then itself; then lost archives."""
        listed = [each async for each in list_archives(self.store, self.archives)]
        damage: Damage = []
        records = await self.index.records(self.archives, damage)
        listed += [each.archive for each in damage if each.archive not in listed]
        members = [(record, member) for record in records for member in await self._members(record, [])]
        claims: dict[tuple[str, ...], list[tuple[str, Member]]] = defaultdict(list)
        for record, member in members:
            claims[_identity(member)].append((str(record.location), member))
        rows: list[ObjectVersion] = []
        for record in records:
            uri = str(record.location)
            for _, member in (each for each in members if each[0] is record):
                others = [each for each in claims[_identity(member)] if each[0] != uri]
                rows.append(_member_row(uri, member)._replace(proof=_claim(member, others)))
            rows.append(ObjectVersion(0, uri, record.version_id, etag=record.etag, archive=uri)._replace(
                storage_class=record.storage_class
            ))  # fmt: skip
        known = {record.location for record in records}
        rows += [ObjectVersion(0, str(each), archive=str(each)) for each in listed if each not in known]
        each_rows = self._rows_each(rows)
        slices: list[list[ObjectVersion]] = [[]]
        for _, some in groupby(rows, key=lambda row: row.archive):
            if len(slices[-1]) >= each_rows:
                slices.append([])
            slices[-1] += some
        return planned(spec, slices)

    async def expire(self, spec: RunSpec) -> Planned:
        """`jobs.expire.candidates.plan_candidates`: what one run has proven, members in their archive's order."""
        proving = await self.ledger.spec(spec.options["proofs"][0])
        plan = await self.ledger.plan(proving.run_id)
        numbers = plan.row_numbers()
        names = await self.ledger.checkpoints(proving.run_id)
        files = [await self.ledger.checkpoint_data(proving.run_id, each, numbers[each.shard]) for each in names]
        outcomes = [list(tables.read_outcomes(data)) for data in files]
        chosen = fold(outcome for some in outcomes for outcome in some)
        proven_at = await self._proven_at(proving.run_id, names, outcomes)
        found: list[tuple[tuple[Any, ...], ObjectVersion]] = []
        members: dict[tuple[Any, ...], list[tuple[ArchiveRecord, Member]]] = defaultdict(list)
        if proving.job == "compact":
            etags = {each.destination_etag for each in chosen.values()}
            for record in await self.index.records(self.archives, []):
                if record.etag in etags:
                    for member in await self._members(record, []):
                        members[member.key, record.etag, member.etag].append((record, member))
        for shard in range(len(plan.shards)):
            for row in tables.read_slice(await self.ledger.shard(proving.run_id, shard, numbers[shard])):
                outcome = chosen.get(row.row)
                if outcome is None or outcome.status not in PROOFS[proving.job] or row.is_delete_marker:
                    continue
                etag = outcome.etag or row.etag
                row = row._replace(etag=etag, is_delete_marker=False)
                if proving.job != "compact":
                    route = Route(proving.source.location, proving.destination.location)
                    proof = Proof(
                        proving.run_id, proven_at[outcome], proving.destination.location.bucket,
                        route.target_of(row).key, outcome.destination_version_id,
                        outcome.destination_etag,
                    )  # fmt: skip
                    found.append(((0, "", 0, 0), row._replace(proof=proof.encode())))
                    continue
                named = [
                    each
                    for each in members[row.key, outcome.destination_etag, etag]
                    if row.version_id in (None, each[1].version_id)
                ]
                for record, member in sorted(named, key=lambda each: each[0].location)[:1]:
                    proof = _proof_of(proving.run_id, proven_at[outcome], record, member, row)
                    place = record.location.key, member.offset if member.frame_offset is None else member.frame_offset
                    found.append((
                        (1, *place, member.offset),
                        row._replace(version_id=row.version_id or member.version_id, proof=proof.encode()),
                    ))  # fmt: skip
        found.sort(key=lambda each: (*each[0], each[1].key.encode(), each[1].version_id or "~"))
        return planned(spec, self._even(await self._unexpired([row for _, row in found])))

    async def _proven_at(
        self, run_id: str, names: Sequence[Checkpoint], outcomes: Sequence[Sequence[Outcome]]
    ) -> dict[Outcome, float]:
        """`jobs.expire.proofs`: an outcome's own time, or when S3 got its checkpoint, if that is later."""
        folder, written = self.ledger.location.join(f"runs/{run_id}/outcomes/"), dict[str, float]()
        async with aclosing(list_all(self.ledger.store, folder, versions=False, concurrency=1)) as pages:
            async for page in pages:
                written |= {entry.key[len(folder.key) :]: entry.last_modified for entry in page}
        return {
            outcome: max(int(outcome.finished_at * 1e6) / 1e6, written[f"{name.shard:05d}/{name.name}"])
            for name, some in zip(names, outcomes, strict=True)
            for outcome in some
        }

    async def _unexpired(self, rows: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """`jobs.expire.shares`: without what an earlier expire run has removed, and S3 does not list any more."""
        gone = [stone for stone in await self._expired() if not stone.is_delete_marker]
        if not gone:
            return list(rows)
        there = await self.listing(versions=await self.store.is_versioned(SOURCE))
        there = [each for each in there if not each.is_delete_marker]

        def is_among(row: ObjectVersion, others: Sequence[ObjectVersion]) -> bool:
            return any(
                (each.key, each.etag) == (row.key, row.etag)
                and row.version_id in (None, each.version_id or NULL_VERSION)
                for each in others
            )

        return [row for row in rows if is_among(row, there) or not is_among(row, gone)]

    async def restore(self, spec: RunSpec, asked: Sequence[ObjectVersion] | None = None) -> Planned:
        """`jobs.restore.plan.plan_restore`: of each key's history the version that is wanted, archive by archive.

        `asked`: the rows that an earlier restore left, which are looked up anew.
        """
        at, is_history = spec.options["at"], spec.options["is_history"]
        records = await self.index.records(self.archives)
        archived: dict[str, list[ObjectVersion]] = defaultdict(list)
        for record in sorted(records, key=lambda each: (each.storage_class in _COLD, each.location)):
            for member in await self._members(record):
                archived[member.key].append(_member_row(str(record.location), member))
        own: dict[str, list[ObjectVersion]] = defaultdict(list)
        if is_history and asked is None:
            for row in await self.listing(versions=True):
                own[row.key].insert(0, row)
            for row in await self._expired():
                archived[row.key].append(row)
        begins = {str(record.location): float(begin_second(record.run_id or "") or 0) for record in records}
        chosen: list[ObjectVersion] = []
        if asked is not None:
            for key, rows in groupby(sorted(asked, key=lambda row: row.key.encode()), key=lambda row: row.key):
                some = [row if is_history else row._replace(archive=None) for row in rows]
                chosen += (some if is_history else pick_asked(some, archived[key]))[-1:]
        else:
            for key in sorted({*own, *archived}, key=lambda key: key.encode()):
                theirs = archived[key]
                if at is not None:
                    version = current_at(own[key], theirs, at, begins)
                else:
                    version = pick(theirs[0]._replace(version_id=None, etag=None), theirs)
                chosen += [version] if version is not None else []
        chosen.sort(key=lambda row: (row.archive is not None, row.archive or "", row.key.encode()))
        return planned(spec, self._even(chosen))

    async def _members(self, record: ArchiveRecord, damage: Damage | None = None) -> list[Member]:
        members: list[Member] = []
        with collecting(damage, record.location):
            async with aclosing(self.index.members(record.location)) as parts:
                members = [member async for part in parts for member in part]
        return members

    async def _expired(self) -> list[ObjectVersion]:
        """`jobs.ledger.expired_rows`."""
        folder, names = self.ledger.location.join(f"{FOLDER}{SOURCE}/"), set[str]()
        async with aclosing(list_all(self.ledger.store, folder, versions=False, concurrency=1)) as pages:
            async for page in pages:
                names |= {entry.key for entry in page}
        told = [name for name in names if name.endswith(DONE) or name.removesuffix(INTENT) + DONE not in names]
        rows: list[ObjectVersion] = []
        for name in sorted(told):
            ref = ObjectRef(folder.bucket, name)
            for stone in archive_tables.read_stones((await _get(self.ledger.store, ref)).data):
                is_removal = stone.step is Step.REMOVE
                if is_removal or stone.marker_version_id is not None:
                    rows.append(ObjectVersion(
                        0, stone.key, stone.version_id if is_removal else stone.marker_version_id, False,
                        not is_removal, stone.size_bytes, stone.etag, stone.last_modified, archive=stone.copy,
                    ))  # fmt: skip
        return rows

    def _rows_each(self, rows: Sequence[ObjectVersion]) -> int:
        sizes = sum(row.size_bytes or 0 for row in rows)
        wanted = sharding.count_shards(len(rows), sizes, rows_per_shard=self.rows_per_shard, processes=1)
        return max(1, -(-len(rows) // max(wanted, 1)))

    def _even(self, rows: Sequence[ObjectVersion]) -> list[list[ObjectVersion]]:
        each = self._rows_each(rows)
        return [list(rows[start : start + each]) for start in range(0, len(rows), each)]


def planned(spec: RunSpec, slices: Iterable[list[ObjectVersion]], excluded: int = 0) -> Planned:
    """Shards that wait to be published; their rows get their numbers."""
    number, numbered = 0, []
    for rows in slices:
        if rows:
            numbered.append([row._replace(row=number + place) for place, row in enumerate(rows)])
            number += len(rows)
    summaries = tuple(ShardSummary(len(rows), sum(row.size_bytes or 0 for row in rows)) for rows in numbered)
    files: Any = tables.Scratch([pickle.dumps(rows) for rows in numbered])
    size_bytes = sum(each.size_bytes for each in summaries)
    return Planned(spec, Plan(number, size_bytes, summaries, {"left out": excluded}), files)


def demand_equal(real: Planned, before: Planned, after: Planned) -> None:
    """The rows of the real plan are those of the pure one, unless the world changed while the real one was made.

    Restores spread what lies in no archive by a hash.
    """
    first, second, third = map(_comparable, (before, real, after))
    times = [_proof_times(each) for each in (before, real)]
    is_same = first == second and all(abs(ours - theirs) < 5e-6 for ours, theirs in zip(*times, strict=True))
    if first == third and not is_same:
        raise tables.Unequal(f"planning differs:\n  real {second} {times[1]}\n  pure {first} {times[0]}")


def _comparable(plan: Planned) -> tuple[Any, ...]:
    files = [(plan.scratch / f"{number:05d}.parquet").read_bytes() for number in range(len(plan.plan.shards))]
    rows = [row for data in files for row in tables.read_slice(data)]
    free = sorted((row._replace(row=0) for row in rows if row.archive is None and row.proof is None), key=repr)
    bound = [_timeless(row) for row in rows if row.archive is not None or row.proof is not None]
    return [summary.rows for summary in plan.plan.shards], free, bound


def _timeless(row: ObjectVersion) -> ObjectVersion:
    """Without the time of its proof."""
    proof = _proof_in(row)
    return row if proof is None else row._replace(proof=replace(proof, proven_at=0.0).encode())


def _proof_times(plan: Planned) -> list[float]:
    """When each row was proven. DuckDB's epoch is some fraction of a microsecond off."""
    files = [(plan.scratch / f"{number:05d}.parquet").read_bytes() for number in range(len(plan.plan.shards))]
    proofs = [_proof_in(row) for data in files for row in tables.read_slice(data)]
    return [proof.proven_at for proof in proofs if proof is not None]


def _proof_in(row: ObjectVersion) -> Proof | None:
    return Proof.decode(row.proof) if row.proof is not None and row.proof.startswith("{") else None


async def _get(store: Store, ref: ObjectRef) -> Any:
    return await retry(lambda: store.get(ref))


def _member_row(uri: str, member: Member) -> ObjectVersion:
    return ObjectVersion(
        0, member.key, member.version_id, member.is_latest, False, member.size_bytes, member.etag,
        member.last_modified, member.storage_class, archive=uri,
    )  # fmt: skip


def _identity(member: Member) -> tuple[str, ...]:
    if member.version_id in (None, "null"):
        return member.key, "null", member.etag or "", str(member.last_modified)
    return member.key, str(member.version_id)


def _claim(member: Member, others: Sequence[tuple[str, Member]]) -> str | None:
    """The other archive that has the version, and whether all of them hold the same bytes."""
    if not others:
        return None
    is_same = all(
        (member.size_bytes, member.etag) == (other.size_bytes, other.etag)
        and (None in (member.sha256, other.sha256) or member.sha256 == other.sha256)
        for _, other in others
    )
    return min(uri for uri, _ in others) + (" same" if is_same else "")


def _proof_of(run_id: str, at: float, record: ArchiveRecord, member: Member, row: ObjectVersion) -> Proof:
    known = {
        name: getattr(member, name) for name in ("sha256", "offset", "frame_start", "frame_offset", "frame_length")
    }
    known |= {"key": row.key, "size_bytes": row.size_bytes, "etag": row.etag, "last_modified": member.last_modified}
    known["checksums"] = [[each.algorithm, each.value, "-" in each.value] for each in member.checksums]
    return Proof(
        run_id, int(at * 1e6) / 1e6, record.location.bucket, record.location.key, record.version_id, record.etag, known
    )
