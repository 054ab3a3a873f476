"""TLS over a connection: decrypts into the buffers of the protocol above it.

asyncio's own layer holds 256 KiB of buffer for each connection, and hands on what it decrypts in
pieces of up to that size. Here all connections receive into one buffer, and a large body is
decrypted where it belongs. What goes out is encrypted piece by piece, as the socket takes it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from jobs.errors import ConfigError

RECEIVED_BYTES = 256 * 1024
"""What is received at a time, into the buffer that all connections share."""
PIECE_BYTES = 64 * 1024
"""What is decrypted or encrypted at a time. A connection's own buffers in OpenSSL grow to that."""


@lru_cache  # it takes 20 ms to read the system's, and a command opens several stores
def tls_context(authorities: str | None) -> ssl.SSLContext:
    """What trusts the certificate authorities in a PEM file, or a folder of such, else the system's.

    Raises ConfigError where there are none.
    """
    is_folder = authorities is not None and os.path.isdir(authorities)
    try:
        return ssl.create_default_context(
            cafile=None if is_folder else authorities, capath=authorities if is_folder else None
        )
    except OSError as error:
        raise ConfigError(f"AWS_CA_BUNDLE={authorities!r} cannot be read: {error}", advice="name a PEM file") from error


class TlsConnection(asyncio.BufferedProtocol):
    """A connection of a client: asyncio's protocol on one side, its transport for `above`.

    `wrap`: makes OpenSSL's side of what comes in and what goes out. `received`: a buffer that many connections
    share, since its bytes are taken at once. `is_ready` is done when the handshake is. Then `above` has a connection.
    """

    def __init__(self, wrap: Callable[[Any, Any], Any], above: asyncio.BufferedProtocol, received: memoryview):
        self._incoming: Any = ssl.MemoryBIO()
        self._outgoing: Any = ssl.MemoryBIO()
        self.tls = wrap(self._incoming, self._outgoing)
        self._above, self._received = above, received
        self._transport: Any = None
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._is_paused = self._is_lost = False
        self._failure: ssl.SSLError | None = None
        self.is_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- the transport that `above` writes to -------------------------------------------------

    def writelines(self, lines: Iterable[bytes]) -> None:
        """Send the bytes, one after the other."""
        for line in filter(None, lines):
            self._pending.append(memoryview(line))
            self._pending_bytes += len(line)
        self._encrypt()

    def get_write_buffer_size(self) -> int:
        """How many bytes have not gone to the socket."""
        return self._pending_bytes + int(self._transport.get_write_buffer_size())

    def get_extra_info(self, name: str) -> Any:
        """What asyncio knows of the connection."""
        return self._transport.get_extra_info(name)

    def abort(self) -> None:
        """Close the connection at once. The server learns it from the reset."""
        self._pending.clear()
        self._transport.abort()

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = transport
        self._shake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to receive."""
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt what has come."""
        for start in range(0, nbytes, PIECE_BYTES):
            self._incoming.write(self._received[start : min(start + PIECE_BYTES, nbytes)])
            if self.is_ready.done():
                self._decrypt()
            else:
                self._shake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits: for the handshake, or for an answer."""
        self._is_lost = True
        if not self.is_ready.done():
            why = "the server closed the connection during the handshake"
            self.is_ready.set_exception(exc or ConnectionResetError(0, why))
        elif self._is_accepted():
            self._above.connection_lost(exc or self._failure)
        self.tls = self._incoming = self._outgoing = None  # both sides know each other, and this is most of both

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._is_paused = True
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._is_paused = False
        self._encrypt()
        if not self._is_paused:
            self._above.resume_writing()

    # ------------------------------------------------------------------------------------------

    def _is_accepted(self) -> bool:
        return not self.is_ready.cancelled() and self.is_ready.exception() is None

    def _shake(self) -> None:
        """Take the next step of the handshake."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # an alert tells the server why
            if not self.is_ready.done():
                self.is_ready.set_exception(error)
            self._transport.close()
            return
        self._flush()
        if self.is_ready.done():  # nobody waits for it any more
            self.abort()
            return
        self.is_ready.set_result(None)
        self._above.connection_made(self)  # type: ignore[arg-type]  # what a protocol needs of a transport
        self._decrypt()

    def _decrypt(self) -> None:
        """Hand on what has come, where it belongs. To read when nothing is left costs more than to ask for that."""
        tls, incoming = self.tls, self._incoming
        is_more, has_ended = True, False
        while is_more and not self._is_lost:
            buffer: Any = self._above.get_buffer(-1)
            filled, wanted = 0, len(buffer)
            try:
                while is_more and filled < wanted:
                    count = tls.read(wanted - filled, buffer[filled:])
                    filled, has_ended = filled + count, not count  # the server has said that it closes
                    is_more = count > 0 and (incoming.pending > 0 or tls.pending() > 0)
            except ssl.SSLWantReadError:
                is_more = False
            except ssl.SSLError as failure:
                self._failure = failure
            if filled:
                self._above.buffer_updated(filled)
            if has_ended or self._failure:
                self.abort()
                return
        self._flush()  # what TLS itself has to say

    def _encrypt(self) -> None:
        """Send what the socket takes for now."""
        while self._pending and not self._is_paused and not self._is_lost:
            data = self._pending[0]
            try:
                sent = self.tls.write(data[:PIECE_BYTES])
            except ssl.SSLError as error:
                self._failure = error
                self.abort()
                return
            self._pending_bytes -= sent
            if sent == len(data):
                self._pending.popleft()
            else:
                self._pending[0] = data[sent:]
            if self._outgoing.pending >= PIECE_BYTES or not self._pending:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())
