"""Endpoints of S3, a URL that the user gives or AWS's own of a region, and the routes to their buckets. Pure.

All buckets begin at the endpoint and region that the user named. What S3 says of a bucket's region
is remembered. Only AWS's own endpoints change with it, and only to another one of AWS: what is
signed goes to nobody else.

AWS's names by partition, and what FIPS and dual-stack endpoints are called:
https://docs.aws.amazon.com/general/latest/gr/s3.html (a test holds them equal to botocore's own
rules)
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.bucket_names import access_point
from jobs.errors import ConfigError
from jobs.s3.http.signing import InvalidHead, Signer

_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
"""How regions outside of `amazonaws.com` begin."""
_ALL_SUFFIXES = frozenset({"amazonaws.com", *_SUFFIXES.values()})
_REGION = "[a-z]{2,8}(-[a-z0-9]+)+-[0-9]+"
_S3_NAME = re.compile(
    rf"(.+\.)?s3(-fips|-accesspoint|-accesspoint-fips)?(-{_REGION}|-external-1|-accelerate|-[a-z0-9]{{10}})?"
    rf"(\.dualstack)?(\.{_REGION}(\.vpce)?)?"
)
"""S3's names below a suffix. The others there are load balancers, instances and gateways of customers.

With ten letters: a partition's name in a redirect (307)."""
_OWN_PORTS = (80, 443)
_LABEL = re.compile("[a-z0-9][a-z0-9-]*[a-z0-9]")
"""A bucket that can be a part of a host's name, for which certificates vouch."""
_ANNOTATING = frozenset({"amazonaws.com", "amazonaws.com.cn"})
_NOT_ANNOTATING = frozenset({"me-central-1", "me-south-1"})
"""The partitions where S3 keeps annotations, and the regions of theirs where it does not:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html"""


BUCKET = re.compile("[A-Za-z0-9._-]{1,255}")
"""A bucket in a path or a host name: old buckets may have capitals and underscores."""
PLAIN = re.compile("[!$&-;=A-Z_a-z~%\\[\\]]+")
"""Characters of an endpoint's URL: neither a query, a fragment nor anything that no URL holds."""


class Endpoint(Struct, frozen=True):
    """Where requests go: `host` with its port if it is not the scheme's own, `path` a prefix or
    empty.

    `is_virtual`: the bucket becomes part of the host name, as AWS wants it.
    """

    host: str
    is_tls: bool
    path: str = ""
    is_virtual: bool = False

    def address(self, bucket: str) -> tuple[str, str]:
        """Host header and path prefix of a bucket. TLS certificates match no other names than labels."""
        if self.is_virtual and _LABEL.fullmatch(bucket):
            return f"{bucket}.{self.host}", f"{self.path}/"
        return self.host, f"{self.path}/{bucket}/"

    @property
    def is_aws(self) -> bool:
        """Whether S3 of AWS itself answers there, VPC endpoints included.

        Certificates vouch for the name, so TLS only.
        """
        return self.is_tls and self.partition is not None

    @property
    def partition(self) -> str | None:
        """AWS's partition, whose buckets have names and copies in common. None for other servers."""
        host = self.name
        suffix = max((each for each in _ALL_SUFFIXES if host.endswith(f".{each}")), key=len, default=None)
        if suffix is None or not _S3_NAME.fullmatch(host.removesuffix(f".{suffix}")):
            return None
        return "GovCloud" if ".us-gov-" in host else suffix

    @property
    def keeps_annotations(self) -> bool:
        """Whether AWS answers there, and says that it keeps annotations in that region."""
        return self.is_aws and self.partition in _ANNOTATING and _NOT_ANNOTATING.isdisjoint(self.name.split("."))

    @property
    def service(self) -> str:
        """AWS's partition or the server, equal for all spellings of one.

        A scheme's own port counts as none, loopback's names and addresses as one host.
        """
        if self.partition is not None:
            return self.partition
        port = urlsplit(f"//{self.host}").port
        host = "localhost" if is_loopback(self) else self.name
        return f"{host}{f':{port}' if port not in (None, *_OWN_PORTS) else ''}{self.path}".lower()

    @property
    def name(self) -> str:
        """The host alone, in lower case and without the dot that ends an absolute name.

        Empty for what is no host.
        """
        try:
            return (urlsplit(f"//{self.host}").hostname or "").rstrip(".")
        except ValueError:  # brackets that do not match
            return ""

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host}{self.path}"


def given_endpoint(url: str) -> Endpoint:
    """The endpoint of a URL, path-style. Raises ConfigError."""
    expected = (
        "expected http://host:port or https://host in AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile or the option "
        "that names it"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # brackets that do not match, a port that is no number
        raise ConfigError(f"endpoint {masked(url)!r}", advice=expected) from None
    if "@" in parts.netloc:
        advice = "give credentials in the environment or a profile, not in the URL"
        raise ConfigError(f"endpoint {masked(url)!r}", advice=f"{expected}; {advice}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not PLAIN.fullmatch(url):
        raise ConfigError(f"endpoint {masked(url)!r}", advice=expected)
    own = {"http": ":80", "https": ":443"}[parts.scheme]  # proxies on the way drop it, and it would be signed
    return Endpoint(parts.netloc.lower().removesuffix(own), parts.scheme == "https", parts.path.rstrip("/"))


def masked(url: str) -> str:
    """The URL for messages: without a password, and without a query, which may hold a token."""
    scheme, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    return f"{scheme}{slashes}***@{rest.rpartition('@')[2]}" if "@" in rest else url.partition("?")[0]


def is_loopback(endpoint: Endpoint) -> bool:
    """Whether requests to it stay on this machine."""
    from ipaddress import ip_address  # seldom needed

    name = endpoint.name
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def aws_endpoint(region: str, *, is_fips: bool = False, is_dualstack: bool = False) -> Endpoint:
    """AWS's endpoint for a region, virtual-hosted.

    Raises ConfigError where there is no such one.
    """
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
    if is_fips and region.startswith("cn-"):
        raise ConfigError(f"region {region}: China has no FIPS endpoints", advice="unset AWS_USE_FIPS_ENDPOINT")
    service = ("s3-fips" if is_fips else "s3") + (".dualstack" if is_dualstack else "")
    return Endpoint(f"{service}.{region}.{suffix}", is_tls=True, is_virtual=True)


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
        host, prefix = endpoint.address(bucket)
        if point:
            named = endpoint.host.replace("s3", "s3-accesspoint", 1)
            host, prefix = f"{point.name}-{point.account}.{named}", "/"
        if not PLAIN.fullmatch(host + prefix):
            raise InvalidHead("the endpoint has a line break or space in it")
        route = self._by_bucket[bucket] = Route(host, prefix, Signer(region))
        return route

    def region(self, bucket: str) -> str | None:
        """The region of a bucket that a request has found at AWS. None if nobody knows."""
        route = self._by_bucket.get(bucket)
        return route.signer.region if route and self._endpoint.is_aws else None
