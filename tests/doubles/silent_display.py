"""A display that shows nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.core.display import Meter


class _Silent:
    def say(self, message: str) -> None: ...

    def note(self, message: str) -> None: ...

    def update(self, rows: int, bad_rows: int, size_bytes: int, **details: object) -> None: ...

    @contextmanager
    def meter(self, title: str, total_rows: int) -> Iterator[Meter]:
        yield self


SILENT = _Silent()
