"""The system on this machine: `sealift local`, a Batch beside it, and what stands in for S3's rest.

person, workers ─→ cold objects ─→ S3 with notifications ─→ queue ─→ functions
the role `verify` ─→ no copies ─┘
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.acceptance.site import EXAMPLE, Places, Site
from tests.doubles.batch.account import make_client, register
from tests.doubles.batch.runners import ProcessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.cold_proxy import cold_proxy
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.local_process import local_process

POLICY = EXAMPLE / "policy.yaml"
ROLES = ("replicate", "verify", "compact", "restore", "expire", "reconcile", "nightly", "backfill")


@contextlib.contextmanager
def local_site(folder: Path) -> Iterator[Site]:
    """The site, for as long as the block lasts. `folder` gets the logs of jobs."""
    places = Places.of(POLICY)
    queue, waiting_queue = f"{places.name}-workers", f"{places.name}-orchestrators"
    with contextlib.ExitStack() as running:
        local = running.enter_context(local_process("--policy", str(POLICY)))
        assert local.process.stdout is not None
        threading.Thread(target=_drain, args=(local.process.stdout,), daemon=True).start()
        door = running.enter_context(cold_proxy(local.environment["AWS_ENDPOINT_URL_S3"]))
        denied = running.enter_context(fault_proxy(door, Faults({"deny": True}, seed=1))).endpoint
        runner = ProcessRunner({}, folder)
        batch = running.enter_context(batch_server(runner, max_running=4))
        environment = local.environment | {
            "AWS_ENDPOINT_URL_S3": door,
            "AWS_ENDPOINT_URL_BATCH": batch.endpoint,
            "SEALIFT_BATCH_QUEUE": queue,
            "SEALIFT_BATCH_JOB_DEFINITION": f"{places.name}-{{job}}",
            "SEALIFT_SYSTEM": places.name,
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
        runner.environment = plain | environment
        _make_batch(batch, places, (queue, waiting_queue), denied)
        site = Site(
            places,
            environment,
            queue,
            waiting_queue,
            f"{places.name}-{{job}}",
            poll_seconds=0.05,
            limit_seconds=180.0,
            slow_rate="5",
        )
        site.client().create_bucket(Bucket=places.back)
        site.client().put_bucket_versioning(Bucket=places.back, VersioningConfiguration={"Status": "Enabled"})
        site.sealift("expire", "--pair", "near", "--declare")  # as Terraform does
        yield site


def _drain(lines: Iterable[str]) -> None:
    """Read status lines, so that the pipe is never full."""
    with contextlib.suppress(ValueError):  # it is closed
        for _ in lines:
            pass


def _make_batch(batch: BatchServer, places: Places, queues: tuple[str, ...], denied: str) -> None:
    """The queues, and a job definition for each role. That of `verify` finds an S3 that denies copies.

    Workers of the plan have no way out but VPC endpoints, through which S3 copies nothing between regions.
    """
    for queue in queues:
        batch.add_queue(queue)
    client = make_client(batch)
    for role in ROLES:
        own = [{"name": "SEALIFT_ENDPOINTS_ONLY", "value": "1"}]
        own += [{"name": "AWS_ENDPOINT_URL_S3", "value": denied}] if role == "verify" else []
        register(client, f"{places.name}-{role}", environment=own)
