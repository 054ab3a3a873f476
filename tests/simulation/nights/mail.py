"""What people are told of the ends of nights, runs and starts, held against the ledger and Batch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.errors import ExitCode
from tests.simulation.engine.processes import Process, Request
from tests.simulation.nights.batch_double import Job
from tests.simulation.nights.lambda_double import Mail, Topic

if TYPE_CHECKING:
    from tests.simulation.nights.model import NightModel

_VERDICT = re.compile(r"^report: s3://ledger/l/runs/(?P<run>[^/]+)/report\.json$", re.MULTILINE)
_NO_REPORT = re.compile(r"Run (?P<run>\S+) ended without a report: ")
_NIGHT = re.compile(r"The night (?P<night>\S+) of the pair (?P<pair>\w+)(?P<failed> did not end)?: ")
_START = re.compile(r"sealift (?P<command>[^\n]+)\n")
TWICE = "an answer was lost, or a function died, before it was noted that people are told"


class Told(NamedTuple):
    """What a mail is about. `about`: a run, `night P D`, or a command; `kind`: verdict, no report, summary, failed."""

    about: str
    kind: str


class Mailbag:
    """Checks each mail as it is published, and in the end that none is missing. `began`: when processes began."""

    def __init__(self, model: NightModel, topic: Topic):
        self._model, self._topic = model, topic
        self.began: dict[Process, float] = {}
        self._told: dict[Told, list[Mail]] = defaultdict(list)
        self._tellers: dict[str, list[Process]] = defaultdict(list)
        self._telling: dict[Process, str] = {}

    def asked(self, request: Request) -> None:
        """A process sends a request."""
        self.began.setdefault(request.process, self._model.world.loop.time())
        if request.name == "put" and request.key.endswith(".begun.json"):
            self._tellers[request.key].append(request.process)
            self._telling[request.process] = request.key

    def published(self) -> None:
        """The topic has taken a mail."""
        mail = self._topic.mails[-1]
        told = _read(mail)
        if told is None:
            self._model.violate("mail says what it is about", mail.subject)
            return
        self._told[told].append(mail)
        self._model.branches[f"mail {told.kind}"] += 1
        why = self._falsehood(told, mail)
        self._model.demand(not why, "what people are told is true", f"{mail.subject}: {why}")

    def _falsehood(self, told: Told, mail: Mail) -> str:
        """Why the mail was not true when its process began; empty when it was."""
        if told.kind in ("verdict", "no report"):
            return self._of_run(told, mail)
        if told.about.startswith("night "):
            return self._of_night(told, mail)
        return "" if any(map(self._model.stands, self._failed(told))) else "no such start has failed"

    def _of_run(self, told: Told, mail: Mail) -> str:
        report = self._model.document(f"runs/{told.about}/report.json")
        if told.kind == "verdict":
            if report is None:
                return "there is no report"
            bad, rows = report["failures"], report["rows"]
            need = "needs" if bad == 1 else "need"
            well = f"All {rows:,} rows ended well" if rows else "Nothing was done: no row was in this run"
            words = f"{bad:,} of {rows:,} rows {need} attention" if bad else well
            return "" if words in mail.subject else f"the report says {words}"
        if not self._model.ends_of(told.about):
            return "nothing that was to make its report has ended"
        return "there is a report" if self._was_there(f"runs/{told.about}/report.json", mail) else ""

    def _of_night(self, told: Told, mail: Mail) -> str:
        _, pair, night = told.about.split()
        name = f"nights/{pair}/{night}.json"
        summary = self._model.document(name)
        if told.kind == "summary":
            return "" if summary and summary["verdict"] in mail.subject else f"its summary is {summary}"
        if self._was_there(name, mail):
            return "there is a summary"
        jobs = [job for job in self._model.batch.jobs if job.name == f"sealift-{pair}-nightly-{night}"]
        has_ended = any(job.ended_at is not None and self._model.stands(job) for job in jobs)
        return "" if has_ended else "its job has not ended"

    def _was_there(self, name: str, mail: Mail) -> bool:
        at_seconds = self._model.work.written.get(name)
        return at_seconds is not None and at_seconds < self.began[mail.process]

    # The end.

    def check_end(self, started: Sequence[str]) -> None:
        """Every end was told, and none twice without need."""
        for run_id in self._model.work.runs:
            self._check_run(run_id)
        for name in started:
            job = self._model.standing(name)
            if job is not None and job.ended_at is not None:
                self._check_start(job)
        for told, mails in sorted(self._told.items()):
            if len(mails) > max(1, self._ends(told)):
                self._check_twice(told, mails)

    def _ends(self, told: Told) -> int:
        """How many ends the mails may be about: a run has as many without a report as jobs that were to make it."""
        if told.kind == "no report":
            return len(self._model.ends_of(told.about))
        return len({job.name for job in self._failed(told)})  # once for each name, whichever of its jobs it was

    def _failed(self, told: Told) -> list[Job]:
        """The jobs of the told command that people have to hear of."""
        return [job for job in self._model.batch.jobs if " ".join(job.command) == told.about and _is_bad(job)]

    def _check_run(self, run_id: str) -> None:
        is_reported = self._model.document(f"runs/{run_id}/report.json") is not None
        is_told = bool(self._told.get(Told(run_id, "verdict" if is_reported else "no report")))
        if "night" in self._model.document(f"runs/{run_id}/spec.json")["options"]:
            self._model.demand(not is_told, "a night is told once", f"{run_id} was told beside its night")
        elif is_reported or self._model.ends_of(run_id):
            what = "its report" if is_reported else "that it has no report"
            self._model.demand(is_told, "every end is told", f"nobody was told of {run_id} {what}")

    def _check_start(self, job: Job) -> None:
        verb, *words = job.command
        if verb == "nightly":
            night = f"night {words[1]} {words[3]}"
            at_seconds = self._model.work.written.get(f"nights/{words[1]}/{words[3]}.json")
            assert job.ended_at is not None
            has_summary = at_seconds is not None and at_seconds <= job.ended_at
            kinds = ("summary",) if has_summary else ("summary", "failed")
            is_told = any(self._told.get(Told(night, kind)) for kind in kinds)
            self._model.demand(is_told, "every end is told", f"nobody was told of the {night}: {job.status}")
        elif words[0] != "report" and _is_bad(job):
            is_told = bool(self._told.get(Told(" ".join(job.command), "failed")))
            self._model.demand(is_told, "every end is told", f"nobody was told of {job.name}: {job.exit_code}")

    def _check_twice(self, told: Told, mails: Sequence[Mail]) -> None:
        struck: set[Process] = self._model.world.network.struck  # type: ignore[attr-defined]  # a StrictNetwork
        tellers = [each for mail in mails for each in self._tellers[self._telling.get(mail.process, "")]]
        if any(each in struck for each in (*tellers, *(mail.process for mail in mails))):
            self._model.known_limits[TWICE] += 1
        else:
            self._model.violate("people are told once", f"{told.about}, {told.kind}: {len(mails)} mails")


def _is_bad(job: Job) -> bool:
    """Whether people have to hear of a start itself: what it started does not tell of it."""
    if job.ended_at is None or job.status == "SUCCEEDED":
        return False
    return job.exit_code != ExitCode.FINDINGS or job.command[0] == "reconcile"


def _read(mail: Mail) -> Told | None:
    found: Any = _VERDICT.search(mail.body)
    if found:
        return Told(found["run"], "verdict")
    if found := _NO_REPORT.match(mail.body):
        return Told(found["run"], "no report")
    if found := _NIGHT.match(mail.body):
        return Told(f"night {found['pair']} {found['night']}", "failed" if found["failed"] else "summary")
    found = _START.match(mail.body)
    return Told(found["command"], "failed") if found else None
