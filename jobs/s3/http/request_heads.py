"""Request heads: the request line and headers, checked for harm. Pure.

Names and values come from objects, archive indexes, policies, profiles and the environment. None of
them may end a line: what follows would be a header of another's choice, or another request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from jobs import __version__

_NAMES = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+(;[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_AGENT = f"user-agent: sealift/{__version__}\r\n"


class InvalidHead(ValueError):
    """A name or value that would make other headers of the request than were meant."""


def check_head(text: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Raises InvalidHead for a line break or a name that is no token.

    `text`: all parts of the request but the headers, one behind the other. `pairs`: the headers.
    """
    names = ";".join([name for name, _ in pairs])
    text = "".join([text, names, *[value for _, value in pairs]])
    if "\n" in text or "\r" in text or "\0" in text:  # not shown: it may be a secret
        raise InvalidHead("a header, the address, region or access key has a line break or NUL in it")
    if not _are_tokens(names, len(pairs)):
        raise InvalidHead(f"not a valid header name among {names!r}")


def request_head(
    method: str, target: str, headers: Sequence[tuple[str, str]], body_bytes: int | None, extra: str
) -> bytes:
    """The request line and all headers, as `check_head` has found them harmless.

    `extra`: lines that are not signed.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    length = f"content-length: {body_bytes or 0}\r\n" if method in ("PUT", "POST") else ""
    text = f"{method} {target} HTTP/1.1\r\n{lines}{length}{extra}{_AGENT}\r\n"
    return text.encode("utf-8", "surrogateescape")


@lru_cache(1024)
def _are_tokens(names: str, count: int) -> bool:
    return names.count(";") < count and _NAMES.fullmatch(names) is not None
