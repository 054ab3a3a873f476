"""What a function says: lines of JSON on stdout, which Lambda keeps as they are, metrics among them (`core.metrics`).

aws-lambda-powertools was weighed for this and left out. Its batch utility takes 60 ms and 16 MB at a cold start (a
quarter of what a handler may take in all) to call a function for each message by itself, while here the messages of
a batch are taken together, by key; its event types check nothing, and its logger and metrics are what stands here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jobs.core.metrics import Metric, embed


def say(level: str, event: str, **fields: Any) -> None:
    """One line: `level` is info, warning or error; `event` a word or two."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    _write({"time": now, "level": level, "event": event, **fields})


def measure(metrics: Sequence[Metric], dimensions: Mapping[str, str], **properties: Any) -> None:
    """One line that CloudWatch makes metrics of."""
    _write(embed(metrics, dimensions, properties, time.time()))


def _write(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, default=str) + "\n")
    sys.stdout.flush()
