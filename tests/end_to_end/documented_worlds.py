"""What has happened before the first command of each document: objects, copies, archives, runs, a policy, servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs.ledger.journal import Ending, Entry, file_name, to_lines
from jobs.s3.checksums import full_object
from tests.checksum_reports.samples import manifest, result_file, task
from tests.doubles.batch.account import make_client, register
from tests.doubles.batch.runners import ProcessRunner
from tests.doubles.batch.server import batch_server
from tests.doubles.cold_proxy import cold_proxy
from tests.doubles.policies import resolved
from tests.doubles.servers import REGION
from tests.end_to_end.documented_scene import Scene
from tests.end_to_end.scenes import settle

KEYS = [f"{folder}/{number:04d}.json" for folder in ("2024/07", "2026/11") for number in range(1, 7)]
OF_2026 = [key for key in KEYS if key.startswith("2026/")]
SIGNATURES = [f"signatures/{number:04d}.txt" for number in range(1, 7)]
REPLICATE = ("replicate", "--source", "s3://documents/2026/", "--destination", "s3://copies/2026/")
PACK = ("compact", "--source", "s3://documents/2024/07/", "--destination", "s3://cold/documents", "--pack-all")
PACK_PAIR = ("compact", "--pair", "scans", "--rule", "signatures", "--pack-all")


def content(key: str) -> bytes:
    """What the object of this key is."""
    return f"content of {key}".encode()


def nothing(_: Scene) -> None:
    """The objects alone."""


def replicated(scene: Scene) -> None:
    """A run that has made the copies, and all that the pages on expiry name."""
    scene.sealift(*REPLICATE)


def one_lost(scene: Scene) -> None:
    """All copies but one, and S3's inventories of both sides."""
    _copy(scene, [key for key in OF_2026 if key != "2026/11/0002.json"])
    settle()
    for bucket in ("documents", "copies"):
        scene.sealift("inventory", f"s3://{bucket}/2026/", "--destination", f"s3://inventories/{bucket}/daily")


def damaged(scene: Scene) -> None:
    """A copy that is damaged, another one that is lost, an archive, and reports of checksums on both sides."""
    _copy(scene, [key for key in KEYS if key != "2026/11/0002.json"])
    scene.put("copies", "2026/11/0001.json", b"damaged")
    scene.sealift(*PACK)
    for name, bucket in (("source", "documents"), ("copies", "copies")):
        rows = []
        for key in KEYS[:6]:
            head = scene.client.head_object(Bucket=scene.names[bucket], Key=key)
            etag, version = head["ETag"].strip('"'), head.get("VersionId")
            checksum = full_object("CRC32", content(key))
            rows.append(task(scene.names[bucket], key, checksum, etag=etag, version_id=version))
        data = result_file(rows)
        scene.put("reports", f"{name}/results/good.csv", data)
        report = manifest(scene.names["reports"], name, {"good.csv": data}, time.time() + 60)
        scene.put("reports", f"{name}/manifest.json", report)


def listed(scene: Scene) -> None:
    """An inventory, a file of rows, and a verify run that has found no copies."""
    scene.sealift("inventory", "s3://documents", "--destination", "s3://inventories/documents/daily")
    pq.write_table(pa.table({"key": OF_2026}), scene.folder / "rows.parquet")
    verify = ("verify", "--source", "s3://documents/2026/", "--destination", "s3://copies/2026/")
    scene.sealift(*verify, exits=3)


def packed(scene: Scene) -> None:
    """A warm and a cold archive, copies, and the journal of how they were made by events."""
    scene.environment["AWS_ENDPOINT_URL_S3"] = scene.undo.enter_context(
        cold_proxy(scene.environment["AWS_ENDPOINT_URL_S3"])
    )
    scene.sealift(*PACK)
    scene.put("documents", "2024/08/0001.json", content("2024/08/0001.json"))
    cold = ("--source", "s3://documents/2024/08/", "--storage-class", "GLACIER")
    scene.sealift("compact", *cold, "--destination", "s3://cold/documents", "--pack-all")
    source, copies = scene.names["documents"], scene.names["copies"]
    entries: list[Entry] = []
    for key in OF_2026:
        head = scene.client.head_object(Bucket=source, Key=key)
        answer = scene.put("copies", key, content(key))
        entries.append(
            Entry(
                recorded_at=time.time(),
                event="ObjectCreated:Put",
                source_bucket=source,
                key=key,
                version_id=head["VersionId"],
                sequencer=f"{len(entries):016X}",
                status=Ending.COPIED,
                size_bytes=head["ContentLength"],
                etag=head["ETag"].strip('"'),
                destination_bucket=copies,
                destination_key=key,
                destination_version_id=answer["VersionId"],
                destination_etag=answer["ETag"].strip('"'),
                event_at=head["LastModified"].timestamp(),
            )
        )
    scene.put("ledger", f"sealift/{file_name(time.time(), 'documented')}", to_lines(entries))
    settle()
    now, before = datetime.now(UTC), datetime.now(UTC) - timedelta(days=2)
    scene.times |= dict.fromkeys(("2026-11-01", "2026-11-15"), now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    scene.times["2026-10-01"] = before.strftime("%Y-%m-%d")


def bound(scene: Scene) -> None:
    """A policy with a pair `scans`, whose copies are made and whose signatures are packed."""
    _write_policy(scene)
    for key in SIGNATURES:
        scene.put("documents", key, content(key))
    settle()
    scene.environment["SEALIFT_POLICY"] = "policy.yaml"
    scene.sealift("replicate", "--pair", "scans")
    scene.sealift(*PACK_PAIR)


def to_be_drilled(scene: Scene) -> None:
    """The same, and a bucket for drills."""
    bound(scene)
    name = f"{scene.names['copies']}-drills"
    scene.client.create_bucket(Bucket=name)
    scene.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    scene.undo.callback(scene.client.delete_bucket, Bucket=name)
    with (scene.folder / "policy.yaml").open("a") as policy:
        policy.write(f"drill: {{bucket: {name}, region: {REGION}}}\n")


def to_be_archived(scene: Scene) -> None:
    """A policy with a rule for signatures, which are there. No object is older than a day."""
    scene.times["90d"] = "0s"
    _write_policy(scene)
    for key in SIGNATURES:
        scene.put("documents", key, content(key))
    scene.environment["SEALIFT_POLICY"] = "policy.yaml"


def to_be_expired(scene: Scene) -> None:
    """Copies of all documents, an inventory of them, and archived signatures."""
    for key in SIGNATURES:
        scene.put("documents", key, content(key))
    scene.sealift("replicate", "--source", "s3://documents/", "--destination", "s3://copies/")
    scene.sealift("compact", "--source", "s3://documents/", "--destination", "s3://cold/", "--pack-all")
    scene.sealift("inventory", "s3://documents/", "--destination", "s3://inventories/documents")


def overwritten(scene: Scene) -> None:
    """Documents are copied. One is encrypted and one is gone, after the time of the examples."""
    scene.sealift("replicate", "--source", "s3://documents/", "--destination", "s3://copies/")
    settle()
    scene.times["2026-11-01"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    settle()
    scene.put("documents", OF_2026[0], b"encrypted")
    scene.client.delete_object(Bucket=scene.names["documents"], Key=OF_2026[1])


def on_batch(scene: Scene) -> None:
    """A Batch with the queue and the definitions of the page, and an inventory."""
    scene.sealift("inventory", "s3://documents/2026/", "--destination", "s3://inventories/documents")
    runner = ProcessRunner(dict(scene.environment), scene.folder)
    batch = scene.undo.enter_context(batch_server(runner, max_running=2))
    batch.add_queue("sealift")
    for job in ("replicate", "verify"):
        register(make_client(batch), f"sealift-{job}")
    scene.environment["AWS_ENDPOINT_URL_BATCH"] = batch.endpoint


def with_events(scene: Scene) -> None:
    """The policy of the local system that the page starts, whose buckets have the documented names."""
    scene.names.clear()
    _write_policy(scene)


def with_nights(scene: Scene) -> None:
    """A local system whose pairs had a good night, and its variables."""
    with_events(scene)
    scene.start_local()
    scene.client = _client(scene, "s3", "AWS_ENDPOINT_URL_S3")
    for bucket, key in (("freight-in", "waybill.pdf"), ("documents", "scans/0001.jpg")):
        scene.put(bucket, key, content(key))
    settle()
    for pair in ("freight", "scans"):
        scene.sealift("nightly", "--pair", pair, "--margin", "0s")
    scene.put("ledger", "sealift/policy.json", resolved((scene.folder / "policy.yaml").read_bytes()))
    policy = "s3://ledger/sealift/policy.json"
    scene.environment |= {"SEALIFT_LEDGER": "s3://ledger/sealift", "SEALIFT_POLICY": policy, "AWS_REGION": REGION}


def after_shell(scene: Scene, line: str) -> None:
    """What has to have happened after a line before the next one is typed."""
    if line == "sealift local":
        scene.client = _client(scene, "s3", "AWS_ENDPOINT_URL_S3")
        for number in (1, 2):
            scene.put("documents", f"scans/2026/{number:04d}.jpg", content("scan"))
        scene.client.create_bucket(Bucket="lists")
        scene.put("lists", "forgotten.csv", b"documents,scans/2026/0001.jpg\n")
        scene.times["2026-11-01"] = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
        scene.times["2026-11-24"] = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%d")
    elif line == "sealift nightly --pair freight --margin 0s":
        settle()
        scene.sealift("nightly", "--pair", "scans", "--margin", "0s")  # the page has no second pair
    elif "aws s3 cp" in line:
        deadline = time.monotonic() + 30
        while not scene.client.list_objects_v2(Bucket="freight-hot").get("Contents"):
            assert time.monotonic() < deadline, "no event copied the object"
            time.sleep(0.02)


def _copy(scene: Scene, keys: list[str]) -> None:
    """Copies that no run has made."""
    for key in keys:
        source = {"Bucket": scene.names["documents"], "Key": key}
        scene.client.copy_object(Bucket=scene.names["copies"], Key=key, CopySource=source)


def _write_policy(scene: Scene) -> None:
    """Two pairs: `freight`, as `sealift local` has it by itself, and `scans`."""
    names = {bucket: scene.names.get(bucket, bucket) for bucket in ("documents", "copies", "cold", "ledger")}
    places = {side: {"bucket": f"freight-{side}", "region": REGION} for side in ("in", "hot")}
    rule = {"name": "signatures", "prefix": "signatures/", "older_than": "0s", "storage_class": "GLACIER_IR"}
    scans = {
        "name": "scans",
        "source": {"bucket": names["documents"], "region": REGION, "prefixes": ["scans/", "signatures/"]},
        "destination": {"bucket": names["copies"], "region": REGION, "prefix": "delivery/"},
        "archive": {"bucket": names["cold"], "region": REGION, "rules": [rule], "expire": {"grace": "30d"}},
    }
    policy = {
        "version": 1,
        "name": "documented",
        "ledger": {"bucket": names["ledger"], "region": REGION, "prefix": "sealift/"},
        "defaults": {"verify": {"rota": "1/1", "deep": "1/7"}},
        "pairs": [scans, {"name": "freight", "source": places["in"], "destination": places["hot"]}],
    }
    (scene.folder / "policy.yaml").write_text(yaml.safe_dump(policy))


def _client(scene: Scene, service: str, endpoint: str) -> Any:
    """A client with the shell's credentials."""
    found = scene.environment
    session = boto3.Session(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
    made: Any = session.client(service, endpoint_url=found[endpoint])  # type: ignore[call-overload]  # any service
    return made


BEFORE: dict[str, Callable[[Scene], None]] = {
    "README.md": nothing,
    "docs/README.md": nothing,
    "docs/archives.md": to_be_archived,
    "docs/batch.md": on_batch,
    "docs/doctor.md": with_nights,
    "docs/drill.md": to_be_drilled,
    "docs/events-and-nights.md": with_events,
    "docs/expire.md": to_be_expired,
    "docs/ledger.md": replicated,
    "docs/pages.md": replicated,
    "docs/policy.md": bound,
    "docs/reconcile.md": one_lost,
    "docs/replicate.md": listed,
    "docs/restore.md": packed,
    "docs/rollback.md": overwritten,
    "docs/verify.md": damaged,
}
"""What has happened before a page's first command."""
