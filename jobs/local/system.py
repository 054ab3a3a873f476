"""The whole event-driven system in one process, while a `with` block lasts.

    a client ─→ relay ─→ SeaweedFS          s3://…, by the environment that `System.environment` says
                  └→ notifier ─→ queue ─→ backup (─→ backlog ─→ runs) ─→ hot bucket
                                   └→ dead letters

One thread has the relay, the notifier and the queues. Another one has the functions: it polls,
looks at the backlog, and follows runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from jobs.aws.clients import call, open_client
from jobs.aws.queues import Depth, Queue
from jobs.credentials import LOCAL_KEY
from jobs.errors import Conflict, SealiftError
from jobs.local.batch_queue import LocalBatch, RunDriver
from jobs.local.event_source import Context, EventSource, make_queues
from jobs.local.notifier import Notifier
from jobs.local.relay import Relay
from jobs.local.seaweedfs import RunningServer, allow_open_files, s3_server
from jobs.local.sqs_server import QueueServer
from jobs.local.status import FunctionLog, Unhandled
from jobs.policy.model import Policy
from jobs.policy.reader import read_policy
from jobs.s3.sessions import open_store
from scheduler import backup
from scheduler.log import say
from scheduler.runtime import current_runtime

T = TypeVar("T")

DRAIN_SECONDS = 5.0
PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class System:
    """A running system. `environment`: what a shell needs to use it. AWS's other variables must be
    unset.
    """

    environment: Mapping[str, str]
    server: RunningServer
    policy: Policy
    log: FunctionLog
    unhandled: Unhandled
    queue: Queue
    dead: Queue
    batch: LocalBatch
    runs: RunDriver
    working: Sequence[Future[None]]

    def status(self) -> dict[str, Any]:
        """The document of the status line. Raises the error that ended a part, StoreError if the
        queues fail.
        """
        self.server.check()
        for part in self.working:
            if part.done():
                part.result()
        depth, dead = self.queue.depth(), self.dead.depth()
        if depth == dead == Depth(0, 0, 0):
            self.unhandled.forget_old()
        ages, counts = self.unhandled.ages(), self.log.counts
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "oldest_unhandled_seconds": None if ages is None else round(ages.oldest_seconds, 3),
            "newest_unhandled_seconds": None if ages is None else round(ages.newest_seconds, 3),
            "unhandled": 0 if ages is None else ages.events,
            "backed_up": counts["BackedUp"],
            "backed_up_bytes": self.log.size_bytes,
            "duplicates": counts["Duplicates"],
            "deleted": counts["Deleted"],
            "superseded": counts["Superseded"],
            "handed_over": counts["HandedOver"],
            "skipped": counts["Skipped"],
            "failed": counts["Failed"],
            "queued": sum(depth),
            "dead_letters": sum(dead),
            "backlog_rows": sum(self.log.backlog_rows.values()),
            "runs": self.batch.unfinished,
            "told": list(self.runs.messages),
        }


@contextlib.contextmanager
def running(
    policy_file: Path, folder: Path, *, port: int = 0, keeps_data: bool = False, retry_seconds: int = 5
) -> Iterator[System]:
    """A system over the policy, with data and logs below `folder` and S3 on `port` (0: any).

    Until the block ends, this process's AWS variables are replaced, and its stdout is
    `functions.log`. A message that failed comes again after `retry_seconds`. Raises PolicyError,
    ConfigError, StoreError.
    """
    policy = read_policy(str(policy_file))
    credentials = {
        "AWS_ACCESS_KEY_ID": f"{LOCAL_KEY}{secrets.token_hex(8)}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
    }
    allow_open_files()
    with contextlib.ExitStack() as undo:
        (folder / "jobs").mkdir(exist_ok=True)
        server = undo.enter_context(s3_server(folder, credentials, keeps_data=keeps_data))
        loop = undo.enter_context(_looping())
        queues = QueueServer(str(policy.ledger.region), kept_in=folder / "queues.json" if keeps_data else None)
        queue_port = _on(loop, queues.start())
        undo.callback(lambda: _on(loop, queues.close()))
        environment = credentials | _environment(policy, policy_file, s3_port=server.port, queue_port=queue_port)
        undo.enter_context(_only(environment))
        queue, dead = _make_account(policy, retry_seconds)
        file = undo.enter_context((folder / "functions.log").open("a", encoding="utf-8"))
        log = undo.enter_context(FunctionLog(file))  # it ends before its file does
        undo.enter_context(contextlib.redirect_stdout(log))
        unhandled, batch = Unhandled(), LocalBatch(folder / "jobs")
        unhandled.add(queues.bodies())
        undo.callback(batch.close)
        context = Context(f"{policy.name}-follow", str(policy.ledger.region))
        current_runtime.cache_clear()
        undo.callback(current_runtime.cache_clear)
        runs = RunDriver(current_runtime(), batch, context.invoked_function_arn)
        stop = threading.Event()
        pool = undo.enter_context(ThreadPoolExecutor(1, "functions"))
        undo.callback(stop.set)
        source = EventSource(
            Queue(queue), backup.handler, lambda: Context(f"{policy.name}-backup", context.region), unhandled
        )
        functions = pool.submit(_work, source, runs, stop)
        # Clients go by the relay, which sees what they write.
        relay_port, sending = undo.enter_context(_relaying(loop, policy, server.port, port, Queue(queue), unhandled))
        shell = environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{relay_port}"}
        yield System(
            shell, server, policy, log, unhandled, Queue(queue), Queue(dead), batch, runs, (functions, sending)
        )


def _environment(policy: Policy, policy_file: Path, *, s3_port: int, queue_port: int) -> dict[str, str]:
    """The variables of the functions and jobs, without credentials. No request leaves this machine."""
    region = str(policy.ledger.region)
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{queue_port}",  # of all services but S3
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3_port}",
        "SEALIFT_POLICY": str(policy_file.resolve()),
        "SEALIFT_LEDGER": policy.ledger.uri.rstrip("/"),
        "SEALIFT_EXECUTOR": "local",
    }


def _work(source: EventSource, runs: RunDriver, stop: threading.Event) -> None:
    """The functions' thread. Failures are logged and tried again. Only a bug ends the thread."""
    while not stop.is_set():
        try:
            source.step()
            runs.step()
        except SealiftError as error:
            say("error", "failed", error=str(error))
            stop.wait(PAUSE_SECONDS)


@contextlib.contextmanager
def _looping() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run work on another thread's loop, and wait for it."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


@contextlib.contextmanager
def _relaying(
    loop: asyncio.AbstractEventLoop, policy: Policy, upstream: int, port: int, queue: Queue, unhandled: Unhandled
) -> Iterator[tuple[int, Future[None]]]:
    """The relay and the notifier: the port for clients, and the sender. Sends what is left at the
    end.
    """
    store = open_store(None, None, None, max_in_flight=8)
    notifier = Notifier(policy, store, queue, unhandled)
    relay = Relay(upstream, notifier.add)
    relay_port = _on(loop, relay.start(port))
    sending = asyncio.run_coroutine_threadsafe(notifier.run(), loop)
    try:
        yield relay_port, sending
    finally:
        _on(loop, relay.close())
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(notifier.drain(), loop).result(DRAIN_SECONDS)
        sending.cancel()
        _on(loop, store.close())


def _make_account(policy: Policy, retry_seconds: int) -> tuple[str, str]:
    """Make what Terraform would make: buckets and both queues. Returns the queues' URLs. Raises
    StoreError.
    """
    s3 = open_client("s3")
    buckets = {str(bucket) for pair in policy.pairs for bucket in (pair.source.bucket, pair.destination.bucket)}
    buckets |= {str(pair.archive.bucket) for pair in policy.pairs if pair.archive}
    buckets |= {str(policy.ledger.bucket), *(map(str, policy.inventory.buckets.values()) if policy.inventory else ())}
    for bucket in sorted(buckets):
        with contextlib.suppress(Conflict):  # it exists: the folder is from an earlier time
            call(s3, "CreateBucket", bucket, Bucket=bucket)
        enabled = {"Status": "Enabled"}
        call(s3, "PutBucketVersioning", bucket, Bucket=bucket, VersioningConfiguration=enabled)
    return make_queues(open_client("sqs"), str(policy.name), retry_seconds)


@contextlib.contextmanager
def _only(environment: Mapping[str, str]) -> Iterator[None]:
    """Set these variables, and unset all others of AWS's or ours that the shell may have set."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "SEALIFT_")):
            del os.environ[name]
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
