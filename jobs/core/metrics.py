"""Metrics as CloudWatch reads them out of log lines: the embedded metric format.

A log line that is such a document becomes metrics when it arrives in CloudWatch Logs. There is no
API call, no agent and no library: the one that AWS keeps for Python brings aiohttp and eight more
packages, and asks the metadata service of the machine before it prints a line.

Source:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

NAMESPACE = "Sealift"


class Unit(StrEnum):
    """The units of CloudWatch that Sealift uses."""

    COUNT = "Count"
    BYTES = "Bytes"
    SECONDS = "Seconds"
    PERCENT = "Percent"
    NONE = "None"


class Metric(NamedTuple):
    """One value of one metric."""

    name: str
    unit: Unit
    value: float


def embed(
    metrics: Sequence[Metric], dimensions: Mapping[str, str], properties: Mapping[str, Any], at_seconds: float
) -> dict[str, Any]:
    """One log line's document: metrics, their dimensions, and properties that can be searched but
    cost no metric.

    Each distinct set of dimension values is a metric that is billed by itself: nothing that grows
    with the number of runs, shards or keys may be one. Those are properties. `at_seconds` is epoch
    time. Raises ValueError where a name would mean two things.
    """
    values = {metric.name: metric.value for metric in metrics}
    names = [*properties, *dimensions, *(metric.name for metric in metrics)]
    if len(set(names)) < len(names):
        raise ValueError(f"a name is used twice among the properties, dimensions and metrics {names}")
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": metric.name, "Unit": metric.unit.value} for metric in metrics],
    }
    meta = {"Timestamp": int(at_seconds * 1000), "CloudWatchMetrics": [directive]}
    return {**properties, **dimensions, **values, "_aws": meta}
