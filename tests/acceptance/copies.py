"""The steps about copies: conditions, events, the backlog, a backfill, a night, a reconciliation."""

from __future__ import annotations

from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from tests.acceptance.script import Facts, counted, step
from tests.acceptance.site import Site

LARGE = b"x" * (2 << 20)
"""Above `lambda_max_size` of the example's policy."""
OBJECTS = 12
LOST = 5
ON_BATCH = ("--executor", "batch", "--yes")
TWO_SHARDS = {"SEALIFT_TUNING": "rows_per_shard=6"}


@step(
    "write over objects with conditions that do not hold",
    {"east": ["PreconditionFailed"] * 2 + ["first"], "west": ["PreconditionFailed"] * 2 + ["first"]},
    minutes=2,
)
def conditions(site: Site) -> Facts:
    """Write where something is already, in both regions."""
    facts: Facts = {}
    for where, bucket, region in (
        ("east", site.places.back, site.places.east_region),
        ("west", site.places.west, site.places.west_region),
    ):
        client, key = site.client("s3", region), "conditions/once"
        client.put_object(Bucket=bucket, Key=key, Body=b"first", IfNoneMatch="*")
        other = '"00000000000000000000000000000000"'
        codes = []
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": other}):
            again = {"Bucket": bucket, "Key": key, "Body": b"second", **condition}
            codes.append(code_of(partial(client.put_object, **again)))
        facts[where] = [*codes, (site.content(bucket, key, region) or b"").decode()]
        for each in site.versions(bucket, key, region=region):
            client.delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])
    return facts


@step(
    "new and overwritten objects are copied as they come",
    {
        "copies": 3,
        "metadata": {"gate": "4"},
        "tags": {"class": "scan"},
        "versions of an overwritten copy": 2,
    },
    minutes=10,
)
def events(site: Site) -> Facts:
    """Put objects into the source, overwrite one, and look for the copies."""
    bodies = {"events/1.txt": b"one", "events/empty": b"", "events/a b+ü (1).txt": b"odd"}
    for key, body in bodies.items():
        site.put(site.places.near, key, body, Tagging="class=scan", Metadata={"gate": "4"})
    site.await_copies(site.places.hot, {f"copies/{key}": body for key, body in bodies.items()})
    head = site.client().head_object(Bucket=site.places.hot, Key="copies/events/1.txt")
    tags = site.client().get_object_tagging(Bucket=site.places.hot, Key="copies/events/1.txt")["TagSet"]
    site.put(site.places.near, "events/1.txt", b"newer")
    site.await_copies(site.places.hot, {"copies/events/1.txt": b"newer"})
    return {
        "copies": len(site.keys(site.places.hot, "copies/events/")),
        "metadata": head["Metadata"],
        "tags": {each["Key"]: each["Value"] for each in tags},
        "versions of an overwritten copy": len(site.versions(site.places.hot, "copies/events/1.txt")),
    }


@step("a new and a deleted object, copied to another region", {"delete markers": 1, "versions left": 1}, minutes=10)
def far_events(site: Site) -> Facts:
    """Put an object whose copy is in the other region, and delete it."""
    west, region = site.places.west, site.places.west_region
    site.put(site.places.far, "far/1.txt", b"far")
    site.await_copies(west, {"far/1.txt": b"far"}, region)
    site.client().delete_object(Bucket=site.places.far, Key="far/1.txt")
    site.await_value("the delete marker over the copy", lambda: site.content(west, "far/1.txt", region) is None)
    return {
        "delete markers": len(site.versions(west, "far/1.txt", "DeleteMarkers", region)),
        "versions left": len(site.versions(west, "far/1.txt", region=region)),
    }


@step(
    "an object too large for the function becomes a run",
    {"state": "complete", "outcomes": {"done": 1}},
    minutes=25,
    waits="The backlog is looked at each five minutes, and Spot takes a few to start two jobs.",
)
def backlog(site: Site) -> Facts:
    """Put an object that is too large for the function: a run copies it."""
    site.put(site.places.near, "backlog/large.bin", LARGE)
    site.await_copies(site.places.hot, {"copies/backlog/large.bin": LARGE})
    reports = site.await_value("the report of the backlog's run", lambda: site.reports("replicate"))
    return {"state": reports[0]["state"], "outcomes": counted(reports[0])}


@step(
    "the same to another region, where workers carry the bytes",
    {"copies": 1},
    minutes=25,
    waits="The backlog is looked at each five minutes, and Spot takes a few to start two jobs.",
)
def far_backlog(site: Site) -> Facts:
    """The same to the other region: workers behind endpoints carry the bytes themselves."""
    site.put(site.places.far, "backlog/large.bin", LARGE)
    site.await_copies(site.places.west, {"backlog/large.bin": LARGE}, site.places.west_region)
    return {"copies": len(site.versions(site.places.west, "backlog/", region=site.places.west_region))}


@step(
    "workers on Spot copy what is missing, and prove the rest",
    {"state": "complete", "outcomes": {"done": LOST, "same": OBJECTS - LOST}, "copies": OBJECTS},
    minutes=25,
)
def backfill(site: Site) -> Facts:
    """Lose some copies behind everybody's back, and copy what is in the source by workers on Batch."""
    _fill(site, "backfill")
    report = site.sealift(
        "replicate", "--pair", "near", "--source", f"s3://{site.places.near}/backfill/", *ON_BATCH, settings=TWO_SHARDS
    )
    return {
        "state": report["state"],
        "outcomes": report["outcomes"],
        "copies": len(site.keys(site.places.hot, "copies/backfill/")),
    }


@step(
    "a night finds lost copies, repairs and verifies",
    {"exit code": 0, "ending": "well", "repairs": [{"done": LOST}], "copies": OBJECTS},
    minutes=60,
    waits="A night has up to five runs, one after the other, each with jobs that Spot has to start.",
)
def night(site: Site) -> Facts:
    """Lose some copies, and start a night as the schedule would."""
    _fill(site, "night")
    site.await_age(site.places.near, f"night/{OBJECTS - 1:02}.txt", 2.0)
    command = ("nightly", "--pair", "near", "--margin", "0s")
    code = site.run_job("nightly", *command, queue=site.waiting_queue)
    folder = f"{site.ledger_prefix}nights/near/"
    summaries = [name for name in site.keys(site.places.ledger, folder) if "/" not in name.removeprefix(folder)]
    document = site.document(summaries[-1])
    repairs = [stage["counts"] for stage in document["stages"] if stage["stage"] == "repair"]
    return {
        "exit code": code,
        "ending": document["ending"],
        "repairs": repairs,
        "copies": len(site.keys(site.places.hot, "copies/night/")),
    }


@step("two reports are compared, of which one lacks an object", {"categories": {"missing": 1, "same": 1}}, minutes=10)
def reconcile(site: Site) -> Facts:
    """Lose a copy, list both sides into reports of S3 Inventory's shape, and compare them."""
    site.put(site.places.near, "lists/1.txt", b"one")
    site.put(site.places.near, "lists/2.txt", b"two")
    site.await_copies(site.places.hot, {"copies/lists/1.txt": b"one", "copies/lists/2.txt": b"two"})
    site.destroy(site.places.hot, "copies/lists/2.txt")
    site.await_age(site.places.near, "lists/2.txt", 2.0)
    manifests = [
        site.sealift("inventory", f"s3://{place}", "--destination", f"s3://{site.places.back}/lists/{name}")["manifest"]
        for place, name in ((f"{site.places.near}/lists/", "near"), (f"{site.places.hot}/copies/lists/", "hot"))
    ]
    sides = ("--source-inventory", manifests[0], "--destination-inventory", manifests[1])
    options = ("--map", "lists/=copies/lists/", "--margin", "0s")
    found = site.sealift("reconcile", *sides, *options, codes=(0, 3))
    return {"categories": _categories(found)}


def _categories(document: dict[str, Any]) -> dict[str, int]:
    return {name: each["rows"] for name, each in document["categories"].items() if each["rows"]}


def _fill(site: Site, prefix: str) -> None:
    """Objects that events have copied, of which some copies are lost."""
    bodies = {f"{prefix}/{number:02}.txt": f"{prefix} {number}".encode() for number in range(OBJECTS)}
    for key, body in bodies.items():
        site.put(site.places.near, key, body)
    site.await_copies(site.places.hot, {f"copies/{key}": body for key, body in bodies.items()})
    for key in list(bodies)[:LOST]:
        site.destroy(site.places.hot, f"copies/{key}")


def code_of(ask: Any) -> str:
    """The code of the refusal, `done` if there was none."""
    try:
        ask()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


STEPS = (conditions, events, far_events, backlog, far_backlog, backfill, night, reconcile)
