"""The whole event-driven system in one process, while a `with` block lasts.

    a client ─→ SeaweedFS                   s3://…, by the environment that `System.environment` says
                  └→ receiver ─→ backups ─→ backup (─→ backlog ─→ runs) ─→ hot bucket

One thread has the functions: it hands events on, looks at the backlog, and follows runs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct

from jobs.aws.clients import call, open_client
from jobs.errors import Conflict, SealiftError
from jobs.local.backups import Backups
from jobs.local.runs import LocalRuns
from jobs.local.seaweedfs import RunningServer, allow_open_files, notifications, receiving, s3_server
from jobs.policy.model import Policy
from jobs.policy.reader import resolve_policy
from jobs.policy.resolved import FILE_NAME, encode_policy
from scheduler import backup
from scheduler.log import say
from scheduler.runtime import current_runtime

PAUSE_SECONDS = 1.0
IDLE_SECONDS = 0.02


class System(Struct):
    """A running system. `environment`: what a shell needs to use it. AWS's other variables must be
    unset.
    """

    environment: Mapping[str, str]
    server: RunningServer
    policy: Policy
    backups: Backups
    runs: LocalRuns
    working: Future[None]

    def status(self) -> dict[str, Any]:
        """The document of the status line. Raises the error that ended a part."""
        self.server.check()
        if self.working.done():
            self.working.result()
        return {
            "handled": self.backups.handled,
            "unhandled": len(self.backups.messages),
            "given_up": self.backups.given_up,
            "runs": len(self.runs.unfinished),
            "told": self.runs.messages[-5:],
        }


@contextlib.contextmanager
def running(policy_file: Path, folder: Path, *, keeps_data: bool = False) -> Iterator[System]:
    """A system over the policy, with data and logs below `folder`.

    From then on this process has no other variables of AWS's or ours, and until the block ends its stdout is
    `functions.log`. Raises PolicyError, ConfigError, StoreError.
    """
    resolved = resolve_policy(str(policy_file))
    policy = resolved.policy
    credentials = {
        "AWS_ACCESS_KEY_ID": f"local{secrets.token_hex(8)}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
    }
    token, stop = secrets.token_hex(32), threading.Event()
    backups = Backups(policy, backup.handler)
    allow_open_files()
    with contextlib.ExitStack() as undo:
        (folder / "jobs").mkdir(exist_ok=True)
        (folder / FILE_NAME).write_bytes(encode_policy(resolved))
        receiver = undo.enter_context(receiving(token, backups.add))
        sources = (str(each.source.bucket) for each in policy.pairs)
        settings = credentials | notifications(f"http://127.0.0.1:{receiver}", token, sources)
        server = undo.enter_context(s3_server(folder, settings, keeps_data=keeps_data))
        environment = credentials | _environment(policy, folder / FILE_NAME, s3_port=server.port, other_port=receiver)
        for name in [name for name in os.environ if name.startswith(("AWS_", "SEALIFT_"))]:
            del os.environ[name]
        os.environ.update(environment)
        _make_buckets(policy)
        log = undo.enter_context((folder / "functions.log").open("a", buffering=1, encoding="utf-8"))
        undo.enter_context(contextlib.redirect_stdout(log))
        runs = LocalRuns(current_runtime(), folder / "jobs")
        undo.callback(runs.close)
        pool = undo.enter_context(ThreadPoolExecutor(1, "functions"))
        undo.callback(stop.set)
        yield System(environment, server, policy, backups, runs, pool.submit(_work, backups, runs, stop))


def _environment(policy: Policy, policy_file: Path, *, s3_port: int, other_port: int) -> dict[str, str]:
    """The variables of the functions and jobs, without credentials. No request leaves this machine."""
    region = str(policy.ledger.region)
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        **dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{other_port}",  # of all services but S3, which are not here
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3_port}",
        "SEALIFT_POLICY": str(policy_file.resolve()),
        "SEALIFT_LEDGER": policy.ledger.uri.rstrip("/"),
        "SEALIFT_BATCH_QUEUE": "",
    }


def _work(backups: Backups, runs: LocalRuns, stop: threading.Event) -> None:
    """The functions' thread. Failures are logged and tried again. Only a bug ends the thread."""
    while not stop.is_set():
        try:
            backups.step()
            runs.step()
            stop.wait(IDLE_SECONDS)
        except SealiftError as error:
            say("error", "failed", error=str(error))
            stop.wait(PAUSE_SECONDS)


def _make_buckets(policy: Policy) -> None:
    """Make the buckets that Terraform would make, and sources. Raises StoreError."""
    s3 = open_client("s3")
    buckets = {side.bucket for _, _, section, side in policy.sections() if section != "replica"}
    buckets |= {policy.ledger.bucket, *(policy.inventory.buckets.values() if policy.inventory else ())}
    for bucket in sorted(buckets):
        with contextlib.suppress(Conflict):  # it exists: the folder is from an earlier time
            call(s3, "CreateBucket", bucket, Bucket=bucket)
        call(s3, "PutBucketVersioning", bucket, Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
