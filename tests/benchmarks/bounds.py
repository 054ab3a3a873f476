"""What must not grow: memory and open files of a worker, with the manifest's length or an object's size."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks import peers, raw
from tests.benchmarks.peers import SEALIFT, Client
from tests.benchmarks.workloads import MIB, WORKER_MIB_MAX, Bench, Target, Workload, worker_peak_mib

GIANT_BYTES = 20 << 30
_PIECE_BYTES = 64 * MIB


def million_rows(bench: Bench) -> Workload:
    """Manifests of 10⁴, 10⁵ and 10⁶ rows."""
    environment = bench.late()
    clients = []
    rows = [bench.scaled(count) for count in (10_000, 100_000, 1_000_000)]
    bench.data.key_file(bench.many())  # makes the bucket that the manifests name
    for count in rows:
        manifest = bench.data.parquet_manifest(count, 64, bench.many().bucket)
        client = peers.sealift_run("replicate", ["--manifest", manifest])
        clients.append(Client(f"{SEALIFT}, {count:,} rows", client.command, rounds_max=1, objects=count))
    text = "peak MiB of the largest worker, short manifest or long"
    targets = [Target(text, worker_peak_mib, at_most=WORKER_MIB_MAX)]
    title = f"Memory: manifests of {rows[0]:,} to {rows[-1]:,} rows against the late server"
    return Workload("million", title, rows[-1], 64, clients, environment, targets)


def giant_object(bench: Bench) -> Workload:
    """One object of 20 GiB, streamed as between two services."""
    size_bytes = bench.scaled(GIANT_BYTES // _PIECE_BYTES) * _PIECE_BYTES
    if "giant" not in bench.prepared:
        bench.prepared["giant"] = f"s3://{_put_in_parts(bench, size_bytes)}/"
    client = peers.sealift_run("replicate", ["--source", bench.prepared["giant"]], "--stream")
    client = Client(SEALIFT, client.command, rounds_max=1)
    targets = [Target("peak MiB of the worker", worker_peak_mib, at_most=WORKER_MIB_MAX)]
    title = f"Memory: one object of {size_bytes / (1 << 30):.1f} GiB, streamed"
    return Workload("giant", title, 1, size_bytes, [client], bench.environment, targets, expected=1)


def _put_in_parts(bench: Bench, size_bytes: int) -> str:
    """The bucket with the object."""
    bucket = bench.data.fresh_bucket("bench-giant")
    s3, place = bench.data.client, {"Bucket": bucket, "Key": "giant"}
    piece = raw.content("giant", _PIECE_BYTES)
    upload = s3.create_multipart_upload(**place)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=piece)["ETag"]}
        for number in range(1, size_bytes // _PIECE_BYTES + 1)
    ]
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
    return bucket


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {"million": million_rows, "giant": giant_object}
