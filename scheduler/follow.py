"""The follow function: what has ended in Batch, and what was restored; people are told once of each end.

    EventBridge "Batch Job State Change"   of a run's jobs, and of those that submit has started
    EventBridge "Object Restore Completed" an object of a source that was archived when its event came, or one that
                                           restores wait for

| job                 | succeeded              | failed                                                  |
|---------------------|------------------------|---------------------------------------------------------|
| a run's work        | its report job follows | the report is made nevertheless, by a job of its own    |
| a run's report      | the run is told        | told, unless it never began because the work had failed |
| nightly             | the night is told      | told: as it ended, or that it did not                   |
| backfill, restore   | its run is told        | told: it planned nothing, or failed                     |
| reconcile           | nothing was found      | told: something was, or it failed                       |

What a job was to leave in the ledger is told whoever left it. That there is nothing is not told of a job that was
ended since another one of its name was first.

What is told: the verdict as subject, counts and a link to the report as body, to the SNS topic.
`<ledger>/told/<name>.begun.json` says that somebody is about to, `<ledger>/told/<name>.json` that it was done: an
answer lost in between tells twice rather than never.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from jobs.aws.batch_arrays import REPORT, WORK
from jobs.aws.clients import publish
from jobs.backup.events import Kind, ObjectEvent, parse_document
from jobs.core.metrics import Metric, Unit
from jobs.core.outcome import Status
from jobs.errors import ExitCode, LedgerError, NotFound, UsageError
from jobs.ledger.agreement import run_job
from jobs.nights.calendar import Stage, summary_name
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.reports.document import findings_count, verdict
from jobs.restore.thawing import waiting_name
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.batch_starts import Start, is_second, read_start, start
from scheduler.log import measure, say
from scheduler.runtime import Sandbox, here

_RUN = re.compile(r"(?P<run>\d{8}T\d{6}Z-[a-z]+-[0-9a-f]+)-(?P<number>\d{3})-(?P<stage>work|report)")
_ENDED = ("SUCCEEDED", "FAILED")
_BEHIND = "dependent job failed"
"""How Batch says that a job never began: https://docs.aws.amazon.com/batch/latest/userguide/job_dependencies.html"""
TELLING_SECONDS = 20.0
"""So long somebody who was first has to tell and to say so; far more than it takes, far less than the function has."""
_LOOK_SECONDS = 2.0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point."""
    sandbox = here()
    return sandbox.run(handle(sandbox, event, str(context.invoked_function_arn)))


async def handle(sandbox: Sandbox, event: Mapping[str, Any], function_arn: str) -> dict[str, Any]:
    """The same without Lambda: `action`, what was done, and `about`.

    `function_arn` says which account's topic it is, where no setting and no policy names one. Raises PolicyError,
    UsageError, StoreError, ConfigError.
    """
    policy = await sandbox.policy()
    if event.get("detail-type") == "Batch Job State Change":
        detail = event.get("detail")
        if not isinstance(detail, Mapping) or not {"jobName", "jobId", "status"} <= detail.keys():
            raise UsageError(f"a job's state change names jobName, jobId and status, this one does not: {detail!r}")
        done = await _Follower(sandbox, policy, _topic(sandbox, policy, function_arn)).follow(detail)
    else:
        done = await _restored(sandbox, policy, parse_document(event)[0])
    say("info", "followed", **done)
    return done


class _Follower:
    """What a job's end means."""

    def __init__(self, sandbox: Sandbox, policy: Policy, topic: str):
        self.sandbox, self.policy, self.topic = sandbox, policy, topic

    async def follow(self, job: Mapping[str, Any]) -> dict[str, Any]:
        name, status = str(job["jobName"]), str(job["status"])
        is_child = "index" in (job.get("arrayProperties") or {}) or ":" in str(job["jobId"])
        if status not in _ENDED or is_child:
            return _did("ignored", name)
        if found := _RUN.fullmatch(name):
            if found["stage"] == WORK:
                return await self._work_ended(found["run"], found["number"], status)
            return await self._report_ended(found["run"], job)
        started = await read_start(self.sandbox, self.policy, name)
        if started is None:
            return _did("ignored", name)
        if started.job == REPORT:
            return await self._report_ended(started.once.rpartition("-")[0], job)
        if started.job == "nightly":
            return await self._night_ended(started, job)
        return await self._start_ended(started, job)

    async def _work_ended(self, run_id: str, number: str, status: str) -> dict[str, Any]:
        """The report job waits for success. Without it, another one accounts for what was done."""
        if status == "SUCCEEDED":
            return _did("waits for the report", run_id)
        command = ("runs", "report", run_id, "--ledger", str(self.sandbox.settings.ledger))
        closing = Start("", REPORT, f"{run_id}-{number}", command)
        started = await start(self.sandbox, self.policy, closing)
        return _did("closing", run_id, job_id=started["job_id"])

    async def _report_ended(self, run_id: str, job: Mapping[str, Any]) -> dict[str, Any]:
        report = await self._document(f"runs/{run_id}/report.json")
        if report is None and _BEHIND in str(job.get("statusReason", "")).lower():
            return _did("waits for the closing", run_id)
        if report is None and await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        if report is None:
            text = f"Run {run_id} ended without a report: {_why(job)}. See: sealift runs show {run_id}"
            # Under the job's name: what goes on with the run later has an end of its own, and so it is with nights.
            return await self._tell(str(job["jobName"]), f"Sealift: {run_id} has no report", text)
        spec = await self._document(f"runs/{run_id}/spec.json")
        with _readable(f"the report or the spec of run {run_id}"):
            told = self._told_of_report(run_id, report, spec or {})
        return await self._tell(run_id, *told)

    def _told_of_report(
        self, run_id: str, report: Mapping[str, Any], spec: Mapping[str, Any]
    ) -> tuple[str, str, str | None, list[Metric]]:
        pair = spec.get("options", {}).get("pair")
        metrics = [Metric("Findings", Unit.COUNT, findings_count(report))]
        if (dollars := report.get("planned_dollars")) is not None:
            metrics.append(Metric("PlannedDollars", Unit.NONE, float(dollars)))
        counts = report.get("outcomes") or {name: each["rows"] for name, each in report.get("categories", {}).items()}
        lines = [
            verdict(report),
            "",
            *(f"{name}: {count:,}" for name, count in counts.items()),
            "",
            f"source: {report.get('source') if isinstance(report.get('source'), str) else ''}",
            f"report: {self.sandbox.place(f'runs/{run_id}/report.json')}",
        ]
        subject = f"Sealift {report['job']}: {verdict(report)}"
        return subject, "\n".join(lines), pair if isinstance(pair, str) else None, metrics

    async def _night_ended(self, started: Start, job: Mapping[str, Any]) -> dict[str, Any]:
        summary = await self._document(summary_name(started.pair, date.fromisoformat(started.once)))
        if summary is None and await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        if summary is None:
            text = (
                f"The night {started.once} of the pair {started.pair} did not end: {_why(job)}.\n"
                f"Go on with it: sealift nightly --pair {started.pair} --night {started.once}"
            )
            failed = [Metric("NightSucceeded", Unit.COUNT, 0)]
            subject = f"Sealift night of {started.pair} FAILED"
            return await self._tell(str(job["jobName"]), subject, text, started.pair, failed)
        with _readable(f"the summary of the night {started.once} of {started.pair}"):
            told = self._told_of_night(started.pair, summary)
        return await self._tell(f"night-{started.pair}-{started.once}", *told)

    def _told_of_night(self, pair: str, summary: Mapping[str, Any]) -> tuple[str, str, str, list[Metric]]:
        metrics = [
            Metric("NightSucceeded", Unit.COUNT, 1),
            Metric("Findings", Unit.COUNT, int(summary["left"])),
            *_verified_share(summary["stages"]),
        ]
        lines = [f"The night {summary['night']} of the pair {summary['pair']}: {summary['verdict']}", ""]
        for stage in summary["stages"]:
            state = f"refused: {stage['refused']}" if stage["refused"] else stage["state"] or "nothing to do"
            lines.append(f"{stage['stage']}: {state}, {stage.get('rows') or 0:,} rows, {stage['left']:,} left")
            lines += [f"  {stage['report_html']}"] if stage.get("report_html") else []
        lines += ["", f"summary: {summary['summary']}"]
        return f"Sealift night of {pair}: {summary['verdict']}", "\n".join(lines), pair, metrics

    async def _start_ended(self, started: Start, job: Mapping[str, Any]) -> dict[str, Any]:
        """What it started tells of itself; only what came to nothing is told here."""
        code = (job.get("container") or {}).get("exitCode")
        has_findings, makes_report = code == ExitCode.FINDINGS, started.job == "reconcile"
        if job["status"] == "SUCCEEDED" or (has_findings and not makes_report):
            return _did("ended", str(job["jobName"]))
        if await self._is_second(job):
            return _did("ignored", str(job["jobName"]))
        command = (job.get("container") or {}).get("command")  # as Batch says, and no claim
        what = f"sealift {' '.join(map(str, command))}" if command else f"The job {job['jobName']}"
        text = f"{what}\n\nended with exit code {code}: {_why(job)}"
        text += "\nIts report names the rows: sealift runs list" if has_findings else ""
        subject = f"Sealift {started.job} of {started.pair or started.once}"
        return await self._tell(
            str(job["jobName"]), f"{subject}: rows need attention" if has_findings else f"{subject} FAILED", text
        )

    async def _is_second(self, job: Mapping[str, Any]) -> bool:
        """Whether the job is not the one that stands: that it left nothing says nothing of the other one's work."""
        return await is_second(self.sandbox, str(job["jobName"]), str(job["jobId"]))

    async def _tell(
        self, name: str, subject: str, text: str, pair: str | None = None, metrics: Sequence[Metric] = ()
    ) -> dict[str, Any]:
        """Tell people and CloudWatch, once: a sum over metrics must not count what Batch says twice."""
        marker = f"told/{name}.json"
        if await self._document(marker) is not None:
            return _did("told before", name)
        begun = {"subject": subject, "at": self.sandbox.clock(), "token": secrets.token_hex(8)}
        is_first = await self.sandbox.write_once(f"told/{name}.begun.json", json.dumps(begun).encode())
        if not is_first and await self._appears(marker):
            return _did("told before", name)
        await asyncio.to_thread(publish, self.topic, subject, text)
        await self.sandbox.write_once(marker, json.dumps({"subject": subject, "at": self.sandbox.clock()}).encode())
        if pair and metrics:
            measure(metrics, {"Pair": pair}, Function="follow")
        return _did("told", name, subject=subject)

    async def _appears(self, marker: str) -> bool:
        """Whether whoever was first says in time that people are told; else it has died, or will tell twice."""
        for _ in range(int(TELLING_SECONDS / _LOOK_SECONDS)):
            await asyncio.sleep(_LOOK_SECONDS)
            if await self._document(marker) is not None:
                return True
        return False

    async def _document(self, name: str) -> dict[str, Any] | None:
        try:
            document = json.loads(await self.sandbox.read(name))
        except NotFound:
            return None
        except (ValueError, RecursionError) as error:
            raise LedgerError(f"{self.sandbox.place(name)} is not JSON ({error}): it was altered") from error
        if not isinstance(document, dict):
            raise LedgerError(f"{self.sandbox.place(name)} is no JSON object: it was altered")
        return document


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Raises LedgerError for what is not as Sealift writes it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LedgerError(f"{what} is not what Sealift writes ({error!r}): it was altered") from error


def _verified_share(stages: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Of the rows that the night's slices of the rota took, how many in a hundred were proven; none: no metric."""
    slices = [each for each in stages if each["stage"] in (Stage.SAMPLE, Stage.DEEP)]
    rows = sum(each.get("rows") or 0 for each in slices)
    verified = sum(each["counts"].get(Status.VERIFIED, 0) for each in slices)
    return [Metric("VerifiedShare", Unit.PERCENT, 100 * verified / rows)] if rows else []


async def _restored(sandbox: Sandbox, policy: Policy, event: ObjectEvent) -> dict[str, Any]:
    """An object that can be read now goes into the backlog of its pair; a run copies it. Restores that wait for an
    archive go on: each run once, with all that has thawed by then; what still has not, the next run waits for.
    """
    about = f"s3://{event.bucket}/{event.key}"
    if event.kind is not Kind.RESTORE_COMPLETED:
        return _did("ignored", about)
    waiting = await sandbox.names(waiting_name(event.bucket, event.key))
    named = [name.removesuffix(".json") for name in waiting if "/" not in name]  # a key may be another one's folder
    runs = [run_id for run_id in named if run_job(run_id) == "restore"]
    if len(runs) < len(named):
        say("warning", "notes ignored", about=about, names=sorted({*named} - {*runs}), reason="no restore's run ids")
    if runs:
        for run_id in runs:
            command = ("runs", "retry", run_id, "--ledger", str(sandbox.settings.ledger), "--yes")
            await start(sandbox, policy, Start("", "restore", run_id, command))
        return _did("resumed", about, runs=runs)
    pair = match(policy, event.bucket, event.key)
    if pair is None:
        return _did("ignored", about)
    name = await backlog.add(sandbox, pair.name, [BacklogRow.of(event, "restored from its archive class")])
    return _did("enqueued", about, backlog=name)


def _topic(sandbox: Sandbox, policy: Policy, function_arn: str) -> str:
    """The setting's topic, the policy's, or the one that Terraform makes, which is called after the policy."""
    if named := sandbox.settings.topic or policy.alarms.topic:
        return str(named)
    _, partition, _, region, account, *_ = function_arn.split(":")
    return f"arn:{partition}:sns:{region}:{account}:{policy.name}-alarms"


def _why(job: Mapping[str, Any]) -> str:
    container = job.get("container") or {}
    told = [str(job.get("statusReason") or ""), str(container.get("reason") or "")]
    return "; ".join(text for text in told if text) or f"Batch says {job['status']}"


def _did(action: str, about: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "about": about, **more}
