"""The functions' log: their lines go to a file, their metrics are added up.

The functions write log lines and metrics to stdout, as CloudWatch gets them. `FunctionLog` is that
stdout.
"""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

COUNTS = ("BackedUp", "Duplicates", "Deleted", "Superseded", "HandedOver", "Skipped", "Failed")


class FunctionLog(io.TextIOBase):
    """A stdout for functions: lines go to `file`, counts and the backlog's rows are added up."""

    def __init__(self, file: TextIO):
        self._file, self._lock = file, threading.Lock()
        self.counts: Counter[str] = Counter()
        self.backlog_rows: dict[str, int] = {}
        self.size_bytes = 0

    def write(self, text: str) -> int:
        """Write whole lines, as `scheduler.log` does."""
        with self._lock:
            for line in text.splitlines():
                self._add(json.loads(line) if line.startswith('{"') and '"Function"' in line else {})
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Make the lines visible to readers of the file."""
        self._file.flush()

    def _add(self, document: Mapping[str, Any]) -> None:
        if document.get("Function") == "backup":
            self.counts.update({name: document[name] for name in COUNTS})
            self.size_bytes += document["BytesBackedUp"]
        elif document.get("Function") == "enqueue":
            self.backlog_rows[document["Pair"]] = document["BacklogRows"]
