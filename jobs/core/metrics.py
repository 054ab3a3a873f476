"""Metrics as CloudWatch reads them out of log lines: the embedded metric format.

A log line that is such a document becomes metrics when it arrives in CloudWatch Logs. There is no
API call, no agent and no library: the one that AWS keeps for Python brings aiohttp and eight more
packages, and asks the metadata service of the machine before it prints a line.

Source:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMESPACE = "Sealift"
UNITS = {"OldestUnhandledEventAge": "Seconds", "BacklogAge": "Seconds", "NightSucceeded": "Count"}
"""The metrics: those that an alarm of terraform/monitoring.tf watches, since each costs by the month
and pair. Everything else that is counted is a field of a log line."""


def embed(
    metrics: Mapping[str, float], dimensions: Mapping[str, str], properties: Mapping[str, Any], at_seconds: float
) -> dict[str, Any]:
    """One log line's document: metrics, their dimensions, and properties that can be searched but
    cost no metric. Without metrics it is a plain line. `at_seconds` is epoch time.
    """
    document = {**properties, **dimensions, **metrics}
    if not metrics:
        return document
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in metrics],
    }
    return document | {"_aws": {"Timestamp": int(at_seconds * 1000), "CloudWatchMetrics": [directive]}}
