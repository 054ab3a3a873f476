"""HTTP proxies from the environment, by the rules that boto3 follows.

HTTP_PROXY and HTTPS_PROXY (or in lower case) name it by the endpoint's scheme. Hosts of NO_PROXY
are reached without. https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-proxy.html
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from jobs.errors import ConfigError
from jobs.s3.http.endpoints import masked

PORT = 80
_HOST = re.compile("[A-Za-z0-9._:%-]+")


class Proxy(NamedTuple):
    """Where it listens, and the Proxy-Authorization to send, if it asks for one."""

    host: str
    port: int
    authorization: str | None = None

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def wants_password(self) -> str:
        """What to say when it answers 407."""
        return f"the proxy {self} requires authentication (407): use http://user:password@host:port"

    @property
    def header(self) -> str:
        """The line of a request's head that says who asks. Empty when the proxy asks for none."""
        return f"proxy-authorization: {self.authorization}\r\n" if self.authorization else ""


class Proxies:
    """Which proxy leads to a host, if any. `urls`: by scheme. Else those of the environment."""

    def __init__(self, *, is_tls: bool, urls: Mapping[str, str] | None = None):
        found = _of_environment() if urls is None else urls
        self._url = found.get("https" if is_tls else "http")
        self._by_host: dict[str, Proxy | None] = {}

    def of(self, host: str) -> Proxy | None:
        """The proxy for a host (`name` or `name:port`). None when it is reached without.

        Raises ConfigError for a proxy that is not `http://[user:password@]host[:port]`, if it is
        needed.
        """
        if not self._url:
            return None
        from urllib.request import proxy_bypass

        if host not in self._by_host:
            self._by_host[host] = None if proxy_bypass(host) else _parse(self._url)
        return self._by_host[host]


def _of_environment() -> Mapping[str, str]:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies  # it loads a client of HTTP

    return getproxies()


def _parse(url: str) -> Proxy:
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        port = PORT if parts.port is None else parts.port
    except ValueError:  # a port that is no number, as in a password with a slash; brackets that do not match
        port = 0
    if not port or parts.scheme != "http" or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        advice = "in a password, / ? # @ : are written as %2F %3F %23 %40 %3A"
        raise ConfigError(
            f"proxy {masked(whole)}",
            advice=f"expected http://[user:password@]host:port in HTTP_PROXY and HTTPS_PROXY, or no proxy; {advice}",
        )
    if parts.username is None:
        return Proxy(parts.hostname, port)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(parts.hostname, port, "Basic " + base64.b64encode(user.encode()).decode())
