"""A proxy on loopback that keeps objects of the class GLACIER cold, as S3 does, before a server that does not.

    with cold_proxy(server.endpoint) as endpoint:
        ...  # GetObject of such an object is refused until RestoreObject was asked for

A restore is under way for one look at the object, and then over. Versions are not told apart.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.doubles.loopback import Relayed, relaying

_COLD = b"\r\nx-amz-storage-class: glacier\r\n"
_UNDER_WAY = b'x-amz-restore: ongoing-request="true"\r\n'
_THAWED = b'x-amz-restore: ongoing-request="false", expiry-date="Fri, 21 Dec 2040 00:00:00 GMT"\r\n'
_REFUSAL = b"<Error><Code>InvalidObjectState</Code><Message>The object is archived.</Message></Error>"
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_REFUSAL)


@contextlib.contextmanager
def cold_proxy(upstream: str) -> Iterator[str]:
    """The proxy's URL, for as long as the block lasts."""
    thaws: dict[str, bool] = {}
    """Path of an object → whether its restore is still under way."""

    async def exchange(request: Relayed) -> bytes:
        path, _, query = request.target.partition("?")
        if request.method == "POST" and query.partition("=")[0] == "restore":
            thaws[path] = True
            return _ACCEPTED
        answer, content = await request.ask()
        if request.method not in ("GET", "HEAD") or _COLD not in answer.lower():
            return answer + content
        if path in thaws:
            answer = answer[:-2] + (_UNDER_WAY if thaws[path] else _THAWED) + b"\r\n"
            thaws[path] = thaws[path] and request.method != "HEAD"
        elif request.method == "GET":
            return _REFUSED + _REFUSAL
        return answer + content

    with relaying(upstream, exchange) as url:
        yield url
