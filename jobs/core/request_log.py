"""Request log: what each request to AWS or an S3 server came to, for `--debug`.

It holds no headers, queries or bodies, so no signature, token or key of an account gets into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

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
_sending = threading.local()


def log_botocore(events: Any) -> None:
    """Have a botocore client log its requests, each try for itself. `events`: of the client."""
    if REQUESTS.sink is not None:
        events.register("before-send", _note_request)
        events.register("response-received", _note_answer)


def _note_request(request: Any, **_: Any) -> None:
    _sending.began, _sending.url = time.perf_counter(), str(request.url).partition("?")[0]


def _note_answer(
    event_name: str, response_dict: Mapping[str, Any] | None, parsed_response: Mapping[str, Any] | None, **_: Any
) -> None:
    parsed = parsed_response or {}
    metadata = parsed.get("ResponseMetadata", {})
    REQUESTS.add(
        event_name.rpartition(".")[2],
        getattr(_sending, "url", "unknown"),
        int((response_dict or {}).get("status_code", 0)),
        str(parsed.get("Error", {}).get("Code", "")),
        getattr(_sending, "began", time.perf_counter()),
        str(metadata.get("RequestId", "")),
    )
