"""The embedded metric format, held to the rules of its specification."""

from __future__ import annotations

import json
import time

import pytest

from scheduler.log import UNITS, measure


def test_a_line_says_what_was_given_as_the_specification_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_764_028_800.25)
    metrics, dimensions = {"BacklogAge": 12.5, "NightSucceeded": 1}, {"System": "parcels", "Pair": "scans"}
    measure(metrics, dimensions, rows=3)
    listed = [{"Name": name, "Unit": UNITS[name]} for name in metrics]
    directive = {"Namespace": "Sealift", "Dimensions": [["System", "Pair"]], "Metrics": listed}
    meta = {"Timestamp": 1_764_028_800_250, "CloudWatchMetrics": [directive]}
    assert json.loads(capsys.readouterr().out) == {"rows": 3, **dimensions, **metrics, "_aws": meta}


def test_a_line_without_metrics_is_a_plain_one(capsys: pytest.CaptureFixture[str]) -> None:
    measure({}, {"Pair": "a"}, rows=1)
    assert json.loads(capsys.readouterr().out) == {"Pair": "a", "rows": 1}
