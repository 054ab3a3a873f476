"""Log lines of a function: JSON on stdout, with metrics among them.

aws-lambda-powertools is rejected. Its batch utility takes 60 ms and 16 MB at a cold start, a
quarter of what a handler may take, and calls a function for each message, while a batch is grouped
by key here. Its event types check nothing, and its logger and metrics do what this module does.

A line in the embedded metric format becomes metrics when it arrives in CloudWatch Logs. There is no
API call, no agent and no library: the one that AWS keeps for Python brings aiohttp and eight more
packages, and asks the metadata service of the machine before it prints a line.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

UNITS = {"OldestUnhandledEventAge": "Seconds", "BacklogAge": "Seconds", "NightSucceeded": "Count"}
"""The metrics: those that an alarm of terraform/monitoring.tf watches, since each costs by the month
and pair. Everything else that is counted is a field of a log line."""


def say(level: str, event: str, **fields: Any) -> None:
    """Write one line. `level` is info, warning or error, `event` a word or two."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    _write({"time": now, "level": level, "event": event, **fields})


def measure(metrics: Mapping[str, float], dimensions: Mapping[str, str], **properties: Any) -> None:
    """Write one line. CloudWatch makes metrics of `metrics`. `properties` can be searched, but cost none.

    Without metrics it is a plain line.
    """
    document: dict[str, Any] = {**properties, **dimensions, **metrics}
    if metrics:
        named = [{"Name": name, "Unit": UNITS[name]} for name in metrics]
        directive = {"Namespace": "Sealift", "Dimensions": [list(dimensions)], "Metrics": named}
        document["_aws"] = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    _write(document)


def _write(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, default=str) + "\n")
    sys.stdout.flush()
