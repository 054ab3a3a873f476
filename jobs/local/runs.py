"""What the function hands over: its backlog becomes runs, in processes of their own, one at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.aws.batch import Batch
from jobs.core.parentage import TIED
from jobs.errors import ExitCode
from jobs.local.seaweedfs import stop
from scheduler import enqueue
from scheduler.batch_starts import start
from scheduler.runtime import Runtime
from scheduler.submit import for_manifest

LOOK_SECONDS = 2.0
"""In an account the schedule looks each five minutes. Here a look costs nothing."""
ATTEMPTS = 3
MESSAGES_KEPT = 5


class LocalRuns(Batch):
    """Starts the runs that are due. `folder` has a log of each, and their scratch folder."""

    def __init__(self, runtime: Runtime, folder: Path, program: Sequence[str] = (sys.executable, "-P", "-m", "jobs")):
        super().__init__()
        self._runtime, self._folder, self._program = runtime, folder, program
        self._scratch = folder / "scratch"
        self._scratch.mkdir(exist_ok=True)
        self._waiting: deque[tuple[str, Sequence[str], int]] = deque()
        self._running: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self.messages: deque[str] = deque(maxlen=MESSAGES_KEPT)

    @property
    def unfinished(self) -> int:
        """How many wait or run."""
        return len(self._waiting)

    def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
        """Take a run. `batch_starts.start` gives each a name of its own, which is its id."""
        name, command = str(request["jobName"]), request["containerOverrides"]["command"]
        if all(waiting != name for waiting, *_ in self._waiting):
            self._waiting.append((name, command, 1))
        return name

    def step(self) -> None:
        """Look at the backlog each `LOOK_SECONDS`, and at the running process. Raises SealiftError."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + LOOK_SECONDS
            self._runtime.run(self._look())
        if self._running is not None and (code := self._running.poll()) is not None:
            self._end(code)
        if self._running is None and self._waiting:
            self._begin()

    def close(self) -> None:
        """End the running one after its checkpoint, and drop the others."""
        if self._running is not None:
            stop(self._running, is_patient=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _look(self) -> None:
        policy = await self._runtime.policy()
        enqueued = await enqueue.handle(self._runtime, {"action": "backlog"})
        for published in enqueued.manifests:
            pair = policy.pair(published.pair)
            assert pair is not None  # enqueue took it from the policy
            what = for_manifest(pair, published.number, published.manifest)
            await start(self._runtime, policy, what, "local", self)
        enqueued.check()

    def _begin(self) -> None:
        name, command, _ = self._waiting[0]
        variables = {"SEALIFT_BATCH_QUEUE": "", "TMPDIR": str(self._scratch.resolve())}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running = subprocess.Popen(
                [*self._program, *command],
                env=os.environ | variables | TIED,
                stdin=subprocess.PIPE,  # it closes when this process ends, however that happens
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, code: int) -> None:
        assert self._running is not None
        assert self._running.stdin is not None
        self._running.stdin.close()
        self._running = None
        name, command, attempt = self._waiting.popleft()
        if (code == ExitCode.TRANSIENT or code < 0) and attempt < ATTEMPTS:
            self._waiting.append((name, command, attempt + 1))
        else:
            self.messages.append(f"{name}: {'done' if code == ExitCode.DONE else f'exit code {code}'}")
