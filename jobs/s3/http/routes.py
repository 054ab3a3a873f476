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
from jobs.s3.http.endpoints import BUCKET, PLAIN, Endpoint, access_point_host
from jobs.s3.http.request_heads import InvalidHead
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

    def find(self, bucket: str, region: str | None = None) -> Route:
        """The bucket's route from now on. `region`: where S3 says that it is. Raises InvalidHead for no bucket."""
        endpoint, point = self._endpoint, access_point(bucket)
        region = point.region if point else region or self._region
        if endpoint.is_virtual:  # one that the user named stays, AWS's own is another one in each region
            endpoint = replace(endpoint, host=endpoint.host.replace(f".{self._region}.", f".{region}.", 1))
        if point and not endpoint.is_virtual:
            raise InvalidHead("the ARN of an access point has an endpoint of its own: name none, or use the alias")
        if not point and (not BUCKET.fullmatch(bucket) or not bucket.strip(".")):
            raise InvalidHead(f"{bucket!r} is not a bucket name: expected letters, digits, '.', '-' and '_'")
        host, prefix = (access_point_host(endpoint, point), "/") if point else endpoint.address(bucket)
        if not PLAIN.fullmatch(host + prefix):
            raise InvalidHead("the endpoint has a line break or space in it")
        route = self._by_bucket[bucket] = Route(host, prefix, self._signer(region))
        return route

    def region(self, bucket: str) -> str | None:
        """The region of a bucket that a request has found at AWS. None if nobody knows."""
        route = self._by_bucket.get(bucket)
        return route.signer.region if route and self._endpoint.is_aws else None
