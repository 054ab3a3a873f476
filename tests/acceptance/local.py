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
from tests.doubles.aws_recorder import Recorded
from tests.doubles.batch.account import make_client, register
from tests.doubles.batch.runners import ProcessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.cold_proxy import cold_proxy
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.local_process import local_process
from tests.doubles.recording_proxy import recording_proxy

POLICY = EXAMPLE / "policy.yaml"
ROLES = ("replicate", "verify", "compact", "restore", "expire", "reconcile", "nightly", "backfill")


@contextlib.contextmanager
def local_site(folder: Path, *, limit_seconds: float = 180.0, heard: list[Recorded] | None = None) -> Iterator[Site]:
    """The site, for as long as the block lasts. `folder` gets the logs of jobs.

    `heard` gets what each job's role asks of S3 and Batch.
    """
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
        _make_batch(
            batch,
            places,
            (queue, waiting_queue),
            running.enter_context(_doors(door, denied, batch.endpoint, places, heard)),
        )
        site = Site(
            places,
            environment,
            queue,
            waiting_queue,
            f"{places.name}-{{job}}",
            poll_seconds=0.05,
            limit_seconds=limit_seconds,
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


@contextlib.contextmanager
def _doors(
    door: str, denied: str, batch: str, places: Places, heard: list[Recorded] | None
) -> Iterator[dict[str, dict[str, str]]]:
    """Role → the settings of its jobs: its own ways to S3 and Batch, and the network of the plan.

    Workers there have no way out but VPC endpoints, through which S3 copies nothing between regions.
    """
    settings: dict[str, dict[str, str]] = {role: {"SEALIFT_ENDPOINTS_ONLY": "1"} for role in ROLES}
    settings["verify"]["AWS_ENDPOINT_URL_S3"] = denied
    with contextlib.ExitStack() as running:
        for role in ROLES if heard is not None else ():
            assert heard is not None
            name = f"{places.name}-job-{role}"
            for service, upstream in (("s3", denied if role == "verify" else door), ("batch", batch)):
                url = running.enter_context(recording_proxy(upstream, name, service, heard))
                settings[role][f"AWS_ENDPOINT_URL_{service.upper()}"] = url
        yield settings


def _make_batch(
    batch: BatchServer, places: Places, queues: tuple[str, ...], settings: dict[str, dict[str, str]]
) -> None:
    """The queues, and a job definition for each role, with its settings."""
    for queue in queues:
        batch.add_queue(queue)
    client = make_client(batch)
    for role in ROLES:
        own = [{"name": name, "value": value} for name, value in settings[role].items()]
        register(client, f"{places.name}-{role}", environment=own)
