"""The local executor: the shards of a run on this machine, so many at once, each tried a few times.

A worker is a process of its own, as in a container: killed, it loses only its own work in flight. A
run of few rows has its worker in this process. This process holds the other end of a worker's stdin:
however this process ends, the worker notices, and stops. Through the same pipe it lends credentials
to the worker, so that a person types an MFA code once. What a worker has done is in its checkpoints.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from jobs.config import Settings
from jobs.core.display import Display, Meter
from jobs.core.pace import watch_seconds
from jobs.core.parentage import TIED_WITH_LOANS
from jobs.core.request_log import REQUESTS
from jobs.core.run import Plan, RunSpec, is_destructive, worker_pins
from jobs.credentials import Lender, lend
from jobs.errors import ExitCode, SealiftError
from jobs.interrupts import stopped_by_signals
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import claim_run
from jobs.runs.progress import find_progress
from jobs.runs.worker import Stops
from jobs.s3.retries import gather_bounded

ATTEMPTS = 3
"""How often a shard is started when its process is killed or ends with a transient error."""
HERE_ROWS = 250
HERE_BYTES = 64 * 1024**2
"""The largest run whose worker is no process of its own."""
WATCH_SECONDS, LEDGER_SHARE = 2.0, 0.015
"""The pause between two looks at what the workers have done: at least so long, and a share of the time so far.
A look lists all checkpoints."""
LINE_BYTES = 1024**2
"""The longest line that a worker prints."""
WorkHere = Callable[[int, Stops], Awaitable[int]]
"""One attempt at a run with few rows: the number of the run's owner, and what stops it → the exit code."""


async def execute(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, display: Display, work_here: WorkHere | None = None
) -> dict[int, int]:
    """Run the shards on this machine and show progress. Workers of earlier owners stop.

    `work_here`: None: every worker is a process. Returns the exit code of each shard.
    """
    what = "another command that works on this run"
    owner = (await claim_run(ledger, spec.run_id, what, batch_job_id=settings.batch_job_id)).number
    if work_here is not None and is_worked_here(spec, plan):
        stops = Stops()
        executor = LocalExecutor(lambda _: work_here(owner, stops), stops.stop, 1)
    else:
        at_once = min(settings.processes, len(plan.open_shards))
        # -P: not the `jobs` of the folder that the command was called in
        program = [sys.executable, "-P", "-m", "jobs", *(["--debug"] if REQUESTS.sink else []), "worker", spec.run_id]
        started = ["--owner", str(owner), "--workers", str(at_once), "--ledger", str(ledger.location)]
        words = [*program, *started, *worker_pins(spec, plan)]
        workers = WorkerProcesses(lambda shard: [*words, "--shard", str(shard)])
        executor = LocalExecutor(workers.attempt, workers.stop, at_once)

    def stop() -> None:
        if not executor.is_stopped:
            display.say("stopping: the workers write what they have done first")
        executor.stop()

    async def show(shown: Meter) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(max(WATCH_SECONDS, watch_seconds(time.monotonic() - began, LEDGER_SHARE)))
            with suppress(SealiftError, OSError):  # the ledger is away, or nobody reads it
                shown.update(*await find_progress(ledger, spec.run_id, plan))

    with display.meter(spec.job, plan.rows) as shown, stopped_by_signals(stop):
        showing = asyncio.create_task(show(shown))
        try:
            return await executor.run(plan.open_shards)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


def is_worked_here(spec: RunSpec, plan: Plan) -> bool:
    """Whether the rows are too few for a worker's own process, which takes a quarter of a second of
    CPU to start.

    What deletes has a process, whose command line says what may be deleted.
    """
    first = plan.shards[0] if len(plan.open_shards) == 1 else None
    is_small = first is not None and first.rows <= HERE_ROWS and first.size_bytes <= HERE_BYTES
    return is_small and not is_destructive(spec)


@dataclass(slots=True)
class LocalExecutor:
    """Runs shards by `attempt`, which returns an exit code (killed: minus the signal), so many at once.

    `stop_all` asks the attempts at work to write a checkpoint and end. All stop where one ends by its
    configuration or too many failed rows, which the others have as well, because the run has another
    owner, or by an error of ours.
    """

    attempt: Callable[[int], Awaitable[int]]
    stop_all: Callable[[], None]
    at_once: int
    is_stopped: bool = field(default=False, init=False)

    async def run(self, shards: Sequence[int]) -> dict[int, int]:
        """Work through the shards. Returns the exit code of each one's last attempt."""
        return dict(zip(shards, await gather_bounded(self._run_shard, shards, self.at_once), strict=True))

    def stop(self) -> None:
        """Stop the attempts at work, and start no more."""
        self.is_stopped = True
        self.stop_all()

    async def _run_shard(self, shard: int) -> int:
        code = int(ExitCode.TRANSIENT)
        try:
            for _ in range(ATTEMPTS):
                if self.is_stopped:
                    break
                code = await self.attempt(shard)
                if code in (ExitCode.CONFIG, ExitCode.TAKEN_OVER):
                    self.stop()
                if code >= 0 and code != ExitCode.TRANSIENT:
                    break
        except BaseException:
            self.stop()  # `run` raises it when every worker has ended
            raise
        # A signal may come before the worker can listen.
        return int(ExitCode.TRANSIENT) if self.is_stopped and code == -signal.SIGTERM else code


class WorkerProcesses:
    """Attempts at shards, each a process with the command line `command(shard)`.

    `lender` lends the credentials that a worker asks for on its stdout.
    """

    def __init__(self, command: Callable[[int], Sequence[str]], lender: Lender = lend):
        self._command, self._lender = command, lender
        self._running, self._is_stopped = set[Process](), False

    async def attempt(self, shard: int) -> int:
        """Start a worker, and wait for its end. Returns its exit code (killed: minus the signal)."""
        worker = await asyncio.create_subprocess_exec(
            *self._command(shard),
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE_BYTES,
            env=os.environ | TIED_WITH_LOANS,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then asks each worker to stop
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._running.add(worker)
        if self._is_stopped:
            self.stop()
        async for line in worker.stdout:
            if line.startswith(b"{"):  # else it is a library's print
                self._lend(json.loads(line)["credentials_of"], worker.stdin)
        code = await worker.wait()
        self._running.discard(worker)
        worker.stdin.close()
        return code

    def _lend(self, profile: str | None, stdin: asyncio.StreamWriter) -> None:
        """Answer a worker from a thread, since it may end while a person types a code."""
        loop = asyncio.get_running_loop()

        def answer() -> None:
            document: dict[str, Any]
            try:
                document = {"loan": self._lender(profile)}
            except Exception as error:  # noqa: BLE001  providers raise anything, and the worker waits
                document = {"error": str(error) or type(error).__name__}
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(stdin.write, f"{json.dumps(document)}\n".encode())

        threading.Thread(target=answer, name="loan", daemon=True).start()

    def stop(self) -> None:
        """Ask each worker to write a checkpoint and end."""
        self._is_stopped = True
        for worker in self._running:
            # Not its own `terminate`: in Python 3.11 that may take the exit code away from who waits for it.
            with suppress(ProcessLookupError):
                if worker.returncode is None:
                    os.kill(worker.pid, signal.SIGTERM)
