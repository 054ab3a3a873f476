"""The follow function: reacts to ends of Batch jobs and of S3 restores.

    EventBridge "Batch Job State Change"   of a run's jobs, and of those that submit has started
    EventBridge "Object Restore Completed" of an object of a source that was archived when its
                                           event came, or one that restores wait for

| job                 | succeeded              | failed                                                  |
|---------------------|------------------------|---------------------------------------------------------|
| a run's work        | its report job follows | the report is made nevertheless, by a job of its own    |
| a run's report      | the run is published   | published. If it never began, a job of its own makes it |
| nightly, drill      | its end is published   | published: as it ended, or that it did not              |
| another of a queue  | its run is published   | published: it planned nothing, or failed                |

AWS does not document whether the parent of an array has events. The report's job waits for the
work, and Batch fails it if the work fails, so its event is enough. Whichever comes first starts the
closing job, once.

What a job was for is read from its command, as Batch says it. A document that a job was to leave in the ledger is
published whichever job left it.

The message goes to the SNS topic: the verdict as subject, counts and a link to the report as body.
`<ledger>/told/<name>.json` says that it was published. If that could not be written, or two calls publish at once, the
message comes twice rather than never.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Mapping
from datetime import date
from typing import Any

from jobs.aws.batch_arrays import REPORT, WORK
from jobs.aws.clients import publish
from jobs.backup.events import EventKind, ObjectEvent, parse_message
from jobs.core.reasons import Reason
from jobs.core.run import RunState
from jobs.core.words import called
from jobs.errors import ExitCode, LedgerError, NotFound
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.reports.document import verdict
from jobs.restore.thawing import can_wait, waiting_name
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.batch_starts import NIGHTLY, RESTORE, Start, start, started
from scheduler.log import measure, say
from scheduler.runtime import Runtime, current_runtime

_RUN = re.compile(r"(?P<run>\d{8}T\d{6}Z-[a-z]+-[0-9a-f]+)-(?P<number>\d{3})-(?P<stage>work|report)")
_BEHIND = "dependent job failed"
"""How Batch says that a job never began:
https://docs.aws.amazon.com/batch/latest/userguide/job_dependencies.html
"""


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point."""
    runtime = current_runtime()
    return runtime.run(handle(runtime, event))


async def handle(runtime: Runtime, event: Mapping[str, Any]) -> dict[str, Any]:
    """Handle one event without Lambda. Returns `action`, what was done, and `about`.

    Raises PolicyError, UsageError, StoreError, ConfigError.
    """
    policy = await runtime.policy()
    if event.get("detail-type") == "Batch Job State Change":
        done = await _Follower(runtime, policy, runtime.setting("topic"), str(event.get("id"))).follow(event["detail"])
    else:
        done = await _restored(runtime, policy, parse_message(json.dumps(event))[0], str(event.get("id")))
    say("info", "followed", **done)
    return done


class _Follower:
    """Reacts to the end of a Batch job. `event_id`: of the event that says so."""

    def __init__(self, runtime: Runtime, policy: Policy, topic: str, event_id: str):
        self.runtime, self.policy, self.topic, self.event_id = runtime, policy, topic, event_id

    async def follow(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Terraform's rule passes on the ends of jobs and of arrays, not of children."""
        if run := _RUN.fullmatch(str(job["jobName"])):
            if run["stage"] != WORK:
                return await self._report_ended(run["run"], job, run["number"])
            if job["status"] == "SUCCEEDED":
                return _did("waits for the report", run["run"])
            return await self._close(run["run"], run["number"])
        match _command(job):
            case ["worker", run_id, "--report", *_]:
                return await self._report_ended(run_id, job)
            case ["nightly", "--pair", pair, "--night", night]:
                return await self._pair_ended(
                    "night", pair, night, f"nights/{pair}/{date.fromisoformat(night)}.json", job
                )
            case ["drill", "--pair", pair, "--name", name, *_]:
                return await self._pair_ended("drill", pair, name, f"drills/{pair}/{name}.json", job)
        return await self._start_ended(job)

    async def _close(self, run_id: str, number: str) -> dict[str, Any]:
        """Start the job that accounts for a submission whose work failed, once."""
        command = ("worker", run_id, "--report", "--ledger", str(self.runtime.ledger))
        closing = Start("", REPORT, f"{run_id}-{number}", command)
        closed = await start(self.runtime, self.policy, closing, self.event_id)
        return _did("closing", run_id, job_id=closed["job_id"])

    async def _report_ended(self, run_id: str, job: Mapping[str, Any], number: str | None = None) -> dict[str, Any]:
        """`number`: the submission whose report job this is. None for a closing job."""
        report = await self._document(f"runs/{run_id}/report.json")
        if report is None and number is not None and _BEHIND in str(job.get("statusReason", "")).lower():
            return await self._close(run_id, number)
        spec = await self._document(f"runs/{run_id}/spec.json") or {}
        if await self._is_of_night(spec.get("options", {})):
            return _did("left to its night", run_id)
        if report is None:
            text = f"Run {run_id} ended without a report: {_why(job)}. See: sealift runs show {run_id}"
            # By the job's name, not the run's: a later job has its own end. Nights likewise.
            return await self._announce(str(job["jobName"]), f"Sealift: {run_id} has no report", text)
        return await self._announce(run_id, *self._report_message(run_id, report))

    async def _is_of_night(self, options: Mapping[str, Any]) -> bool:
        """Whether the run is a stage of a night that Batch has, whose own end is published."""
        pair, night = options.get("pair"), options.get("night")
        return bool(pair and night) and night in await started(self.runtime, str(pair), NIGHTLY)

    def _report_message(self, run_id: str, report: Mapping[str, Any]) -> tuple[str, str]:
        lines = [
            verdict(report),
            "",
            *(f"{called(name, report['job'])}: {count:,}" for name, count in report.get("outcomes", {}).items()),
            "",
            *_places(report),
            f"report: {self.runtime.place(f'runs/{run_id}/report.json')}",
            *[f"Go on with what is left: sealift runs retry {run_id}"] * (report["state"] != RunState.COMPLETE),
        ]
        subject = f"Sealift {report['job']}: {verdict(report)}"
        return subject, "\n".join(lines)

    async def _pair_ended(self, what: str, pair: str, name: str, place: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """A night or a drill of a pair. `place`: where its summary is in the ledger."""
        summary = await self._document(place)
        if summary is None:
            text = (
                f"The {what} {name} of the pair {pair} did not end: {_why(job)}.\n"
                f"Go on with it: sealift {' '.join(_command(job))}"
            )
            return await self._announce(str(job["jobName"]), f"Sealift {what} of {pair} FAILED", text)
        lines = [f"The {what} {name} of the pair {pair}: {summary['verdict']}", "", *_places(summary)]
        lines += ["", *summary["next_steps"], "", f"page: {summary['report_html']}"]
        subject, night_of = f"Sealift {what} of {pair}: {summary['verdict']}", pair if what == "night" else ""
        return await self._announce(f"{what}-{pair}-{name}", subject, "\n".join(lines), night_of)

    async def _start_ended(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The run that a job started is published by its own end. Here only a job that came to
        nothing is.
        """
        code = (job.get("container") or {}).get("exitCode")
        if job["status"] == "SUCCEEDED" or code == ExitCode.FINDINGS:
            return _did("ended", str(job["jobName"]))
        text = f"sealift {' '.join(_command(job))}\n\nended with exit code {code}: {_why(job)}"
        return await self._announce(str(job["jobName"]), f"Sealift job {job['jobName']} FAILED", text)

    async def _announce(self, name: str, subject: str, text: str, night_of: str = "") -> dict[str, Any]:
        """Publish to people, and the good end of a pair's night to CloudWatch as well."""
        marker = f"told/{name}.json"
        if await self._document(marker) is not None:
            return _did("told before", name)
        await asyncio.to_thread(publish, self.topic, subject, text)
        told = {"subject": subject, "at": self.runtime.clock(), "token": secrets.token_hex(8)}
        await self.runtime.write_once(marker, json.dumps(told).encode())
        if night_of:
            measure({"NightSucceeded": 1}, {"System": self.policy.name, "Pair": night_of}, Function="follow")
        return _did("told", name, subject=subject)

    async def _document(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads(await self.runtime.read(name)))
        except NotFound:
            return None
        except (TypeError, ValueError, RecursionError) as error:
            raise LedgerError(f"{self.runtime.place(name)} is no JSON object ({error}): it was altered") from error


def _command(job: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in (job.get("container") or {}).get("command") or ()]


def _places(report: Mapping[str, Any]) -> list[str]:
    """Source and destination of a run as a line, with their prefixes."""
    sides = [report.get("source"), report.get("destination")]
    places = [side.get("location") or side.get("bucket") if isinstance(side, Mapping) else side for side in sides]
    return [" → ".join(map(str, places))] if all(places) else []


async def _restored(runtime: Runtime, policy: Policy, event: ObjectEvent, event_id: str) -> dict[str, Any]:
    """Continue what waits for a thawed object.

    A thawed archive starts a retry of each restore that waits for it. The retry takes everything
    that has thawed by then, and waits again for the rest. Another object goes into the backlog of
    its pair, and a run copies it.
    """
    about = f"s3://{event.bucket}/{event.key}"
    if event.kind is not EventKind.RESTORE_COMPLETED:
        return _did("ignored", about)
    waiting = await runtime.names(waiting_name(event.bucket, event.key))
    # A key may be another's folder.
    if runs := [run_id for name in waiting if "/" not in name and can_wait(run_id := name.removesuffix(".json"))]:
        for run_id in runs:
            command = ("runs", "retry", run_id, "--ledger", str(runtime.ledger), "--yes")
            await start(runtime, policy, Start("", RESTORE, run_id, command), event_id)
        return _did("resumed", about, runs=runs)
    pair = match(policy, event.bucket, event.key)
    if pair is None:
        return _did("ignored", about)
    name = await backlog.add(runtime, pair.name, [BacklogRow.of(event, Reason.ARCHIVED)])
    return _did("enqueued", about, backlog=name)


def _why(job: Mapping[str, Any]) -> str:
    container = job.get("container") or {}
    reasons = [str(job.get("statusReason") or ""), str(container.get("reason") or "")]
    return "; ".join(text for text in reasons if text) or f"Batch says {job['status']}"


def _did(action: str, about: str, **extra: Any) -> dict[str, Any]:
    return {"action": action, "about": about, **extra}
