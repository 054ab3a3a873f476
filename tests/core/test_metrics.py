"""The embedded metric format, held to the rules of its specification."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.metrics import NAMESPACE, UNITS, embed

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=20)


def problems(document: dict[str, Any]) -> list[str]:
    """What the specification forbids about a document; CloudWatch drops the metrics of one that breaks it."""
    found = []
    meta = document["_aws"]
    if not (isinstance(meta["Timestamp"], int) and meta["Timestamp"] > 0):
        found.append("Timestamp")
    for directive in meta["CloudWatchMetrics"]:
        if not 1 <= len(directive["Namespace"]) <= 1024:
            found.append("Namespace")
        for dimensions in directive["Dimensions"]:
            if len(dimensions) > 30:
                found.append("too many dimensions")
            found += [name for name in dimensions if not isinstance(document.get(name), str) or not document[name]]
        if not 1 <= len(directive["Metrics"]) <= 100:
            found.append("how many metrics")
        for metric in directive["Metrics"]:
            value = document.get(metric["Name"])
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                found.append(metric["Name"])
    return found


@given(
    st.dictionaries(st.sampled_from([*UNITS]), st.integers(0, 2**53) | st.floats(0, 1e15), min_size=1),
    st.dictionaries(NAMES.map("d-{}".format), st.text(min_size=1, max_size=20), max_size=5),
    st.dictionaries(NAMES.map("p-{}".format), st.integers() | st.text(max_size=20), max_size=5),
    st.floats(1, 4e9),
)
def test_every_document_is_valid_and_says_what_was_given(
    values: dict[str, float], dimensions: dict[str, str], properties: dict[str, Any], at_seconds: float
) -> None:
    document = json.loads(json.dumps(embed(values, dimensions, properties, at_seconds)))
    assert problems(document) == []
    meta = document.pop("_aws")
    assert document == {**properties, **dimensions, **values}
    [directive] = meta["CloudWatchMetrics"]
    assert directive["Namespace"] == NAMESPACE == "Sealift"
    assert directive["Dimensions"] == [list(dimensions)]
    assert {metric["Name"] for metric in directive["Metrics"]} == set(values)


@pytest.mark.parametrize(
    ("dimensions", "properties"), [({"BacklogAge": "x"}, {}), ({}, {"BacklogAge": 1}), ({"a": "x"}, {"a": 1})]
)
def test_a_name_that_stands_for_two_things_is_refused(dimensions: dict[str, str], properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="used twice"):
        embed({"BacklogAge": 1}, dimensions, properties, 1.0)


def test_a_line_without_metrics_is_a_plain_one() -> None:
    assert embed({}, {"Pair": "a"}, {"rows": 1}, 1.0) == {"Pair": "a", "rows": 1}
