"""Stages of a night: finds the run of a stage, or makes it, and works through it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import commonprefix
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.archives.index import ArchiveIndex
from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import ArchiveSide, Encryption
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.errors import ConfigError, Denied, LedgerError, ManifestError, NotFound
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import INVENTORY_HOURS_MAX, NIGHT_VERSION, Stage, label
from jobs.nights.records import LOOK_SECONDS, NightRecords
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import Ceiling, prefix_map, replica_map, sides
from jobs.reconcile.advice import findings_by_category, night_steps
from jobs.reconcile.repair import KINDS
from jobs.reconcile.run import make_spec, publish_run
from jobs.reports.document import exit_code
from jobs.runs import launch
from jobs.runs.placement import BatchOptions, batch_placement, check_placement, planning_settings
from jobs.runs.request import Request, new_run_id
from jobs.runs.work import work
from jobs.s3.sessions import open_side, open_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.inventory.report import Inventory
    from jobs.reconcile.packed_copies import PackedCopies
    from jobs.reconcile.reconcile import Reconciliation, Report

NEEDED_FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The fields of a report without which a night finds no copy that differs, or no stale one."""


ClaimRun = Callable[..., Awaitable[bool]]
"""Claims a stage for a run, by its id. True if no other start of the night was first."""


class Done(NamedTuple):
    """The result of a stage: its run's report and exit code, or why it was refused.

    `notes`: where its rows come from.
    """

    report: dict[str, Any] | None
    code: int
    refused: str | None = None
    notes: Mapping[str, Any] = {}


class _Report(NamedTuple):
    """An inventory report, the store of its files, whether a listing made it, and why (for
    people).
    """

    inventory: Inventory
    store: Store
    is_listed: bool
    origin: str


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages of one night work with."""

    records: NightRecords
    policy: Policy
    pair: Pair
    scope: Scope
    settings: Settings
    options: BatchOptions
    display: Display
    margin_seconds: float

    @property
    def ledger(self) -> Ledger:
        """The ledger of the runs."""
        return self.records.ledger

    async def reconcile(self) -> Done:
        """Compare the pair's inventories: S3's if they are fresh, else listings that are made
        now.
        """
        maps = prefix_map(self.pair, self.scope)
        return await self._compare(Stage.RECONCILE, "source", "destination", maps, self.margin_seconds)

    async def replica(self, margin_seconds: float) -> Done:
        """Compare the hot bucket with its replica in the same way."""
        maps = replica_map(self.pair, self.scope)
        return await self._compare(Stage.REPLICA, "destination", "replica", maps, margin_seconds)

    async def _compare(self, stage: Stage, here: str, there: str, maps: PrefixMap, margin_seconds: float) -> Done:
        """Compare two sections of the pair in the policy."""

        async def is_made(run_id: str) -> bool:
            return await self.ledger.report(run_id) is not None

        async def make(claim: ClaimRun) -> None:
            began = time.time()
            with tempfile.TemporaryDirectory(prefix="sealift-night-") as folder:
                joined = await self._join(here, there, maps, margin_seconds, Path(folder))
                (source, destination), reports, reconciliation = joined
                run_id = new_run_id("reconcile", began)
                options = {
                    "versions": "current",
                    "maps": maps.texts(),
                    "margin": f"{margin_seconds:g}s",
                    "pair": self.pair.name,
                    "night": self.records.night.isoformat(),
                    "of_replica": stage is Stage.REPLICA,
                }
                spec = make_spec(run_id, began, *reports, options)
                notes = {
                    "source_inventory": source.origin,
                    "destination_inventory": destination.origin,
                    "is_listed": source.is_listed,
                    "repairable_rows": reconciliation.repairable_rows,
                    "source_objects": reconciliation.source_rows,
                }
                if await claim(spec.run_id, notes=notes):
                    has_page = stage is Stage.REPLICA  # the first comparison gets its page after the repair
                    found = findings_by_category(reconciliation.categories, reconciliation.findings)
                    steps = night_steps(spec, found, self.ledger)
                    await publish_run(self.ledger, spec, reconciliation, steps, has_page=has_page)

        stage_record = await self._find_or_make_run(stage, is_made, make)
        report = await self.ledger.report(stage_record["run_id"])
        if report is None:
            raise LedgerError(
                f"the report of {stage_record['run_id']} is gone: something removes objects from the ledger"
            )
        return Done(report, int(exit_code(report)), notes=stage_record["notes"])

    async def _join(
        self, here: str, there: str, maps: PrefixMap, margin_seconds: float, scratch: Path
    ) -> tuple[tuple[_Report, _Report], tuple[Report, Report], Reconciliation]:
        """Compare the reports of two sections. Returns both reports, and what differs.

        In place of a report that lists nothing, or only a part, the section is listed.
        """
        from jobs.reconcile.reconcile import ReconcileOptions, Report, reconcile
        from jobs.reconcile.stage import UnusableReport

        source, destination = await self._report(here), await self._report(there)
        options = ReconcileOptions(
            now=time.time(),
            prefixes=maps,
            margin_seconds=margin_seconds,
            packed=self._packed_copies() if there == "destination" else None,
        )
        while True:
            one, other = (
                Report(side, each.inventory, each.store, doubted=None if each.is_listed else open_side(side))
                for each, side in ((source, self._side(here)), (destination, self._side(there)))
            )
            try:
                return (source, destination), (one, other), await reconcile(one, other, options, scratch)
            except UnusableReport as error:
                if error.manifest == str(source.inventory.manifest) and not source.is_listed:
                    source = await self._listed(here, str(error))
                elif not destination.is_listed:
                    destination = await self._listed(there, str(error))
                else:
                    raise

    def _packed_copies(self) -> PackedCopies | None:
        """The archives that hold copies which the pair lets expire."""
        from jobs.reconcile.packed_copies import PackedCopies

        archive, hot = self.pair.archive, self.pair.destination
        if archive is None or archive.expire is None or archive.side is not ArchiveSide.DESTINATION:
            return None
        place = Side(Location.parse(archive.uri), region=archive.region, owner=archive.account)
        index = ArchiveIndex(self.ledger.store, self.ledger.location)
        return PackedCopies(index, open_side(place), place.location, hot.encryption is not Encryption.S3)

    async def transfer(self, stage: Stage, request: Request) -> Done:
        """Run a replicate or verify run, within the pair's limits, to its end."""
        settings = self.settings
        if (placement := batch_placement(self.options, settings, request.job)) is not None:
            await check_placement(placement, request.source, request.destination)
            settings = planning_settings(settings, self.options)

        async def make(claim: ClaimRun) -> None:
            copies = stage is Stage.REPAIR
            planned = await launch.plan_run(request, self.ledger, settings, self.display, copies=copies)
            try:
                refused = Ceiling.of(self.pair).refusal(planned.plan)
                if refused is None:
                    planned = await launch.try_conditions(planned, KINDS[request.job].writes(planned.spec))
                if await claim(planned.spec.run_id, refused=refused) and refused is None:
                    await launch.publish(planned, self.ledger)
            finally:
                planned.discard()

        stage_record = await self._find_or_make_run(stage, self._is_planned, make)
        if stage_record["refused"] is not None:
            return Done(None, 0, stage_record["refused"])
        spec, plan = await self.ledger.spec(stage_record["run_id"]), await self.ledger.plan(stage_record["run_id"])
        if disagreement := _disagreement(spec, request):
            raise LedgerError(
                f"{spec.run_id} is not a run of this night, {disagreement}: the ledger was altered",
                advice=f"find out who wrote {self.records.record_uri(stage)}, then go on with the next night",
            )
        report, code = await work(
            spec, plan, self.ledger, self.settings, self.options, self.display, KINDS[request.job]
        )
        return Done(report, code)

    async def _find_or_make_run(
        self,
        stage: Stage,
        is_made: Callable[[str], Awaitable[bool]],
        make: Callable[[ClaimRun], Awaitable[None]],
    ) -> dict[str, Any]:
        """The stage's record. Without one, `make` plans a run, claims the stage for it, and makes it
        if the claim has won.
        """
        while True:
            stage_record, number = await self.records.current_record(stage, is_made, self.settings.patience_seconds)
            if stage_record is not None:
                return stage_record

            async def claim(
                run_id: str, *, refused: str | None = None, notes: Mapping[str, Any] | None = None, at: int = number
            ) -> bool:
                ours = {
                    "night_version": NIGHT_VERSION,
                    "pair": self.pair.name,
                    "night": self.records.night.isoformat(),
                    "stage": stage.value,
                    "run_id": run_id,
                    "refused": refused,
                    "notes": notes or {},
                    "written_at": time.time(),
                }
                return await self.records.claim_stage(stage, at, ours) == ours

            await make(claim)

    async def _is_planned(self, run_id: str) -> bool:
        try:
            await self.ledger.plan(run_id)
        except LedgerError:
            return False
        return True

    def _side(self, section: str) -> Side:
        """A section of the pair as a side of a run."""
        source, destination = sides(self.policy, self.pair)
        if section == "replica":
            assert self.pair.replica is not None
            there = self.pair.replica
            location = destination.location._replace(bucket=there.bucket)
            return Side(location, region=there.region, owner=there.account)
        return source if section == "source" else destination

    async def _report(self, section: str) -> _Report:
        """A section's report: S3's if it is fresh, else one that a listing makes."""
        from jobs.inventory.find import find_inventory

        place = getattr(self.pair, section)
        why = "the policy names no inventory bucket of its region"
        if self.policy.inventory and (bucket := self.policy.inventory.buckets.get(place.region)):
            folder = f"s3://{bucket}/{self.policy.inventory.prefix}".rstrip("/") + f"/{place.bucket}/"
            try:
                store = open_store(None, place.region, None, max_in_flight=8)
                inventory = await find_inventory(store, folder)
                hours = (time.time() - inventory.created_at) / 3600
                absent = [name for name in NEEDED_FIELDS if not inventory.has_field(name)]
                if hours <= INVENTORY_HOURS_MAX and not absent:
                    origin = f"S3 Inventory's report {inventory.manifest}, {max(hours, 0):.1f} h old"
                    return _Report(inventory, store, False, origin)
                why = f"the latest report, {inventory.manifest}, is {hours:.0f} h old, more than {INVENTORY_HOURS_MAX}"
                if absent:
                    why = (
                        f"the latest report, {inventory.manifest}, has no {', '.join(absent)}, so nothing can be "
                        "compared: add the fields to the inventory's configuration"
                    )
            except (ManifestError, NotFound, Denied) as error:
                why = str(error)
        return await self._listed(section, why)

    async def _listed(self, section: str, why: str) -> _Report:
        """A section's report by a listing, and why it is one."""
        return _Report(await self._listing(section), self.ledger.store, True, f"listed, since {why}")

    async def _listing(self, section: str) -> Inventory:
        """A section's report by a listing, made once a night. An earlier start may have made it."""
        from jobs.inventory.find import find_inventory
        from jobs.inventory.write import write_inventory

        target = self.ledger.location.join(
            f"inventories/nights/{self.pair.name}/{label(self.records.night, self.records.times)}/{section}"
        )
        side = self._side(section)
        folder = str(target.join(f"{side.location.bucket}/"))
        try:
            return await find_inventory(self.ledger.store, folder)
        except ManifestError:
            pass  # nobody has listed it yet
        store = open_side(side)
        place = side.location._replace(key=side.location.key + commonprefix(self.scope.prefixes))
        try:
            await write_inventory(
                store,
                place,
                self.ledger.store,
                target,
                versions=False,
                file_format="parquet",
                now=time.time(),
                on_progress=None,
            )
        except ConfigError:  # another start of this night has just written it, or is about to
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            await store.close()
        return await find_inventory(self.ledger.store, folder)


def _disagreement(spec: RunSpec, request: Request) -> str:
    """Compare a run that a stage's record names with what the night wants of it.

    A writer of the ledger can write both. Returns what is wrong, else an empty text.
    """
    if spec.job != request.job:
        return f"it is a {spec.job} run"
    for name, side, wanted in (
        ("source", spec.source, request.source),
        ("destination", spec.destination, request.destination),
    ):
        if wanted is None or replace(side, region=None) != replace(wanted, region=None):
            return f"its {name} is {side.location}, with other ways or owners than the policy's, or another place"
    for name in ("pair", "night", "deep", "sample"):
        if spec.options.get(name) != request.options.get(name):
            return f"its {name} is {spec.options.get(name)!r}"
    return "it may overwrite what is newer" if "overwrite" in spec.options else ""
