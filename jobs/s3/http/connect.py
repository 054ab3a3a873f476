"""Connections to a server: direct or through an HTTP proxy, with or without TLS."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from jobs.s3.http.answers import NoAnswer
from jobs.s3.http.proxies import Proxies, Proxy
from jobs.s3.http.tls import RECEIVED_BYTES, TlsConnection

CONNECT_SECONDS = 10.0
RESOLVE_SECONDS = 30.0
"""S3 names ever other addresses, so that load spreads:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html"""
HEAD_BYTES_MAX = 1 << 16

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST"})
"""What OpenSSL says of an answer that is plain HTTP."""

_known: dict[tuple[ssl.SSLContext, str], ssl.SSLObject] = {}
"""By what a host's certificate was checked, and its name → the last connection for which that was done."""
P = TypeVar("P", bound=asyncio.BufferedProtocol)


class Dialer:
    """Opens connections. Addresses of names are remembered for a while.

    `tls`: None for plain HTTP. A connection resumes the last TLS session with the same host, since
    checking the certificate again takes most of a handshake.
    """

    def __init__(self, tls: ssl.SSLContext | None, proxies: Proxies):
        self._tls, self._proxies = tls, proxies
        self._received = memoryview(bytearray(RECEIVED_BYTES if tls else 0))
        self._addresses: dict[str, tuple[float, Sequence[Any]]] = {}
        self._lookups: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Any]] = {}

    async def connect(self, host: str, make: Callable[[], P]) -> P:
        """A connection to `host` (`name` or `name:port`), spoken for by what `make` makes.

        Raises NoAnswer.
        """
        name, port = _split(host, 443 if self._tls else 80)
        proxy = self._proxies.of(host)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._open(name, port, proxy, make)
        except OSError as error:  # of the socket, TLS, the resolver, or a time-out
            asked = proxy.host if proxy else name
            self._addresses.pop(asked, None)  # a dead address is not asked again
            code, why = _why(error, name, asked)
            is_plain = isinstance(error, ssl.SSLError) and error.reason in _NO_TLS
            raise NoAnswer(code, f"{why} (by the proxy {proxy})" if proxy else why, is_of_scheme=is_plain) from error

    async def _open(self, name: str, port: int, proxy: Proxy | None, make: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        endpoint = await self._reach(*((proxy.host, proxy.port) if proxy else (name, port)))
        try:
            if proxy and self._tls:
                await _tunnel(endpoint, proxy, f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
        except BaseException:
            endpoint.close()
            raise
        spoken = make()
        if self._tls is None:
            await loop.create_connection(lambda: spoken, sock=endpoint)
            return spoken
        known = _known.get((self._tls, name))
        wrap = partial(self._tls.wrap_bio, server_hostname=name, session=known.session if known else None)
        secured = TlsConnection(wrap, spoken, self._received)
        transport, _ = await loop.create_connection(lambda: secured, sock=endpoint)
        try:
            await secured.is_ready
        except BaseException:
            _known.pop((self._tls, name), None)  # some servers refuse a session that they made
            if not transport.is_closing():  # else an alert is on its way
                transport.abort()
            raise
        if secured.tls and not secured.tls.session_reused:
            _known[self._tls, name] = secured.tls
        return spoken

    async def _reach(self, name: str, port: int) -> socket.socket:
        """A connection to one address of the family that the resolver prefers, else of another one, as
        in https://www.rfc-editor.org/rfc/rfc8305. A family that did not answer is left out for a while.
        """
        until, addresses = await self._resolve(name, port)
        families = dict.fromkeys(each[0] for each in addresses)
        *firsts, last = [random.choice([each for each in addresses if each[0] == family]) for family in families]
        for address in firsts:
            try:
                async with asyncio.timeout(CONNECT_SECONDS / 3):
                    return await _connected(address)
            except OSError:  # also TimeoutError
                rest = [each for each in addresses if each[0] != address[0]]
                self._addresses[name] = until, rest
        return await _connected(last)

    async def _resolve(self, name: str, port: int) -> tuple[float, Sequence[Any]]:
        """The addresses of a name, and until when they hold. All who need them wait for one lookup."""
        loop = asyncio.get_running_loop()
        cached = self._addresses.get(name)
        if cached is None or loop.time() > cached[0]:
            lookup = self._lookups.get((loop, name))
            if lookup is None:
                lookup = asyncio.ensure_future(loop.getaddrinfo(name, port, type=socket.SOCK_STREAM))
                self._lookups[loop, name] = lookup
                lookup.add_done_callback(partial(self._forget, (loop, name)))
            try:
                cached = loop.time() + RESOLVE_SECONDS, await asyncio.shield(lookup)
            except UnicodeError as error:  # an empty label, or a long one
                raise NoAnswer("UnknownHost", f"{name} is no name of a host: {error}") from error
            self._addresses[name] = cached
        return cached

    def _forget(self, which: tuple[asyncio.AbstractEventLoop, str], lookup: asyncio.Future[Any]) -> None:
        self._lookups.pop(which)
        if not lookup.cancelled():
            lookup.exception()  # nobody may wait for it any more


async def _connected(resolved: Any) -> socket.socket:
    family, kind, protocol, _, address = resolved
    endpoint = socket.socket(family, kind, protocol)
    try:
        endpoint.setblocking(False)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a copy's answer may take minutes
        await asyncio.get_running_loop().sock_connect(endpoint, address)
    except BaseException:
        endpoint.close()
        raise
    return endpoint


async def _tunnel(endpoint: socket.socket, proxy: Proxy, target: str) -> None:
    """Have the proxy connect us with `host:port`: from then on the bytes are the server's."""
    loop = asyncio.get_running_loop()
    request = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{proxy.header}\r\n"
    await loop.sock_sendall(endpoint, request.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        some = await loop.sock_recv(endpoint, 1)  # a byte at a time: what follows the head is not ours to take
        if not some or len(head) > HEAD_BYTES_MAX:
            raise NoAnswer("ProxyFailed", f"the proxy {proxy} gave no answer to CONNECT {target}")
        head += some
    status = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2]
    if status.startswith("407"):
        raise NoAnswer("ProxyDenied", proxy.wants_password)
    if not status.startswith("2"):
        raise NoAnswer("ProxyDenied", f"the proxy {proxy} does not connect to {target}: {status}")


def _why(error: OSError, name: str, asked: str) -> tuple[str, str]:
    """The code of a connection that failed, and why it did. `asked`: the host, or its proxy."""
    if isinstance(error, TimeoutError):
        return "ConnectTimeout", f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "name the file of its authority in AWS_CA_BUNDLE, or renew it on the server"
        return "TlsFailed", f"the certificate of {name} is refused, {error.verify_message.rstrip('.')}: {advice}"
    if isinstance(error, ssl.SSLError):
        what = "the server does not speak TLS" if error.reason in _NO_TLS else "TLS"
        return "TlsFailed", f"{what}: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return "UnknownHost", f"{asked} cannot be resolved: {error.strerror}"
    return "ConnectFailed", error.strerror or str(error)


def _split(host: str, default_port: int) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not name.endswith(":"):
        return name.strip("[]"), int(port)
    return host.strip("[]"), default_port
