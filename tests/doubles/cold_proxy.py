"""A proxy on loopback that keeps objects of the class GLACIER cold, as S3 does, before a server that does not.

    with cold_proxy(server.endpoint) as endpoint:
        ...  # GetObject of such an object is refused until RestoreObject was asked for

A restore is under way for one look at the object, and then over. Versions are not told apart.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.doubles.loopback import listening, read_answer, read_request

HEAD_BYTES_MAX = 1 << 16
_COLD = b"\r\nx-amz-storage-class: glacier\r\n"
_UNDER_WAY = b'x-amz-restore: ongoing-request="true"\r\n'
_THAWED = b'x-amz-restore: ongoing-request="false", expiry-date="Fri, 21 Dec 2040 00:00:00 GMT"\r\n'
_REFUSAL = b"<Error><Code>InvalidObjectState</Code><Message>The object is archived.</Message></Error>"
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_REFUSAL)


@dataclass
class _Thaws:
    """Path of an object → whether its restore is still under way."""

    asked: dict[str, bool] = field(default_factory=dict)


@contextlib.contextmanager
def cold_proxy(upstream: str) -> Iterator[str]:
    """The proxy's URL, for as long as the block lasts."""
    address, thaws = urlsplit(upstream), _Thaws()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port, limit=HEAD_BYTES_MAX)
        try:
            while True:
                await _exchange(reader, writer, above, below, thaws)
        finally:
            below.close()

    with listening(serve, HEAD_BYTES_MAX) as url:
        yield url


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    above: asyncio.StreamReader,
    below: asyncio.StreamWriter,
    thaws: _Thaws,
) -> None:
    """One request and its answer."""
    head, body = await read_request(reader, writer)
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    path, _, query = target.partition("?")
    if method == "POST" and query.partition("=")[0] == "restore":
        thaws.asked[path] = True
        writer.write(_ACCEPTED)
        await writer.drain()
        return
    below.write(head + body)
    await below.drain()
    answer, content = await read_answer(above, method)
    if method in ("GET", "HEAD") and _COLD in answer.lower():
        if path in thaws.asked:
            answer = answer[:-2] + (_UNDER_WAY if thaws.asked[path] else _THAWED) + b"\r\n"
            thaws.asked[path] = thaws.asked[path] and method != "HEAD"
        elif method == "GET":
            answer, content = _REFUSED, _REFUSAL
    writer.write(answer + content)
    await writer.drain()
