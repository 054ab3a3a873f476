"""Forks in an unknown key space: where the keys after a given one branch.

A parallel listing needs places to cut. Cutting between two strings by arithmetic fails for real
keys (`a/000001` … `a/100000` fill a sliver of the strings between them), so the cuts are found by
asking for the first key behind an `edge`. What comes back is a prefix of real keys, never a guess.

Nothing here compares two keys: the parts are prefixes, and a prefix holds the same keys whatever
the server's order is. All that is asked of a server is *some* order in which the keys of a prefix
are neighbours. S3's byte order is one. The order of a directory tree (SeaweedFS) is another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from os.path import commonprefix
from typing import NamedTuple

MAX_KEY_BYTES = 1024
"""S3's limit on a key, and so on a place to list from."""

_LAST_CHARACTER = "\U0010ffff"


class Fork(NamedTuple):
    """The keys after some key all begin with `shared`.

    The nearest with `stem`, the next ones with another character.

    `stem` is `shared` and one character more. `next_key` is the first key outside `stem`.
    """

    shared: str
    stem: str
    next_key: str


def edge(prefix: str) -> str:
    """A place to list from behind all keys that begin with `prefix`, and before those that follow.

    The noncharacter U+10FFFF ends it rather than the next character after the prefix. A listing
    starts *after* a place, so `a/1` as the edge of `a/0` would hide the key `a/1`. And SeaweedFS,
    started after the name of a directory, leaves the directory out.
    """
    return prefix + _LAST_CHARACTER


def is_ordered(keys: list[str]) -> bool:
    """Whether the order keeps the keys of a prefix together: of bytes, or of a directory tree."""
    if keys == sorted(keys):
        return True
    paths = [key.replace("/", "\0") for key in keys]
    return paths == sorted(paths)


async def find_fork(last: str, within: str, first_key: Callable[[str], Awaitable[str | None]]) -> Fork | None:
    """Find where the keys behind `last` that begin with `within` branch off. None where they do not.

    `first_key`: the first key behind a place (an edge) that begins with `within`, or None at the end. It is asked at
    most log2(1024) times: with `i` growing, `edge(last[:i])` leaves more and more keys behind it, and each key that
    comes back shows at once how far it agrees with `last`.
    """
    known = len(within)  # no key lies behind edge(last[:known])
    possible = len(last)
    while possible > known and len(edge(last[:possible]).encode()) > MAX_KEY_BYTES:
        possible -= 1
    next_key = None
    while known < possible:
        middle = (known + possible + 1) // 2
        answer = await first_key(edge(last[:middle]))
        if answer is None:
            known = middle
            continue
        agreed = len(commonprefix([answer, last]))  # noqa: RUF071  characters are meant
        if not known <= agreed < middle:
            return None  # the keys moved while we asked, or the server has no order at all: do not split here
        possible, next_key = agreed, answer
    if next_key is None:
        return None
    return Fork(shared=last[:known], stem=last[: known + 1], next_key=next_key)
