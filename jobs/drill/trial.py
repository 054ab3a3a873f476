"""A drill, step by step: choose, restore, compare, let the user check, remove, and say what came of it.

Its restores are ordinary runs, whose specs name the drill. What was found is written into the ledger before anything is
removed. So a drill that was stopped goes on under its name, and never takes what it has removed for missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.elapsed import elapsed_seconds
from jobs.core.enums import AnnotationRule
from jobs.core.model import Location, ObjectVersion, Route
from jobs.core.outcome import Outcome
from jobs.core.run import Plan, RunSpec, RunState, Side
from jobs.core.selection import Selection
from jobs.drill.model import ARCHIVES, SOURCE, Asked, Leg, Sample
from jobs.drill.proof import Prover, remove, written_by
from jobs.drill.sample import draw
from jobs.drill.summary import HISTORY, Checked, Drill, LegResult, Summary, ended_drills, judge, page_of
from jobs.errors import ConfigError, ExitCode, Interrupted, LedgerError, UsageError
from jobs.ledger.run_ids import run_job
from jobs.policy import run_options
from jobs.policy.coverage import Scope, scope
from jobs.policy.model import Pair, Policy
from jobs.reconcile.repair import KINDS
from jobs.reconcile.repair import plan as plan_copies
from jobs.restore.kind import KIND as RESTORE
from jobs.restore.thawing import Tier
from jobs.runs import launch
from jobs.runs.folding import open_fold
from jobs.runs.request import Planned, Request
from jobs.runs.scratch import scratch_folder
from jobs.runs.work import work
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.listing import list_all
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side, side_store
from jobs.tables.rows import column_values, schema_of

HERE = "local"
BUDGET_BYTES = 256 * 1024**2
DAY_SECONDS = 86_400.0


class LegPlan(Struct, frozen=True):
    """A leg, what was chosen of it, and the run that restores it (None: nothing was). `planned`: not yet published."""

    leg: Leg
    sample: Sample
    run: tuple[RunSpec, Plan] | None = None
    planned: Planned | None = None


def check_apart(policy: Policy, to: Location) -> None:
    """Check that a drill writes into no bucket that the policy names for anything else. Raises UsageError."""
    named = {side.bucket: section for *_, section, side in policy.sections()} | {policy.ledger.bucket: "ledger"}
    named |= dict.fromkeys(policy.inventory.buckets.values() if policy.inventory else (), "inventory")
    if to.bucket in named:
        what = f"{to} is in the bucket of a {named[to.bucket]}, and a drill writes and deletes"
        raise UsageError(what, advice="name a bucket of its own with --to, or as drill.bucket in the policy")


class Trial(Struct, frozen=True):
    """A drill of a pair. `check`: the user's command, and how many seconds it may take."""

    drill: Drill
    policy: Policy
    pair: Pair
    settings: Settings
    display: Display
    asked: Asked
    check: tuple[Sequence[str], float] | None

    def legs(self) -> list[Leg]:
        """The places that the pair's objects can be restored from."""
        pair, (_, hot) = self.pair, run_options.sides(self.policy, self.pair)
        own = scope(self.policy, pair)

        def leg(name: str, side: Side, prefix: str, packed_from: str | None = None) -> Leg:
            prefixes = tuple(prefix + each for each in run_options.prefixes_below(own, self.asked.prefix))
            _, exclude = run_options.globs(Scope((), tuple(prefix + each for each in own.excluded)))
            return Leg(name, side, prefix, prefixes, exclude, packed_from)

        legs = [leg("hot", hot, hot.location.key)]
        if twin := pair.replica:
            there = Side(hot.location._replace(bucket=twin.bucket), region=twin.region, owner=twin.account)
            legs.append(leg("replica", there, hot.location.key))
        if archive := pair.archive:
            there = Side(Location.parse(archive.uri), region=archive.region, owner=archive.account)
            packed, prefix = run_options.packed_side(pair, archive)
            legs.append(leg(ARCHIVES, there, prefix, packed.bucket))
        return legs

    async def plan(self, scratch: ExitStack) -> list[LegPlan]:
        """What each leg restores: what its run has, or what is chosen now. Nothing is written but to `scratch`.

        Raises ConfigError for a place that keeps no versions, or has objects before the drill.
        """
        await self._check_place()
        return [await self._find(leg) or await self._choose(leg, scratch) for leg in self.legs()]

    async def run(self, plans: Sequence[LegPlan]) -> Summary:
        """Restore, compare, check, remove, and say what came of it. Raises Interrupted where a run has rows left."""
        began, results = time.time(), list[LegResult]()
        await self.drill.write("/asked.json", self.asked)
        for each in plans:
            results.append(await self.drill.read(f"/{each.leg.name}.json", LegResult) or await self._do(each))
        checked = await self.drill.read("/check.json", Checked)
        if self.check and checked is None:
            checked = await self.drill.write("/check.json", await self._check(*self.check))
        async with side_store(self.asked.to) as store:
            left = await remove(store, self.asked.to.location, [each for leg in results for each in leg.written])
        verdict, steps = judge(self.pair.name, results, checked, left)
        earlier, ended = await ended_drills(self.drill.ledger, self.pair.name, HISTORY), time.time()
        summary = Summary(
            pair=self.pair.name,
            name=self.drill.name,
            to=str(self.asked.to.location),
            verdict=verdict,
            next_steps=steps,
            exit_code=int(ExitCode.FINDINGS if steps else ExitCode.DONE),
            began_at=began,
            finished_at=ended,
            good_at=ended if not steps else earlier[0].good_at if earlier else None,
            legs=[replace(each, written=()) for each in results],
            check=checked,
            left=left[:100],
            report_html=str(self.drill.ledger.location.join(f"{self.drill.folder}.html")),
        )
        summary = await self.drill.write(".json", summary)
        await self.drill.write_bytes(".html", page_of(summary, earlier).encode())
        return summary

    async def _check_place(self) -> None:
        to, place = self.asked.to, self.asked.to.location
        async with side_store(to) as store:
            if not await store.is_versioned(place.bucket):
                what = f"{place.bucket} keeps no versions, and a drill removes only versions that it wrote itself"
                raise ConfigError(what, advice="enable its versioning, or name another bucket with --to")
            if await self.drill.read("/asked.json", Asked) is None:
                async for page in list_all(store, place, versions=True):
                    if page:
                        raise ConfigError(f"{place} is not empty", advice="name another drill or place: --name, --to")

    async def _find(self, leg: Leg) -> LegPlan | None:
        """The run of this drill that restores the leg, if it was published."""
        ledger, since = self.drill.ledger, time.strftime("%Y%m%d", time.gmtime(self.asked.at - DAY_SECONDS))
        for run_id in await ledger.run_ids(since):
            with contextlib.suppress(LedgerError):
                if run_job(run_id) == RESTORE.name:
                    spec = await ledger.spec(run_id)
                    if spec.options.get("drill") == [self.pair.name, self.drill.name, leg.name]:
                        return LegPlan(leg, convert(spec.options["drawn"], Sample), (spec, await ledger.plan(run_id)))
        return None

    async def _choose(self, leg: Leg, scratch: ExitStack) -> LegPlan:
        folder = Path(scratch.enter_context(TemporaryDirectory(prefix="sealift-drill-")))
        sample, manifest = await draw(leg, self.asked, self.pair.source.bucket, self.drill.ledger, folder)
        if not sample.rows:
            return LegPlan(leg, sample)
        options: dict[str, Any] = {
            "at": None,
            "bucket": leg.packed_from,
            "in_place": False,
            "tier": Tier.BULK.value,
            "storage_class": "STANDARD",
            "archives": leg.side.to_dict() if leg.packed_from else None,
            "is_history": leg.packed_from is None,
            "source_prefix": leg.prefix,
            "drill": [self.pair.name, self.drill.name, leg.name],
            "drawn": to_builtins(sample),
        }
        to = replace(self.asked.to, location=self.asked.to.location.join(f"{leg.name}/"))
        request = Request("restore", leg.side, to, str(manifest), Selection(versions="all"), options)
        assert RESTORE.plan is not None
        planned = await RESTORE.plan(request, self.drill.ledger, self.settings, self.display)
        scratch.callback(planned.discard)
        spec = replace(planned.spec, manifest=f"sample of {leg.side.location}")
        plan = await launch.timed(planned, self.drill.ledger, is_carried=RESTORE.carries_bytes)
        return LegPlan(leg, sample, (spec, plan), replace(planned, spec=spec, plan=plan))

    async def _do(self, chosen: LegPlan) -> LegResult:
        """Restore a leg, and compare what came of it."""
        ledger, leg = self.drill.ledger, chosen.leg
        if chosen.run is None:
            return LegResult(leg=leg.name, sample=chosen.sample)
        spec, plan = chosen.run
        if chosen.planned is not None:
            async with AsyncExitStack() as behind:
                planned = await launch.try_conditions(chosen.planned, RESTORE.writes(spec), behind)
            await launch.publish(planned, ledger)
            spec = planned.spec
        report = await ledger.report(spec.run_id)
        if report is None:
            report = (await work(spec, plan, ledger, self.settings, HERE, self.display, RESTORE)).report
        if report["state"] != RunState.COMPLETE:
            again = f"sealift drill --pair {self.pair.name} --name {self.drill.name}"
            what = f"the drill {self.drill.name} is not finished: run {spec.run_id} has rows left to do"
            raise Interrupted(what, advice=f"go on with it: {again}")
        rows, outcomes = await self._outcomes(spec, plan)
        source, _ = run_options.sides(self.policy, self.pair)
        stores = [open_side(each) for each in (source, leg.side, self.asked.to)]
        route = Route(Location(leg.side.location.bucket, leg.prefix), spec.destination.location)
        recent = self.asked.at - DAY_SECONDS * (self.policy.drill.days if self.policy.drill else 7)
        budget, noted = ByteBudget(BUDGET_BYTES), self.pair.destination.annotations is AnnotationRule.COPY
        prover = Prover(leg, route, source.location, stores[0], stores[1], stores[2], budget, recent, noted)
        try:
            proofs = await prover.prove(rows, outcomes)
        finally:
            await gather_bounded(lambda store: store.close(), stores)
        by, wrong = [each.by for each in proofs if each.by], [each for each in proofs if each.reason]
        if copies := [each.key[len(leg.prefix) :] for each in wrong if each.by == SOURCE and leg.name == "hot"]:
            await self._verify(copies)
        result = LegResult(
            leg=leg.name,
            run_id=spec.run_id,
            sample=chosen.sample,
            findings=wrong,
            by={name: by.count(name) for name in dict.fromkeys(by)},
            size_bytes=sum(each.size_bytes for each in proofs),
            seconds=report["worked_seconds"],
            planned_seconds=(plan.seconds, plan.seconds_most),
            dollars=plan.total_dollars,
            lag_seconds=max((each.lag_seconds for each in proofs if each.lag_seconds is not None), default=None),
            written=written_by(route, rows, outcomes),
        )
        return await self.drill.write(f"/{leg.name}.json", result)

    async def _outcomes(self, spec: RunSpec, plan: Plan) -> tuple[list[ObjectVersion], list[Outcome]]:
        """The rows of a run, and what became of each."""
        with scratch_folder("drill") as folder:
            connection = await open_fold(self.drill.ledger, spec.run_id, plan, folder)
            assert connection is not None  # a complete run has an outcome for each row
            manifest = connection.sql("FROM manifest ORDER BY row").to_arrow_table()
            folded = connection.sql("FROM folded ORDER BY row").to_arrow_table()
        rows = [*map(ObjectVersion, *column_values(manifest, schema_of(ObjectVersion)))]
        outcomes = [*map(Outcome, *column_values(folded, schema_of(Outcome)))]
        return rows, outcomes

    async def _verify(self, keys: Sequence[str]) -> None:
        """Compare copies with their originals by an ordinary run, so that the state knows what is wrong with them."""
        source, hot = run_options.sides(self.policy, self.pair)
        options = {**run_options.copy_options(self.pair), "pair": self.pair.name, "deep": True, "compares_tags": True}
        with ExitStack() as scratch:
            manifest = Path(scratch.enter_context(TemporaryDirectory()), "found.parquet")
            pq.write_table(pa.table({"key": list(keys)}), manifest)
            request = Request("verify", source, hot, str(manifest), Selection(), options)
            how = self.drill.ledger, self.settings, HERE, self.display
            planned = await plan_copies(request, *how, scratch)
            planned = replace(planned, spec=replace(planned.spec, manifest=f"found by drill {self.drill.name}"))
            await launch.publish(planned, self.drill.ledger)
            await work(planned.spec, planned.plan, *how, KINDS["verify"])

    async def _check(self, words: Sequence[str], seconds: float) -> Checked:
        """Run the user's check with the place as its last argument. It is stopped with all that it started."""
        began, arguments = elapsed_seconds(), [*words, str(self.asked.to.location)]
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=2, start_new_session=True
        )
        code: int | None = None
        try:
            with contextlib.suppress(TimeoutError):
                code = await asyncio.wait_for(process.wait(), seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return Checked(" ".join(arguments), code, elapsed_seconds() - began)
