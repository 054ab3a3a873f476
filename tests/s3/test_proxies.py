"""Through an HTTP proxy: to the server over TLS and without, with a password, past it, and when it says no."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trustme

from jobs.core.model import ObjectRef
from jobs.errors import ConfigError, Unavailable
from jobs.s3.connections import Response
from jobs.s3.endpoints import Endpoint
from jobs.s3.proxies import Proxies, Proxy
from jobs.s3.signing import Credentials
from jobs.s3.transport import Transport
from tests.http_proxy import http_proxy

Use = Callable[[int], Awaitable[Response]]
BODY = b"<ListBucketResult/>"
PASSWORD = "Basic aGFyYm91cjpzM2NyZXQgJQ=="  # harbour:s3cret %


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def serving(
    context: ssl.SSLContext | None = None,
) -> Iterator[Callable[[Callable[[int], Awaitable[Response]]], Response]]:
    """A way to run `use(port)` beside a server that answers each request with BODY."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def run(use: Use) -> Response:
        async def main() -> Response:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            try:
                return await use(server.sockets[0].getsockname()[1])
            finally:
                server.close()

        return asyncio.run(asyncio.wait_for(main(), 20))

    yield run


async def ask(host: str, *, is_tls: bool = False, ca_bundle: str | None = None) -> Response:
    """One request to the endpoint, by a transport as the environment has it."""
    credentials = Credentials("id", "secret")
    transport = Transport(
        Endpoint(host, is_tls=is_tls), "us-east-1", lambda: credentials, max_in_flight=2, ca_bundle=ca_bundle
    )
    try:
        return await transport.send("GetObject", "GET", ObjectRef("bucket", "key"))
    finally:
        transport.close()


def test_a_plain_endpoint_is_asked_for_by_its_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(port: int) -> Response:
        with http_proxy(f"http://127.0.0.1:{port}") as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
            answer = await ask("s3.harbour.invalid:8333")
        assert proxy.asked == ["GET s3.harbour.invalid:8333"]
        return answer

    with serving() as run:
        assert run(use).body == BODY


@pytest.mark.parametrize("url", ["http://harbour:s3cret%20%25@{}", "http://harbour:wrong@{}", "http://{}"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_proxy_may_want_a_password(monkeypatch: pytest.MonkeyPatch, url: str, is_tls: bool) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if is_tls else None
    if context:
        authority.issue_cert("localhost").configure_cert(context)

    async def use(port: int) -> Response:
        with ExitStack() as stack:
            proxy = stack.enter_context(http_proxy(f"http://127.0.0.1:{port}", PASSWORD))
            bundle = stack.enter_context(authority.cert_pem.tempfile())
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                monkeypatch.setenv(name, url.format(proxy.url.removeprefix("http://")))
            try:
                return await ask(f"localhost:{port}", is_tls=is_tls, ca_bundle=bundle)
            finally:
                done = ["CONNECT" if is_tls else "GET"] if "%" in url else []
                assert proxy.asked == [f"{method} localhost:{port}" for method in done]
                assert bool(proxy.refused) is not bool(done)

    with serving(context) as run:
        if "%" in url:
            assert run(use).body == BODY
        else:
            with pytest.raises(Unavailable, match=r"the proxy .*http://user:password@host:port") as caught:
                run(use)
            assert "wrong" not in str(caught.value)


def test_hosts_of_no_proxy_are_reached_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1,.harbour.invalid")
    found = Proxies(is_tls=False)
    assert found.of("127.0.0.1:8333") is None
    assert found.of("s3.harbour.invalid:80") is None
    assert found.of("harbour.example") == Proxy("127.0.0.1", 9)
    assert Proxies(is_tls=True).of("harbour.example") is None

    async def use(port: int) -> Response:
        return await ask(f"127.0.0.1:{port}")

    with serving() as run:
        assert run(use).body == BODY


@pytest.mark.parametrize("url", ["https://harbour:s3cret@proxy:3128", "socks5://proxy", "http://proxy:port", "http://"])
def test_what_is_no_http_proxy_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        Proxies(is_tls=True, urls={"https": url}).of("harbour.example")
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_is_not_needed_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    assert Proxies(is_tls=True, urls={"https": "socks5://proxy"}).of("harbour.example") is None


def test_a_proxy_without_a_scheme_or_port_is_an_http_proxy() -> None:
    assert Proxies(is_tls=True, urls={"https": "proxy:3128"}).of("x") == Proxy("proxy", 3128)
    assert Proxies(is_tls=True, urls={"https": "http://proxy"}).of("x") == Proxy("proxy", 80)
    assert Proxies(is_tls=True, urls={"http": "http://proxy"}).of("x") is None


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"by the proxy http://127\.0\.0\.1:9"):
        asyncio.run(ask("s3.harbour.invalid"))
