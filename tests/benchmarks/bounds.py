"""What must not grow: memory and open files of a worker, with the manifest's length or an object's size."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import trustme

from tests.benchmarks import peers, raw
from tests.benchmarks.peers import SEALIFT, Client
from tests.benchmarks.workloads import MIB, Bench, Target, Workload, uri, worker_peak_mib
from tests.doubles.fault_proxy import Faults, fault_proxy

WORKER_MIB_MAX = 300
TLS_WORKER_MIB_MAX = 200
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


def over_tls(bench: Bench) -> Workload:
    """Copies over TLS, as many at once as a worker makes: each connection holds buffers and certificates."""
    dataset = bench.small()
    bench.data.key_file(dataset)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = bench.stack.enter_context(authority.cert_pem.tempfile())
    upstream = bench.environment["AWS_ENDPOINT_URL_S3"]
    proxy = bench.stack.enter_context(fault_proxy(upstream, Faults({"stall": 1.0}, seed=1), context))
    environment = {**bench.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, "AWS_CA_BUNDLE": bundle}
    client = Client(SEALIFT, peers.sealift_run("replicate", ["--source", uri(dataset)]).command, rounds_max=1)
    targets = [Target("peak MiB of the largest worker", worker_peak_mib, at_most=TLS_WORKER_MIB_MAX)]
    title = f"Memory: {dataset.count:,} copies over TLS, each answer half a second late"
    return Workload("tls", title, dataset.count, dataset.size_bytes, [client], environment, targets, dataset.count)


def giant_object(bench: Bench) -> Workload:
    """One object of 20 GiB, streamed as between two services: the destination's endpoint has another name."""
    size_bytes = bench.scaled(GIANT_BYTES // _PIECE_BYTES) * _PIECE_BYTES
    bucket = bench.data.fresh_bucket("bench-giant")
    _put_in_parts(bench, bucket, size_bytes)
    address = urlsplit(bench.environment["AWS_ENDPOINT_URL_S3"])
    other = f"http://localhost:{address.port}"
    client = peers.sealift_run("replicate", ["--source", f"s3://{bucket}/"], "--destination-endpoint", other)
    client = Client(SEALIFT, client.command, rounds_max=1)
    targets = [Target("peak MiB of the worker", worker_peak_mib, at_most=WORKER_MIB_MAX)]
    title = f"Memory: one object of {size_bytes / (1 << 30):.1f} GiB, streamed"
    return Workload("giant", title, 1, size_bytes, [client], bench.environment, targets, expected=1)


def _put_in_parts(bench: Bench, bucket: str, size_bytes: int) -> None:
    s3, place = bench.data.client, {"Bucket": bucket, "Key": "giant"}
    piece = raw.content("giant", _PIECE_BYTES)
    upload = s3.create_multipart_upload(**place)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=piece)["ETag"]}
        for number in range(1, size_bytes // _PIECE_BYTES + 1)
    ]
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {"million": million_rows, "tls": over_tls, "giant": giant_object}
