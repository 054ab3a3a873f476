"""What happens in the day: each scene starts what a user or AWS starts, and looks at what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.doubles.batch.account import await_value, make_client
from tests.end_to_end.scenes import settle as next_second
from tests.scheduler.event_samples import batch as messages
from tests.scheduler.event_samples import eventbridge
from tests.terraform.day import SCANS, SIGNATURES, Day

LARGE = b"x" * (20 << 20)
"""Above what the function copies, and of several parts where bytes pass through a worker."""


def events(day: Day) -> None:
    """New, overwritten, locked, tagged and deleted objects, in the region and from another."""
    first = [
        day.put("example-scans", f"{SCANS}1.jpg", Tagging="claim=none"),
        day.put("example-scans", f"{SCANS}held.jpg", **held()),
        day.put("example-scans", f"{SCANS}large.tif", LARGE),
        day.put("example-customs-us", "2026/a.pdf", Metadata={"office": "7"}),
        day.put("example-customs-us", "2026/large.tif", LARGE),
        day.put("example-tracking", "events/1.json"),
        *(day.put("example-scans", f"{SIGNATURES}{n:03}.png", b"s" * n, Tagging="a=b") for n in range(1, 20)),
    ]
    assert day.backup(*first) == []
    hot = day.client()
    again = [day.put("example-scans", f"{SCANS}1.jpg", b"newer"), day.put("example-customs-us", "2026/a.pdf", b"newer")]
    assert day.backup(*again) == []
    assert hot.get_object(Bucket="example-hot-fra", Key=f"delivery/{SCANS}1.jpg")["Body"].read() == b"newer"
    next_second()
    gone = day.client("us-east-1").delete_object(Bucket="example-customs-us", Key="2026/a.pdf")
    assert day.backup(day.heard("example-customs-us", "2026/a.pdf", gone, "ObjectRemoved:DeleteMarkerCreated")) == []
    short = day.put("example-scans", f"{SCANS}short.jpg")
    version = short["s3"]["object"]["versionId"]
    day.client().delete_object(Bucket="example-scans", Key=f"{SCANS}short.jpg", VersionId=version)
    day.backup(short)  # it comes again, until the event of its end does
    listed = day.client("eu-west-1").list_object_versions(Bucket="example-customs-copies")
    assert listed["DeleteMarkers"]


def backlog(day: Day) -> None:
    """What is too large for the function becomes a backfill, which submits workers and waits for them."""
    day.invoke("enqueue", {"action": "backlog", "scheduled_at": datetime.now(UTC).isoformat()})
    assert day.invoked.calls
    day.pass_on()
    day.settle()
    for job in list(day.batch.engine.jobs.values()):
        if job.index is None:
            day.only(job)
    copy = day.client().head_object(Bucket="example-hot-fra", Key=f"delivery/{SCANS}large.tif")
    assert copy["ContentLength"] == len(LARGE)


def nights(day: Day) -> None:
    """A pair's night as Scheduler starts it; then both nights at once, with copies to mend.

    There is room for one worker at a time: no night may wait for what another one holds.
    """
    day.invoke("submit", {"action": "nightly", "pair": "scans", "scheduled_at": datetime.now(UTC).isoformat()})
    day.settle()
    for number in range(4):
        day.put("example-scans", f"{SCANS}unheard-{number}.jpg", b"n" * number)
        day.put("example-customs-us", f"2026/unheard-{number}.pdf", b"n" * number)
    next_second()
    night = datetime.now(UTC).date() - timedelta(days=2)
    jobs = [
        day.submit("nightly", "nightly", "--pair", pair, "--night", night.isoformat(), "--margin", "0s")
        for pair in ("scans", "customs")
    ]
    day.settle()
    for job in jobs:
        day.only(job, 0, 3)
    for number in range(4):
        copy = day.client().head_object(Bucket="example-hot-fra", Key=f"delivery/{SCANS}unheard-{number}.jpg")
        assert copy["ContentLength"] == number


def copies(day: Day) -> None:
    """Copies that a person asks for: with locks, with all versions from another region, and proven at once."""
    scans = ("--source", "s3://example-scans/scans/", "--destination", "s3://example-hot-fra/delivery/scans/")
    day.put("example-scans", f"{SCANS}late.jpg", b"late", **held())
    day.run("replicate", "replicate", *scans, "--object-lock", "--yes", codes=(0, 3))
    customs = ("--source", "s3://example-customs-us", "--destination", "s3://example-customs-copies")
    marked = day.client("us-east-1")
    day.put("example-customs-us", "2026/gone.pdf", b"gone")
    next_second()
    marked.delete_object(Bucket="example-customs-us", Key="2026/gone.pdf")
    day.run("replicate", "replicate", *customs, "--versions", "all", "--yes", codes=(0, 3))
    day.run("verify", "verify", *scans, "--deep", "--yes", codes=(0, 3))
    day.run("verify", "verify", *customs, "--yes", codes=(0, 3))


def listings(day: Day) -> None:
    """Reports that Sealift makes itself, of both sides, and their comparison."""
    sides = (("example-scans/scans/", "scans"), ("example-hot-fra/delivery/scans/", "hot"))
    for place, name in sides:
        to = f"s3://example-ledger/sealift/inventories/{name}"
        day.run("verify", "inventory", f"s3://{place}", "--destination", to, "--versions", "all")


def repair(day: Day) -> None:
    """A comparison of listings that mends what it finds."""
    day.put("example-scans", f"{SCANS}lost.jpg", b"lost")
    next_second()
    reports = []
    for place, name in (("example-scans/scans/", "scans"), ("example-hot-fra/delivery/scans/", "hot")):
        to = f"s3://example-ledger/sealift/repair/{name}"
        reports.append(day.command("inventory", f"s3://{place}", "--destination", to)["manifest"])
    sides = ("--source-inventory", reports[0], "--destination-inventory", reports[1], "--map", "scans/=delivery/scans/")
    day.run("nightly", "reconcile", *sides, "--margin", "0s", "--repair", "--yes", codes=(0, 3))
    assert day.client().head_object(Bucket="example-hot-fra", Key=f"delivery/{SCANS}lost.jpg")


def failures(day: Day) -> None:
    """A message that cannot be read comes again later; a run whose workers are ended is accounted for."""
    sent = messages({"Records": "none"})
    assert len(day.invoke("backup", day.of_queue(sent)).failed) == 1
    scans = ("--source", "s3://example-scans/scans/", "--destination", "s3://example-hot-fra/delivery/scans/")
    day.put("example-scans", f"{SCANS}ended.jpg", b"ended")
    day.submit("replicate", "replicate", *scans, "--executor", "detached", "--yes")
    known = set(day.batch.names())
    name = await_value(lambda: next((name for name in set(day.batch.names()) - known if name.endswith("work")), None))
    make_client(day.batch).terminate_job(jobId=day.batch.job(name).id, reason="somebody ended it")
    day.settle()
    assert any("-report-" in name and name.startswith("parcels") for name in day.batch.names())


def thaw(day: Day) -> None:
    """S3 has thawed an archive that a restore waits for."""
    archives = day.client().list_objects_v2(Bucket="example-archives-fra", Prefix="delivery/scans/")["Contents"]
    for entry in archives:
        bucket, key = "example-archives-fra", entry["Key"]
        day.invoke("follow", eventbridge(bucket, key, "Object Restore Completed", version_id="1", etag="1"))
    day.settle()
    assert any("-restore-" in name and name.startswith("parcels") for name in day.batch.names())


def archive(day: Day) -> None:
    """Small objects are packed and proven, originals expire, and all comes back elsewhere."""
    next_second()
    for rule in ("signatures", "settled-scans"):
        day.run("compact", "compact", "--pair", "scans", "--rule", rule, "--pack-all", "--yes")
    day.run("verify", "verify", "--archives", "s3://example-archives-fra/delivery/", "--yes", codes=(0, 3))
    back = ("--destination", "s3://example-back/back/", "--yes")
    archives = ("restore", "--archives", "s3://example-archives-fra/delivery/")
    day.run("restore", *archives, "--prefix", SIGNATURES, *back, codes=(0, 3))
    day.run("restore", *archives, "--prefix", SCANS, *back, codes=(0, 3))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    earlier = ("restore", "--source", "s3://example-scans/scans/", "--as-of", now)
    day.run("restore", *earlier, "--destination", "s3://example-back/back/earlier/", "--yes", codes=(0, 3))


def expiry(day: Day) -> None:
    """Originals that an archive holds: hidden first, and removed by the same command later."""
    next_second()
    for _ in range(2):
        day.run("expire", "expire", "--pair", "scans", "--yes-delete", "--executor", "local", codes=(0, 3))
        next_second()


def held() -> dict[str, Any]:
    """Retention and a legal hold."""
    until = datetime.now(UTC) + timedelta(days=400)
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until, "ObjectLockLegalHoldStatus": "ON"}
    return {**lock, "ChecksumAlgorithm": "SHA256"}


SCENES = (events, backlog, nights, copies, listings, repair, failures, archive, thaw, expiry)
"""In this order: each builds on what those before it left."""
