"""The steps about what goes wrong: a worker that is killed, a role that may not."""

from __future__ import annotations

from typing import Any

from tests.acceptance.copies import TWO_SHARDS
from tests.acceptance.script import Facts, step
from tests.acceptance.site import NotSeen, Site

OBJECTS = 30


@step(
    "a worker is killed, and the run retried",
    {
        "the worker": "FAILED",
        "the run is complete without it": False,
        "state after a retry": "complete",
        "rows": OBJECTS,
        "accounted": OBJECTS,
        "copies": OBJECTS,
    },
    minutes=40,
    waits="Spot starts the workers twice.",
)
def worker_killed(site: Site) -> Facts:
    """Kill a worker while it starts or works, see that the run is not complete, and retry it."""
    for number in range(OBJECTS):
        site.put(site.places.near, f"killed/{number}.txt", f"killed {number}".encode())
    site.await_copies(site.places.hot, {f"copies/killed/{OBJECTS - 1}.txt": f"killed {OBJECTS - 1}".encode()})
    for number in range(OBJECTS):
        site.destroy(site.places.hot, f"copies/killed/{number}.txt")
    command = (
        "replicate",
        "--pair",
        "near",
        "--source",
        f"s3://{site.places.near}/killed/",
        "--yes",
        "--max-rate",
        site.slow_rate,
        "--executor",
        "detached",
    )
    run_id = site.sealift(*command, settings=TWO_SHARDS)["run_id"]
    client = site.client("batch")
    child = site.await_value("a worker to start", lambda: _started_child(site, f"{run_id}-000-work"))
    client.terminate_job(jobId=child, reason="the acceptance kit kills a worker")
    killed = site.await_job(child)["status"]
    after = site.sealift("runs", "show", run_id, "--follow", codes=(0, 1, 2, 3, 10, 75))
    retried = site.sealift("runs", "retry", run_id, codes=(0, 3, 75))
    return {
        "the worker": killed,
        "the run is complete without it": after["state"] == "complete",
        "state after a retry": retried["state"],
        "rows": retried["rows"],
        "accounted": retried["accounted"],
        "copies": len(site.keys(site.places.hot, "copies/killed/")),
    }


def _started_child(site: Site, name: str) -> str | None:
    """The id of the array's first worker, once it starts."""
    client = site.client("batch")
    filters = [{"name": "JOB_NAME", "values": [name]}]
    found = client.list_jobs(jobQueue=site.queue, filters=filters)["jobSummaryList"]
    if not found:
        return None
    child = f"{found[0]['jobId']}:0"
    jobs: list[dict[str, Any]] = client.describe_jobs(jobs=[child])["jobs"]
    if jobs and jobs[0]["status"] in ("SUCCEEDED", "FAILED"):
        raise NotSeen(f"the worker {child} ended as {jobs[0]['status']} before it could be killed")
    return child if jobs and jobs[0]["status"] in ("STARTING", "RUNNING") else None


@step("the role that verifies is denied to write copies", {"exit code": 3, "copies": 0}, minutes=15)
def role_denied(site: Site) -> Facts:
    """Let the role that verifies, and may read copies only, write some."""
    site.put(site.places.near, "denied/1.txt", b"denied")
    site.await_copies(site.places.hot, {"copies/denied/1.txt": b"denied"})
    sides = ("--source", f"s3://{site.places.near}/denied/", "--destination", f"s3://{site.places.hot}/copies/stolen/")
    # Elsewhere than at AWS the plan tries conditions, which this role may not: the option lets it go on to the copy.
    options = ("--executor", "local", "--yes", "--unguarded")
    code = site.run_job("verify", "replicate", *sides, *options)
    return {"exit code": code, "copies": len(site.versions(site.places.hot, "copies/stolen/"))}


STEPS = (worker_killed, role_denied)
