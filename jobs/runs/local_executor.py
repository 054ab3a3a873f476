"""The local executor: workers on this machine, in processes of their own or in this one.

Each of joblib's threads is a slot. It starts a worker for a shard and waits for it. A worker is a
process of its own, as in a container: killed, it loses only its own work in flight. This process
holds the other end of a worker's stdin: however this process ends, the worker notices, and stops.
Through the same pipe it lends credentials to the worker, so that a person types an MFA code once.

A few rows are not worth the start of a process: their worker is a coroutine of this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.core.parentage import TIED, TIED_WITH_LOANS
from jobs.credentials import Lender
from jobs.errors import ExitCode, SealiftWarning
from jobs.runs.worker import Progress

ATTEMPTS = 3
"""How often a shard is started when its process is killed or ends with a transient error."""


Report = Callable[[Any], None]
"""Takes a worker's Progress as a list, or an object that says why all workers have to stop."""


class LocalWorker(Protocol):
    """One attempt at a shard, on this machine."""

    def run(self, report: Report) -> int:
        """Work, and report it. Returns the exit code (killed: minus the signal)."""
        ...

    def stop(self) -> None:
        """Ask it to write a checkpoint and end. Safe in a signal handler."""
        ...


class WorkerProcess:
    """A worker as a process, which prints what it reports as JSON lines.

    `lender` lends it credentials. None: it resolves them itself.
    """

    def __init__(self, command: Sequence[str], lender: Lender | None = None):
        # A session of its own: Ctrl-C reaches the parent alone, which then asks each worker to
        # stop.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (TIED if lender is None else TIED_WITH_LOANS),
            start_new_session=True,
        )
        self._lender, self._writing = lender, threading.Lock()
        self._is_stopped = False

    def run(self, report: Report) -> int:
        """See `LocalWorker`."""
        process = self._process
        try:
            for line in process.stdout or ():
                if line.startswith(("[", "{")):
                    self._hear(json.loads(line), report)
        except BaseException:
            self.stop()
            for _ in process.stdout or ():  # a full pipe would keep it from ending
                pass
            process.wait()
            raise
        code = process.wait()
        if process.stdin is not None:
            with self._writing, suppress(OSError):  # a loan that it no longer reads
                process.stdin.close()
        if self._is_stopped and code == -signal.SIGTERM:  # ours came before it could listen, or after
            return int(ExitCode.TRANSIENT)
        return code

    def _hear(self, document: Any, report: Report) -> None:
        if self._lender is not None and isinstance(document, dict) and "credentials_of" in document:
            # In a thread, since its reports must be read while a person types a code.
            question = (self._lender, document["credentials_of"])
            threading.Thread(target=self._lend, args=question, name="loan", daemon=True).start()
        else:
            report(document)

    def _lend(self, lender: Lender, profile: str | None) -> None:
        answer: dict[str, Any]
        try:
            answer = {"loan": lender(profile)}
        except Exception as error:  # noqa: BLE001  providers raise anything, and the worker waits
            answer = {"error": str(error) or type(error).__name__}
        stdin = self._process.stdin
        with self._writing, suppress(OSError, ValueError):  # the worker may have ended meanwhile
            if stdin is not None:
                stdin.write(json.dumps(answer) + "\n")
                stdin.flush()

    def stop(self) -> None:
        """See `LocalWorker`."""
        self._is_stopped = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


class WorkerHere:
    """A worker as a coroutine of this process, on an event loop of another thread.

    `work` gets what takes its reports, and returns the exit code. `stop` asks it to end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[Report], Coroutine[Any, Any, int]],
        stop: Callable[[], None],
    ):
        self._loop, self._work, self._stop = loop, work, stop

    def run(self, report: Report) -> int:
        """See `LocalWorker`."""
        return asyncio.run_coroutine_threadsafe(self._work(report), self._loop).result()

    def stop(self) -> None:
        """See `LocalWorker`."""
        self._loop.call_soon_threadsafe(self._stop)


@dataclass(slots=True)
class LocalExecutor:
    """Runs shards with the workers that `start(shard)` returns, so many at once.

    A worker may report that too many of its rows fail, or end because the run has another owner. Then
    all workers stop.
    """

    start: Callable[[int], LocalWorker]
    at_once: int
    on_progress: Callable[[Mapping[int, Progress]], None] = lambda progress: None
    _progress: dict[int, Progress] = field(default_factory=dict, init=False)
    _running: dict[int, LocalWorker] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopping: bool = field(default=False, init=False)

    def run(self, shards: Sequence[int]) -> dict[int, int]:
        """Work through the shards.

        Returns the exit code of each shard's last attempt (killed: minus the signal).
        """
        codes = {}
        ended = map(self._slot, shards) if self.at_once == 1 else self._run_in_slots(shards)
        for shard, each in zip(shards, ended, strict=True):
            if isinstance(each, BaseException):
                raise each
            codes[shard] = each
        return codes

    def _run_in_slots(self, shards: Sequence[int]) -> list[int | BaseException]:
        from joblib import Parallel, delayed, effective_n_jobs, parallel_config

        with parallel_config(backend="threading"):
            if (at_once := effective_n_jobs(self.at_once)) < self.at_once:
                warnings.warn(
                    f"{at_once} worker runs at once, not {self.at_once}: this machine gives joblib no semaphores "
                    "(is /dev/shm there?)",
                    SealiftWarning,
                    stacklevel=3,
                )
            slots = Parallel(n_jobs=self.at_once, batch_size=1)
            ended: list[int | BaseException] = slots(delayed(self._slot)(shard) for shard in shards)
            return ended

    def _slot(self, shard: int) -> int | BaseException:
        """Run the shard → its exit code. An error stops all workers and is returned, since joblib
        would leave them running.
        """
        try:
            return self._run_shard(shard)
        except BaseException as error:  # noqa: BLE001  `run` raises it when every worker has ended
            self.stop()
            return error

    @property
    def is_stopping(self) -> bool:
        """True once the workers have been asked to end."""
        return self._stopping

    def stop(self, ending: int | None = None) -> None:
        """Ask every worker to write a checkpoint and end, but not that of the shard `ending`, which
        does so already.

        Start no more. Safe in a signal handler.
        """
        self._stopping = True
        for shard, worker in list(self._running.items()):
            if shard != ending:
                worker.stop()

    def _run_shard(self, shard: int) -> int:
        code = int(ExitCode.TRANSIENT)
        for _ in range(ATTEMPTS):
            if self._stopping:
                break
            code = self._attempt(shard)
            if code == ExitCode.TAKEN_OVER:
                self.stop()
            if code >= 0 and code != ExitCode.TRANSIENT:
                break
        return code

    def _attempt(self, shard: int) -> int:
        worker = self._running[shard] = self.start(shard)
        if self._stopping:
            worker.stop()
        code = worker.run(lambda document: self._hear(shard, document))
        del self._running[shard]
        return code

    def _hear(self, shard: int, document: Any) -> None:
        """Take in a worker's progress, or why all workers have to stop."""
        if isinstance(document, list | tuple):
            with self._lock:
                self._progress[shard] = Progress._make(document)
            self._show()
        else:
            self.stop(ending=shard)

    def _show(self) -> None:
        try:
            self.on_progress(self._progress)
        except OSError:  # nobody reads it any more
            self.stop()
