"""Night of a pair: reconcile, repair, verify, look at the replica, and one summary."""

from __future__ import annotations

import shlex
import tempfile
import time
import zoneinfo
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from jobs import __version__
from jobs.config import Settings
from jobs.core.category import Category
from jobs.core.display import Display
from jobs.core.enums import Deletes
from jobs.core.outcome import GOOD
from jobs.core.run import RunState
from jobs.core.selection import Selection
from jobs.errors import Denied, ExitCode, NotFound
from jobs.nights.answers import find_rests
from jobs.nights.calendar import (
    LEFT_OUT,
    NIGHT_VERSION,
    NIGHTS_REMEMBERED,
    Stage,
    due_after,
    find_emptied,
    find_night,
    left_by_reconcile,
    left_by_run,
    left_out,
)
from jobs.nights.disproofs import Disproof, answered_since, disproofs_of, is_answered, open_disproofs
from jobs.nights.left_objects import CopyRules, find_left
from jobs.nights.records import NightRecords
from jobs.nights.stages import Done, Stages
from jobs.nights.verdicts import is_well, next_steps, verdict
from jobs.policy.coverage import Scope
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import copy_options, globs, named_places, prefixes_below, sides
from jobs.reconcile.advice import night_steps
from jobs.reconcile.repair_result import fetch_differences, publish_result
from jobs.reports.document import iso_time
from jobs.reports.publish import write_page
from jobs.runs.placement import BatchOptions
from jobs.runs.request import Request

MARGIN_SECONDS = 900
CHANGED_PLACES = "since the policy gave the pair other buckets or prefixes after this night had begun"


async def run_night(
    records: NightRecords,
    policy: Policy,
    pair: Pair,
    scope: Scope,
    settings: Settings,
    options: BatchOptions,
    display: Display,
    *,
    now: float,
    margin_seconds: float | None,
) -> dict[str, Any]:
    """Start or continue the night, and return its summary.

    `records`: of a night that has not ended (`NightRecords.ended`). `now`: epoch seconds.
    `margin_seconds`: a difference is in flight if it is younger than a report less this. None: the
    default, which for a replica is the time that S3 may take.
    """
    deep, earlier = pair.verify.deep, await records.earlier(NIGHTS_REMEMBERED)
    claim = await records.claim(
        {
            "night_version": NIGHT_VERSION,
            "pair": pair.name,
            "night": records.night.isoformat(),
            "began_at": now,
            "sample": list(due_after(records.night, pair.verify.rota, Stage.SAMPLE, earlier)),
            "deep": list(due_after(records.night, deep, Stage.DEEP, earlier)) if deep else None,
            "margin_seconds": MARGIN_SECONDS if margin_seconds is None else margin_seconds,
            "replica_margin_seconds": margin_seconds,
            "places": _places(policy, pair, scope),
            "sealift_version": __version__,
        }
    )
    stages = Stages(records, policy, pair, scope, settings, options, display, claim["margin_seconds"])
    return await _Night(stages, claim).run()


class _Night:
    """One start of a night: does what was claimed, stage by stage, and finds what is done already."""

    def __init__(self, stages: Stages, claim: Mapping[str, Any]):
        self.stages, self.claim = stages, claim
        self.records, self.pair, self.scope = stages.records, stages.pair, stages.scope
        self.done: list[dict[str, Any]] = []

    async def run(self) -> dict[str, Any]:
        """Return the summary in the ledger, or that of an unfinished night that cannot continue
        now.
        """
        places = _places(self.stages.policy, self.pair, self.scope)
        if self.claim.get("places", places) != places:  # what was done so far says nothing of these
            self._note(Stage.RECONCILE, refused=CHANGED_PLACES)
            return await self.records.finish(await self._summary())
        reconciled = await self.stages.reconcile()
        report = reconciled.report or {}
        self._add(Stage.RECONCILE, reconciled)
        if await self._is_emptied():
            await self._publish_result(report)
            return await self.records.finish(await self._summary())
        if not await self._repair(report["run_id"], reconciled.notes["repairable_rows"]):
            return await self._summary()
        await self._publish_result(report)
        # A listing that was just made names the objects to verify. An inventory of yesterday does
        # not.
        manifest = report["source"]["manifest"] if reconciled.notes["is_listed"] else None
        for stage, is_deep in ((Stage.SAMPLE, False), (Stage.DEEP, True)):
            if (slice_ := self.claim[stage]) is None:
                continue
            if manifest and not report["source"]["rows"]:  # a listing of nothing is no manifest
                self._note(stage)
                continue
            request = self._request("verify", manifest, deep=is_deep, sample=tuple(slice_))
            if not self._add(stage, await self.stages.transfer(stage, request)):
                return await self._summary()
        await self._look_at_replica()
        return await self.records.finish(await self._summary())

    async def _look_at_replica(self) -> None:
        """Compare the hot bucket with its replica, which S3 writes: what differs is left to people."""
        if (replica := self.pair.replica) is None:
            return
        margin_seconds = self.claim.get("replica_margin_seconds")
        try:
            compared = await self.stages.replica(replica.lag_seconds if margin_seconds is None else margin_seconds)
        except (Denied, NotFound) as error:
            self._note(Stage.REPLICA, refused=f"since the replica cannot be looked at: {error}")
        else:
            self._add(Stage.REPLICA, compared)

    async def _is_emptied(self) -> bool:
        """True if the source has no object any more, which the last night saw.

        Then every copy is left to people, as if it were a finding.
        """
        stage = self.done[-1]
        stage["emptied"] = find_emptied(stage, await self.records.earlier(NIGHTS_REMEMBERED))
        if emptied := stage.get("emptied"):
            stage["left"] = max(stage["left"], emptied["objects"])
        return bool(emptied)

    async def _repair(self, run_id: str, rows: int) -> bool:
        """Copy what the reconciliation named, then verify the copies.

        False: the night cannot continue now.
        """
        if not rows:
            self._note(Stage.REPAIR)
            return True
        manifest = self.records.ledger.uri(run_id, "repair.parquet")
        repaired = await self.stages.transfer(Stage.REPAIR, self._request("replicate", manifest, retry_of=run_id))
        if not self._add(Stage.REPAIR, repaired, given=rows):
            return False
        good = sum(repaired.report["outcomes"].get(status, 0) for status in GOOD) if repaired.report else 0
        if repaired.report is None or not good:
            return True
        copied = repaired.report["run_id"]
        request = self._request("verify", f"proven:{copied}", deep=False, retry_of=copied)
        return self._add(Stage.VERIFY, await self.stages.transfer(Stage.VERIFY, request), given=good)

    async def _publish_result(self, report: Mapping[str, Any]) -> None:
        """Write the page of the comparison, with what is left after the repair."""
        ledger, kept = self.records.ledger, [Category.EXTRA] if self._keeps_extra else []
        spec = await ledger.spec(report["run_id"])
        own = [each["run_id"] for each in self.done if each["stage"] in (Stage.REPAIR, Stage.VERIFY)]
        found = [await ledger.report(run_id) for run_id in own if run_id]
        runs = [each for each in found if each is not None]
        page = f"What the night leaves to people is on its page: {self.records.page_uri}"
        try:
            with tempfile.TemporaryDirectory(prefix="sealift-night-") as folder:
                differences = await fetch_differences(ledger, spec.run_id, Path(folder))
                await publish_result(
                    ledger,
                    spec,
                    report,
                    runs,
                    differences,
                    Path(folder),
                    lambda left: [page, *night_steps(spec, left, ledger)] if any(left.values()) else [],
                    kept,
                )
        except NotFound:  # somebody removed the differences
            await write_page(ledger, spec, dict(report), [])

    def _request(
        self,
        job: str,
        manifest: str | None,
        *,
        deep: bool | None = None,
        sample: tuple[int, int] | None = None,
        retry_of: str | None = None,
    ) -> Request:
        """A request about the pair. `deep`: of a verification, None for copies.

        A verification has the options of copies, too, since its retry copies what it proves wrong.
        """
        source, destination = sides(self.stages.policy, self.pair)
        include, exclude = globs(self.scope)
        options: dict[str, Any] = {"pair": self.pair.name, "night": self.claim["night"]}
        options |= copy_options(self.pair) | ({} if deep is None else {"deep": deep})
        return Request(
            job=job,
            source=source,
            destination=destination,
            manifest=manifest,
            selection=Selection(
                include=include,
                exclude=exclude,
                sample=sample,
                # Copies of newer objects may be on their way: the next night looks at them.
                older_than=self.claim["began_at"] - self.claim["margin_seconds"] if sample else None,
            ),
            options=options | {"sample": list(sample) if sample else None},
            retry_of=retry_of,
            prefixes=prefixes_below(self.scope),
        )

    def _add(self, stage: Stage, done: Done, *, given: int = 0) -> bool:
        """Note a stage's result. False when rows of its run are left to do.

        `given`: how many rows the run was to work on. What is not in its plan is left to people.
        """
        report = done.report
        if report is None:
            self._note(stage, refused=done.refused, left=given)
            return True
        is_complete = bool(report["state"] == RunState.COMPLETE)
        counts = report.get("outcomes")
        if counts is None:
            counts = {name: each["rows"] for name, each in report["categories"].items()}
            of_replica = self.pair.replica if stage is Stage.REPLICA else None
            left = left_by_reconcile(
                counts,
                report["findings"],
                repairable=0 if of_replica else done.notes["repairable_rows"],
                keeps_extra=not of_replica.delete_markers if of_replica else self._keeps_extra,
            )
        else:
            left = left_by_run(stage, counts) if is_complete else report["rows"] - report["accounted"]
            if unseen := left_out(given, report["rows"], report["excluded"].get("duplicate", 0)):
                left, counts = left + unseen, counts | {LEFT_OUT: unseen}
        kept = ("run_id", "job", "state", "rows", "bytes", "seconds", "planned_dollars", "report", "report_html")
        self._note(
            stage,
            **{name: report.get(name) for name in kept},
            counts=counts,
            left=left,
            exit_code=done.code,
            excluded=dict(report.get("excluded", {})),
            sample=report.get("sample") or self.claim.get(stage),
            notes=dict(done.notes),
        )
        self.stages.display.note(f"{stage}: {report['run_id']} {report['state']}")
        return is_complete

    def _note(self, stage: Stage, **fields: Any) -> None:
        nothing: dict[str, Any] = {
            "run_id": None,
            "state": None,
            "refused": None,
            "counts": {},
            "left": 0,
            "exit_code": 0,
        }
        self.done.append({"stage": stage.value} | nothing | fields)

    async def _summary(self) -> dict[str, Any]:
        """Return the night's document: the state after the repair. `left` counts an object once.

        Exit code 3: the night is done, and rows (or a refused run) are left to people, or nothing
        was compared, or what another night found wrong is not proven right since. Code 2 would say
        that nothing was started. A night that stopped has its run's code, and is started again.
        """
        stopped = next((each for each in self.done if each["state"] not in (None, RunState.COMPLETE)), None)
        unanswered, answered, orphans = ([], [], []) if stopped else await self._disproofs()
        code = ExitCode.DONE if is_well(self.done) and not unanswered else ExitCode.FINDINGS
        left, left_first = await find_left(self.records.ledger, self.done, CopyRules.of(self.pair))
        night = self.claim["night"]
        ended = time.time()
        return {
            "night_version": NIGHT_VERSION,
            "pair": self.pair.name,
            "night": night,
            **named_places(self.stages.policy, self.pair),
            "state": "unfinished" if stopped else "complete",
            "verdict": verdict(self.done, left, is_finished=stopped is None, unanswered=unanswered),
            "next_steps": next_steps(
                self.pair.name,
                night,
                self.done,
                is_finished=stopped is None,
                left=left,
                restore=self._restore(),
                unanswered=unanswered,
                orphans=orphans,
            ),
            "left": left,
            "left_first": left_first,
            "exit_code": int(stopped["exit_code"]) if stopped else int(code),
            "began_at": iso_time(self.claim["began_at"]),
            "margin_seconds": self.claim["margin_seconds"],
            "is_made_up": self._is_made_up(),
            "finished_at": iso_time(ended),
            "seconds": round(ended - self.claim["began_at"], 3),
            "planned_dollars": round(sum(each.get("planned_dollars") or 0 for each in self.done), 6),
            "stages": self.done,
            "unanswered": [each._asdict() for each in unanswered],
            "answered": answered,
            "summary": self.records.summary_uri,
            "report_html": None if stopped else self.records.page_uri,
            "ledger": str(self.records.ledger.location),
        }

    async def _disproofs(self) -> tuple[list[Disproof], list[str], list[str]]:
        """Return (findings of the pair's other nights that nothing answered, the ids of the runs
        whose findings are answered, URIs of wrong copies whose original is gone).
        """
        nights = await NightRecords(self.records.ledger, self.pair.name, date.max).remembered(NIGHTS_REMEMBERED)
        source, destination = sides(self.stages.policy, self.pair)
        place = str(destination.location)
        found = open_disproofs(nights, place)
        own = list(disproofs_of({"night": self.claim["night"], "finished_at": "", "stages": self.done}))
        rests = await find_rests(self.records.ledger, found, own, source, destination) if found else {}
        left = [
            each._replace(rows=rests[each.run_id].rows) if each.run_id in rests else each
            for each in found
            if (rests[each.run_id].rows if each.run_id in rests else not is_answered(each, self.done))
        ]
        orphans = [uri for each in left if each.run_id in rests for uri in rests[each.run_id].orphans]
        return left, answered_since(nights, place, left), orphans

    def _restore(self) -> str:
        """The command that puts the objects of an emptied source back, as they were in the night before.

        A delete that was mirrored hides a copy, and the version below it is still there.
        """
        emptied = self.done[0].get("emptied") or {}
        source, destination = sides(self.stages.policy, self.pair)
        words = ["--source", str(destination.location), "--destination", str(source.location)]
        return shlex.join(["sealift", "restore", *words, *(["--as-of", emptied["at"]] if emptied.get("at") else [])])

    def _is_made_up(self) -> bool:
        """True if a later night of the pair had begun when this one did."""
        hours = self.pair.nightly
        latest = find_night(self.claim["began_at"], hours.hour.minutes, zoneinfo.ZoneInfo(hours.time_zone))
        return self.records.night < latest

    @property
    def _keeps_extra(self) -> bool:
        return self.pair.deletes is Deletes.RETAIN


def _places(policy: Policy, pair: Pair, scope: Scope) -> dict[str, Any]:
    """Return the buckets and prefixes that a night is about, JSON-ready."""
    source, destination = sides(policy, pair)
    return {
        "source": str(source.location),
        "destination": str(destination.location),
        "replica": str(pair.replica.bucket) if pair.replica else None,
        "prefixes": sorted(map(str, scope.prefixes)),
        "excluded": sorted(map(str, scope.excluded)),
    }
