"""Night of a pair: its stages, what the state says then, and one summary.

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
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from posixpath import commonprefix
from typing import Any

import duckdb
from msgspec import Struct, json
from msgspec.structs import replace

from jobs.config import Settings
from jobs.core.category import Category
from jobs.core.display import Display
from jobs.core.enums import Encryption
from jobs.core.model import Attributes, parse_time
from jobs.core.run import RunSpec, RunState, Side
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.errors import Denied, ExitCode, Interrupted, LedgerError, LimitExceeded, ManifestError, NoSuchBucket, NotFound
from jobs.inventory.find import find_inventory
from jobs.ledger.ledger import DIFFERENCES
from jobs.ledger.run_ids import run_job
from jobs.ledger.state import BAD, COMPLETE, OVER, service_name
from jobs.ledger.state_files import compact, fetch_files
from jobs.ledger.views import open_views
from jobs.nights.calendar import INVENTORY_HOURS_MAX, slices
from jobs.nights.summary import GOOD, Emptied, Known, Night, StageResult, Summary, judge, page_of, stage_text
from jobs.policy import run_options
from jobs.policy.coverage import Scope, scope
from jobs.policy.model import Pair, Policy
from jobs.policy.words import Region
from jobs.reconcile.advice import REPAIR
from jobs.reconcile.repair import KINDS, await_later_second, plan
from jobs.reconcile.run import Report, compare, list_side
from jobs.reconcile.stage import UnusableReport
from jobs.reports.document import iso_time
from jobs.runs import launch
from jobs.runs.request import Request, new_run_id
from jobs.runs.summaries import counted
from jobs.runs.there import PackedCopies
from jobs.runs.work import end, work
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side, open_store
from jobs.tables.duck import in_thread, parquet, quoted

NEEDED_FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The fields of a report without which a night finds no copy that differs, or no stale one."""
MARGIN_SECONDS = 900.0
READ_OBJECTS_MIN, READ_BYTES_MIN = 100, 1 << 30
"""A night reads so many objects, or so many bytes, however small its slice is."""
READ_DAYS = 360
"""How long a read of bytes counts where the policy asks for none."""
FIRST_KEYS = 10
"""How many of the objects that are left a night names."""
TOO_LARGE = "See why, then raise its limits for the next night, or copy now: sealift replicate --pair {} --dry-run"
UNREACHED = "See what is wrong with it: sealift doctor"
HTML = Attributes(headers={"content-type": "text/html; charset=utf-8"})


class NightWork(Struct, frozen=True):
    """What one start of a night works with.

    `margin_seconds`: a difference is in flight if it is younger than a report less this. None: the
    default, which for a replica is the time that S3 may take. `last`: the summary of the last night before.
    """

    night: Night
    policy: Policy
    pair: Pair
    scope: Scope
    settings: Settings
    executor: str | None
    display: Display
    margin_seconds: float | None
    last: Summary | None

    async def run(self, drill_says: str, drill_advice: str) -> Summary:
        """Start or continue a night that has not ended, and return its summary.

        `drill_says`: of the pair's last drill, with what to do, if anything.
        Exit code 3: the night is done, and something is left to people, or nothing was compared. Code 2 would
        say that nothing was started. Raises Interrupted, with the code of its run, for a night that stopped.
        """
        night, compared = self.night, await self.compare("reconcile")
        results, emptied = [self._result("reconcile", compared)], self._find_emptied(compared)
        asked = {"repair": True, "replica": self.pair.replica, "slice": True, "deep": self.pair.verify.deep}
        stages = [stage for stage, is_asked in asked.items() if is_asked and not emptied]
        results += [await self._do(stage, compared) for stage in stages]
        known, finished_at = await self._ask(compared), datetime.fromtimestamp(int(time.time()), UTC)
        ending, sentence, steps = judge(night, results, known, emptied)
        summary = Summary(
            pair=night.pair,
            night=str(night.day),
            **run_options.named_places(self.policy, self.pair),
            verdict=f"{sentence}: {'; '.join(f'{each.stage} {stage_text(each)}' for each in results)}.",
            next_steps=steps,
            drill=f"{drill_says.capitalize()}: {drill_advice}" if drill_advice else "",
            ending=ending,
            exit_code=int(ExitCode.DONE if ending in GOOD else ExitCode.FINDINGS),
            began_at=datetime.fromtimestamp(parse_time(compared["created_at"]), UTC),
            finished_at=finished_at,
            good_at=finished_at if ending in GOOD else self.last.good_at if self.last else None,
            stages=results,
            known=known,
            emptied=emptied,
            report_html=str(night.ledger.location.join(f"{night.name}.html")),
        )
        await night.write(".json", json.format(json.encode(summary), indent=2))
        summary = await night.read() or summary
        await write_page(night, summary)
        return summary

    def _find_emptied(self, compared: Mapping[str, Any]) -> Emptied | None:
        """The last night in which the source had objects, if it has none now. Each night passes that on to the next."""
        last = self.last
        if compared["source_rows"] or last is None:
            return None
        if not last.known.objects:
            return last.emptied
        # A delete that was mirrored hides a copy, and the version below it is still there.
        source, destination = run_options.sides(self.policy, self.pair)
        words = ["--source", str(destination.location), "--destination", str(source.location)]
        restore = shlex.join(["sealift", "restore", *words, "--as-of", iso_time(last.finished_at.timestamp())])
        return Emptied(last.night, last.known.objects, restore)

    async def _do(self, stage: str, compared: Mapping[str, Any]) -> StageResult:
        """Do a stage after the comparison, or what is left of it. `compared`: the report of that."""
        requests = self._requests(stage, compared)
        turn = requests[0].options.get("sample") if requests else None
        try:
            if stage == "replica":
                return self._result(stage, await self.compare(stage))
            if not requests:
                return StageResult(stage=stage)
            spec = await self._find(requests[0]) or await self._plan(requests, compared)
        except (LimitExceeded, Denied, NotFound, NoSuchBucket) as error:
            advice = TOO_LARGE.format(self.pair.name) if isinstance(error, LimitExceeded) else UNREACHED
            return StageResult(stage=stage, refused=error.what, advice=advice, slice=turn)
        ledger, kind = self.night.ledger, KINDS[spec.job]
        run = spec, await ledger.plan(spec.run_id), ledger
        how = self.settings, self.executor, self.display
        report, code, _ = await (end(*run, kind) if await ledger.report(spec.run_id) else work(*run, *how, kind))
        if report["state"] != RunState.COMPLETE:
            night = f"--pair {self.pair.name} --night {self.night.day} --again"
            what = f"the night of {self.night.day} is not finished: {stage} has rows left to do, run {spec.run_id}"
            stopped = Interrupted(what, advice=f"go on with it: sealift nightly {night}")
            stopped.exit_code = ExitCode(code)
            raise stopped
        return self._result(stage, report, slice=turn)

    async def _plan(self, requests: Sequence[Request], compared: Mapping[str, Any]) -> RunSpec:
        """Plan and publish the first of these runs that is large enough, or the last one."""
        ledger, limits = self.night.ledger, self.pair.limits
        if requests[0].job == "replicate":
            await await_later_second(ledger, compared)
        with ExitStack() as stack:
            for request in requests:
                planned = await plan(request, ledger, self.settings, self.executor, self.display, stack)
                if planned.plan.rows >= READ_OBJECTS_MIN or planned.plan.size_bytes >= READ_BYTES_MIN:
                    break
            launch.check_limits([planned], limits.max_cost, limits.max_objects, launch.OF_PAIR)
            await launch.publish(planned, ledger)
        return planned.spec

    def _requests(self, stage: str, compared: Mapping[str, Any]) -> list[Request]:
        """The runs that a stage may take: the first one that is large enough counts."""
        is_deep, asked, source = stage == "deep", self.pair.verify, compared["source"]
        (original, copy), (include, exclude) = run_options.sides(self.policy, self.pair), run_options.globs(self.scope)
        request = Request(
            job="replicate" if stage == "repair" else "verify",
            source=original,
            destination=copy,
            manifest=None,
            selection=Selection(include=include, exclude=exclude),
            options=self._names() | run_options.copy_options(self.pair),  # of copies, since its retry copies
            prefixes=run_options.prefixes_below(self.scope),
        )
        if stage == "repair":
            manifest = self.night.ledger.uri(compared["run_id"], REPAIR)
            found = [replace(request, manifest=manifest, retry_of=compared["run_id"])]
            return found if compared["repair_manifest"] else []
        # A listing that was just made names the objects. An inventory of yesterday does not.
        is_listed = source["manifest"].startswith(str(self.night.ledger.location))
        if stage == "replica" or (is_listed and not source["rows"]):  # a listing of nothing is no manifest
            return []
        of, day, last = int((is_deep and asked.deep) or asked.rota), self.night.day, self.last
        before = last.turn(stage, of) if last else None
        number = day.toordinal() if last is None or before is None else before + (last.night < str(day))
        # Copies of newer objects may be on their way: the next night looks at them.
        older = parse_time(compared["created_at"]) - compared["margin_seconds"]
        enough = max(compared["rows"] / READ_OBJECTS_MIN, compared["bytes"] / READ_BYTES_MIN)
        turns = slices(number, of, enough) if is_deep else [Sample(number % of, of)]
        options = {**request.options, "deep": is_deep, "sample": [number % of, of]}
        request = replace(request, manifest=source["manifest"] if is_listed else None, options=options)
        chosen = [replace(request.selection, older_than=older, sample=each) for each in turns]
        return [replace(request, selection=each) for each in chosen]

    def _names(self) -> dict[str, Any]:
        return {"pair": self.pair.name, "night": str(self.night.day), "night_label": self.night.label}

    async def compare(self, stage: str) -> dict[str, Any]:
        """Compare both sides of the pair, or the replica with the hot bucket. Returns the report."""
        pair, replica, ledger = self.pair, self.pair.replica, self.night.ledger
        both = run_options.sides(self.policy, pair)
        maps, margin_seconds = run_options.prefix_map(pair, self.scope), MARGIN_SECONDS
        keeps_extra, packed = pair.deletes == "retain", None
        if stage == "replica" and replica is not None:
            twin = both[1].location._replace(bucket=replica.bucket)
            both = both[1], Side(twin, region=replica.region, owner=replica.account)
            maps, margin_seconds = run_options.replica_map(pair, self.scope), replica.lag_seconds
            keeps_extra = not replica.delete_markers
        elif (packed := PackedCopies.of(run_options.copy_options(pair), ledger)) is not None:
            packed = replace(packed, is_sealed=pair.destination.encryption is not Encryption.S3)
        options = {"maps": [*maps.texts()], "excluded": [*maps.excluded], "keeps_extra": keeps_extra}
        options |= self._names() | {"of_replica": stage == "replica", COMPLETE: True}
        spec = await self._find(Request("reconcile", *both, None, Selection(), options))
        if spec is not None and (report := await ledger.report(spec.run_id)) is not None:
            return report
        began = time.time()
        run_id = new_run_id("reconcile", began)
        margin_seconds = margin_seconds if self.margin_seconds is None else self.margin_seconds
        how: dict[str, Any] = {"maps": maps, "margin_seconds": margin_seconds, "options": options, "packed": packed}
        reports = [await self._report(side, run_id) for side in both]
        try:
            return await compare(ledger, run_id, began, reports, **how)
        except UnusableReport as error:  # it lists nothing, or only a part
            reports = [each if each.doubted is None else await self._list(each.side, run_id, error) for each in reports]
        return await compare(ledger, run_id, began, reports, **how)

    async def _report(self, side: Side, run_id: str) -> Report:
        """A side's report: S3's if it is fresh, else one that a listing makes."""
        try:
            reports = self.policy.inventory
            if reports is None or (bucket := reports.buckets.get(Region(side.region or ""))) is None:
                raise ManifestError("the policy names no inventory bucket of its region")
            store = open_store(None, side.region, None, max_in_flight=8)
            folder = f"s3://{bucket}/{reports.prefix}".rstrip("/") + f"/{side.location.bucket}/"
            inventory = await find_inventory(store, folder)
            hours = (time.time() - inventory.created_at) / 3600
            if hours > INVENTORY_HOURS_MAX:
                raise ManifestError(f"{inventory.manifest} is {hours:.0f} h old, more than {INVENTORY_HOURS_MAX}")
            if absent := [name for name in NEEDED_FIELDS if not inventory.has_field(name)]:
                raise ManifestError(f"{inventory.manifest} has no {', '.join(absent)}: add them to its configuration")
        except (ManifestError, NotFound, NoSuchBucket, Denied) as error:
            return await self._list(side, run_id, error)
        return Report(side, inventory, store, doubted=open_side(side))

    async def _list(self, side: Side, run_id: str, why: Exception) -> Report:
        """A side's report by a listing of now."""
        place = side.location._replace(key=side.location.key + commonprefix(self.scope.prefixes))
        self.display.say(f"{place} is listed, since {why}")
        return await list_side(side, place, self.night.ledger, run_id)

    async def _find(self, wanted: Request) -> RunSpec | None:
        """The run of this night that asks for the same, if it was planned.

        The policy may have changed since it was, and any writer of the ledger can write one.
        """
        ledger = self.night.ledger

        async def look(run_id: str) -> RunSpec | None:
            with contextlib.suppress(LedgerError):
                if _is_of(spec := await ledger.spec(run_id), wanted):
                    await ledger.plan(run_id)
                    return spec
            return None

        since = self.night.day - timedelta(days=1)
        run_ids = [each for each in await ledger.run_ids(f"{since:%Y%m%d}") if run_job(each) == wanted.job]
        return next(filter(None, reversed(await gather_bounded(look, run_ids))), None)

    def _result(self, stage: str, report: dict[str, Any], **more: Any) -> StageResult:
        self.display.say(f"{stage}: {report['run_id']} {report['state']}")
        said = {name: report[name] for name in ("run_id", "rows", "report_html")}
        size = {name: each["bytes"] for name, each in report.get("categories", {}).items()}
        return StageResult(stage=stage, counts=counted(report)["outcomes"], bytes=size, **said, **more)

    async def _ask(self, compared: Mapping[str, Any]) -> Known:
        """Compact the state, and read what it says of the pair."""
        ledger, copies = self.night.ledger, [run_options.sides(self.policy, each)[1] for each in self.policy.pairs]
        await compact(ledger, self.night.name, prefixes=[each.location for each in copies])
        async with open_views(ledger, ["state"]) as database:
            found = await fetch_files(ledger, [f"runs/{compared['run_id']}/{DIFFERENCES}"], database.files)
            database.connection.execute(f"CREATE VIEW differences AS FROM {parquet(found)}")
            return await in_thread(database.connection, ask, database.connection, self.policy, self.pair, compared)


def _is_of(spec: RunSpec, wanted: Request) -> bool:
    places = (spec.source, wanted.source), (spec.destination, wanted.destination)
    return (
        all(side and replace(there, region=None) == replace(side, region=None) for there, side in places)
        and all(spec.options.get(name) == value for name, value in wanted.options.items())
        and wanted.manifest in (None, spec.manifest)
        and spec.options.get("overwrite") is None
    )


async def write_page(night: Night, summary: Summary) -> None:
    """Write the page of the summary that is in the ledger, if it is not there yet."""
    await night.write(".html", page_of(summary).encode(), HTML)


def ask(connection: duckdb.DuckDBPyConnection, policy: Policy, pair: Pair, compared: Mapping[str, Any]) -> Known:
    """What the state says of a pair and of its replica. The replica's rows count with the originals' keys.

    The state has no objects that comparisons only found to be the same. `connection` has the `state`, and
    `differences`, the rows that the night's comparison found to differ. `compared`: the report of that. What is known
    of a server with another address than the pair's has now, no look of the pair can end: it is left out.
    """
    hot, maps = pair.destination, run_options.prefix_map(pair, scope(policy, pair))
    ours, theirs = map(service_name, run_options.sides(policy, pair))
    places = [(ours, pair.source.bucket, theirs, hot.bucket)]
    places += [(theirs, hot.bucket, theirs, pair.replica.bucket)] if pair.replica else []
    at = ", ".join(f"({', '.join(map(quoted, place))})" for place in places)
    sql = f"""
        WITH looked AS (
            SELECT *, source_bucket = {quoted(hot.bucket)} AS is_of_replica, {BAD} AND NOT {OVER} AS is_bad,
                   is_bad AND accepted_at IS NULL AS is_open, etag IS NOT NULL AND NOT is_of_replica AS is_original,
                   CASE WHEN is_of_replica THEN substr(key, {len(hot.prefix) + 1}) ELSE key END AS name
            FROM state WHERE (source_service, source_bucket, copy_service, copy_bucket) IN ({at})
                AND {maps.scope_sql("name")} AND copy_key = {maps.destination_sql("name")}
        ), differing AS (
            SELECT key AS name, bool_or(source_last_modified IS NOT NULL AND NOT is_delete_marker) AS at_source
            FROM differences GROUP BY 1
        ), objects AS (
            SELECT name, bool_or(is_open) AS is_open, bool_or(is_bad AND NOT is_open) AS is_accepted, at_source,
                   bool_or(finding IS NOT NULL) FILTER (is_original) AS is_wrong,
                   arg_max(struct_pack(checked := coalesce(checked_at, read_at), read := read_at),
                           coalesce(modified, make_timestamptz(0))) FILTER (is_original) AS newest
            FROM looked LEFT JOIN differing USING (name) GROUP BY name, at_source
        )
        SELECT count(*) FILTER (is_open), min(name, {FIRST_KEYS}) FILTER (is_open),
               count(*) FILTER (is_accepted),
               count(newest.checked) FILTER (NOT is_wrong AND at_source)
                   - count(*) FILTER (is_wrong AND at_source IS NULL),
               count(*) FILTER (NOT is_wrong AND at_source IS DISTINCT FROM false AND epoch(newest.read) >= ?)
        FROM objects"""
    objects, days = compared["source_rows"], int(pair.verify.deep or READ_DAYS)
    since = parse_time(compared["created_at"]) - days * 86_400
    [(left, first, accepted, checked, read)] = connection.execute(sql, [since]).fetchall()
    same = compared["categories"][Category.SAME]["rows"]
    checked, read = (min(max(count, 0), objects) for count in (same + checked, read))
    return Known(left, first or (), accepted, objects, checked, read, days)
