"""The local executor: the shards of a run on this machine, so many at once, each tried a few times.

Each of joblib's threads is a slot. It starts a worker for a shard, and waits for it. A worker is a
process of its own, as in a container: killed, it loses only its own work in flight. A run of few rows
has its worker in this process. This process holds the other end of a worker's stdin: however this
process ends, the worker notices, and stops. Through the same pipe it lends credentials to the worker,
so that a person types an MFA code once. What a worker has done is in its checkpoints.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from subprocess import PIPE, Popen
from typing import IO, Any

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
from jobs.ledger.owner import SILENT_SECONDS, claim_run
from jobs.runs.progress import find_progress
from jobs.runs.worker import Stops

ATTEMPTS = 3
"""How often a shard is started when its process is killed or ends with a transient error."""
HERE_ROWS = 250
HERE_BYTES = 64 * 1024**2
"""The largest run whose worker is no process of its own."""
WATCH_SECONDS, LEDGER_SHARE = 2.0, 0.015
"""The pause between two looks at what the workers have done: at least so long, and a share of the time so far.
A look lists all checkpoints."""
WorkHere = Callable[[int, Stops], Coroutine[Any, Any, int]]
"""One attempt at a run with few rows: the number of the run's owner, and what stops it → the exit code."""


async def execute(
    spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, display: Display, work_here: WorkHere | None = None
) -> dict[int, int]:
    """Run the shards on this machine and show progress. Workers of earlier owners stop.

    `work_here`: None: every worker is a process. Returns the exit code of each shard.
    """
    where = f" in Batch job {settings.batch_job_id}" if settings.batch_job_id else ""
    owner = (await claim_run(ledger, spec.run_id, f"another command that works on this run{where}")).number
    stops: Stops | WorkerProcesses
    asked_at = math.inf  # when we began to ask the ledger without an answer so far

    def is_silent() -> bool:
        return time.monotonic() - asked_at >= SILENT_SECONDS

    if work_here is not None and is_worked_here(spec, plan):
        stops, loop = (here := Stops()), asyncio.get_running_loop()

        def attempt(_: int) -> int:
            return asyncio.run_coroutine_threadsafe(work_here(owner, here), loop).result()

        run = partial(run_shards, attempt, here, 1, is_silent)
    else:
        at_once = min(settings.processes, len(plan.open_shards))
        # -P: not the `jobs` of the folder that the command was called in
        program = [sys.executable, "-P", "-m", "jobs", *(["--debug"] if REQUESTS.sink else []), "worker", spec.run_id]
        started = ["--owner", str(owner), "--workers", str(at_once), "--ledger", str(ledger.location)]
        words = [*program, *started, *worker_pins(spec, plan)]
        stops = workers = WorkerProcesses(lambda shard: [*words, "--shard", str(shard)])
        run = partial(run_shards, workers.attempt, workers, at_once, is_silent)

    def stop() -> None:
        if not stops.is_stopped:
            display.say("stopping: the workers write what they have done first")
        stops.stop()

    async def show(shown: Meter) -> None:
        nonlocal asked_at
        began = time.monotonic()
        while True:
            await asyncio.sleep(max(WATCH_SECONDS, watch_seconds(time.monotonic() - began, LEDGER_SHARE)))
            asked_at = min(asked_at, time.monotonic())
            with suppress(SealiftError, OSError):  # the ledger is away, or nobody reads it
                progress = await find_progress(ledger, spec.run_id, plan)
                asked_at = math.inf
                shown.update(*progress)

    with display.meter(spec.job, plan.rows) as shown, stopped_by_signals(stop):
        showing = asyncio.create_task(show(shown))
        try:
            return await asyncio.to_thread(run, plan.open_shards)
        except asyncio.CancelledError:
            stops.stop()  # no thread can be cancelled
            raise
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


def run_shards(
    attempt: Callable[[int], int],
    stops: Stops | WorkerProcesses,
    at_once: int,
    is_silent: Callable[[], bool],
    shards: Sequence[int],
) -> dict[int, int]:
    """Work through the shards by `attempt`, which returns an exit code (killed: minus the signal), so many at once.

    All stop where one ends by its configuration or too many failed rows, which the others have as well,
    because the run has another owner, or by an error of ours. `is_silent`: the ledger does not answer, so no
    attempt begins any more. Returns the exit code of each one's last attempt.
    """
    errors: list[BaseException] = []

    def stop_once() -> None:
        """A worker takes a second signal for an order to end at once."""
        if not stops.is_stopped:
            stops.stop()

    def run_shard(shard: int) -> int:
        code = int(ExitCode.TRANSIENT)
        try:
            for _ in range(ATTEMPTS):
                if stops.is_stopped or is_silent():
                    break
                code = attempt(shard)
                if code in (ExitCode.CONFIG, ExitCode.TAKEN_OVER):
                    stop_once()
                if code >= 0 and code != ExitCode.TRANSIENT:
                    break
        except BaseException as error:  # noqa: BLE001  raised when every worker has ended: joblib would leave them
            errors.append(error)
            stop_once()
        # A signal may come before the worker can listen.
        return int(ExitCode.TRANSIENT) if stops.is_stopped and code == -signal.SIGTERM else code

    if at_once > 1:
        from joblib import Parallel, delayed  # 80 ms of CPU, which one slot does not need

        codes = Parallel(n_jobs=at_once, batch_size=1, backend="threading")(map(delayed(run_shard), shards))
    else:
        codes = [run_shard(shard) for shard in shards]
    if errors:
        raise errors[0]
    return dict(zip(shards, codes, strict=True))


class WorkerProcesses:
    """Attempts at shards, each a process with the command line `command(shard)`.

    `lender` lends the credentials that a worker asks for on its stdout.
    """

    def __init__(self, command: Callable[[int], Sequence[str]], lender: Lender = lend):
        self._command, self._lender, self._writing = command, lender, threading.Lock()
        self._running, self.is_stopped = set[Popen[bytes]](), False

    def attempt(self, shard: int) -> int:
        """Start a worker, and wait for its end. Returns its exit code (killed: minus the signal)."""
        # A session of its own: Ctrl-C reaches this process alone, which then asks each worker to stop.
        worker = Popen(
            self._command(shard), stdin=PIPE, stdout=PIPE, env=os.environ | TIED_WITH_LOANS, start_new_session=True
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._running.add(worker)
        if self.is_stopped:
            worker.terminate()
        with worker.stdout as lines:
            for line in lines:
                if line.startswith(b"{"):  # else it is a library's print
                    asked = json.loads(line)["credentials_of"], worker.stdin
                    # In a thread, since the worker may end while a person types a code.
                    threading.Thread(target=self._lend, args=asked, name="loan", daemon=True).start()
        code = worker.wait()
        self._running.discard(worker)
        with self._writing, suppress(OSError):  # a loan that it no longer reads
            worker.stdin.close()
        return code

    def _lend(self, profile: str | None, stdin: IO[bytes]) -> None:
        try:
            document: dict[str, Any] = {"loan": self._lender(profile)}
        except Exception as error:  # noqa: BLE001  providers raise anything, and the worker waits
            document = {"error": str(error) or type(error).__name__}
        with self._writing, suppress(OSError, ValueError):  # the worker has ended meanwhile
            stdin.write(f"{json.dumps(document)}\n".encode())
            stdin.flush()

    def stop(self) -> None:
        """Ask each worker to write a checkpoint and end."""
        self.is_stopped = True
        for worker in list(self._running):  # which their threads change
            worker.terminate()
