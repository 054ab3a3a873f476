"""The raw limit: awscrt alone, guarded as Sealift is, and nothing else. No listing, no ledger, no report.

    python raw.py ACT KEYS [--to s3://bucket/prefix] [--inflight N]

KEYS is a file of JSON lines [bucket, key, etag, size_bytes]. Acts: `put` (makes the
benchmark's objects), `copy`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from awscrt import auth, checksums, http, io, s3

TAGS = "department=documents&retention=years-7"
METADATA = [("x-amz-meta-shipment", "SL-2026-000001"), ("x-amz-meta-checked-by", "harbour-office")]


class Key(NamedTuple):
    """One line of the key file."""

    bucket: str
    key: str
    etag: str
    size_bytes: int

    @property
    def path(self) -> str:
        return f"/{self.bucket}/{quote(self.key)}"


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes | None = None


class Loop:
    """Keeps `inflight` requests in the air from callbacks alone, until the source of requests is dry."""

    def __init__(self, connections: int) -> None:
        endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
        self.host = endpoint.netloc
        trust = None
        if is_tls := endpoint.scheme == "https":
            options = io.TlsContextOptions()
            if bundle := os.environ.get("AWS_CA_BUNDLE"):
                options.override_default_trust_store_from_path(None, bundle)
            trust = io.ClientTlsContext(options).new_connection_options()
        group = io.EventLoopGroup(1)
        provider = auth.AwsCredentialsProvider.new_static(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        )
        region = os.environ.get("AWS_REGION", "us-east-1")
        self.client = s3.S3Client(
            bootstrap=io.ClientBootstrap(group, io.DefaultHostResolver(group)),
            region=region,
            tls_mode=s3.S3RequestTlsMode.ENABLED if is_tls else s3.S3RequestTlsMode.DISABLED,
            tls_connection_options=trust,
            signing_config=s3.create_default_s3_signing_config(region=region, credential_provider=provider),
            throughput_target_gbps=connections / 2.5,
        )
        self.errors: list[str] = []
        self.lock = threading.Lock()

    def run(self, requests: Iterable[Request], inflight: int) -> None:
        """Send them all; `errors` holds what failed."""
        source, done = iter(requests), threading.Event()
        flying = inflight

        def step() -> None:
            nonlocal flying
            with self.lock:
                request = next(source, None)
                if request is None:
                    flying -= 1
                    if flying == 0:
                        done.set()
                    return
            self._send(request, step)

        for _ in range(inflight):
            step()
        done.wait()

    def _send(self, request: Request, step: Callable[[], None]) -> None:
        fields = [("Host", self.host), *request.headers, ("Content-Length", str(len(request.body or b"")))]

        def on_done(error: Exception | None, error_body: bytes | None, **_: Any) -> None:
            if error:
                self.errors.append(f"{request.method} {request.path}: {error} {(error_body or b'')[:200]!r}")
            step()

        body = BytesIO(request.body) if request.body is not None else None
        self.client.make_request(
            type=s3.S3RequestType.DEFAULT,
            request=http.HttpRequest(request.method, request.path, http.HttpHeaders(fields), body),
            operation_name="Any",
            on_done=on_done,
        )


def content(key: str, size_bytes: int) -> bytes:
    """An object's bytes: they follow from the key, and below 1 KiB from the size alone."""
    block = hashlib.sha512(b"sealift" if size_bytes < 1024 else key.encode()).digest()
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


def puts(keys: list[Key]) -> Iterator[Request]:
    """Objects with a stored CRC64NVME; from 1 KiB on with metadata and tags."""
    for key in keys:
        body = content(key.key, key.size_bytes)
        digest = base64.b64encode(checksums.crc64nvme(body).to_bytes(8, "big")).decode()
        plain = [("Content-Type", "application/pdf"), ("x-amz-checksum-crc64nvme", digest)]
        extra = [("x-amz-tagging", TAGS), *METADATA] if key.size_bytes >= 1024 else []
        yield Request("PUT", key.path, plain + extra, body)


def copies(keys: list[Key], target: str) -> Iterator[Request]:
    """CopyObject, guarded at both ends."""
    for key in keys:
        guards = [("x-amz-copy-source-if-match", f'"{key.etag}"'), ("If-None-Match", "*")]
        yield Request("PUT", f"{target}{quote(key.key)}", [("x-amz-copy-source", key.path), *guards])


def work(act: str, keys: list[Key], target: str, inflight: int, connections: int) -> int:
    """One process's part; returns how many requests failed, after saying why the first ones did."""
    loop = Loop(connections)
    loop.run(puts(keys) if act == "put" else copies(keys, target), inflight)
    for error in loop.errors[:3]:
        print(error, file=sys.stderr)
    return len(loop.errors)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=["put", "copy"])
    parser.add_argument("keys")
    parser.add_argument("--to", default="s3://none/")
    parser.add_argument("--inflight", type=int, default=64)
    parser.add_argument("--connections", type=int, default=0)
    chosen = parser.parse_args()
    target = "/" + chosen.to.removeprefix("s3://")
    connections = chosen.connections or chosen.inflight
    with open(chosen.keys) as lines:
        keys = [Key(*json.loads(line)) for line in lines]
    failed = work(chosen.act, keys, target, chosen.inflight, connections)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)  # the Common Runtime's own shutdown is not what is measured


if __name__ == "__main__":
    main()
