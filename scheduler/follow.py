"""The follow function: reacts to ends of Batch jobs and of S3 restores.

    EventBridge "Batch Job State Change"   of a run's jobs, and of those that submit has started
    EventBridge "Object Restore Completed" of an object of a source that was archived when its
                                           event came, or one that restores wait for

| job                 | succeeded              | failed                                                  |
|---------------------|------------------------|---------------------------------------------------------|
| a run's work        | its report job follows | the report is made nevertheless, by a job of its own    |
| a run's report      | the run is published   | published. If it never began, a job of its own makes it |
| nightly             | the night is published | published: as it ended, or that it did not              |
| backfill, restore   | its run is published   | published: it planned nothing, or failed                |

AWS does not document whether the parent of an array has events. The report's job waits for the
work, and Batch fails it if the work fails, so its event is enough. Whichever comes first starts the
closing job, once.

A document that a job was to leave in the ledger is published whichever job left it. A missing
document is not published for a job that was ended because another one of its name was first.

The message goes to the SNS topic: the verdict as subject, counts and a link to the report as body.
`<ledger>/told/<name>.json` says that it was published. If that could not be written, or two calls publish at once, the
message comes twice rather than never.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from jobs.aws.batch_arrays import REPORT, WORK
from jobs.aws.clients import publish
from jobs.backup.events import EventKind, ObjectEvent, parse_document
from jobs.core.run import RunState
from jobs.core.words import called
from jobs.errors import ExitCode, LedgerError, NotFound, UsageError
from jobs.nights.calendar import summary_name
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.reports.document import verdict
from jobs.restore.thawing import can_wait, waiting_name
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.batch_starts import START_KINDS, Start, Trace, is_second, is_started, read_start, start
from scheduler.log import measure, say
from scheduler.runtime import Runtime, current_runtime

_RUN = re.compile(r"(?P<run>\d{8}T\d{6}Z-[a-z]+-[0-9a-f]+)-(?P<number>\d{3})-(?P<stage>work|report)")
_ENDED = ("SUCCEEDED", "FAILED")
_BEHIND = "dependent job failed"
"""How Batch says that a job never began:
https://docs.aws.amazon.com/batch/latest/userguide/job_dependencies.html
"""


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point."""
    runtime = current_runtime()
    return runtime.run(handle(runtime, event, str(context.invoked_function_arn)))


async def handle(runtime: Runtime, event: Mapping[str, Any], function_arn: str) -> dict[str, Any]:
    """Handle one event without Lambda. Returns `action`, what was done, and `about`.

    `function_arn` says whose topic it is, if no setting and no policy names one. Raises
    PolicyError, UsageError, StoreError, ConfigError.
    """
    policy = await runtime.policy()
    if event.get("detail-type") == "Batch Job State Change":
        detail = event.get("detail")
        if not isinstance(detail, Mapping) or not {"jobName", "jobId", "status"} <= detail.keys():
            raise UsageError(f"a job's state change names jobName, jobId and status, this one does not: {detail!r}")
        done = await _Follower(runtime, policy, _topic(runtime, policy, function_arn)).follow(detail)
    else:
        done = await _restored(runtime, policy, parse_document(event)[0])
    say("info", "followed", **done)
    return done


class _Follower:
    """Reacts to the end of a Batch job."""

    def __init__(self, runtime: Runtime, policy: Policy, topic: str):
        self.runtime, self.policy, self.topic = runtime, policy, topic

    async def follow(self, job: Mapping[str, Any]) -> dict[str, Any]:
        name, status = str(job["jobName"]), str(job["status"])
        is_child = "index" in (job.get("arrayProperties") or {}) or ":" in str(job["jobId"])
        if status not in _ENDED or is_child:
            return _did("ignored", name)
        if run := _RUN.fullmatch(name):
            if run["stage"] == WORK:
                return await self._work_ended(run["run"], run["number"], status)
            return await self._report_ended(run["run"], job, run["number"])
        started = await read_start(self.runtime, self.policy, name)
        if started is None:
            return _did("ignored", name)
        match START_KINDS[started.job].trace:
            case Trace.REPORT:
                return await self._report_ended(started.once.rpartition("-")[0], job)
            case Trace.NIGHT:
                return await self._night_ended(started, job)
            case Trace.RUN:
                return await self._start_ended(started, job)

    async def _work_ended(self, run_id: str, number: str, status: str) -> dict[str, Any]:
        """The report's job waits for success. If the work failed, another job accounts for it."""
        if status == "SUCCEEDED":
            return _did("waits for the report", run_id)
        return await self._close(run_id, number)

    async def _close(self, run_id: str, number: str) -> dict[str, Any]:
        """Start the job that accounts for a submission whose work failed, once."""
        command = ("worker", run_id, "--report", "--ledger", str(self.runtime.settings.ledger))
        closing = Start("", REPORT, f"{run_id}-{number}", command)
        started = await start(self.runtime, self.policy, closing)
        return _did("closing", run_id, job_id=started["job_id"])

    async def _report_ended(self, run_id: str, job: Mapping[str, Any], number: str | None = None) -> dict[str, Any]:
        """`number`: the submission whose report job this is. None for a closing job."""
        report = await self._document(f"runs/{run_id}/report.json")
        if report is None and number is not None and _BEHIND in str(job.get("statusReason", "")).lower():
            return await self._close(run_id, number)
        if report is None and await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        spec = await self._document(f"runs/{run_id}/spec.json")
        if await self._is_of_night(run_id, spec or {}):
            return _did("left to its night", run_id)
        if report is None:
            text = f"Run {run_id} ended without a report: {_why(job)}. See: sealift runs show {run_id}"
            # By the job's name, not the run's: a later job has its own end. Nights likewise.
            return await self._announce(str(job["jobName"]), f"Sealift: {run_id} has no report", text)
        with _readable(f"the report or the spec of run {run_id}"):
            message = self._report_message(run_id, report, spec or {})
        return await self._announce(run_id, *message)

    async def _is_of_night(self, run_id: str, spec: Mapping[str, Any]) -> bool:
        """Whether the run is a stage of a night that Batch has, whose own end is published."""
        with _readable(f"the spec of run {run_id}"):
            pair, night = spec.get("options", {}).get("pair"), spec.get("options", {}).get("night")
        if not isinstance(pair, str) or not isinstance(night, str):
            return False
        return await is_started(self.runtime, self.policy, Start(pair, "nightly", night, ()))

    def _report_message(self, run_id: str, report: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[str, str]:
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

    async def _night_ended(self, started: Start, job: Mapping[str, Any]) -> dict[str, Any]:
        summary = await self._document(summary_name(started.pair, date.fromisoformat(started.once)))
        if summary is None and await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        if summary is None:
            text = (
                f"The night {started.once} of the pair {started.pair} did not end: {_why(job)}.\n"
                f"Go on with it: sealift nightly --pair {started.pair} --night {started.once}"
            )
            subject = f"Sealift night of {started.pair} FAILED"
            return await self._announce(str(job["jobName"]), subject, text)
        with _readable(f"the summary of the night {started.once} of {started.pair}"):
            message = self._night_message(started.pair, summary)
        return await self._announce(f"night-{started.pair}-{started.once}", *message, night_of=started.pair)

    def _night_message(self, pair: str, summary: Mapping[str, Any]) -> tuple[str, str]:
        lines = [f"The night {summary['night']} of the pair {summary['pair']}: {summary['verdict']}", ""]
        lines += [f"{summary['source']} → {summary['destination']}", ""]
        lines += [*summary["next_steps"], ""] if summary["next_steps"] else []
        for stage in summary["stages"]:
            state = f"refused: {stage['refused']}" if stage["refused"] else stage["state"] or "nothing to do"
            lines.append(f"{stage['stage']}: {state}, {stage['rows']:,} rows")
        lines += ["", f"page: {summary['report_html']}"]
        return f"Sealift night of {pair}: {summary['verdict']}", "\n".join(lines)

    async def _start_ended(self, started: Start, job: Mapping[str, Any]) -> dict[str, Any]:
        """The run that a job started is published by its own end. Here only a job that came to
        nothing is.
        """
        code = (job.get("container") or {}).get("exitCode")
        if job["status"] == "SUCCEEDED" or code == ExitCode.FINDINGS:
            return _did("ended", str(job["jobName"]))
        if await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        command = (job.get("container") or {}).get("command")  # as Batch says, and no claim
        what = f"sealift {' '.join(map(str, command))}" if command else f"The job {job['jobName']}"
        text = f"{what}\n\nended with exit code {code}: {_why(job)}"
        subject = f"Sealift {started.job} of {started.pair or started.once} FAILED"
        return await self._announce(str(job["jobName"]), subject, text)

    async def _is_second(self, job: Mapping[str, Any]) -> bool:
        """True if another job holds the claim for this name. Then this job's missing report means
        nothing.
        """
        return await is_second(self.runtime, str(job["jobName"]), str(job["jobId"]))

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
            document = json.loads(await self.runtime.read(name))
        except NotFound:
            return None
        except (ValueError, RecursionError) as error:
            raise LedgerError(f"{self.runtime.place(name)} is not JSON ({error}): it was altered") from error
        if not isinstance(document, dict):
            raise LedgerError(f"{self.runtime.place(name)} is no JSON object: it was altered")
        return document


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Raises LedgerError for a document that Sealift did not write."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LedgerError(f"{what} is not what Sealift writes ({error!r}): it was altered") from error


def _places(report: Mapping[str, Any]) -> list[str]:
    """Source and destination of a run as a line, with their prefixes."""
    sides = [report.get("source"), report.get("destination")]
    places = [side.get("location") or side.get("bucket") if isinstance(side, Mapping) else side for side in sides]
    return [" → ".join(map(str, places))] if all(places) else []


async def _restored(runtime: Runtime, policy: Policy, event: ObjectEvent) -> dict[str, Any]:
    """Continue what waits for a thawed object.

    A thawed archive starts a retry of each restore that waits for it. The retry takes everything
    that has thawed by then, and waits again for the rest. Another object goes into the backlog of
    its pair, and a run copies it.
    """
    about = f"s3://{event.bucket}/{event.key}"
    if event.kind is not EventKind.RESTORE_COMPLETED:
        return _did("ignored", about)
    waiting = await runtime.names(waiting_name(event.bucket, event.key))
    named = [name.removesuffix(".json") for name in waiting if "/" not in name]  # a key may be another's folder
    runs = [run_id for run_id in named if can_wait(run_id)]
    if len(runs) < len(named):
        say("warning", "notes ignored", about=about, names=sorted({*named} - {*runs}), reason="no restore's run ids")
    if runs:
        for run_id in runs:
            command = ("runs", "retry", run_id, "--ledger", str(runtime.settings.ledger), "--yes")
            await start(runtime, policy, Start("", "restore", run_id, command))
        return _did("resumed", about, runs=runs)
    pair = match(policy, event.bucket, event.key)
    if pair is None:
        return _did("ignored", about)
    name = await backlog.add(runtime, pair.name, [BacklogRow.of(event, "restored from its archive class")])
    return _did("enqueued", about, backlog=name)


def _topic(runtime: Runtime, policy: Policy, function_arn: str) -> str:
    """The topic of the settings, of the policy, or the one that Terraform makes."""
    if named := runtime.settings.topic or policy.alarms.topic:
        return str(named)
    _, partition, _, region, account, *_ = function_arn.split(":")
    return f"arn:{partition}:sns:{region}:{account}:{policy.name}-alarms"


def _why(job: Mapping[str, Any]) -> str:
    container = job.get("container") or {}
    reasons = [str(job.get("statusReason") or ""), str(container.get("reason") or "")]
    return "; ".join(text for text in reasons if text) or f"Batch says {job['status']}"


def _did(action: str, about: str, **extra: Any) -> dict[str, Any]:
    return {"action": action, "about": about, **extra}
