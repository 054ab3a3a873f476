"""A proxy that answers for AWS's own names, and records every request with the role that sent it.

    with aws_recorder(upstreams, regions) as aws:
        ...  # a process with aws.environment("role") believes that it speaks to AWS; aws.requests has what it asked

Clients are not changed: they reach `bucket.s3.eu-central-1.amazonaws.com` by HTTPS_PROXY, and trust the recorder's own
certificate authority. The access key names the role. What AWS heeds and the server behind does not is done here:
conditions of copies, completions and deletes, regions of buckets, the order of versions, and lists of no annotations.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.doubles.certificates import Certificate, issue

_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?(?P<service>s3|sqs|sns|batch|lambda)\.(?P<region>[a-z0-9-]+)\.amazonaws\.com")
_ENTRY = re.compile(rb"<(Version|DeleteMarker)>.*?</\1>", re.DOTALL)
_ROLE = re.compile(r"Credential=([^/]+)/")
_HOP_BY_HOP = {"host", "connection", "proxy-connection", "transfer-encoding", "expect", "keep-alive"}


@dataclass(frozen=True)
class Recorded:
    """A request and how it ended. Header names are in lower case. Of S3 `body` is kept for deletes of many only."""

    role: str
    service: str
    region: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    status: int
    answer: Mapping[str, str]
    bucket: str = ""
    key: str = ""

    def __str__(self) -> str:
        asked = "&".join(f"{name}={value}" if value else name for name, value in self.query.items())
        target = self.headers.get("x-amz-target", "")
        where = f"{self.bucket}/{self.key}" if self.service == "s3" else f"{self.path} {target}".strip()
        return f"{self.role}: {self.service}.{self.region} {self.method} {where}{'?' * bool(asked)}{asked}"


@dataclass
class AwsRecorder:
    """`upstreams`: service → the URL that answers for it. `bucket_regions`: where buckets are."""

    upstreams: Mapping[str, str]
    bucket_regions: Mapping[str, str]
    url: str = ""
    authority: str = ""
    requests: list[Recorded] = field(default_factory=list)

    def environment(self, role: str, region: str) -> dict[str, str]:
        """The variables of a process with that role in that region."""
        return {
            "HTTPS_PROXY": self.url,
            "https_proxy": self.url,
            "NO_PROXY": "",
            "no_proxy": "",
            "AWS_CA_BUNDLE": self.authority,
            "AWS_ACCESS_KEY_ID": role,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def aws_recorder(upstreams: Mapping[str, str], bucket_regions: Mapping[str, str]) -> Iterator[AwsRecorder]:
    """A recorder for as long as the block lasts."""
    recorder = AwsRecorder(upstreams, bucket_regions)
    with tempfile.TemporaryDirectory(prefix="sealift-recorder-") as folder:
        certificate = _certificate(Path(folder), sorted(set(bucket_regions.values())))
        recorder.authority, tls = str(certificate.bundle), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.chain, certificate.key)
        handler = type("Handler", (_Handler,), {"recorder": recorder, "tls": tls})
        server = _Server(("127.0.0.1", 0), handler)
        recorder.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that end drop their connections."""


class _Handler(BaseHTTPRequestHandler):
    recorder: AwsRecorder
    tls: ssl.SSLContext
    protocol_version = "HTTP/1.1"
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.rpartition(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False

    def _serve(self) -> None:
        place = _HOST.fullmatch(self.headers.get("Host", "").partition(":")[0])
        assert place is not None, f"{self.host}: no name of AWS that is known here"
        service, region = place["service"], place["region"]
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = dict(parse_qsl(query, keep_blank_values=True))
        bucket = key = ""
        if service == "s3":
            path = f"/{place['bucket']}{path}" if place["bucket"] else path
            bucket, _, key = (unquote(each) for each in path[1:].partition("/"))
        status, answer, content = self._answer(service, region, path, query, headers, body, bucket)
        role = _ROLE.search(headers.get("authorization", ""))
        kept = body if service != "s3" or "delete" in asked else b""
        recorded = Recorded(
            role[1] if role else "",
            service,
            region,
            self.command,
            path,
            asked,
            headers,
            kept,
            status,
            {name.lower(): value for name, value in answer},
            bucket,
            key,
        )
        self.recorder.requests.append(recorded)
        self.send_response(status)
        for name, value in answer:
            if name.lower() not in {*_HOP_BY_HOP, "content-length", "date", "server"}:
                self.send_header(name, value)
        length = recorded.answer.get("content-length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  the names that the library calls

    def _answer(
        self, service: str, region: str, path: str, query: str, headers: Mapping[str, str], body: bytes, bucket: str
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if service == "s3":
            where = self.recorder.bucket_regions.get(bucket, region)
            if where != region:
                return 301, [("x-amz-bucket-region", where)], _error("PermanentRedirect")
            if self.command == "GET" and query.split("&")[0] == "annotation":  # moto answers with the object
                return 200, [("content-type", "application/xml")], b"<ListObjectAnnotationsOutput/>"
            is_copy = "x-amz-copy-source" in headers and "partNumber" not in query
            if (is_copy or self.command in ("POST", "DELETE")) and self._condition_fails(path, headers):
                return 412, [], _error("PreconditionFailed")
        upstream = urlsplit(self.recorder.upstreams[service])
        connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port or 80, timeout=60)
        try:
            sent = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
            if "x-amz-copy-source" in sent:
                sent["x-amz-sdk-checksum-algorithm"] = "CRC32"  # moto asks for one where S3 does not
            connection.request(self.command, f"{path}?{query}" if query else path, body, sent)
            response = connection.getresponse()
            content = response.read()
            is_versions = service == "s3" and b"<ListVersionsResult" in content[:500]
            return response.status, response.getheaders(), _in_order(content) if is_versions else content
        finally:
            connection.close()

    def _condition_fails(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a condition on the destination fails, by what is there now."""
        if not {"if-none-match", "if-match"} & headers.keys():
            return False
        upstream = urlsplit(self.recorder.upstreams["s3"])
        connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port or 80, timeout=60)
        try:
            connection.request("HEAD", path, headers={"authorization": headers["authorization"]})
            response = connection.getresponse()
            response.read()
            etag = response.getheader("ETag") if response.status == 200 else None
        finally:
            connection.close()
        return etag is not None if "if-none-match" in headers else etag != headers["if-match"]

    def log_message(self, format: str, *args: object) -> None:
        return


def _in_order(listing: bytes) -> bytes:
    """A listing of versions in S3's order: by key, the newest first, delete markers among the rest."""
    entries = [found[0] for found in _ENTRY.finditer(listing)]
    if not entries:
        return listing

    def text(entry: bytes, name: bytes) -> bytes:
        return entry.partition(b"<%s>" % name)[2].partition(b"</%s>" % name)[0]

    entries.sort(key=lambda entry: text(entry, b"LastModified"), reverse=True)
    entries.sort(key=lambda entry: text(entry, b"IsLatest") == b"true", reverse=True)
    entries.sort(key=lambda entry: text(entry, b"Key"))
    first = _ENTRY.search(listing)
    assert first is not None
    return listing[: first.start()] + b"".join(entries) + _ENTRY.sub(b"", listing[first.start() :])


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _certificate(folder: Path, regions: list[str]) -> Certificate:
    """For the names of AWS in these regions."""
    services = ("s3", "sqs", "sns", "batch", "lambda")
    hosts = [f"{service}.{region}.amazonaws.com" for region in regions for service in services]
    return issue(folder, *hosts, *(f"*.{host}" for host in hosts))
