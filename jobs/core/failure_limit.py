"""The limit of failed rows of a worker: a share or a count. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from jobs.errors import UsageError

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)%", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)


class FailureLimit(NamedTuple):
    """How many rows of an attempt may fail: a share of those that ended, or `rows` if set."""

    share: float = 0.5
    rows: int | None = None

    @classmethod
    def parse(cls, text: str) -> FailureLimit:
        """`10%` is a share, `10` a count of rows. Raises UsageError for anything else."""
        text = text.strip()
        if _COUNT.fullmatch(text):
            return cls(rows=int(text))
        match = _SHARE.fullmatch(text)
        if match is None or float(match[1]) > 100:
            raise UsageError(
                f"{text!r} is no limit of failed rows", advice="write a share, as 10%, or a count of rows, as 10"
            )
        return cls(share=float(match[1]) / 100)

    @property
    def is_none(self) -> bool:
        """True if nothing that fails ends the run."""
        return self.rows is None and self.share >= 1

    def is_exceeded(self, failed: int, rows: int, share_rows: int) -> bool:
        """True if more of these rows failed. A share counts once `share_rows` have ended."""
        if self.rows is not None:
            return failed > self.rows
        return rows >= share_rows and failed > self.share * rows

    def __str__(self) -> str:
        """As a user writes it."""
        return f"{self.share * 100:g}%" if self.rows is None else str(self.rows)
