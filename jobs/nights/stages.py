"""Stages of a night: finds the run of a stage, or makes it, and works through it."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from posixpath import commonprefix
from typing import TYPE_CHECKING, Any

from msgspec import structs

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import Deletes, Encryption
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import RunSpec, Side
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Denied, LedgerError, ManifestError, NotFound
from jobs.ledger.ledger import Ledger
from jobs.nights.calendar import INVENTORY_HOURS_MAX, Stage, wider
from jobs.nights.documents import Claim, Night, Slice, StageResult
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import Ceiling, copy_options, globs, prefix_map, prefixes_below, replica_map, sides
from jobs.policy.words import Region
from jobs.reconcile.advice import REPAIR, findings_by_category, night_steps
from jobs.reconcile.repair import KINDS, await_later_second
from jobs.reconcile.run import make_spec, publish_run
from jobs.runs import launch
from jobs.runs.placement import planning_settings
from jobs.runs.request import Request, new_run_id
from jobs.runs.work import work
from jobs.s3.sessions import open_side, open_store

if TYPE_CHECKING:
    from jobs.reconcile.reconcile import Report
    from jobs.runs.packed import PackedCopies

NEEDED_FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The fields of a report without which a night finds no copy that differs, or no stale one."""
MARGIN_SECONDS = 900
READ_OBJECTS_MIN, READ_BYTES_MIN = 100, 1 << 30
"""A night reads so many objects, or so many bytes, however small the slice is whose turn it is."""
TOO_LARGE = (
    "Find out why the plan of the stage {} is so large, then raise the pair's limits for the next night, or copy now: "
    "sealift replicate --pair {} --dry-run"
)
Made = tuple[StageResult, Callable[[], Awaitable[Any]]]
"""What a stage is before its run is there, and what publishes the run."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages of one night work with."""

    night: Night
    policy: Policy
    pair: Pair
    scope: Scope
    settings: Settings
    executor: str | None
    display: Display
    claim: Claim | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of the runs."""
        return self.night.ledger

    async def reconcile(self) -> StageResult:
        """Compare both sides by S3's inventories if they are fresh, else by listings of now."""
        from jobs.runs.packed import PackedCopies

        both, maps = sides(self.policy, self.pair), prefix_map(self.pair, self.scope)
        keeps_extra, is_sealed = (
            self.pair.deletes is Deletes.RETAIN,
            self.pair.destination.encryption is not Encryption.S3,
        )
        packed = PackedCopies.of(copy_options(self.pair), self.ledger)
        packed = packed and replace(packed, is_sealed=is_sealed)
        return await self._compare(Stage.RECONCILE, both, maps, MARGIN_SECONDS, keeps_extra=keeps_extra, packed=packed)

    async def replica(self) -> StageResult:
        """Compare the hot bucket with its replica, which S3 writes: what differs is left to people."""
        replica, hot = self.pair.replica, sides(self.policy, self.pair)[1]
        assert replica is not None
        twin = Side(hot.location._replace(bucket=replica.bucket), region=replica.region, owner=replica.account)
        maps, keeps_extra = replica_map(self.pair, self.scope), not replica.delete_markers
        try:
            return await self._compare(Stage.REPLICA, (hot, twin), maps, replica.lag_seconds, keeps_extra=keeps_extra)
        except (Denied, NotFound) as error:
            why, advice = f"since the replica cannot be looked at: {error}", "See what is wrong with it: sealift doctor"
            return StageResult(stage=Stage.REPLICA, refused=why, advice=advice)

    async def repair(self, reconciled: StageResult) -> StageResult:
        """Copy what the comparison named, within the pair's limits."""
        report = await self._report_of(reconciled)
        if not report["repair_manifest"]:
            return StageResult(stage=Stage.REPAIR)
        await await_later_second(self.ledger, report)
        run_id = str(report["run_id"])
        request = replace(self._request("replicate", self.ledger.uri(run_id, REPAIR)), retry_of=run_id)
        return await self._work(Stage.REPAIR, [request])

    async def verify(self, stage: Stage, turn: Slice, reconciled: StageResult) -> StageResult:
        """Verify a slice. The deep stage reads.

        A listing that was just made names the objects. An inventory of yesterday does not.
        """
        report = await self._report_of(reconciled)
        manifest = str(report["source"]["manifest"])
        is_listed = manifest.startswith(str(self.ledger.location))
        if is_listed and not report["source"]["rows"]:  # a listing of nothing is no manifest
            return StageResult(stage=stage, slice=turn)
        request = self._request("verify", manifest if is_listed else None)
        options = {**request.options, "deep": stage is Stage.DEEP, "sample": list(turn)}
        # Copies of newer objects may be on their way: the next night looks at them.
        assert self.claim is not None
        until = self.claim.began_at - self._margin_seconds(MARGIN_SECONDS)
        turns = read_turns(turn, report["rows"], report["bytes"]) if stage is Stage.DEEP else [turn]
        chosen = [replace(request.selection, older_than=until, sample=Sample(*each)) for each in turns]
        return await self._work(stage, [replace(request, options=options, selection=each) for each in chosen], turn)

    def _request(self, job: str, manifest: str | None) -> Request:
        """A run of the pair. A verification has the options of copies, too, since its retry copies."""
        source, destination = sides(self.policy, self.pair)
        include, exclude = globs(self.scope)
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=manifest,
            selection=Selection(include=include, exclude=exclude),
            options={"pair": self.pair.name, "night": str(self.night.night)} | copy_options(self.pair),
            prefixes=prefixes_below(self.scope),
        )

    async def _work(self, stage: Stage, requests: Sequence[Request], turn: Slice | None = None) -> StageResult:
        """Make the run of a stage if there is none, and work through it.

        It is the first of these that is large enough for a night.
        """
        first, kind = requests[0], KINDS[requests[0].job]
        settings = await planning_settings(self.executor, self.settings, first)

        async def make(stack: ExitStack) -> Made:
            for request in requests:
                copies = stage is Stage.REPAIR
                planned = await launch.plan_run(request, self.ledger, settings, self.display, copies=copies)
                stack.callback(planned.discard)
                if planned.plan.rows >= READ_OBJECTS_MIN or planned.plan.size_bytes >= READ_BYTES_MIN:
                    break
            run_id, refused = planned.spec.run_id, Ceiling.of(self.pair).refusal(planned.plan)
            if refused is not None:
                advice = TOO_LARGE.format(stage, self.pair.name)
                return StageResult(stage=stage, run_id=run_id, refused=refused, advice=advice, slice=turn), _nothing
            planned = await launch.try_conditions(planned, kind.writes(planned.spec))
            return StageResult(stage=stage, run_id=run_id, slice=turn), partial(launch.publish, planned, self.ledger)

        named = await self._find_or_make_run(stage, make)
        if named.refused is not None:
            return named
        run_id = str(named.run_id)
        spec, plan = await self.ledger.spec(run_id), await self.ledger.plan(run_id)
        if not _is_of(spec, first):
            raise LedgerError(
                f"{run_id} is not a run of this night: the ledger was altered",
                advice=f"find out who wrote {self.night.uri(f'/{stage}-1.json')}, then go on with the next night",
            )
        report, code, _ = await work(spec, plan, self.ledger, self.settings, self.executor, self.display, kind)
        return self._result(named, report, report["outcomes"], code)

    async def _compare(
        self,
        stage: Stage,
        both: tuple[Side, Side],
        maps: PrefixMap,
        margin_default: float,
        *,
        keeps_extra: bool,
        packed: PackedCopies | None = None,
    ) -> StageResult:
        """Compare two sides of the pair."""
        from jobs.reconcile.reconcile import reconcile
        from jobs.reconcile.stage import UnusableReport

        margin_seconds = self._margin_seconds(margin_default)
        how = {
            "versions": "current",
            "maps": maps.texts(),
            "margin": f"{margin_seconds:g}s",
            "pair": self.pair.name,
            "night": str(self.night.night),
            "of_replica": stage is Stage.REPLICA,
            "keeps_extra": keeps_extra,
        }
        options: dict[str, Any] = {"prefixes": maps, "margin_seconds": margin_seconds, "packed": packed}

        async def make(stack: ExitStack) -> Made:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-night-")))
            began = time.time()
            run_id, found = new_run_id("reconcile", began), None
            reports = [await self._report(side) for side in both]
            while found is None:
                ours, theirs = reports
                spec = make_spec(run_id, began, ours, theirs, how)
                try:
                    found = await reconcile((ours, theirs), scratch, (self.ledger, spec), is_complete=True, **options)
                except UnusableReport as error:  # it lists nothing, or only a part
                    bad = next(n for n, each in enumerate(reports) if str(each.inventory.manifest) == error.manifest)
                    if reports[bad].doubted is None:
                        raise
                    reports[bad] = await self._listed(both[bad], str(error))
            steps = night_steps(spec, findings_by_category(found.categories, found.findings), self.ledger)
            origins = ours.origin, theirs.origin
            named = StageResult(stage=stage, run_id=run_id, origins=origins, source_objects=found.source_rows)
            return named, partial(publish_run, self.ledger, spec, found, steps)

        named = await self._find_or_make_run(stage, make)
        report = await self._report_of(named)
        return self._result(named, report, {name: each["rows"] for name, each in report["categories"].items()})

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

    async def _find_or_make_run(self, stage: Stage, make: Callable[[ExitStack], Awaitable[Made]]) -> StageResult:
        """The run of a stage, which is named in the ledger before it is published.

        A run that was named and never published was given up by who named it.
        """
        for number in itertools.count(1):
            name = f"/{stage}-{number}.json"
            named = await self.night.read(name, StageResult)
            if named is None:
                with ExitStack() as stack:
                    made, publish = await make(stack)
                    named = await self.night.write(name, made)
                    if named == made:
                        await publish()
            if named.refused is not None:
                return named
            with contextlib.suppress(LedgerError):  # it has no plan
                await self.ledger.plan(str(named.run_id))
                return named
        raise AssertionError("numbers have no end")

    async def _report_of(self, stage: StageResult) -> dict[str, Any]:
        report = await self.ledger.report(str(stage.run_id))
        if report is None:
            raise LedgerError(f"the report of {stage.run_id} is gone: something removes objects from the ledger")
        return report

    def _margin_seconds(self, default: float) -> float:
        assert self.claim is not None
        return default if self.claim.margin_seconds is None else self.claim.margin_seconds

    def _result(
        self, named: StageResult, report: Mapping[str, Any], counts: Mapping[str, int], code: int = 0
    ) -> StageResult:
        self.display.say(f"{named.stage}: {report['run_id']} {report['state']}")
        same = {name: report[name] for name in ("state", "rows", "report_html")}
        return structs.replace(named, counts=counts, exit_code=code, **same)


def read_turns(turn: Slice, rows: int, size_bytes: int) -> list[Slice]:
    """The slices of which a night reads the first that is large enough: the one in turn, or a wider one.

    `rows`, `size_bytes`: of all objects, about.
    """
    most = 2 * max(rows / READ_OBJECTS_MIN, size_bytes / READ_BYTES_MIN)
    return [*(each for each in wider(*turn)[:-1] if each[1] <= most), (0, 1)]


async def _nothing() -> None:
    """What publishes a run that was refused."""


def _is_of(spec: RunSpec, request: Request) -> bool:
    """True if a run is what a night asked for. A writer of the ledger can write both run and record."""
    sides_ = (spec.source, request.source), (spec.destination, request.destination)
    names = ("pair", "night", "deep", "sample", "overwrite")
    return (
        spec.job == request.job
        and all(wanted and replace(side, region=None) == replace(wanted, region=None) for side, wanted in sides_)
        and all(spec.options.get(name) == request.options.get(name) for name in names)
    )
