"""What the simulated Batch's jobs do: the effects of Sealift's commands on the ledger, and how they end."""

from __future__ import annotations

import json
from typing import Any

import jobs.ledger.job_starts
from jobs.core.model import Attributes, Location
from jobs.errors import ExitCode, PreconditionFailed
from jobs.s3.store import ABSENT
from tests.simulation.copies.schedule import LEDGER
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.world import World
from tests.simulation.nights.batch_double import QUEUE, Batch, Ending, Job

RECLAIMED = Ending("FAILED", None, "Host EC2 (instance i-0123456789) terminated.")


class Work:
    """A script of effects for each command. `runs`: the ids of all runs that jobs have made, in order.

    `written`: when a document was, in loop time.
    """

    def __init__(self, world: World, batch: Batch, failures: float):
        self._world, self._batch, self._failures = world, batch, failures
        self.runs: list[str] = []
        self.written: dict[str, float] = {}

    def begin(self, job: Job) -> Ending | None:
        """A job that was started by name asks first whether it is the one."""
        if job.start_name:
            ledger, memory = Location(LEDGER, "l"), self._world.memory
            if run_at_once(jobs.ledger.job_starts.claim_start(memory, ledger, job.start_name, job.id)) != job.id:
                return Ending("FAILED", int(ExitCode.USAGE), "Essential container in task exited")
        job.does_work = True
        return None

    def perform(self, job: Job) -> Ending:
        """What a job that ran to its end, or died, has done."""
        verb, *words = job.command
        options = dict(zip(words[::2], words[1::2], strict=False))
        if verb == "nightly":
            return self._nightly(options["--pair"], options["--night"])
        if verb == "replicate":
            return self._backfill(options["--pair"])
        if verb == "reconcile":
            return Ending("SUCCEEDED", 0) if not self._fails() else self._failed(ExitCode.FINDINGS, ExitCode.CONFIG)
        if "--report" in words:
            return self._report(words[0])
        if verb == "worker":
            return Ending("SUCCEEDED", 0) if not self._fails() else self._failed(ExitCode.TRANSIENT, ExitCode.CONFIG)
        return self.go_on(words[1])  # runs retry

    def _fails(self) -> bool:
        return self._world.chance() < self._failures

    def _failed(self, *codes: int) -> Ending:
        """One of these exit codes, or nobody knows why."""
        which = int(self._world.chance() * (len(codes) + 1))
        if which == len(codes):
            return RECLAIMED
        return Ending("FAILED", int(codes[which]), "Essential container in task exited")

    def _nightly(self, pair: str, night: str) -> Ending:
        name = f"nights/{pair}/{night}.json"
        if self._world.chance() < 0.3:
            self._start_stage(pair, night)
        if self._fails():
            return self._failed(ExitCode.CONFIG, ExitCode.TRANSIENT)
        left = int(self._world.chance() * 3)
        verdict = f"{left} rows need attention" if left else "All is well"
        stage: dict[str, Any] = {
            "stage": "reconcile",
            "state": "complete",
            "refused": None,
            "rows": 7,
            "left": left,
            "counts": {},
        }
        self._write(
            name,
            {"pair": pair, "night": night, "verdict": f"{verdict}: reconcile 7 same.", "left": left, "stages": [stage]}
            | {"summary": f"s3://{LEDGER}/l/{name}"},
        )
        left = self.read(name)["left"]
        return Ending("FAILED", int(ExitCode.FINDINGS), "exited") if left else Ending("SUCCEEDED", 0)

    def _start_stage(self, pair: str, night: str) -> None:
        """A run of the night, of which the night's own mail tells."""
        run_id = f"20231115T{len(self.runs):06d}Z-verify-{len(self.runs) + 0x1F00:06x}"
        self._write(f"runs/{run_id}/spec.json", {"options": {"pair": pair, "night": night}})
        self.runs.append(run_id)
        self.submit_run(run_id, 0)

    def _backfill(self, pair: str) -> Ending:
        if self._fails():
            return self._failed(ExitCode.USAGE, ExitCode.CONFIG)
        run_id = f"20231115T{len(self.runs):06d}Z-replicate-{len(self.runs) + 0x1F00:06x}"
        self._write(f"runs/{run_id}/spec.json", {"options": {"pair": pair}})
        self.runs.append(run_id)
        self.submit_run(run_id, 0)
        return Ending("SUCCEEDED", 0)

    def go_on(self, run_id: str) -> Ending:
        """`runs retry` of a run without a report: the same run, submitted once more."""
        if self._fails():
            return self._failed(ExitCode.CONFIG)
        self._write(f"runs/{run_id}/spec.json", {"options": {"pair": "east"}})
        if run_id not in self.runs:
            self.runs.append(run_id)
        number = sum(each.name.startswith(run_id) and each.name.endswith("-work") for each in self._batch.jobs)
        self.submit_run(run_id, number)
        return Ending("SUCCEEDED", 0)

    def submit_run(self, run_id: str, number: int) -> None:
        """The two jobs of a run, the second behind the first."""
        size = int(self._world.chance() * 4)
        array = {"arrayProperties": {"size": size}} if size > 1 else {}
        name = f"{run_id}-{number:03d}"
        work = self._batch.submit(_job(f"{name}-work", ["worker", run_id, "--submission", str(number)]) | array)
        report = _job(f"{name}-report", ["worker", run_id, "--report"])
        self._batch.submit(report | {"dependsOn": [{"jobId": work.id}]})

    def _report(self, run_id: str) -> Ending:
        """A report that is there stays as it is; of a run that is not complete there is none."""
        name = f"runs/{run_id}/report.json"
        if self._fails() and self.read(name) is None:
            return self._failed(ExitCode.TRANSIENT)
        rows, bad = 1_000 + int(self._world.chance() * 9_000), int(self._world.chance() * 4)
        outcomes = {"copied": rows - bad} | ({"denied": bad} if bad else {})
        document = {"run_id": run_id, "job": "replicate", "state": "complete", "rows": rows, "accounted": rows}
        document |= {"outcomes": outcomes, "failures": bad, "planned_dollars": 0.25, "source": "s3://source/"}
        self._write(name, document)
        bad = self.read(name)["failures"]
        return Ending("FAILED", int(ExitCode.FINDINGS), "exited") if bad else Ending("SUCCEEDED", 0)

    def _write(self, name: str, document: dict[str, Any]) -> None:
        """Once: who comes later finds it."""
        put = self._world.memory.put(LEDGER, f"l/{name}", json.dumps(document).encode(), Attributes(), guard=ABSENT)
        try:
            run_at_once(put)
        except PreconditionFailed:
            return
        self.written[name] = self._world.loop.time()

    def read(self, name: str) -> Any:
        """A document of the ledger, None where there is none."""
        there = self._world.versions(LEDGER, f"l/{name}")
        return json.loads(there[-1].data) if there else None


def _job(name: str, command: list[str]) -> dict[str, Any]:
    return {"jobName": name, "jobQueue": QUEUE, "containerOverrides": {"command": command}}
