"""Routes to buckets: host, path prefix, and the region that requests are signed for.

All buckets begin at the endpoint and region that the user named. What S3 says of a bucket's region
is remembered. Only AWS's own endpoints change with it, and only to another one of AWS: what is
signed goes to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from jobs.core.bucket_names import access_point
from jobs.core.model import ObjectRef
from jobs.errors import Rejected
from jobs.s3.http.endpoints import BUCKET, PLAIN, Endpoint, access_point_host
from jobs.s3.http.signing import Signer


class Route(NamedTuple):
    """Where a bucket's requests go: the host header, the path before the key, the signer."""

    host: str
    prefix: str
    signer: Signer


class Routes:
    """The routes to the buckets of one endpoint."""

    def __init__(self, endpoint: Endpoint, region: str):
        self._endpoint, self._region = endpoint, region
        self._by_bucket: dict[str, Route] = {}
        self._signer: Callable[[str], Signer] = lru_cache(Signer)
        self.get = self._by_bucket.get

    def find(self, operation: str, place: ObjectRef) -> Route:
        """The bucket's route. Raises Rejected for what is not a bucket name."""
        return self._make(operation, place, self._endpoint, self._region)

    def move(self, operation: str, place: ObjectRef, region: str) -> Route:
        """The bucket's route from now on, because it is in this region."""
        return self._make(operation, place, _moved(self._endpoint, self._region, region), region)

    def region(self, bucket: str) -> str | None:
        """The region of a bucket that a request has found at AWS. None if nobody knows."""
        route = self._by_bucket.get(bucket)
        return route.signer.region if route and self._endpoint.is_aws else None

    def _make(self, operation: str, place: ObjectRef, endpoint: Endpoint, region: str) -> Route:
        if point := access_point(place.bucket):
            if not endpoint.is_virtual:
                message = "the ARN of an access point has an endpoint of its own: name none, or use the alias"
                raise Rejected(operation, str(place), "InvalidEndpoint", message, 400)
            host = access_point_host(_moved(endpoint, region, point.region), point)
            route = self._by_bucket[place.bucket] = Route(host, "/", self._signer(point.region))
            return route
        if not BUCKET.fullmatch(place.bucket) or not place.bucket.strip("."):
            message = f"{place.bucket!r} is not a bucket name: expected letters, digits, '.', '-' and '_'"
            raise Rejected(operation, str(place), "InvalidBucketName", message, 400)
        host, prefix = endpoint.address(place.bucket)
        if not PLAIN.fullmatch(host + prefix):
            message = "the endpoint has a line break or space in it"
            raise Rejected(operation, str(place), "InvalidEndpoint", message, 400)
        route = self._by_bucket[place.bucket] = Route(host, prefix, self._signer(region))
        return route


def _moved(endpoint: Endpoint, old_region: str, new_region: str) -> Endpoint:
    """The endpoint of another region. One that the user named stays, only AWS's own have others."""
    if not endpoint.is_virtual:
        return endpoint
    return replace(endpoint, host=endpoint.host.replace(f".{old_region}.", f".{new_region}.", 1))
