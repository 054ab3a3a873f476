"""The local executor: runs the worker's own command, one process per core.

Each of joblib's threads is a slot. It starts a worker process for a shard, as a container starts,
and waits for it. A killed worker loses only its own work in flight. This process holds the other
end of a worker's stdin: however this process ends, the worker notices, and stops.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.core.parentage import TIED
from jobs.errors import ExitCode, SealiftWarning
from jobs.runs.worker import Progress

ATTEMPTS = 3
"""How often a shard is started when its process is killed or ends with a transient error."""


@dataclass(slots=True)
class LocalExecutor:
    """Runs shards with `command(shard)`, which prints its Progress as JSON lines.

    A worker that prints a JSON object reports that another launch has claimed the run, or that too
    many of its rows fail. Then all workers stop. `on_superseded` gets the description of that
    launch.
    """

    command: Callable[[int], Sequence[str]]
    processes: int
    on_progress: Callable[[Mapping[int, Progress]], None] = lambda progress: None
    on_superseded: Callable[[str], None] = lambda by: None
    _progress: dict[int, Progress] = field(default_factory=dict, init=False)
    _running: dict[int, subprocess.Popen[str]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopping: bool = field(default=False, init=False)
    _superseded: bool = field(default=False, init=False)

    def run(self, shards: Sequence[int]) -> dict[int, int]:
        """Work through the shards.

        Returns the exit code of each shard's last attempt (killed: minus the signal).
        """
        from joblib import Parallel, delayed, effective_n_jobs, parallel_config

        with parallel_config(backend="threading"):
            if (at_once := effective_n_jobs(self.processes)) < self.processes:
                warnings.warn(
                    f"{at_once} worker runs at once, not {self.processes}: this machine gives joblib no semaphores "
                    "(is /dev/shm there?)",
                    SealiftWarning,
                    stacklevel=2,
                )
            slots = Parallel(n_jobs=self.processes, batch_size=1)
            ended = slots(delayed(self._slot)(shard) for shard in shards)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return dict(zip(shards, ended, strict=True))

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
        for shard, process in list(self._running.items()):
            if shard != ending and process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _run_shard(self, shard: int) -> int:
        code = int(ExitCode.TRANSIENT)
        for _ in range(ATTEMPTS):
            if self._stopping:
                break
            code = self._start(shard)
            if code >= 0 and code != ExitCode.TRANSIENT:
                break
        return code

    def _start(self, shard: int) -> int:
        # A session of its own: Ctrl-C reaches the parent alone, which then asks each worker to
        # stop.
        process = subprocess.Popen(
            self.command(shard),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | TIED,
            start_new_session=True,
        )
        self._running[shard] = process
        if self._stopping:
            process.send_signal(signal.SIGTERM)
        try:
            for line in process.stdout or ():
                self._hear(shard, line)
        except BaseException:
            self.stop()
            for _ in process.stdout or ():  # a full pipe would keep it from ending
                pass
            process.wait()
            raise
        code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        del self._running[shard]
        if self._stopping and code == -signal.SIGTERM:  # ours came before it could listen, or after
            return int(ExitCode.TRANSIENT)
        return code

    def _hear(self, shard: int, line: str) -> None:
        """Take in a line of a worker's progress, or why all workers have to stop."""
        if line.startswith("["):
            with self._lock:
                self._progress[shard] = Progress._make(json.loads(line))
            self._show()
        elif line.startswith("{"):
            notice = json.loads(line)
            if "ended_early" in notice:
                self.stop(ending=shard)
            else:
                self._supersede(str(notice["superseded_by"]))

    def _show(self) -> None:
        try:
            self.on_progress(self._progress)
        except OSError:  # nobody reads it any more
            self.stop()

    def _supersede(self, by: str) -> None:
        with self._lock:
            is_known, self._superseded = self._superseded, True
        if not is_known:
            self.stop()
            self.on_superseded(by)
