"""Request log: what each request to AWS or an S3 server came to, for `--debug`.

It holds no headers, queries or bodies, so no signature, token or key of an account gets into it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct


class RequestLog(Struct):
    """Where the requests of this process are logged, a line for people each. `sink` None: nowhere."""

    sink: Callable[[str], None] | None = None

    def add(self, operation: str, target: object, status: int, code: str, began: float, request_id: str) -> None:
        """Log a request that began at `began`, in seconds of `time.perf_counter()`, and has ended now.

        `status` 0: there was no answer. `code`: of the error, or empty.
        """
        if self.sink is not None:
            at = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
            result = " ".join(filter(None, (str(status) if status else "no answer", code)))
            took = (time.perf_counter() - began) * 1000
            self.sink(f"{at}Z {operation} {target}: {result} in {took:.0f} ms, id {request_id or 'unknown'}")


REQUESTS = RequestLog()
"""The log of this process."""
