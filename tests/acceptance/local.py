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
from typing import Any

from tests.acceptance.site import EXAMPLE, Places, Site
from tests.doubles.batch.account import make_client, register
from tests.doubles.batch.runners import SubprocessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.cold_proxy import cold_proxy
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.local_process import local_process

POLICY = EXAMPLE / "policy.yaml"
QUEUE, WAITING_QUEUE = "spot", "orchestrators"
ROLES = ("replicate", "verify", "compact", "restore", "expire", "reconcile", "nightly", "backfill")
PLANTS = {
    "forgetful": "a server that ignores conditions",
    "lenient": "a role that is denied nothing",
    "deaf": "an event that never arrives",
}


@contextlib.contextmanager
def local_site(folder: Path, *, limit_seconds: float = 60.0, plant: str = "") -> Iterator[Site]:
    """The site, for as long as the block lasts. `folder` gets the logs of jobs.

    `plant`: a difference that the script has to find, one of `PLANTS`.
    """
    places, module = Places.of(POLICY), ("tests.acceptance.deaf",) if plant == "deaf" else ("jobs",)
    with contextlib.ExitStack() as running:
        local = running.enter_context(local_process("--retry", "1", "--policy", str(POLICY), module=module))
        assert local.process.stdout is not None
        threading.Thread(target=_drain, args=(local.process.stdout,), daemon=True).start()
        door = running.enter_context(cold_proxy(local.environment["AWS_ENDPOINT_URL_S3"]))
        denied = running.enter_context(fault_proxy(door, Faults({"deny": plant != "lenient"}, seed=1))).endpoint
        runner = SubprocessRunner({}, folder)
        batch = running.enter_context(batch_server(runner, max_running=4))
        environment = local.environment | {
            "AWS_ENDPOINT_URL_S3": door,
            "AWS_ENDPOINT_URL_BATCH": batch.endpoint,
            "SEALIFT_EXECUTOR": "batch",
            "SEALIFT_BATCH_QUEUE": QUEUE,
            "SEALIFT_BATCH_JOB_DEFINITION": f"{places.name}-{{job}}",
            "SEALIFT_SYSTEM": places.name,
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
        runner.environment = plain | environment | {"SEALIFT_LOG": "json"}
        _make_batch(batch, places, {"verify": denied})
        site = Site(
            places,
            environment,
            QUEUE,
            WAITING_QUEUE,
            f"{places.name}-{{job}}",
            poll_seconds=0.05,
            limit_seconds=limit_seconds,
            deliver=_deliver_inventories,
        )
        if plant == "forgetful":
            for region in (places.east_region, places.west_region):
                site.client("s3", region).meta.events.register("before-sign.s3.PutObject", _forget_conditions)
        site.client().create_bucket(Bucket=places.back)
        site.client().put_bucket_versioning(Bucket=places.back, VersioningConfiguration={"Status": "Enabled"})
        yield site


def _drain(lines: Iterable[str]) -> None:
    """Read status lines, so that the pipe is never full."""
    with contextlib.suppress(ValueError):  # it is closed
        for _ in lines:
            pass


def _forget_conditions(request: Any, **_: Any) -> None:
    """Send a write without its conditions. Its answer is that of a server that ignores them."""
    for name in ("If-None-Match", "If-Match"):
        del request.headers[name]


def _make_batch(batch: BatchServer, places: Places, doors: dict[str, str]) -> None:
    """The queues, and a job definition for each role. `doors`: the role's own way to S3."""
    batch.add_queue(QUEUE)
    batch.add_queue(WAITING_QUEUE)
    client = make_client(batch)
    for role in ROLES:
        own = [{"name": "AWS_ENDPOINT_URL_S3", "value": doors[role]}] if role in doors else []
        register(client, f"{places.name}-{role}", environment=own)


def _deliver_inventories(site: Site) -> None:
    """What S3 Inventory does within 48 hours."""
    for bucket in (site.places.near, site.places.hot):
        site.sealift("inventory", f"s3://{bucket}", "--to", f"s3://{site.places.reports}/inventory")
