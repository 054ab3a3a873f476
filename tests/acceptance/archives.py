"""The steps about archives: compact, thaw, restore, expire, undo, and a restore as of an earlier time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobs.core.selection import is_sealift_object
from tests.acceptance.script import Facts, counted, step
from tests.acceptance.site import Site, s3_time

MEMBERS = {f"cold/{number}.txt": f"cold {number}".encode() for number in range(6)}


@step(
    "small objects are packed into one archive",
    {"exit code": 0, "outcomes": {"done": len(MEMBERS)}, "archives": ["GLACIER"]},
    minutes=20,
)
def archive(site: Site) -> Facts:
    """Pack small objects into an archive of the class GLACIER, by the role for it."""
    for key, body in MEMBERS.items():
        site.put(site.places.near, key, body)
    site.await_age(site.places.near, list(MEMBERS)[-1], 2.0)
    command = ("compact", "--pair", "near", "--rule", "cold", "--pack-all", "--yes")
    code = site.run_job("compact", *command, queue=site.waiting_queue)  # it may wait for workers
    report = site.reports("compact")[0]
    site.noted["packed"] = report["run_id"]
    found = _archives(site)
    return {
        "exit code": code,
        "outcomes": counted(report),
        "archives": [each["StorageClass"] for each in found],
    }


def _archives(site: Site) -> list[dict[str, Any]]:
    """What is in the bucket of archives, without the document of the place."""
    found: Any = site.client().list_objects_v2(Bucket=site.places.archives).get("Contents", [])
    return [each for each in found if not is_sealift_object(each["Key"])]


@step(
    "S3 is asked to thaw the archive",
    {"outcomes": {"blocked": len(MEMBERS)}},
    minutes=60,
    waits="Expedited takes 1 to 5 minutes, and longer where S3 is short of capacity.",
)
def thaw(site: Site) -> Facts:
    """Ask for what is in the archive: S3 has to thaw it first."""
    what = ("restore", "--archives", f"s3://{site.places.archives}/", "--prefix", "cold/")
    how = ("--tier", "Expedited", "--destination", f"s3://{site.places.back}/thawed/")
    report = site.sealift(*what, *how, "--executor", "local", "--yes", codes=(3,))
    site.noted["thawing"] = report["run_id"]
    [entry] = _archives(site)

    def look() -> bool:
        answer = site.client().head_object(Bucket=site.places.archives, Key=entry["Key"])
        return 'ongoing-request="false"' in answer.get("Restore", "")

    site.await_value("the archive to be thawed", look)
    return {"outcomes": report["outcomes"]}


@step("its members come back", {"restored": len(MEMBERS)}, minutes=20)
def restore(site: Site) -> Facts:
    """Continue the restore. In AWS a function may have done so already: what counts is what is there."""
    site.sealift("runs", "retry", site.noted["thawing"], "--executor", "local", codes=(0, 3, 75))
    wanted = {f"thawed/{key}": body for key, body in MEMBERS.items()}
    site.await_copies(site.places.back, wanted)
    return {"restored": len(site.keys(site.places.back, "thawed/"))}


@step(
    "objects come back as they were before a change and a delete",
    {"outcomes": {"done": 2}, "contents": ["before", "before"]},
    minutes=5,
)
def as_of(site: Site) -> Facts:
    """Overwrite one object and delete another one, and restore both as they were before."""
    keys = ("asof/kept.txt", "asof/deleted.txt")
    for key in keys:
        site.put(site.places.near, key, b"before")
    site.await_age(site.places.near, keys[-1], 2.0)
    now = s3_time(site.client().head_object(Bucket=site.places.near, Key=keys[-1]))
    then = datetime.fromtimestamp(now - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    site.put(site.places.near, keys[0], b"after")
    site.client().delete_object(Bucket=site.places.near, Key=keys[1])
    what = ("restore", "--source", f"s3://{site.places.near}/asof/", "--as-of", then)
    report = site.sealift(*what, "--destination", f"s3://{site.places.back}/asof/", "--executor", "local", "--yes")
    contents = [site.content(site.places.back, key) for key in keys]
    return {"outcomes": report["outcomes"], "contents": [body.decode() if body else None for body in contents]}


@step(
    "originals that are in an archive are deleted",
    {"exit code": 0, "still visible": 0, "versions behind": len(MEMBERS)},
    minutes=20,
)
def expire(site: Site) -> Facts:
    """Delete the originals that are in an archive, by the one role that may."""
    command = ("expire", "--pair", "near", "--yes-delete", "--executor", "local")
    code = site.run_job("expire", *command)
    site.noted["expired"] = site.reports("expire")[0]["run_id"]
    return {
        "exit code": code,
        "still visible": len(site.keys(site.places.near, "cold/")),
        "versions behind": len(site.versions(site.places.near, "cold/")),
    }


@step("and brought back", {"visible again": len(MEMBERS)}, minutes=5)
def undo(site: Site) -> Facts:
    """Take the deletion back."""
    what = ("expire", "--undo", site.noted["expired"], "--source", f"s3://{site.places.near}/cold/")
    site.sealift(*what, "--executor", "local")
    contents = {key: site.content(site.places.near, key) for key in MEMBERS}
    return {"visible again": sum(contents[key] == body for key, body in MEMBERS.items())}


STEPS = (archive, thaw, restore, as_of, expire, undo)
