"""One signed HTTP request to S3, and what its failures mean.

For a worker a request is repeated once at most, so that it sees throttling soon and can lower its pace; it tries again
itself. Whoever has no pace to lower (a plan, a ledger, a report) has the request tried more often here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Callable, Sequence

from jobs import __version__
from jobs.core.model import ObjectRef
from jobs.core.pace import backoff_seconds
from jobs.errors import Redirected, Rejected, StoreError, Unavailable, store_error
from jobs.s3 import wire
from jobs.s3.connections import Pool, Response
from jobs.s3.dialing import Dialer, NoAnswer
from jobs.s3.endpoints import Endpoint
from jobs.s3.proxies import Proxies
from jobs.s3.signing import EMPTY_SHA256, UNSIGNED, Credentials, Signer

TRIES_PACED = 2
TRIES_PATIENT = 6
TRIES_UNANSWERED = 3
"""One after the other without a word in answer, however patient: the address is more often wrong than busy."""
HASHED_BYTES = 1 << 20
"""Larger bodies are hashed beside the event loop."""
_LATE_ERRORS = frozenset({"CopyObject", "UploadPartCopy", "CompleteMultipartUpload"})
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
_AGENT = f"user-agent: sealift/{__version__}\r\n"


class Transport:
    """A connection pool to one endpoint with one set of credentials.

    `credentials` is asked before each request, and renews what expires. `ca_bundle`: a PEM file of certificate
    authorities to trust instead of the system's. `tries`: how often a request is sent that S3 was too busy for.
    Goes through the HTTP proxy that the environment names.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        region: str,
        credentials: Callable[[], Credentials],
        *,
        max_in_flight: int,
        request_payer: bool = False,
        ca_bundle: str | None = None,
        tries: int = TRIES_PACED,
    ):
        self._tries = tries
        self.endpoint, self.region = endpoint, region
        self._credentials, self._signer = credentials, Signer(region)
        self._always = [("x-amz-request-payer", "requester")] if request_payer else []
        self._addresses: dict[str, tuple[str, str]] = {}
        self._proxies = Proxies(is_tls=endpoint.is_tls)
        tls = ssl.create_default_context(cafile=ca_bundle) if endpoint.is_tls else None
        self._pool = Pool(max_in_flight, Dialer(tls, self._proxies))

    async def send(
        self,
        operation: str,
        method: str,
        place: ObjectRef,
        *,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Response:
        """Send one request and wait for the whole answer. Raises a StoreError for anything but success, ConfigError for
        a proxy that is none.

        `place` is the request's bucket and key; its version id is only for messages. When the
        caller is cancelled, so is the request.
        """
        host, prefix = self._addresses.get(place.bucket) or self._address(place.bucket)
        path = prefix + wire.quote_key(place.key)
        payload = await self._payload_sha256(body) if body else EMPTY_SHA256
        fields = [("host", host), *headers, *self._always]
        if any("\n" in value or "\r" in value for _, value in headers):
            raise Rejected(operation, str(place), "InvalidHeader", "a header's value has a line break in it", 400)
        try:
            response = await self._exchange(operation, method, host, path, query, fields, body, payload)
        except NoAnswer as error:
            message = f"{error} (endpoint {self.endpoint})"
            raise Unavailable(operation, str(place), error.code, message) from error
        if not 200 <= response.status < 300:
            raise self._failure(operation, place, response)
        if operation in _LATE_ERRORS and b"<Error" in response.body and (late := wire.parse_error(response.body)):
            raise store_error(operation, str(place), late.code or "InternalError", late.message, response.status)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    async def _exchange(
        self,
        operation: str,
        method: str,
        host: str,
        path: str,
        query: str,
        fields: Sequence[tuple[str, str]],
        body: bytes | None,
        payload_sha256: str,
    ) -> Response:
        """The answer of S3; what may pass is asked for again, with full jitter."""
        is_bodiless = method == "HEAD"
        target, extra = f"{path}?{query}" if query else path, ""
        proxy = None if self.endpoint.is_tls else self._proxies.of(host)  # TLS goes through it unseen
        if proxy:
            target, extra = f"http://{host}{target}", proxy.header
        unanswered = 0
        for attempt in range(1, self._tries + 1):
            signed = self._signer.sign(self._credentials(), time.time(), method, path, query, fields, payload_sha256)
            head = _head(method, target, signed, body, extra)
            try:
                response = await self._pool.exchange(host, head, body, is_bodiless=is_bodiless)
                if proxy and response.status == 407:
                    raise NoAnswer("ProxyDenied", proxy.wants_password)
                if response.status < 500 or attempt == self._tries:
                    return response
                unanswered = 0
            except NoAnswer as error:
                unanswered = 0 if error.code == "IncompleteBody" else unanswered + 1
                if attempt == self._tries or unanswered == TRIES_UNANSWERED:
                    raise
            await asyncio.sleep(backoff_seconds(attempt, random.random()))
        raise AssertionError("a transport that never tries")

    async def _payload_sha256(self, body: bytes) -> str:
        """What the signature covers: the body's hash, where TLS does not protect the body already."""
        if self.endpoint.is_tls:
            return UNSIGNED
        if len(body) < HASHED_BYTES:
            return hashlib.sha256(body).hexdigest()
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()

    def _address(self, bucket: str) -> tuple[str, str]:
        return self._addresses.setdefault(bucket, self.endpoint.address(bucket))

    def _failure(self, operation: str, place: ObjectRef, response: Response) -> StoreError:
        target, status, headers = str(place), response.status, response.headers
        said = wire.parse_error(response.body)
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


def _head(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None, extra: str) -> bytes:
    """The request up to its body. `extra`: lines that are not signed."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    length = f"content-length: {len(body) if body else 0}\r\n" if method in ("PUT", "POST") else ""
    text = f"{method} {target} HTTP/1.1\r\n{lines}{length}{extra}{_AGENT}\r\n"
    return text.encode("utf-8", "surrogateescape")
