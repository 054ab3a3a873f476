"""One signed HTTP request to S3 through the AWS Common Runtime, and what its failures mean.

Requests are signed, pooled and sent in C. Completions arrive on a thread of the runtime; a burst
of them wakes the event loop once. The runtime itself retries a request once; whoever calls
decides about more, so that it sees throttling soon and can lower its pace.
"""

from __future__ import annotations

import asyncio
import io as streams
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from awscrt import auth, http, io, s3
from awscrt.exceptions import AwsCrtError

from jobs.core.model import ObjectRef
from jobs.errors import Denied, Redirected, StoreError, Throttled, Unavailable, store_error
from jobs.s3 import wire

CONNECT_SECONDS = 10
RETRY_BACKOFF_MS = 50
_CONNECTIONS_PER_GBPS = 2.5  # how the runtime turns its throughput target into connections
_LATE_ERRORS = frozenset({"CopyObject", "UploadPartCopy", "CompleteMultipartUpload"})
_NO_BODY = frozenset({"HeadObject", "PutObject", "UploadPart", "DeleteObject", "AbortMultipartUpload"})
_CODE_BY_STATUS = {
    301: "PermanentRedirect",
    304: "NotModified",
    307: "TemporaryRedirect",
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    500: "InternalError",
    503: "SlowDown",
}


class Answer(NamedTuple):
    """A successful answer: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go: `host` with its port if it is not the scheme's own, `path` a prefix or empty.

    `is_virtual`: the bucket becomes part of the host name, as AWS wants it.
    """

    host: str
    is_tls: bool
    path: str = ""
    is_virtual: bool = False

    def address(self, bucket: str) -> tuple[str, str]:
        """Host header and path prefix of a bucket; with a dot in its name, TLS certificates do not match."""
        if self.is_virtual and "." not in bucket:
            return f"{bucket}.{self.host}", f"{self.path}/"
        return self.host, f"{self.path}/{bucket}/"

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host}{self.path}"


class Transport:
    """A connection pool to one endpoint with one set of credentials.

    `ca_bundle`: a PEM file of certificate authorities to trust instead of the system's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        region: str,
        credentials: auth.AwsCredentialsProvider,
        *,
        max_in_flight: int,
        request_payer: bool = False,
        ca_bundle: str | None = None,
    ):
        self.endpoint, self.region = endpoint, region
        self._always = [("x-amz-request-payer", "requester")] if request_payer else []
        self._addresses: dict[str, tuple[str, str]] = {}
        self._inbox: _Inbox | None = None
        self._client: Any = s3.S3Client(
            bootstrap=_bootstrap(),
            region=region,
            tls_mode=s3.S3RequestTlsMode.ENABLED if endpoint.is_tls else s3.S3RequestTlsMode.DISABLED,
            tls_connection_options=_trust(ca_bundle) if endpoint.is_tls and ca_bundle else None,
            signing_config=s3.create_default_s3_signing_config(region=region, credential_provider=credentials),
            throughput_target_gbps=max(max_in_flight, 1) / _CONNECTIONS_PER_GBPS,
            retry_config=s3.S3RetryConfig(max_retries=1, backoff_scale_factor_ms=RETRY_BACKOFF_MS, max_backoff_secs=1),
            connect_timeout_ms=CONNECT_SECONDS * 1000,
        )

    async def send(
        self,
        operation: str,
        method: str,
        place: ObjectRef,
        *,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Answer:
        """Send one request and wait for the whole answer. Raises a StoreError for anything but success.

        `place` is the request's bucket and key; its version id is only for messages. When the
        caller is cancelled, so is the request.
        """
        host, prefix = self._addresses.get(place.bucket) or self._address(place.bucket)
        path = prefix + wire.quote_key(place.key)
        fields = [("Host", host), *headers, *self._always]
        if method == "PUT" or method == "POST":
            fields.append(("Content-Length", str(len(body)) if body else "0"))
        stream = streams.BytesIO(body) if body else None
        inbox = self._inbox
        loop = asyncio.get_running_loop()
        if inbox is None or inbox.loop is not loop:
            inbox = self._inbox = _Inbox(loop)
        exchange = _Exchange(inbox)
        request = self._client.make_request(
            type=s3.S3RequestType.DEFAULT,
            request=http.HttpRequest(method, f"{path}?{query}" if query else path, http.HttpHeaders(fields), stream),
            operation_name=operation,
            on_headers=exchange.on_headers,
            on_body=None if operation in _NO_BODY else exchange.on_body,
            on_done=exchange.on_done,
        )
        try:
            await exchange.future
        except asyncio.CancelledError:
            request.cancel()
            raise
        if exchange.error is not None:
            raise self._failure(operation, place, exchange) from exchange.error
        answer = b"".join(exchange.chunks) if len(exchange.chunks) != 1 else exchange.chunks[0]
        if operation in _LATE_ERRORS and b"<Error" in answer and (late := wire.parse_error(answer)):
            raise store_error(operation, str(place), late.code or "InternalError", late.message, exchange.status)
        return Answer(exchange.status, {name.lower(): value for name, value in exchange.headers}, answer)

    def close(self) -> None:
        """Let the runtime end the pool once its requests are done."""
        self._client = None

    def _address(self, bucket: str) -> tuple[str, str]:
        return self._addresses.setdefault(bucket, self.endpoint.address(bucket))

    def _failure(self, operation: str, place: ObjectRef, exchange: _Exchange) -> StoreError:
        error, target, status = exchange.error, str(place), exchange.status
        name = error.name if isinstance(error, AwsCrtError) else type(error).__name__
        if not status:
            return self._no_answer(operation, target, name, str(getattr(error, "message", error)))
        headers = {key.lower(): value for key, value in exchange.error_headers or exchange.headers}
        body = exchange.error_body or b"".join(exchange.chunks)
        said = wire.parse_error(body)
        code = (said.code if said else "") or _CODE_BY_STATUS.get(status) or f"HTTP{status}"
        message = said.message if said else ""
        if headers.get("x-amz-delete-marker") == "true" and status in (404, 405):
            code = "DeleteMarker"
        region = headers.get("x-amz-bucket-region") or (said.region if said else "")
        failure = store_error(operation, target, code, message, status)
        if isinstance(failure, Redirected) or (status == 400 and region and region != self.region):
            where = region or "another region"
            advice = f"the bucket is in {where}, {self.region} was asked: use --source-region or --destination-region"
            return Redirected(operation, target, code, advice, status)
        return failure

    def _no_answer(self, operation: str, target: str, name: str, message: str) -> StoreError:
        if "SLOW_DOWN" in name or "THROTTL" in name:
            return Throttled(operation, target, name, message)
        if name.startswith("AWS_AUTH_") or name.endswith("_TIME_TOO_SKEWED"):
            return Denied(operation, target, name, f"{message} (check the credentials and this machine's clock)")
        return Unavailable(operation, target, name, f"{message} (endpoint {self.endpoint})")


class _Inbox:
    """Where the runtime's threads leave finished exchanges; the event loop is woken once for a burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self._done: deque[asyncio.Future[None]] = deque()
        self._woken = False

    def put(self, future: asyncio.Future[None]) -> None:
        """Called by a thread of the runtime."""
        self._done.append(future)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._done.clear()

    def _drain(self) -> None:
        self._woken = False  # first, so that whoever comes from now on wakes the loop again
        while self._done:
            future = self._done.popleft()
            if not future.done():
                future.set_result(None)


class _Exchange:
    """One request under way. The `on_` methods run in the runtime's thread and must be short."""

    __slots__ = ("_inbox", "chunks", "error", "error_body", "error_headers", "future", "headers", "status")

    def __init__(self, inbox: _Inbox):
        self._inbox = inbox
        self.future: asyncio.Future[None] = inbox.loop.create_future()
        self.headers: Sequence[tuple[str, str]] = ()
        self.chunks: list[bytes] = []
        self.status = 0
        self.error: BaseException | None = None
        self.error_headers: Sequence[tuple[str, str]] | None = None
        self.error_body: bytes | None = None

    def on_headers(self, status_code: int, headers: Sequence[tuple[str, str]]) -> None:
        self.status, self.headers = status_code, headers

    def on_body(self, chunk: bytes, offset: int) -> None:
        self.chunks.append(chunk)

    def on_done(
        self,
        error: BaseException | None,
        error_headers: Sequence[tuple[str, str]] | None,
        error_body: bytes | None,
        status_code: int | None,
        **_: object,
    ) -> None:
        self.status = status_code or self.status
        if error is not None:
            self.error, self.error_headers, self.error_body = error, error_headers, error_body
        self._inbox.put(self.future)


@cache
def _bootstrap() -> io.ClientBootstrap:
    """One event loop thread serves all stores of a process; workers are one process per core."""
    group = io.EventLoopGroup(1)
    return io.ClientBootstrap(group, io.DefaultHostResolver(group))


def _trust(ca_bundle: str) -> io.TlsConnectionOptions:
    options = io.TlsContextOptions()
    options.override_default_trust_store_from_path(None, ca_bundle)
    options.alpn_list = ["http/1.1"]
    return io.ClientTlsContext(options).new_connection_options()
