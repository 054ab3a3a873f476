"""Stages of a night: finds the run of a stage, or makes it, and works through it."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from posixpath import commonprefix
from typing import TYPE_CHECKING, Any

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import Deletes, Encryption
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, LedgerError, ManifestError, NotFound
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import INVENTORY_HOURS_MAX, Stage, wider
from jobs.nights.documents import Claim, Night, Slice, StageResult, StageRun
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import Ceiling, copy_options, globs, prefix_map, prefixes_below, replica_map, sides
from jobs.policy.words import Region
from jobs.reconcile.advice import REPAIR, findings_by_category, night_steps
from jobs.reconcile.repair import KINDS, await_later_second
from jobs.reconcile.run import make_spec, publish_run
from jobs.runs import launch
from jobs.runs.placement import batch_placement, check_placement, planning_settings
from jobs.runs.request import Planned, Request, new_run_id
from jobs.runs.work import work
from jobs.s3.sessions import open_side, open_store

if TYPE_CHECKING:
    from jobs.reconcile.reconcile import Report

NEEDED_FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The fields of a report without which a night finds no copy that differs, or no stale one."""
MARGIN_SECONDS = 900
READ_OBJECTS_MIN, READ_BYTES_MIN = 100, 1 << 30
"""A night reads so many objects, or so many bytes, however small the slice is whose turn it is."""


Made = tuple[StageRun, Callable[[], Awaitable[Any]]]
"""A run of a stage that is ready, and what publishes it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages of one night work with."""

    night: Night
    claim: Claim
    policy: Policy
    pair: Pair
    scope: Scope
    settings: Settings
    executor: str | None
    display: Display

    @property
    def ledger(self) -> Ledger:
        """The ledger of the runs."""
        return self.night.ledger

    async def reconcile(self) -> StageResult:
        """Compare both sides by S3's inventories if they are fresh, else by listings of now."""
        both, maps = sides(self.policy, self.pair), prefix_map(self.pair, self.scope)
        keeps_extra = self.pair.deletes is Deletes.RETAIN
        return await self._compare(Stage.RECONCILE, both, maps, MARGIN_SECONDS, keeps_extra=keeps_extra)

    async def replica(self) -> StageResult:
        """Compare the hot bucket with its replica, which S3 writes: what differs is left to people."""
        replica, hot = self.pair.replica, sides(self.policy, self.pair)[1]
        assert replica is not None
        twin = Side(hot.location._replace(bucket=replica.bucket), region=replica.region, owner=replica.account)
        maps = replica_map(self.pair, self.scope)
        try:
            keeps_extra = not replica.delete_markers
            return await self._compare(Stage.REPLICA, (hot, twin), maps, replica.lag_seconds, keeps_extra=keeps_extra)
        except (Denied, NotFound) as error:
            why, advice = f"since the replica cannot be looked at: {error}", "See what is wrong with it: sealift doctor"
            return StageResult(stage=Stage.REPLICA, refused=why, advice=advice)

    async def repair(self, reconciled: StageResult) -> StageResult:
        """Copy what the comparison named, within the pair's limits."""
        run_id = str(reconciled.run_id)
        report = await self._report_of(run_id)
        if not report["repair_manifest"]:
            return StageResult(stage=Stage.REPAIR)
        await await_later_second(self.ledger, report)
        return await self._work(Stage.REPAIR, self._request("replicate", self.ledger.uri(run_id, REPAIR), run_id))

    async def verify(self, stage: Stage, turn: Slice, reconciled: StageResult) -> StageResult:
        """Verify a slice. The deep stage reads.

        A listing that was just made names the objects. An inventory of yesterday does not.
        """
        report = await self._report_of(str(reconciled.run_id))
        manifest, size = str(report["source"]["manifest"]), (report["rows"], report["bytes"])
        is_listed = manifest.startswith(str(self.ledger.location))
        if is_listed and not report["source"]["rows"]:  # a listing of nothing is no manifest
            return StageResult(stage=stage, slice=turn)
        return await self._work(stage, self._request("verify", manifest if is_listed else None), turn, size)

    def _request(self, job: str, manifest: str | None, retry_of: str | None = None) -> Request:
        """A run of the pair. A verification has the options of copies, too, since its retry copies."""
        source, destination = sides(self.policy, self.pair)
        include, exclude = globs(self.scope)
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=manifest,
            selection=Selection(include=include, exclude=exclude),
            options={"pair": self.pair.name, "night": self.claim.night} | copy_options(self.pair),
            retry_of=retry_of,
            prefixes=prefixes_below(self.scope),
        )

    async def _work(
        self, stage: Stage, request: Request, turn: Slice | None = None, size: tuple[int, int] = (0, 0)
    ) -> StageResult:
        """Make the run of a stage if there is none, and work through it.

        `size`: about how many objects there are, and bytes.
        """
        if turn is not None:
            # Copies of newer objects may be on their way: the next night looks at them.
            until = self.claim.began_at - self._margin_seconds(MARGIN_SECONDS)
            chosen = replace(request.selection, older_than=until, sample=turn)
            options = {**request.options, "deep": stage is Stage.DEEP, "sample": list(turn)}
            request = replace(request, selection=chosen, options=options)
        settings = self.settings
        if (placement := batch_placement(self.executor, settings, request.job)) is not None:
            await check_placement(placement, request.source, request.destination)
            settings = planning_settings(settings)

        async def make(stack: ExitStack) -> Made:
            planned = await self._plan(stage, request, settings, stack, size)
            refused = Ceiling.of(self.pair).refusal(planned.plan)
            if refused is None:
                planned = await launch.try_conditions(planned, KINDS[request.job].writes(planned.spec))
            run = StageRun(run_id=planned.spec.run_id, refused=refused)
            return run, partial(launch.publish, planned, self.ledger)

        run = await self._find_or_make_run(stage, make)
        if run.refused is not None:
            advice = (
                f"Find out why the plan of the stage {stage} is so large, then raise the pair's limits for the next "
                f"night, or copy now: sealift replicate --pair {self.pair.name} --dry-run"
            )
            return StageResult(stage=stage, refused=run.refused, advice=advice, slice=turn)
        spec, plan = await self.ledger.spec(run.run_id), await self.ledger.plan(run.run_id)
        if not _is_of(spec, request):
            raise LedgerError(
                f"{run.run_id} is not a run of this night: the ledger was altered",
                advice=f"find out who wrote {self.night.uri(f'/{stage}-1.json')}, then go on with the next night",
            )
        kind = KINDS[request.job]
        report, code, _ = await work(spec, plan, self.ledger, self.settings, self.executor, self.display, kind)
        return self._result(stage, report, counts=report["outcomes"], exit_code=code, slice=turn)

    async def _plan(
        self, stage: Stage, request: Request, settings: Settings, stack: ExitStack, size: tuple[int, int]
    ) -> Planned:
        """The plan of a run. The one that reads takes a wider slice where the one in turn is small."""
        samples = [request.selection.sample]
        if stage is Stage.DEEP and samples[0]:
            most = 2 * max(size[0] / READ_OBJECTS_MIN, size[1] / READ_BYTES_MIN)
            samples = [*(each for each in wider(*samples[0])[:-1] if each[1] <= most), (0, 1)]
        for sample in samples:
            chosen = replace(request, selection=replace(request.selection, sample=sample))
            planned = await launch.plan_run(chosen, self.ledger, settings, self.display, copies=stage is Stage.REPAIR)
            stack.callback(planned.discard)
            if planned.plan.rows >= READ_OBJECTS_MIN or planned.plan.size_bytes >= READ_BYTES_MIN:
                break
        return planned

    async def _compare(
        self, stage: Stage, both: tuple[Side, Side], maps: PrefixMap, margin_default: float, *, keeps_extra: bool
    ) -> StageResult:
        """Compare two sides of the pair."""
        from jobs.reconcile.reconcile import reconcile
        from jobs.reconcile.stage import UnusableReport
        from jobs.runs.packed import PackedCopies

        is_replica, is_sealed = stage is Stage.REPLICA, self.pair.destination.encryption is not Encryption.S3
        packed = None if is_replica else PackedCopies.of(copy_options(self.pair), self.ledger)
        margin_seconds = self._margin_seconds(margin_default)
        options: dict[str, Any] = {
            "prefixes": maps,
            "margin_seconds": margin_seconds,
            "packed": packed and replace(packed, is_sealed=is_sealed),
            "is_complete": True,
        }
        how = {
            "versions": "current",
            "maps": maps.texts(),
            "margin": f"{margin_seconds:g}s",
            "pair": self.pair.name,
            "night": self.claim.night,
            "of_replica": is_replica,
            "keeps_extra": keeps_extra,
        }

        async def make(stack: ExitStack) -> Made:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-night-")))
            began = time.time()
            run_id, found = new_run_id("reconcile", began), None
            reports = [await self._report(side) for side in both]
            while found is None:
                ours, theirs = reports
                spec = make_spec(run_id, began, ours, theirs, how)
                try:
                    found = await reconcile((ours, theirs), scratch, (self.ledger, spec), **options)
                except UnusableReport as error:  # it lists nothing, or only a part
                    bad = next(n for n, each in enumerate(reports) if str(each.inventory.manifest) == error.manifest)
                    if reports[bad].doubted is None:
                        raise
                    reports[bad] = await self._listed(both[bad], str(error))
            run = StageRun(run_id=run_id, origins=(ours.origin, theirs.origin), source_objects=found.source_rows)
            steps = night_steps(spec, findings_by_category(found.categories, found.findings), self.ledger)
            return run, partial(publish_run, self.ledger, spec, found, steps)

        run = await self._find_or_make_run(stage, make)
        report = await self._report_of(run.run_id)
        counts = {name: each["rows"] for name, each in report["categories"].items()}
        return self._result(stage, report, counts=counts, origins=run.origins, source_objects=run.source_objects)

    async def _report(self, side: Side) -> Report:
        """A side's report: S3's if it is fresh, else one that a listing makes."""
        from jobs.inventory.find import find_inventory
        from jobs.reconcile.reconcile import Report

        reports = self.policy.inventory
        if reports is None or (bucket := reports.buckets.get(Region(side.region or ""))) is None:
            return await self._listed(side, "the policy names no inventory bucket of its region")
        try:
            store = open_store(None, side.region, None, max_in_flight=8)
            folder = f"s3://{bucket}/{reports.prefix}".rstrip("/") + f"/{side.location.bucket}/"
            inventory = await find_inventory(store, folder)
            hours = max((time.time() - inventory.created_at) / 3600, 0)
            if hours > INVENTORY_HOURS_MAX:
                raise ManifestError(f"{inventory.manifest} is {hours:.0f} h old, more than {INVENTORY_HOURS_MAX}")
            if absent := [name for name in NEEDED_FIELDS if not inventory.has_field(name)]:
                raise ManifestError(f"{inventory.manifest} has no {', '.join(absent)}: add them to its configuration")
        except (ManifestError, NotFound, Denied) as error:
            return await self._listed(side, str(error))
        origin = f"S3 Inventory's report {inventory.manifest}, {hours:.1f} h old"
        return Report(side, inventory, store, doubted=open_side(side), origin=origin)

    async def _listed(self, side: Side, why: str) -> Report:
        """A side's report by a listing, made once a night. An earlier start may have made it."""
        from jobs.inventory.find import find_inventory
        from jobs.inventory.write import write_inventory
        from jobs.reconcile.reconcile import Report

        store, target = self.ledger.store, self.ledger.location.join(f"inventories/{self.night.name}")
        folder = str(target.join(f"{side.location.bucket}/"))
        try:
            inventory = await find_inventory(store, folder)
        except ManifestError:  # nobody has listed it yet
            place = side.location._replace(key=side.location.key + commonprefix(self.scope.prefixes))
            how: Any = {"versions": False, "now": time.time(), "on_progress": None}
            with contextlib.suppress(ConfigError):  # an earlier start of this minute had all but written it
                await write_inventory(open_side(side), place, store, target, **how)
            inventory = await find_inventory(store, folder)
        return Report(side, inventory, store, origin=f"listed, since {why}")

    async def _find_or_make_run(self, stage: Stage, make: Callable[[ExitStack], Awaitable[Made]]) -> StageRun:
        """The run of a stage, which is named in the ledger before it is published.

        A run that was named and never published was given up by who named it.
        """
        for number in itertools.count(1):
            name = f"/{stage}-{number}.json"
            run = await self.night.read(name, StageRun)
            if run is None:
                with ExitStack() as stack:
                    made, publish = await make(stack)
                    run = await self.night.write(name, made)
                    if run == made and run.refused is None:
                        await publish()
            if run.refused is not None:
                return run
            with contextlib.suppress(LedgerError):  # it has no plan
                await self.ledger.plan(run.run_id)
                return run
        raise AssertionError("numbers have no end")

    async def _report_of(self, run_id: str) -> dict[str, Any]:
        report = await self.ledger.report(run_id)
        if report is None:
            raise LedgerError(f"the report of {run_id} is gone: something removes objects from the ledger")
        return report

    def _margin_seconds(self, default: float) -> float:
        return default if self.claim.margin_seconds is None else self.claim.margin_seconds

    def _result(self, stage: Stage, report: Mapping[str, Any], **more: Any) -> StageResult:
        self.display.note(f"{stage}: {report['run_id']} {report['state']}")
        same = {name: report[name] for name in ("run_id", "state", "rows", "report_html")}
        return StageResult(stage=stage, **same, **more)


def _is_of(spec: RunSpec, request: Request) -> bool:
    """True if a run is what a night asked for. A writer of the ledger can write both run and record."""
    sides_ = (spec.source, request.source), (spec.destination, request.destination)
    names = ("pair", "night", "deep", "sample", "overwrite")
    return (
        spec.job == request.job
        and all(wanted and replace(side, region=None) == replace(wanted, region=None) for side, wanted in sides_)
        and all(spec.options.get(name) == request.options.get(name) for name in names)
    )
