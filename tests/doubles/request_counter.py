"""A server in front of an S3 server that counts what clients ask, by kind.

with request_counter(server.endpoint, ledgers={"ledger"}) as counter:
    ...  # a client that uses counter.url; counter.kinds says what it asked for
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.doubles.loopback import listening

HEAD_BYTES_MAX = 1 << 16
_SUBRESOURCES = ("tagging", "attributes", "retention", "legal-hold", "acl")


@dataclass
class RequestCounter:
    """Where it listens, and how many requests of each kind came. All those for a bucket of ledgers are `ledger`."""

    url: str
    kinds: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def request_counter(upstream: str, ledgers: Collection[str] = ()) -> Iterator[RequestCounter]:
    """A counter in a thread of its own, for as long as the block lasts. It leads to `upstream`, a plain HTTP URL."""
    address, counter = urlsplit(upstream), RequestCounter("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port)
        back = asyncio.ensure_future(_pour(above, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                counter.kinds[kind_of(head.decode("latin-1"), ledgers)] += 1
                below.write(head)
                await _pass_body(head, reader, below)
        finally:
            back.cancel()
            below.close()

    with listening(serve, HEAD_BYTES_MAX) as url:
        counter.url = url
        yield counter


def kind_of(head: str, ledgers: Collection[str] = ()) -> str:
    """The kind of a request, by its head, as plans and price lists name it."""
    method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
    url = urlsplit(target)
    bucket, _, key = url.path.lstrip("/").partition("/")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    is_copy = "\r\nx-amz-copy-source:" in head.lower()
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


async def _pass_body(head: bytes, reader: asyncio.StreamReader, below: asyncio.StreamWriter) -> None:
    """What follows the head of a request: so many bytes, or chunks."""
    fields = dict(line.lower().split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ":" in line)
    if "chunked" in fields.get("transfer-encoding", ""):
        while size := int((line := await reader.readline()).partition(b";")[0], 16):
            below.write(line)
            await _pass(reader, below, size + 2)
        below.write(line + await reader.readuntil(b"\r\n"))
    else:
        await _pass(reader, below, int(fields.get("content-length", 0)))
    await below.drain()


async def _pass(reader: asyncio.StreamReader, below: asyncio.StreamWriter, size: int) -> None:
    while size:
        some = await reader.readexactly(min(size, 1 << 16))
        below.write(some)
        await below.drain()
        size -= len(some)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(1 << 16):
        writer.write(some)
        await writer.drain()
    writer.close()
