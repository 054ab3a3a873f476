"""Heads of requests: checked for harm, and signed by AWS Signature Version 4. Pure: no I/O, no clock.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

S3 differs from other services: the path is encoded once and never normalised, and the hash of the
payload is a header.

Names and values come from objects, archive indexes, policies, profiles and the environment. None of
them may end a line: what follows would be a header of another's choice, or another request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from jobs import __version__

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SPACES = re.compile(" +")
_NAME = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_AGENT = f"user-agent: sealift/{__version__}\r\n"
_UNSIGNED = frozenset({"cache-control", "content-disposition", "content-encoding", "content-language", "expires"})
"""What describes an object, and decides nothing about the request. S3 demands a signature of the
host, the content type and its own headers alone, and proxies change these. Conditions and ranges
are signed as well: nobody on the way can drop them."""

Pairs = Sequence[tuple[str, str]]


class Credentials(NamedTuple):
    """What a request is signed with. `token` comes with temporary credentials."""

    access_key: str
    secret_key: str
    token: str | None = None


class Signer(NamedTuple):
    """Signs requests to one region."""

    region: str

    def head(
        self,
        credentials: Credentials,
        epoch_seconds: float,
        method: str,
        path: str,
        query: str,
        headers: Pairs,
        payload_sha256: str = EMPTY_SHA256,
        *,
        base: str = "",
        body_bytes: int = 0,
    ) -> bytes:
        """The request line and all headers of the signed request, names in lower case, `authorization` behind them.

        `path` and `query` are as they go over the wire, percent-encoded. `headers` must hold
        `host`. Those that only describe an object are not signed. `base`: what is before `path` in the request line.
        Raises InvalidHead for what would be another request than the one that is signed.
        """
        stamp, credential, signed_first, keyed = _second(credentials, int(epoch_seconds), self.region)
        pairs = [*headers, ("x-amz-content-sha256", payload_sha256), ("x-amz-date", stamp)]
        if credentials.token:
            pairs.append(("x-amz-security-token", credentials.token))
        names, values = zip(*pairs, strict=True)
        check_head("".join([method, path, query, credential, *names, *values]))
        layout = _layout(names)
        lines = layout.lines % (signed := layout.pick(values))
        if "  " in lines or ": " in lines or " \n" in lines:  # seldom: else no value is looked at
            lines = layout.lines % tuple(map(_trimmed, signed))
        canonical = f"{method}\n{path}\n{_canonical_query(query)}\n{lines}\n{layout.signed}\n{payload_sha256}"
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        inner, outer = keyed[0].copy(), keyed[1].copy()
        inner.update(f"{signed_first}{digest}".encode())
        outer.update(inner.digest())
        signature = outer.hexdigest()
        authorization = f"{_ALGORITHM} {credential}, SignedHeaders={layout.signed}, Signature={signature}"
        length = f"content-length: {body_bytes}\r\n" if method in ("PUT", "POST") else ""
        target = f"{base}{path}?{query}" if query else base + path
        text = (
            f"{method} {target} HTTP/1.1\r\n{layout.head % values}authorization: {authorization}\r\n"
            f"{length}{_AGENT}\r\n"
        )
        return text.encode("utf-8", "surrogateescape")


@lru_cache(8)
def _second(credentials: Credentials, second: int, region: str) -> tuple[str, str, str, list[Any]]:
    """What all requests of a second share: the time, the credential, and what is signed before the digest. Also the
    inner and the outer hash of HMAC (RFC 2104), which have taken the key: to begin them anew takes as long again.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
    scope, key = (stamp[:8], region, "s3", "aws4_request"), f"AWS4{credentials.secret_key}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    within = "/".join(scope)
    keyed = [hashlib.sha256(bytes(byte ^ pad for byte in key.ljust(64, b"\0"))) for pad in (0x36, 0x5C)]
    return stamp, f"Credential={credentials.access_key}/{within}", f"{_ALGORITHM}\n{stamp}\n{within}\n", keyed


def _trimmed(value: str) -> str:
    """No spaces around the value, one for several within it.

    botocore and SeaweedFS take tabs and Unicode's white space for spaces, AWS's rule does not.
    `encoded_words` lets none of them into a value where that could matter.
    """
    return _SPACES.sub(" ", value).strip(" ")


def _canonical_query(query: str) -> str:
    """Parameters by name, each with a `=`."""
    if not query:
        return ""
    return "&".join(sorted(each if "=" in each else f"{each}=" for each in query.split("&")))


class InvalidHead(ValueError):
    """A name or value that would make other headers of the request than were meant."""


def check_head(text: str) -> None:
    """Raises InvalidHead for a line break. `text`: all parts of the head, one behind the other."""
    if "\n" in text or "\r" in text or "\0" in text:  # not shown: it may be a secret
        raise InvalidHead("a header, the address, region or access key has a line break or NUL in it")


class _Layout(NamedTuple):
    """What the names of a request's headers come to, whatever the values.

    `head`, `lines`: the head, and what is signed of it, to be filled with all values, and with those that `pick`
    takes of them. `signed`: the names of these.
    """

    head: str
    lines: str
    signed: str
    pick: Callable[[Sequence[str]], tuple[str, ...]]


@lru_cache(1024)
def _layout(names: Sequence[str]) -> _Layout:
    """Raises InvalidHead for a name that is no token."""
    lower = [name.lower() for name in names]
    if not all(map(_NAME.fullmatch, lower)):
        raise InvalidHead(f"not a valid header name among {';'.join(lower)!r}")
    places = sorted((at for at, name in enumerate(lower) if name not in _UNSIGNED), key=lower.__getitem__)
    fields = [name.replace("%", "%%") for name in lower]
    head, lines = (f"{name}: %s\r\n" for name in fields), (f"{fields[at]}:%s\n" for at in places)
    return _Layout("".join(head), "".join(lines), ";".join([lower[at] for at in places]), itemgetter(*places))
