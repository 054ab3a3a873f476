"""A whole run through an HTTP proxy, to an endpoint whose name nobody but the proxy knows."""

from __future__ import annotations

import asyncio

import pytest

from tests.doubles.http_proxy import http_proxy
from tests.doubles.loopback import read_answer
from tests.end_to_end.conftest import World


def test_a_whole_run_goes_through_the_proxy(world: World) -> None:
    for number in range(20):
        world.put(f"manifests/{number:02d} ü.pdf", b"x" * number)
    elsewhere = "s3.harbour.invalid:8333"
    with http_proxy(world.server.endpoint) as proxy:
        where = {"AWS_ENDPOINT_URL_S3": f"http://{elsewhere}", "HTTP_PROXY": proxy.url}
        report = world.run("replicate", **where)
    assert (report["code"], report["outcomes"]) == (0, {"copied": 20})
    assert {host for _, host in (asked.split(" ") for asked in proxy.asked)} == {elsewhere}
    assert len([asked for asked in proxy.asked if asked.startswith("PUT")]) > 20


@pytest.mark.parametrize(
    ("method", "sent", "relayed"),
    [
        ("GET", b"200 OK\r\nContent-Length: 3\r\n\r\none", b"200 OK\r\nContent-Length: 3\r\n\r\none"),
        (
            "GET",
            b"200 OK\r\nTransfer-Encoding: chunked\r\nETag: e\r\n\r\n2;x=y\r\non\r\n1\r\ne\r\n0\r\nX-More: y\r\n\r\n",
            b"200 OK\r\nETag: e\r\nContent-Length: 3\r\n\r\none",
        ),
        ("HEAD", b"200 OK\r\nContent-Length: 3\r\n\r\n", b"200 OK\r\nContent-Length: 3\r\n\r\n"),
        ("DELETE", b"204 No Content\r\n\r\n", b"204 No Content\r\n\r\n"),
    ],
    ids=["known", "chunks", "head", "none"],
)
def test_what_relays_answers_takes_their_bodies_in_either_form(method: str, sent: bytes, relayed: bytes) -> None:
    async def read() -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 " + sent + b"HTTP/1.1 200 the next answer")
        head, body = await read_answer(reader, method)
        return head + body, await reader.readexactly(28)

    assert asyncio.run(read()) == (b"HTTP/1.1 " + relayed, b"HTTP/1.1 200 the next answer")
