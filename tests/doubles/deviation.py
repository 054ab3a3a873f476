"""Deviations: what a server does instead of what S3 documents, and how a test ends there."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """What a server does instead, and how the test ends then.

    `ending` is a pattern of the error's class and of its message, which says what was observed: S3's code, or the
    values that an assertion compared. A pattern that takes any error of its class is no declaration.
    """

    what: str
    ending: str

    def __post_init__(self) -> None:
        kind = self.ending.partition(":")[0]
        for other in ("", "something else", "assert 1 == 2", "GetObject s3://bucket/key: AnotherCode: detail"):
            if re.match(self.ending, f"{kind}: {other}", re.DOTALL) or re.match(self.ending, kind):
                raise ValueError(f"{self.what!r}: {self.ending!r} does not say what was observed")

    def check(self, error: BaseException, server: str) -> None:
        """Check that a test ended as declared. Raises AssertionError."""
        shown = f"{type(error).__name__}: {error}"
        assert re.match(self.ending, shown, re.DOTALL), f"{server} no longer {self.what!r}: {shown}"
