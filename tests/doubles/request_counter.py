"""A server in front of an S3 server that counts what clients ask, by kind.

with request_counter(server.endpoint, ledgers={"ledger"}) as counter:
    ...  # a client that uses counter.url; counter.kinds says what it asked for
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.doubles.loopback import Relayed, relaying

_SUBRESOURCES = ("tagging", "attributes", "retention", "legal-hold", "acl")


@dataclass
class RequestCounter:
    """Where it listens, and how many requests of each kind came. All those for a bucket of ledgers are `ledger`."""

    url: str
    kinds: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def request_counter(upstream: str, ledgers: Collection[str] = ()) -> Iterator[RequestCounter]:
    """A counter for as long as the block lasts. It leads to `upstream`, a plain HTTP URL."""
    counter = RequestCounter("")

    async def exchange(request: Relayed) -> bytes:
        counter.kinds[kind_of(request, ledgers)] += 1
        return b"".join(await request.ask())

    with relaying(upstream, exchange) as url:
        counter.url = url
        yield counter


def kind_of(request: Relayed, ledgers: Collection[str]) -> str:
    """The kind of a request, as plans and price lists name it."""
    method, url = request.method, urlsplit(request.target)
    bucket, _, key = url.path.lstrip("/").partition("/")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    is_copy = b"\r\nx-amz-copy-source:" in request.head.lower()
    if bucket in ledgers:
        return "ledger"
    if found := next((name for name in _SUBRESOURCES if name in query), None):
        return f"{method.lower()} {found}"
    if method == "POST":
        return "create" if "uploads" in query else "complete" if "uploadId" in query else "delete many"
    if method == "PUT":
        return f"{'copy' if is_copy else 'put'}{' part' if 'partNumber' in query else ''}"
    if method == "GET" and not key:
        return "list" if query.keys() & {"list-type", "prefix", "versions", "delimiter"} else "bucket"
    return "bucket" if not key else method.lower()
