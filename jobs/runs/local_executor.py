"""The local executor: workers on this machine, each a process of its own.

Each of joblib's threads is a slot. It starts a worker for a shard and waits for it. A worker is a
process of its own, as in a container: killed, it loses only its own work in flight. This process
holds the other end of a worker's stdin: however this process ends, the worker notices, and stops.
Through the same pipe it lends credentials to the worker, so that a person types an MFA code once.
What a worker has done is in its checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from jobs.core.parentage import TIED, TIED_WITH_LOANS
from jobs.credentials import Lender
from jobs.errors import ExitCode

ATTEMPTS = 3
"""How often a shard is started when its process is killed or ends with a transient error."""


class WorkerProcess:
    """One attempt at a shard, as a process.

    `lender` lends it the credentials that it asks for on its stdout. None: it resolves them itself.
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

    def run(self) -> int:
        """Wait for its end. Returns the exit code (killed: minus the signal)."""
        for line in self._process.stdout or ():
            if not line.startswith("{"):  # a library's print
                continue
            profile = json.loads(line)["credentials_of"]
            # In a thread, since the process may end while a person types a code.
            threading.Thread(target=self._lend, args=(profile,), name="loan", daemon=True).start()
        code = self._process.wait()
        if self._process.stdin is not None:
            with self._writing, suppress(OSError):  # a loan that it no longer reads
                self._process.stdin.close()
        return code

    def _lend(self, profile: str | None) -> None:
        answer: dict[str, Any]
        try:
            answer = {"loan": self._lender and self._lender(profile)}
        except Exception as error:  # noqa: BLE001  providers raise anything, and the worker waits
            answer = {"error": str(error) or type(error).__name__}
        stdin = self._process.stdin
        with self._writing, suppress(OSError, ValueError):  # the worker may have ended meanwhile
            if stdin is not None:
                stdin.write(json.dumps(answer) + "\n")
                stdin.flush()

    def stop(self) -> None:
        """Ask it to write a checkpoint and end. Safe in a signal handler."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


@dataclass(slots=True)
class LocalExecutor:
    """Runs shards with the workers that `start(shard)` returns, so many at once.

    All workers stop where one ends by its configuration or too many failed rows, which the others
    have as well, or because the run has another owner.
    """

    start: Callable[[int], WorkerProcess]
    at_once: int
    _running: dict[int, WorkerProcess] = field(default_factory=dict, init=False)
    _stopping: bool = field(default=False, init=False)

    def run(self, shards: Sequence[int]) -> dict[int, int]:
        """Work through the shards.

        Returns the exit code of each shard's last attempt (killed: minus the signal).
        """
        from joblib import Parallel, delayed

        slots = Parallel(n_jobs=self.at_once, batch_size=1, backend="threading")
        ended: list[int | BaseException] = slots(delayed(self._slot)(shard) for shard in shards)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return dict(zip(shards, ended, strict=True))  # type: ignore[arg-type]  # no errors are left

    def _slot(self, shard: int) -> int | BaseException:
        """Run the shard → its exit code. An error stops all workers and is returned, since joblib
        would leave them running.
        """
        try:
            return self._run_shard(shard)
        except BaseException as error:  # noqa: BLE001  `run` raises it when every worker has ended
            self.stop()
            return error

    def stop(self) -> None:
        """Ask every worker to write a checkpoint and end. Start no more. Safe in a signal handler."""
        self._stopping = True
        for worker in list(self._running.values()):
            worker.stop()

    def _run_shard(self, shard: int) -> int:
        code = int(ExitCode.TRANSIENT)
        for _ in range(ATTEMPTS):
            if self._stopping:
                break
            code = self._attempt(shard)
            if code in (ExitCode.CONFIG, ExitCode.TAKEN_OVER):
                self.stop()
            if code >= 0 and code != ExitCode.TRANSIENT:
                break
        # A signal may come before the worker can listen.
        return int(ExitCode.TRANSIENT) if self._stopping and code == -signal.SIGTERM else code

    def _attempt(self, shard: int) -> int:
        worker = self._running[shard] = self.start(shard)
        if self._stopping:
            worker.stop()
        code = worker.run()
        del self._running[shard]
        return code
