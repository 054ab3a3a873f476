"""The steps that only AWS can show: S3's own replication, and Object Lock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.acceptance.copies import code_of
from tests.acceptance.script import Facts, step
from tests.acceptance.site import Site, s3_time

RETAINED_SECONDS = 60
"""The buckets are destroyed at the end, so nothing may be locked for longer."""


@step(
    "S3 replicates a copy and a delete marker from the other region",
    {"status": "COMPLETED", "status of the replica": "REPLICA", "versions of the replica": 1, "delete markers": 1},
    minutes=20,
    waits="S3 replicates within minutes, mostly.",
    only_in_aws="S3's own replication is not on this machine: a start in AWS tries it",
)
def replication(site: Site) -> Facts:
    """Put an object whose copy S3 replicates from the other region, and delete it at the source."""
    key, west, region = "twin/1.txt", site.places.west, site.places.west_region
    site.put(site.places.far, key, b"twin")
    site.await_copies(west, {key: b"twin"}, region)
    site.await_copies(site.places.twin, {key: b"twin"})
    client = site.client("s3", region)
    version_id = client.head_object(Bucket=west, Key=key)["VersionId"]

    def look() -> str | None:
        answer = client.head_object(Bucket=west, Key=key, VersionId=version_id)
        status = str(answer.get("ReplicationStatus"))
        return status if status in ("COMPLETED", "FAILED") else None

    status = site.await_value("the status of the replication", look)
    replica = site.client().head_object(Bucket=site.places.twin, Key=key)
    site.client().delete_object(Bucket=site.places.far, Key=key)
    site.await_value("the delete marker over the replica", lambda: site.content(site.places.twin, key) is None)
    return {
        "status": status,
        "status of the replica": replica.get("ReplicationStatus"),
        "versions of the replica": len(site.versions(site.places.twin, key)),
        "delete markers": len(site.versions(site.places.twin, key, "DeleteMarkers")),
    }


@step(
    "a copy is locked as its original is, and nobody deletes it before the end",
    {
        "outcomes": {"done": 1},
        "mode": "GOVERNANCE",
        "retained as long as the original": True,
        "a delete before its end": "AccessDenied",
        "a delete after its end": "done",
    },
    minutes=5,
    waits=f"The lock lasts {RETAINED_SECONDS} seconds.",
    only_in_aws="the S3 server of this machine drops the lock of a copy: a start in AWS tries it",
)
def object_lock(site: Site) -> Facts:
    """Copy an object under a short retention, try to delete the copy's version, and wait until it is over."""
    near, back, key = site.places.near, site.places.back, "locked/1.txt"
    client = site.client()
    now = datetime.fromtimestamp(s3_time(client.list_buckets()), UTC)
    until = now + timedelta(seconds=RETAINED_SECONDS)
    site.put(near, key, b"locked", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    sides = ("--source", f"s3://{near}/locked/", "--destination", f"s3://{back}/locked/")
    report = site.sealift("replicate", *sides, "--object-lock", "--executor", "local", "--yes")
    copy = client.head_object(Bucket=back, Key=key)
    version = {"Bucket": back, "Key": key, "VersionId": copy["VersionId"]}
    refused = code_of(lambda: client.delete_object(**version))

    def is_over() -> bool:
        return s3_time(client.head_object(Bucket=near, Key=key)) > until.timestamp() + 1

    site.await_value("the end of the retention", is_over)
    return {
        "outcomes": report["outcomes"],
        "mode": copy.get("ObjectLockMode"),
        "retained as long as the original": copy.get("ObjectLockRetainUntilDate")
        == client.head_object(Bucket=near, Key=key).get("ObjectLockRetainUntilDate"),
        "a delete before its end": refused,
        "a delete after its end": code_of(lambda: client.delete_object(**version)),
    }


STEPS = (replication, object_lock)
