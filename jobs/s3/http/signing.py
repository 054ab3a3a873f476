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
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from jobs import __version__

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SPACES = re.compile(" +")
_NAMES = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+(;[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
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


class Signer:
    """Signs requests to one region.

    What is the same for all requests of a second or a day is kept.
    """

    def __init__(self, region: str):
        self.region = region
        self._second = -1
        self._stamp = self._day = self._scope = ""
        self._key_of: tuple[str, str] = ("", "")
        self._key = b""

    def sign(
        self,
        credentials: Credentials,
        epoch_seconds: float,
        method: str,
        path: str,
        query: str,
        headers: Pairs,
        payload_sha256: str = EMPTY_SHA256,
    ) -> list[tuple[str, str]]:
        """All headers of the signed request, names in lower case and in order, `authorization`
        last.

        `path` and `query` are as they go over the wire, percent-encoded. `headers` must hold
        `host`. Those that only describe an object are not signed. Raises InvalidHead for what would
        be another request than the one that is signed.
        """
        second = int(epoch_seconds)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._day = self._stamp[:8]
            self._scope = f"{self._day}/{self.region}/s3/aws4_request"
        stamp, scope = self._stamp, self._scope
        pairs = [(name.lower(), value) for name, value in headers]
        pairs += (("x-amz-content-sha256", payload_sha256), ("x-amz-date", stamp))
        if credentials.token:
            pairs.append(("x-amz-security-token", credentials.token))
        pairs.sort()
        signed = [pair for pair in pairs if pair[0] not in _UNSIGNED]
        names = ";".join([name for name, _ in signed])
        lines = "".join([f"{name}:{value}\n" for name, value in signed])
        if "  " in lines or ": " in lines or " \n" in lines:  # seldom: else no value is looked at
            lines = "".join([f"{name}:{_trimmed(value)}\n" for name, value in signed])
        canonical = f"{method}\n{path}\n{_canonical_query(query)}\n{lines}\n{names}\n{payload_sha256}"
        credential = f"Credential={credentials.access_key}/{scope}"
        # Not `canonical`, which has line ends of its own: to count them takes ten times as long.
        check_head(f"{method}{path}{query}{credential}", pairs)
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        key = self._signing_key(credentials.secret_key, self._day)
        signature = hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
        pairs.append(("authorization", f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"))
        return pairs

    def _signing_key(self, secret_key: str, day: str) -> bytes:
        if self._key_of != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of, self._key = (secret_key, day), key
        return self._key


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


def check_head(text: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Raises InvalidHead for a line break or a name that is no token.

    `text`: all parts of the request but the headers, one behind the other. `pairs`: the headers.
    """
    names = ";".join([name for name, _ in pairs])
    text = "".join([text, names, *[value for _, value in pairs]])
    if "\n" in text or "\r" in text or "\0" in text:  # not shown: it may be a secret
        raise InvalidHead("a header, the address, region or access key has a line break or NUL in it")
    if not _are_tokens(names, len(pairs)):
        raise InvalidHead(f"not a valid header name among {names!r}")


def request_head(
    method: str, target: str, headers: Sequence[tuple[str, str]], body_bytes: int | None, extra: str
) -> bytes:
    """The request line and all headers, as `check_head` has found them harmless.

    `extra`: lines that are not signed.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    length = f"content-length: {body_bytes or 0}\r\n" if method in ("PUT", "POST") else ""
    text = f"{method} {target} HTTP/1.1\r\n{lines}{length}{extra}{_AGENT}\r\n"
    return text.encode("utf-8", "surrogateescape")


@lru_cache(1024)
def _are_tokens(names: str, count: int) -> bool:
    return names.count(";") < count and _NAMES.fullmatch(names) is not None
