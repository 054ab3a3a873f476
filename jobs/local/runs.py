"""What the function hands over: its backlog becomes runs, in processes of their own, one at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jobs.aws.batch import Batch
from jobs.core.parentage import TIED
from jobs.errors import ExitCode
from jobs.ledger.backlog import Manifest
from jobs.local.seaweedfs import stop
from scheduler import enqueue
from scheduler.batch_starts import start
from scheduler.runtime import Runtime
from scheduler.submit import for_manifest

LOOK_SECONDS = 2.0
"""In an account the schedule looks each five minutes. Here a look costs nothing."""
ATTEMPTS = 3


class LocalRuns(Batch):
    """Starts the runs that are due, one after the other. `folder` has a log of each, and their scratch folder.

    `unfinished`: the names of those that wait or run.
    """

    def __init__(self, runtime: Runtime, folder: Path, program: Sequence[str] = (sys.executable, "-P", "-m", "jobs")):
        self._runtime, self._folder, self._program = runtime, folder, program
        self._scratch = folder / "scratch"
        self._scratch.mkdir(exist_ok=True)
        self._pool, self.unfinished, self._is_closed = ThreadPoolExecutor(1, "runs"), dict[str, Future[None]](), False
        self._running: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self.messages = list[str]()

    def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
        """Take a run. `batch_starts.start` gives each a name of its own, which is its id."""
        name = str(request["jobName"])
        if name not in self.unfinished:
            self.unfinished[name] = self._pool.submit(self._run, name, request["containerOverrides"]["command"])
        return name

    def step(self) -> None:
        """Look at the backlog each `LOOK_SECONDS`. Raises SealiftError, and any other error of a run."""
        for name in [name for name, run in self.unfinished.items() if run.done()]:
            self.unfinished.pop(name).result()
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + LOOK_SECONDS
            self._runtime.run(self._look())

    def close(self) -> None:
        """End the running one after its checkpoint, and drop the others."""
        self._is_closed = True
        if self._running is not None:
            stop(self._running, is_patient=True)
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _look(self) -> None:
        policy = await self._runtime.policy()

        async def begin(published: Manifest) -> None:
            what = for_manifest(published.pair, published.number, published.manifest)
            await start(self._runtime, policy, what, "local", self)

        await enqueue.handle(self._runtime, {"action": "backlog"}, begin)

    def _run(self, name: str, command: Sequence[str]) -> None:
        """Try a run in a process of its own. Its stdin closes when this process ends, however that happens."""
        variables, code = {"SEALIFT_BATCH_QUEUE": "", "TMPDIR": str(self._scratch.resolve())}, -1
        options: Any = {"env": os.environ | variables | TIED, "stdin": subprocess.PIPE, "start_new_session": True}
        for _ in range(ATTEMPTS):
            with (
                (self._folder / f"{name}.log").open("ab") as log,
                subprocess.Popen([*self._program, *command], stdout=log, stderr=log, **options) as self._running,
            ):
                if self._is_closed:  # it began while the others ended
                    self._running.kill()
                code = self._running.wait()
            if (code >= 0 and code != ExitCode.TRANSIENT) or self._is_closed:
                break
        self.messages.append(f"{name}: {'done' if code == ExitCode.DONE else f'exit code {code}'}")
