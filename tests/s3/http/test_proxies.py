"""Through an HTTP proxy: to the server over TLS and without, with a password, past it, and when it says no."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import pytest
import trustme

from jobs.core.model import ObjectRef
from jobs.errors import ConfigError, Unavailable
from jobs.s3.http.endpoints import Endpoint
from jobs.s3.http.proxies import Proxies, Proxy
from jobs.s3.http.signing import Credentials
from jobs.s3.operations import Operation
from jobs.s3.transport import Transport
from tests.doubles.http_proxy import http_proxy
from tests.doubles.loopback import listening

BODY = b"<ListBucketResult/>"
PASSWORD = "Basic aGFyYm91cjpzM2NyZXQgJQ=="  # harbour:s3cret %


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers each request with BODY."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        await writer.drain()


def ask(host: str, *, is_tls: bool = False, ca_bundle: str | None = None) -> bytes:
    """The body of the answer to one request to the endpoint, by a transport as the environment has it."""
    credentials = Credentials("id", "secret")
    transport = Transport(
        Endpoint(host, is_tls=is_tls), "us-east-1", lambda: credentials, max_in_flight=2, ca_bundle=ca_bundle
    )

    async def send() -> bytes:
        try:
            return (await transport.send(Operation.GET, ObjectRef("bucket", "key"))).body
        finally:
            transport.close()

    return asyncio.run(asyncio.wait_for(send(), 20))


def test_a_plain_endpoint_is_asked_for_by_its_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(answer) as server, http_proxy(server) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        assert ask("s3.harbour.invalid:8333") == BODY
    assert proxy.asked == ["GET s3.harbour.invalid:8333"]


@pytest.mark.parametrize("user", ["harbour:s3cret%20%25@", "harbour:wrong@", ""])
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_proxy_may_want_a_password(monkeypatch: pytest.MonkeyPatch, user: str, is_tls: bool) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    is_known = "%" in user
    with (
        authority.cert_pem.tempfile() as bundle,
        listening(answer, tls=context if is_tls else None) as server,
        http_proxy(server, PASSWORD) as proxy,
    ):
        host = f"localhost:{urlsplit(server).port}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url.replace("//", f"//{user}"))
        if is_known:
            assert ask(host, is_tls=is_tls, ca_bundle=bundle) == BODY
        else:
            with pytest.raises(Unavailable, match=r"the proxy .*http://user:password@host:port") as caught:
                ask(host, is_tls=is_tls, ca_bundle=bundle)
            assert "wrong" not in str(caught.value)
    assert proxy.asked == ([f"{'CONNECT' if is_tls else 'GET'} {host}"] if is_known else [])
    assert bool(proxy.refused) is not is_known


def test_hosts_of_no_proxy_are_reached_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1,.harbour.invalid")
    found = Proxies(is_tls=False)
    assert found.of("127.0.0.1:8333") is None
    assert found.of("s3.harbour.invalid:80") is None
    assert found.of("harbour.example") == Proxy("127.0.0.1", 9)
    assert Proxies(is_tls=True).of("harbour.example") is None
    with listening(answer) as server:
        assert ask(urlsplit(server).netloc) == BODY


@pytest.mark.parametrize(
    "url",
    ["https://harbour:s3cret@proxy:3128", "socks5://proxy", "http://proxy:port", "http://", "http://[::1",
     "http://harbour:s3cret/x@proxy:3128", "harbour:s3cret?x@proxy:3128", "http://harbour:s3cret#x@proxy",
     "http://proxy:0", "http://pro xy:3128"],
)  # fmt: skip
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
        ask("s3.harbour.invalid")
