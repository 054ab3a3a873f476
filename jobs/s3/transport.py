"""Transport of one signed HTTP request to S3, and the meaning of its failures.

A worker has a request repeated once at most. So it sees throttling soon, lowers its pace and tries
again itself. How long a server asks to wait (Retry-After) is for those who try again, not for the
repeat here: it would keep SlowDown from them. A caller without a pace (a plan, a ledger, a report)
has the request tried more often here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jobs.core.elapsed import TOO_LATE, elapsed_seconds, refuse_late
from jobs.core.model import ObjectRef
from jobs.core.pace import UNHEARD_SECONDS, backoff_seconds
from jobs.core.request_log import REQUESTS
from jobs.errors import (
    AuthenticationFailed,
    ConfigError,
    Conflict,
    Denied,
    Redirected,
    Rejected,
    SealiftWarning,
    StoreError,
    Unavailable,
)
from jobs.s3 import wire
from jobs.s3.failures import EXPIRED, SIGNATURE, failure_of, is_failure, with_advice
from jobs.s3.http.answers import NoAnswer, Response
from jobs.s3.http.connect import Dialer
from jobs.s3.http.connection_pool import Bounds, Pool
from jobs.s3.http.endpoints import Endpoint, Route, Routes
from jobs.s3.http.proxies import Proxies, Proxy
from jobs.s3.http.signing import EMPTY_SHA256, UNSIGNED, Credentials, InvalidHead
from jobs.s3.http.tls import tls_context
from jobs.s3.operations import CONTENT, Operation, Patience

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
Parameters = Mapping[str, str | int | None]
"""Of a query, by name. None is left out, an empty text stays, as `name=`."""
NONE: Parameters = {}
NO_KEY = "an object needs a key, so name a destination with a prefix, or a longer prefix of the source"
BOUNDS = {each: Bounds(XML_BYTES, each.value[0], silence_seconds=each.value[1]) for each in Patience}
HEADERS_ONLY = Bounds(0, is_bodiless=True)


def bounds_of(operation: Operation, content_bytes: int) -> Bounds:
    """What an answer may come to. `content_bytes`: of what a user stored."""
    if operation is Operation.HEAD:
        return HEADERS_ONLY
    return Bounds(max(content_bytes, ERROR_BYTES)) if operation.body is CONTENT else BOUNDS[operation.patience]


class _Request(NamedTuple):
    """What is sent, but for its signature. `asked`: the headers that the caller gave."""

    operation: Operation
    place: ObjectRef
    query: str
    headers: Sequence[tuple[str, str]]
    asked: Sequence[tuple[str, str]]
    body: bytes | None
    payload_sha256: str


class Transport:
    """A connection pool to one endpoint with one set of credentials.

    `credentials` is asked before each request, and renews what expires. `ca_bundle`: a PEM file of
    certificate authorities to trust instead of the system's. `tries`: how often a request is sent
    that S3 was too busy for. `owners`: bucket → id of the account that has to own it. Goes through
    the HTTP proxy that the environment names.
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
        owners: Mapping[str, str] | None = None,
    ):
        self._tries, self._owners = tries, owners or {}
        self.endpoint, self.region = endpoint, region
        self._credentials, self._routes = credentials, Routes(endpoint, region)
        self._always = [("x-amz-request-payer", "requester")] if request_payer else []
        self.server_clock: float | None = None
        """The server's time when `elapsed_seconds()` was 0."""
        self._date = ""
        self._accepted: Credentials | None = None
        self._proxies = Proxies(is_tls=endpoint.is_tls)
        self._pool = Pool(max_in_flight, Dialer(tls_context(ca_bundle) if endpoint.is_tls else None, self._proxies))

    async def send(
        self,
        operation: Operation,
        place: ObjectRef,
        parameters: Parameters = NONE,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_bytes: int = 0,
        source: ObjectRef | None = None,
        send_by: float | None = None,
    ) -> Response:
        """Send one request and wait for the whole answer.

        Raises a StoreError for anything but success, ConfigError for an invalid proxy URL.

        `place` is the request's bucket, key and version. `parameters`: what follows them in the query.
        `source`: of a copy. `content_bytes`: how much an answer may bring that is what a user stored.
        `send_by`: see `Store.delete`. When the caller is cancelled, so is the request. A redirect is
        followed within AWS alone, see `Routes`. Raises Rejected for an object without a key, and sends nothing.
        """
        if not place.key and not operation.is_of_bucket:
            raise Rejected(operation, str(place), "NoKey", f"{NO_KEY}: nothing was sent", 400)
        route = self._routes.get(place.bucket)
        query = operation.query
        if parameters or place.version_id is not None:
            query = wire.query(query, {"versionId": place.version_id, **parameters})
        owned = [*headers, *self._owner_headers(place, source)] if self._owners else headers
        payload = await self._payload_sha256(body) if body else EMPTY_SHA256
        bounds = bounds_of(operation, content_bytes)
        if send_by is not None:
            bounds = bounds._replace(send_by=send_by)
        request = _Request(operation, place, query, owned, headers, body, payload)
        attempt, unanswered, asked_at = 0, 0, time.perf_counter()
        earlier: StoreError | None = None
        corrections: set[str] = set()
        is_repeated = False
        while True:
            attempt += 1
            try:
                refuse_late(operation, place, send_by)
            except Conflict as late:
                if earlier is None:
                    raise
                raise earlier from late  # it may have been done
            credentials, began = self._credentials(), time.perf_counter()
            try:
                route = route or self._routes.find(place.bucket)
                head = self._head(request, route, credentials)
                response = await self._pool.exchange(route.host, head, body, bounds)
                if (date := response.headers.get("date", "")) != self._date:
                    self._note(date)
                if response.status == 407 and (proxy := self._proxy_of(route.host)):
                    raise NoAnswer("ProxyDenied", proxy.wants_password)
            except NoAnswer as error:
                if error.code == TOO_LATE:
                    continue  # it is refused above
                REQUESTS.add(operation, place, 0, error.code, began, "")
                has_begun = error.code == "IncompleteBody"
                unanswered = 0 if has_begun else unanswered + 1
                if is_late := error.code == "ReadTimeout":  # a person may wait for it
                    warnings.warn(f"{self.endpoint} has not answered in time", SealiftWarning, stacklevel=1)
                is_unheard = (unanswered > 1 or is_late) and time.perf_counter() - asked_at >= UNHEARD_SECONDS
                message = f"{error} (endpoint {self.endpoint})"
                if error.is_of_scheme and not self._date:  # it has never answered
                    scheme = "http" if self.endpoint.is_tls else "https"
                    raise ConfigError(message, advice=f"write {scheme}:// in the endpoint") from error
                earlier = Unavailable(operation, str(place), error.code, message, 200 if has_begun else 0)
                if attempt >= self._tries or unanswered == TRIES_UNANSWERED or is_unheard:
                    raise earlier from error
            except (InvalidHead, UnicodeEncodeError) as error:
                raise Rejected(operation, str(place), "InvalidHeader", f"{error}: nothing was sent", 400) from error
            else:
                if not is_failure(response, is_content=operation.body is CONTENT):
                    if REQUESTS.sink is not None:  # asked here, since this is every request
                        request_id = response.headers.get("x-amz-request-id", "")
                        REQUESTS.add(operation, place, response.status, "", began, request_id)
                    self._accepted = credentials
                    return response
                request_id = response.headers.get("x-amz-request-id", "")
                unanswered = 0
                is_repeated = is_repeated or response.is_repeated or attempt > 1
                asked, named = route.signer.region, self.region
                refusal, region = failure_of(operation, str(place), response, region=asked, named_region=named)
                REQUESTS.add(operation, place, response.status, refusal.code, began, request_id)
                correction = await self._correct(request, refusal, region, route, credentials, corrections)
                if isinstance(correction, Route):
                    route, attempt = correction, attempt - 1
                    if is_repeated:  # the first one may have been done
                        earlier = earlier or refusal.recast(Unavailable)
                    continue
                may_pass = isinstance(correction, Unavailable) and not 300 <= response.status < 400
                earlier = correction
                if attempt >= self._tries or not may_pass:
                    correction.was_sent_once = not is_repeated
                    raise correction
            await asyncio.sleep(backoff_seconds(attempt, random.random()))

    def region_of(self, bucket: str) -> str | None:
        """Where a bucket is that requests were sent to, None if that is not known."""
        return self._routes.region(bucket)

    def _owner_headers(self, place: ObjectRef, source: ObjectRef | None) -> list[tuple[str, str]]:
        """The accounts that have to own the buckets, as far as they are named."""
        buckets = [("x-amz-expected-bucket-owner", place.bucket)]
        if source is not None:
            buckets.append(("x-amz-source-expected-bucket-owner", source.bucket))
        return [(name, self._owners[bucket]) for name, bucket in buckets if bucket in self._owners]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _proxy_of(self, host: str) -> Proxy | None:
        """The proxy that gets the request itself. TLS goes through one unseen."""
        return None if self.endpoint.is_tls else self._proxies.of(host)

    def _head(self, request: _Request, route: Route, credentials: Credentials) -> bytes:
        """The request's head, signed now."""
        operation, place, query, headers, _, body, payload_sha256 = request
        host, prefix, signer = route
        path, fields = prefix + wire.quote_key(place.key), [("host", host), *headers, *self._always]
        proxy, signed = self._proxy_of(host), (credentials, time.time(), operation.method, path, query, fields)
        base = f"http://{host}" if proxy else ""
        head = signer.head(*signed, payload_sha256, base=base, body_bytes=len(body) if body else 0)
        return head[:-2] + f"{proxy.header}\r\n".encode() if proxy else head

    def _note(self, date: str) -> None:
        """Learn the server's time from an answer."""
        self._date, epoch_seconds = date, wire.parse_http_date(date)
        self.server_clock = epoch_seconds - elapsed_seconds() if epoch_seconds else self.server_clock

    async def _correct(
        self, request: _Request, error: StoreError, region: str, route: Route, used: Credentials, corrections: set[str]
    ) -> Route | StoreError:
        """The route to send the request again if its cause could be mended, else the error.

        `region`: where S3 says the bucket is. `used`: what the refused request was signed with.
        `corrections`: what has been tried for this request. Each is tried once.
        """
        if isinstance(error, Redirected) and region not in ("", route.signer.region) and "region" not in corrections:
            corrections.add("region")
            return self._routes.find(request.place.bucket, region)
        if request.operation is Operation.HEAD and error.status in (400, 403) and "code" not in corrections:
            explained = await self._explain(error, request)
            if not isinstance(explained, Unavailable):  # else nobody knows it yet
                corrections.add("code")
            return route if explained is None else explained
        if not isinstance(error, AuthenticationFailed):
            return error
        if error.code in EXPIRED and "credentials" not in corrections and await self._has_newer(used):
            corrections.add("credentials")
            return route
        if error.code == SIGNATURE and self._accepted == used:  # this key or these headers are in doubt
            return error.recast(Denied)
        return with_advice(error, used.access_key, self.endpoint)

    async def _has_newer(self, credentials: Credentials) -> bool:
        """Whether there are others by now. Those that are renewed may be on their way."""
        has_newer = getattr(self._credentials, "has_newer", None)
        return bool(await has_newer(credentials)) if has_newer else self._credentials() != credentials

    async def _explain(self, bare: StoreError, request: _Request) -> StoreError | None:
        """The error of a HEAD that was refused without a code, by a GET of one byte with its headers. None: send it
        again, since S3 does not refuse the GET in the same way (416: an empty object, which may be read).
        """
        try:
            await self.send(Operation.GET, request.place, headers=[("range", "bytes=0-0"), *request.asked])
        except StoreError as error:
            if error.status == bare.status or isinstance(error, Unavailable):
                return type(error)(bare.operation, bare.target, error.code, error.detail, error.status)
        return None

    async def _payload_sha256(self, body: bytes) -> str:
        """The body's hash for the signature, where TLS does not protect the body already."""
        if self.endpoint.is_tls:
            return UNSIGNED
        if len(body) < HASHED_BYTES:
            return hashlib.sha256(body).hexdigest()
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
