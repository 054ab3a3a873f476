"""Displays: how the engine reports progress to a person.

Only the command line prints, so it passes one down. Pure.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Protocol

_USER = re.compile("(https?://)[^\\s/@]+@")


class Meter(Protocol):
    """Shows how far a run is."""

    def update(self, rows: int, bad_rows: int, size_bytes: int, latest_error: str = "") -> None:
        """Show the totals so far, and which row ended badly last, and why."""


class Display(Protocol):
    """A place for messages and progress."""

    def say(self, message: str) -> None:
        """Show a line that a person must not miss."""

    def meter(self, title: str, total_rows: int) -> AbstractContextManager[Meter]:
        """Show progress towards `total_rows` while the block runs. 0: their number is unknown."""


def shown(text: str) -> str:
    """Text from a bucket, safe for a terminal: control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_key(key: str, most: int = 96) -> str:
    """A key as `shown`, and a long one shortened in the middle: S3 takes 1,024 bytes."""
    text = shown(key)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def without_passwords(text: str) -> str:
    """The text without user and password of a URL.

    Messages of libraries quote endpoints and proxies as the user wrote them.
    """
    return _USER.sub(r"\1***@", text)
