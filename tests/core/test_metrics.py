"""The embedded metric format, held to the rules of its specification."""

from __future__ import annotations

import json

from jobs.core.metrics import UNITS, embed


def test_a_document_says_what_was_given_as_the_specification_has_it() -> None:
    metrics, dimensions = {"BacklogAge": 12.5, "NightSucceeded": 1}, {"System": "parcels", "Pair": "scans"}
    document = json.loads(json.dumps(embed(metrics, dimensions, {"rows": 3}, 1_764_028_800.25)))
    listed = [{"Name": name, "Unit": UNITS[name]} for name in metrics]
    directive = {"Namespace": "Sealift", "Dimensions": [["System", "Pair"]], "Metrics": listed}
    meta = {"Timestamp": 1_764_028_800_250, "CloudWatchMetrics": [directive]}
    assert document == {"rows": 3, **dimensions, **metrics, "_aws": meta}


def test_a_line_without_metrics_is_a_plain_one() -> None:
    assert embed({}, {"Pair": "a"}, {"rows": 1}, 1.0) == {"Pair": "a", "rows": 1}
