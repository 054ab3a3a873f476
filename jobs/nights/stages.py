"""Stages of a night: finds the run of a stage, or makes it, and works through it.

| stage     | its run                                                                           |
|-----------|-----------------------------------------------------------------------------------|
| reconcile | compares both sides, by S3's inventories if they are fresh, else by listings       |
| repair    | copies what the comparison named                                                  |
| replica   | compares the hot bucket with its replica, which S3 writes: what differs is left    |
| slice     | verifies a slice by checksums                                                     |
| deep      | reads another slice, or a wider one: at least 100 objects or 1 GiB                 |

A run's spec names its night. So a night that was stopped finds its runs again, and what is not
there yet is made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from posixpath import commonprefix
from typing import Any

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import Deletes, Encryption
from jobs.core.model import Location, parse_time
from jobs.core.run import RunSpec, Side
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.errors import Denied, LedgerError, ManifestError, NotFound
from jobs.ledger.ledger import Ledger
from jobs.ledger.run_ids import run_job
from jobs.nights.calendar import INVENTORY_HOURS_MAX, STAGES, due_after, wider
from jobs.nights.documents import Night, Slice, StageResult, Summary
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import Ceiling, copy_options, globs, prefix_map, prefixes_below, replica_map, sides
from jobs.policy.words import Region
from jobs.reconcile.advice import REPAIR
from jobs.reconcile.repair import KINDS, await_later_second, plan
from jobs.reconcile.run import Report, compare, list_side
from jobs.reconcile.stage import UnusableReport
from jobs.runs import launch
from jobs.runs.packed import PackedCopies
from jobs.runs.request import Request, new_run_id
from jobs.runs.work import work
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side, open_store

NEEDED_FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The fields of a report without which a night finds no copy that differs, or no stale one."""
MARGIN_SECONDS = 900
READS = 32
READ_OBJECTS_MIN, READ_BYTES_MIN = 100, 1 << 30
"""A night reads so many objects, or so many bytes, however small the slice is whose turn it is."""
TOO_LARGE = "See why, then raise its limits for the next night, or copy now: sealift replicate --pair {} --dry-run"


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages of one night work with.

    `margin_seconds`: a difference is in flight if it is younger than a report less this. None: the
    default, which for a replica is the time that S3 may take. `earlier`: summaries of earlier nights, the
    latest first. `lists`: the reports that listings have made.
    """

    night: Night
    policy: Policy
    pair: Pair
    scope: Scope
    settings: Settings
    executor: str | None
    display: Display
    margin_seconds: float | None
    earlier: Sequence[Summary]
    lists: dict[Location, Report] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the runs."""
        return self.night.ledger

    def due(self) -> list[str]:
        """The stages that the policy asks for."""
        asked = {"replica": self.pair.replica is not None, "deep": bool(self.pair.verify.deep)}
        return [stage for stage in STAGES if asked.get(stage, True)]

    async def run(self, stage: str, results: Sequence[StageResult]) -> StageResult:
        """Do a stage, or what is left of it. `results`: those of the stages before it."""
        if stage in ("reconcile", "replica"):
            try:
                return await self._compare(stage)
            except (Denied, NotFound) as error:
                if stage == "reconcile":
                    raise
                why, advice = f"since it cannot be looked at: {error}", "See what is wrong with it: sealift doctor"
                return StageResult(stage=stage, refused=why, advice=advice)
        compared = await self.ledger.report(str(results[0].run_id)) or {}
        requests, turn = self._requests(stage, compared)
        if not requests:
            return StageResult(stage=stage, slice=turn)
        if stage == "repair":
            await await_later_second(self.ledger, compared)
        return await self._work(stage, requests, turn)

    def _requests(self, stage: str, compared: Mapping[str, Any]) -> tuple[list[Request], Slice | None]:
        """The runs that a stage may take, the first large enough one counts, and the slice of this night.

        `compared`: the report of the night's comparison.
        """
        is_deep, asked, source = stage == "deep", self.pair.verify, compared["source"]
        if stage == "repair":
            request = self._request("replicate", self.ledger.uri(compared["run_id"], REPAIR))
            return [replace(request, retry_of=compared["run_id"])] * bool(compared["repair_manifest"]), None
        turn = due_after(self.night.day, int((is_deep and asked.deep) or asked.rota), stage, self.earlier)
        # A listing that was just made names the objects. An inventory of yesterday does not.
        is_listed = source["manifest"].startswith(str(self.ledger.location))
        if is_listed and not source["rows"]:  # a listing of nothing is no manifest
            return [], turn
        # Copies of newer objects may be on their way: the next night looks at them.
        older = parse_time(compared["created_at"]) - compared["margin_seconds"]
        turns = read_turns(turn, compared["rows"], compared["bytes"]) if is_deep else [turn]
        request = self._request("verify", source["manifest"] if is_listed else None, deep=is_deep, sample=[*turn])
        chosen = [replace(request.selection, older_than=older, sample=Sample(*each)) for each in turns]
        return [replace(request, selection=each) for each in chosen], turn

    def _request(self, job: str, manifest: str | None, **options: Any) -> Request:
        """A run of the pair. A verification has the options of copies, too, since its retry copies."""
        source, destination = sides(self.policy, self.pair)
        include, exclude = globs(self.scope)
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=manifest,
            selection=Selection(include=include, exclude=exclude),
            options=self._names() | copy_options(self.pair) | options,
            prefixes=prefixes_below(self.scope),
        )

    def _names(self) -> dict[str, Any]:
        return {"pair": self.pair.name, "night": str(self.night.day), "night_label": self.night.label}

    async def _work(self, stage: str, requests: Sequence[Request], turn: Slice | None) -> StageResult:
        """Work through the run of a stage. Make it if there is none."""
        how = self.ledger, self.settings, self.executor, self.display
        if (spec := await self._find(requests[0])) is None:
            with ExitStack() as stack:
                for request in requests:
                    planned = await plan(request, *how, stack)
                    if planned.plan.rows >= READ_OBJECTS_MIN or planned.plan.size_bytes >= READ_BYTES_MIN:
                        break
                if (refused := Ceiling.of(self.pair).refusal(planned.plan)) is not None:
                    return StageResult(
                        stage=stage, refused=refused, advice=TOO_LARGE.format(self.pair.name), slice=turn
                    )
                await launch.publish(planned, self.ledger)
                spec = planned.spec
        report, code, _ = await work(spec, await self.ledger.plan(spec.run_id), *how, KINDS[spec.job])
        return self._result(stage, report, counts=report["outcomes"], exit_code=code, slice=turn)

    async def _compare(self, stage: str) -> StageResult:
        """Compare both sides of the pair, or the replica with the hot bucket."""
        pair, (source, hot), replica, packed = self.pair, sides(self.policy, self.pair), self.pair.replica, None
        if stage == "replica" and replica is not None:
            twin = Side(hot.location._replace(bucket=replica.bucket), region=replica.region, owner=replica.account)
            both, maps, margin_seconds = (hot, twin), replica_map(pair, self.scope), replica.lag_seconds
            keeps_extra = not replica.delete_markers
        else:
            both, maps, margin_seconds = (source, hot), prefix_map(pair, self.scope), MARGIN_SECONDS
            keeps_extra = pair.deletes is Deletes.RETAIN
            if (packed := PackedCopies.of(copy_options(pair), self.ledger)) is not None:
                packed = replace(packed, is_sealed=pair.destination.encryption is not Encryption.S3)
        options = {"maps": [*maps.texts()], "excluded": [*maps.excluded], "keeps_extra": keeps_extra}
        options |= self._names() | {"of_replica": stage == "replica"}
        spec = await self._find(Request("reconcile", *both, None, Selection(), options))
        report = await self.ledger.report(spec.run_id) if spec else None
        if report is None:
            margin_seconds = margin_seconds if self.margin_seconds is None else self.margin_seconds
            began = time.time()
            run_id = new_run_id("reconcile", began)
            made = partial(
                compare,
                self.ledger,
                run_id,
                began,
                maps=maps,
                margin_seconds=margin_seconds,
                options=options,
                packed=packed,
                is_complete=True,
            )
            try:
                report = await made([await self._report(side, run_id) for side in both])
            except UnusableReport as error:  # it lists nothing, or only a part
                report = await made([await self._listed(side, run_id, str(error)) for side in both])
        counts = {name: each["rows"] for name, each in report["categories"].items()}
        return self._result(stage, report, counts=counts, source_objects=report["source_rows"])

    async def _report(self, side: Side, run_id: str) -> Report:
        """A side's report: S3's if it is fresh, else one that a listing makes."""
        from jobs.inventory.find import find_inventory

        reports = self.policy.inventory
        if reports is None or (bucket := reports.buckets.get(Region(side.region or ""))) is None:
            return await self._listed(side, run_id, "the policy names no inventory bucket of its region")
        try:
            store = open_store(None, side.region, None, max_in_flight=8)
            folder = f"s3://{bucket}/{reports.prefix}".rstrip("/") + f"/{side.location.bucket}/"
            inventory = await find_inventory(store, folder)
            hours = (time.time() - inventory.created_at) / 3600
            if hours > INVENTORY_HOURS_MAX:
                raise ManifestError(f"{inventory.manifest} is {hours:.0f} h old, more than {INVENTORY_HOURS_MAX}")
            if absent := [name for name in NEEDED_FIELDS if not inventory.has_field(name)]:
                raise ManifestError(f"{inventory.manifest} has no {', '.join(absent)}: add them to its configuration")
        except (ManifestError, NotFound, Denied) as error:
            return await self._listed(side, run_id, str(error))
        return Report(side, inventory, store, doubted=open_side(side))

    async def _listed(self, side: Side, run_id: str, why: str) -> Report:
        """A side's report by a listing, made once."""
        place = side.location._replace(key=side.location.key + commonprefix(self.scope.prefixes))
        if place not in self.lists:
            self.display.say(f"{place} is listed, since {why}")
            self.lists[place] = await list_side(side, place, self.ledger, run_id)
        return self.lists[place]

    async def _find(self, wanted: Request) -> RunSpec | None:
        """The run of this night that asks for the same, if it was planned.

        The policy may have changed since it was, and any writer of the ledger can write one.
        """

        async def look(run_id: str) -> RunSpec | None:
            with contextlib.suppress(LedgerError):
                spec = await self.ledger.spec(run_id)
                if _is_of(spec, wanted):
                    await self.ledger.plan(run_id)
                    return spec
            return None

        since = self.night.day - timedelta(days=1)
        run_ids = [each for each in await self.ledger.run_ids(f"{since:%Y%m%d}") if run_job(each) == wanted.job]
        return next(filter(None, reversed(await gather_bounded(look, run_ids, READS))), None)

    def _result(self, stage: str, report: Mapping[str, Any], **more: Any) -> StageResult:
        self.display.say(f"{stage}: {report['run_id']} {report['state']}")
        return StageResult(
            stage=stage, **{name: report[name] for name in ("run_id", "state", "rows", "report_html")}, **more
        )


def read_turns(turn: Slice, rows: int, size_bytes: int) -> list[Slice]:
    """The slices of which a night reads the first that is large enough: the one in turn, or a wider one.

    `rows`, `size_bytes`: of all objects, about.
    """
    most = 2 * max(rows / READ_OBJECTS_MIN, size_bytes / READ_BYTES_MIN)
    return [*(each for each in wider(*turn)[:-1] if each[1] <= most), (0, 1)]


def _is_of(spec: RunSpec, wanted: Request) -> bool:
    places = (spec.source, wanted.source), (spec.destination, wanted.destination)
    return (
        all(side and replace(there, region=None) == replace(side, region=None) for there, side in places)
        and all(spec.options.get(name) == value for name, value in wanted.options.items())
        and wanted.manifest in (None, spec.manifest)
        and spec.options.get("overwrite") is None
    )
