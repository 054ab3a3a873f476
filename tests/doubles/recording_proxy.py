"""A proxy on loopback that records what one role asks of one service.

    with recording_proxy(server.endpoint, "role", "s3", heard) as endpoint:
        ...  # `heard` gets each request with its answer

Unlike `aws_recorder` it answers for an endpoint that clients are given, with buckets in the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.doubles.aws_recorder import Recorded
from tests.doubles.loopback import listening, read_answer, read_request

HEAD_BYTES_MAX = 1 << 16
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/")


@contextlib.contextmanager
def recording_proxy(upstream: str, role: str, service: str, heard: list[Recorded]) -> Iterator[str]:
    """The proxy's URL, for as long as the block lasts."""
    address = urlsplit(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(address.hostname, address.port, limit=HEAD_BYTES_MAX)
        try:
            while True:
                head, body = await read_request(reader, writer)
                below.write(head + body)
                await below.drain()
                answer, content = await read_answer(above, head.split(b" ", 1)[0].decode())
                heard.append(_recorded(role, service, head, body, answer))
                writer.write(answer + content)
                await writer.drain()
        finally:
            below.close()

    with listening(serve, HEAD_BYTES_MAX) as url:
        yield url


def _recorded(role: str, service: str, head: bytes, body: bytes, answer: bytes) -> Recorded:
    first, headers = _parsed(head)
    method, target, _ = first.split(" ", 2)
    path, _, query = target.partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    bucket, _, key = (unquote(each) for each in path[1:].partition("/")) if service == "s3" else ("", "", "")
    scope = _SCOPE.search(headers.get("authorization", ""))
    status, answered = _parsed(answer)
    kept = body if service != "s3" or "delete" in asked else b""
    region, code = scope[1] if scope else "", int(status.split(" ")[1])
    return Recorded(role, service, region, method, path, asked, headers, kept, code, answered, bucket, key)


def _parsed(head: bytes) -> tuple[str, Mapping[str, str]]:
    """(the first line, name in lower case → value)."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    named = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in named}
