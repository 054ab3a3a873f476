"""The published schema of report.json."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json, of runs and of reconciliations."""
    document: dict[str, Any] = json.loads(files("jobs.reports").joinpath("report.schema.json").read_text("utf-8"))
    return document
