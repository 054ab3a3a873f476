"""Which host S3 answers at: a URL that somebody gives, or AWS's own of a region. Pure.

AWS's names by partition, and what FIPS and dual-stack endpoints are called:
https://docs.aws.amazon.com/general/latest/gr/s3.html (a test holds them equal to botocore's own rules)
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from jobs.errors import ConfigError

_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
"""How regions outside of `amazonaws.com` begin."""


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

    @property
    def is_aws(self) -> bool:
        """Whether AWS itself answers there, VPC endpoints included. Certificates vouch for the name, so TLS only."""
        host = self.host.partition(":")[0]
        return self.is_tls and host.endswith(tuple(f".{suffix}" for suffix in {"amazonaws.com", *_SUFFIXES.values()}))

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host}{self.path}"


def given_endpoint(url: str) -> Endpoint:
    """The endpoint of a URL, path-style. Raises ConfigError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or "@" in parts.netloc:
        raise ConfigError(f"endpoint {url!r}: expected http://host:port or https://host")
    return Endpoint(parts.netloc, parts.scheme == "https", parts.path.rstrip("/"))


def aws_endpoint(region: str, *, is_fips: bool = False, is_dualstack: bool = False) -> Endpoint:
    """AWS's endpoint for a region, virtual-hosted. Raises ConfigError where there is no such one."""
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
    if is_fips and region.startswith("cn-"):
        raise ConfigError(f"region {region}: there are no FIPS endpoints in China, unset AWS_USE_FIPS_ENDPOINT")
    service = ("s3-fips" if is_fips else "s3") + (".dualstack" if is_dualstack else "")
    return Endpoint(f"{service}.{region}.{suffix}", is_tls=True, is_virtual=True)
