"""HTTP/1.1 answers: from bytes to a status, headers and a body.

Pure: no sockets, no clock.

llhttp (`httptools`) parses, strictly. This module decides what llhttp leaves open: which of several
answers is the request's own, what of a head must be unique, and how many bytes may come.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import httptools

MAX_BODY_BYTES = 1 << 30
BUFFER_BYTES = 256 * 1024
"""A larger body of known length is received into a buffer of its own, without copies."""
FRAMING_BYTES = 64 * 1024
"""Of an answer with its interim answers, all but the body: heads, chunk sizes, extensions,
trailers. S3 sends 8 KiB at most (2 KiB of them metadata). Bodies may add a quarter of their size,
for small chunks."""
_SINGLE = frozenset({"etag", "last-modified", "content-range", "content-length", "transfer-encoding"})
_SINGLE |= {"content-type", "content-disposition", "expires"}
"""What identifies one object and one body, with S3's own headers: it must be there once."""
_LISTS = frozenset({"cache-control", "content-encoding", "content-language"})
"""Lists: that they come twice is the same as one list of both (RFC 9110, section 5.3). Proxies add
to them."""
_ANY = frozenset({"x-amz-request-id", "x-amz-id-2"})
_NAMES_MAX = 1024
_BODILESS = (204, 304)
_TLS_ALERT = b"\x15"
"""How a server that wants TLS begins its answer to HTTP."""
_names: dict[bytes, str] = {}
"""Header names as they come → in lower case: servers send the same few in each answer."""


class NoAnswer(Exception):
    """No answer came. `code` says why, `is_stale`: an idle connection had closed unseen.

    `is_of_scheme`: the server speaks TLS and the endpoint does not, or the other way round.
    """

    def __init__(self, code: str, message: str, *, is_stale: bool = False, is_of_scheme: bool = False):
        super().__init__(message)
        self.code, self.is_stale, self.is_of_scheme = code, is_stale, is_of_scheme


class Response(NamedTuple):
    """An answer: header names in lower case.

    `is_repeated`: the request was sent again, because no answer came the first time.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    is_repeated: bool = False


class Answer:
    """The answer to one request as its bytes arrive.

    `is_kept`, once the answer is whole: its connection may serve another request. It may not after
    anything that follows the answer: a client has to treat that as nobody's (RFC 9112, section
    6.3).
    """

    is_kept = is_started = False
    large: memoryview | None = None
    _has_head = False
    _headers: dict[str, str]
    _received = _filled = _status = 0
    _pending: memoryview | None = None
    _response: Response | None = None
    _error: NoAnswer | None = None

    def __init__(self, max_bytes: int = MAX_BODY_BYTES, is_bodiless: bool = False):
        self._max_bytes, self._is_bodiless = max_bytes, is_bodiless
        self._fields: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._parser: Any = httptools.HttpResponseParser(self)  # it refers to us: both are let go together

    @property
    def received_bytes(self) -> int:
        """How much of the answer has come."""
        return max(self._received, self._filled)

    @property
    def rest(self) -> memoryview:
        """Where the rest of a large body belongs, if `large` is set."""
        assert self.large is not None
        return self.large[self._filled :]

    def feed(self, data: memoryview) -> Response | None:
        """Take the next bytes. The whole answer, None if it is not complete. Raises NoAnswer."""
        if not self.is_started:
            self.is_started = True
            if not b"HTTP/1.".startswith(data[:7]):
                is_tls = data[:1] == _TLS_ALERT
                raise NoAnswer("MalformedAnswer", f"no HTTP/1: {bytes(data[:20])!r}", is_of_scheme=is_tls)
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.is_kept = False
            self._refuse("MalformedAnswer", f"no HTTP: {error}")
        if self._response is not None:
            if self._is_bodiless and not b"\r\n\r\n".endswith(data[-4:]):
                self.is_kept = False
            self._parser = None
            return self._response
        if self._received - self._filled > FRAMING_BYTES + self._filled // 4:
            self._refuse("AnswerTooLarge", f"more than {FRAMING_BYTES} bytes of headers or chunk sizes")
        if self._error is not None:
            raise self._let_go(self._error)
        return None

    def fill(self, count: int) -> Response | None:
        """Take `count` bytes that were written to `rest`.

        The whole answer, None if it is not complete.
        """
        assert self.large is not None
        self._filled += count
        if self._filled < len(self.large):
            return None
        self._complete(self.large.obj)
        self._parser = None
        return self._response

    def end(self, why: str = "") -> Response:
        """The answer of a connection that ended before it was complete. Raises NoAnswer.

        A body without a length ends with its connection, so it is unknown whether all of it
        came. That will do for an error's text, and for nothing else.
        """
        self._parser = None
        if (
            self._has_head
            and self._status >= 300
            and not {"content-length", "transfer-encoding"} & self._headers.keys()
        ):
            return Response(self._status, self._headers, b"".join(self._chunks))
        if self._has_head:
            raise NoAnswer("IncompleteBody", f"the connection broke off{why}")
        raise NoAnswer("ConnectionLost", f"the server closed the connection{why}")

    # --- llhttp's side ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self._response is not None:  # a second answer
            self.is_kept = False

    def on_chunk_header(self) -> None:
        """A chunk of a body begins."""
        if self._response is not None:  # a body after HEAD
            self.is_kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer."""
        # Blanks around a value are no part of it (RFC 9110, section 5.5). What follows the head is
        # never looked at.
        self._fields.append((name, value.strip()))  # of white space llhttp lets pass blanks and tabs alone

    def on_headers_complete(self) -> None:
        """The head of an answer is whole."""
        status = self._parser.get_status_code()
        if self._has_head:
            return
        if 100 <= status < 200 and status != 101:  # an interim answer: the answer is still to come
            self._fields = []
            return
        self._has_head, self._status = True, status
        headers = self._headers = {
            _names.get(name) or _lower(name): value.decode("utf-8", "surrogateescape") for name, value in self._fields
        }
        if len(headers) < len(self._fields):
            self._settle_repeated()
        if not 200 <= status < 600:
            self._refuse("MalformedAnswer", f"status {status}")
        elif "transfer-encoding" in headers and headers["transfer-encoding"].strip().lower() != "chunked":
            self._refuse("MalformedAnswer", f"transfer encoding {headers['transfer-encoding'][:40]!r}")
        elif self._is_bodiless:
            self._complete(b"")
        elif status not in _BODILESS:
            self._expect_body()

    def on_body(self, data: bytes) -> None:
        """Some bytes of a body."""
        if self._response is not None:  # a body after HEAD
            self.is_kept = False
        elif self._pending is None:
            self._filled += len(data)
            if self._filled > self._max_bytes:
                self._refuse_body(self._filled)
            elif self._error is None:
                self._chunks.append(data)
        else:
            self._pending[self._filled : self._filled + len(data)] = data
            self._filled += len(data)
            self.large = self._pending  # the rest needs no parser

    def on_message_complete(self) -> None:
        """An answer is whole."""
        if self._has_head and self._response is None:
            self._complete(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))

    # ------------------------------------------------------------------------------------------

    def _settle_repeated(self) -> None:
        """Two different values of a header that decides leave open what the answer says."""
        values: dict[str, dict[str, None]] = {}
        for name, value in self._fields:
            values.setdefault(_lower(name), {})[value.decode("utf-8", "surrogateescape")] = None
        several = {field for field, each in values.items() if len(each) > 1}
        for field in sorted(filter(_is_single, several)):
            self._refuse("MalformedAnswer", f"two different headers {field}")
        for field in several & _LISTS:
            self._headers[field] = ", ".join(values[field])

    def _expect_body(self) -> None:
        """The body's length. llhttp has refused lengths without digits, or two of them."""
        length = self._headers.get("content-length")
        if length is None:
            if self._status < 300 and "transfer-encoding" not in self._headers:
                message = "the answer has no length, so it may be cut short"
                self._refuse("IncompleteBody", message)
        elif (size_bytes := int(length)) > self._max_bytes:
            self._refuse_body(size_bytes)
        elif size_bytes > BUFFER_BYTES:
            self._pending = memoryview(bytearray(size_bytes))

    def _complete(self, body: object) -> None:
        if self._error is not None:
            return
        self.is_kept = self._parser.should_keep_alive()
        # A bytearray without writers: making it `bytes` would copy it.
        self._response = Response(self._status, self._headers, cast("bytes", body))

    def _let_go(self, error: NoAnswer) -> NoAnswer:
        """The error, whose traceback refers to us.

        What was received for nothing is given back at once.
        """
        self._parser = self._pending = self.large = self._error = None
        self._chunks = []
        return error

    def _refuse_body(self, size_bytes: int) -> None:
        self._refuse("AnswerTooLarge", f"a body of {size_bytes} bytes, at most {self._max_bytes} were asked for")

    def _refuse(self, code: str, message: str) -> None:
        self._error = self._error or NoAnswer(code, message)


def _is_single(field: str) -> bool:
    """Whether an answer may have one value of this header only."""
    return field in _SINGLE or (field.startswith("x-amz-") and field not in _ANY)


def _lower(name: bytes) -> str:
    field = name.decode("latin-1").lower()
    if len(_names) < _NAMES_MAX and len(name) < 100:
        _names[name] = field
    return field
