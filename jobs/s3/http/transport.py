"""Transport of one signed HTTP request to S3, and the meaning of its failures.

A worker has a request repeated once at most. So it sees throttling soon, lowers its pace and tries
again itself. A caller without a pace (a plan, a ledger, a report) has the request tried more often
here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Callable, Sequence

from jobs.core.model import ObjectRef
from jobs.core.pace import backoff_seconds
from jobs.errors import Redirected, Rejected, StoreError, Unavailable, store_error
from jobs.s3 import wire
from jobs.s3.http.answers import NoAnswer, Response
from jobs.s3.http.connect import Dialer
from jobs.s3.http.connection_pool import Bounds, Pool
from jobs.s3.http.endpoints import BUCKET, PLAIN, Endpoint
from jobs.s3.http.proxies import Proxies
from jobs.s3.http.request_heads import InvalidHead, request_head
from jobs.s3.http.signing import EMPTY_SHA256, UNSIGNED, Credentials, Signer

TRIES_PACED = 2
TRIES_PATIENT = 6
TRIES_UNANSWERED = 3
"""One after the other without a word in answer, however patient: the address is more often wrong
than busy."""
HASHED_BYTES = 1 << 20
"""Larger bodies are hashed beside the event loop."""
XML_BYTES = 16 << 20
"""An answer in XML. A thousand keys of 1,024 bytes, each byte percent-encoded or an entity, take
some 7 MiB."""
ERROR_BYTES = 64 << 10
"""An error, where an object's bytes were asked for."""
LATE_SECONDS = 1800.0
"""S3 may take minutes for 5 GB, and sends spaces meanwhile."""
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
_OF_HEAD = Bounds(0, is_bodiless=True)
_OF_LATE = Bounds(XML_BYTES, LATE_SECONDS)
_OF_XML = Bounds(XML_BYTES)


class Transport:
    """A connection pool to one endpoint with one set of credentials.

    `credentials` is asked before each request, and renews what expires. `ca_bundle`: a PEM file of
    certificate authorities to trust instead of the system's. `tries`: how often a request is sent
    that S3 was too busy for. Goes through the HTTP proxy that the environment names.
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
        answer_bytes: int = XML_BYTES,
    ) -> Response:
        """Send one request and wait for the whole answer.

        Raises a StoreError for anything but success, ConfigError for an invalid proxy URL.

        `place` is the request's bucket and key. Its version id is only for messages.
        `answer_bytes`: what was asked for, a larger answer is refused. When the caller is
        cancelled, so is the request. No redirect is followed: what is signed goes to the endpoint
        alone.
        """
        host, prefix = self._addresses.get(place.bucket) or self._address(operation, place)
        path = prefix + wire.quote_key(place.key)
        payload = await self._payload_sha256(body) if body else EMPTY_SHA256
        fields = [("host", host), *headers, *self._always]
        try:
            bounds = self._bounds(operation, method, answer_bytes)
            response = await self._exchange(method, host, path, query, fields, body, payload, bounds)
        except NoAnswer as error:
            message = f"{error} (endpoint {self.endpoint})"
            raise Unavailable(operation, str(place), error.code, message) from error
        except (InvalidHead, UnicodeEncodeError) as error:
            raise Rejected(operation, str(place), "InvalidHeader", f"{error}: nothing was sent", 400) from error
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
        method: str,
        host: str,
        path: str,
        query: str,
        fields: Sequence[tuple[str, str]],
        body: bytes | None,
        payload_sha256: str,
        bounds: Bounds,
    ) -> Response:
        """The answer of S3. What may pass is asked for again, with full jitter."""
        target, extra = f"{path}?{query}" if query else path, ""
        proxy = None if self.endpoint.is_tls else self._proxies.of(host)  # TLS goes through it unseen
        if proxy:
            target, extra = f"http://{host}{target}", proxy.header
        unanswered = 0
        for attempt in range(1, self._tries + 1):
            signed = self._signer.sign(self._credentials(), time.time(), method, path, query, fields, payload_sha256)
            head = request_head(method, target, signed, None if body is None else len(body), extra)
            try:
                response = await self._pool.exchange(host, head, body, bounds)
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

    def _bounds(self, operation: str, method: str, answer_bytes: int) -> Bounds:
        if method == "HEAD":
            return _OF_HEAD
        if operation in _LATE_ERRORS:
            return _OF_LATE
        return _OF_XML if answer_bytes == XML_BYTES else Bounds(max(answer_bytes, ERROR_BYTES))

    async def _payload_sha256(self, body: bytes) -> str:
        """The body's hash for the signature, where TLS does not protect the body already."""
        if self.endpoint.is_tls:
            return UNSIGNED
        if len(body) < HASHED_BYTES:
            return hashlib.sha256(body).hexdigest()
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()

    def _address(self, operation: str, place: ObjectRef) -> tuple[str, str]:
        if not BUCKET.fullmatch(place.bucket) or not place.bucket.strip("."):
            message = f"{place.bucket!r} is not a bucket name: expected letters, digits, '.', '-' and '_'"
            raise Rejected(operation, str(place), "InvalidBucketName", message, 400)
        host, prefix = self.endpoint.address(place.bucket)
        if not PLAIN.fullmatch(host + prefix):
            raise Rejected(
                operation, str(place), "InvalidEndpoint", "the endpoint has a line break or space in it", 400
            )
        return self._addresses.setdefault(place.bucket, (host, prefix))

    def _failure(self, operation: str, place: ObjectRef, response: Response) -> StoreError:
        target, status, headers = str(place), response.status, response.headers
        detail = wire.parse_error(response.body)
        code = (detail.code if detail else "") or _CODE_BY_STATUS.get(status) or f"HTTP{status}"
        message = detail.message if detail else ""
        if headers.get("x-amz-delete-marker") == "true" and status in (404, 405):
            code = "DeleteMarker"
        region = headers.get("x-amz-bucket-region") or (detail.region if detail else "")
        failure = store_error(operation, target, code, message, status)
        if isinstance(failure, Redirected) or (status == 400 and region and region != self.region):
            where = region or "another region"
            advice = f"the bucket is in {where}, {self.region} was asked: use --source-region or --destination-region"
            return Redirected(operation, target, code, advice, status)
        return failure
