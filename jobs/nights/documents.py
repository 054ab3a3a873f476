"""Checks of a night's documents. Pure.

A writer of the ledger can write anything. Each function returns what is wrong with a document, else
an empty text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

COUNT_LIMIT = 1 << 63


def claim_defect(document: Mapping[str, Any]) -> str:
    """Check the claim of a night, which says what the night does."""
    return _defect(document, _CLAIM) or _defect(document, _CLAIM_EXTRA, is_whole=False)


def record_defect(document: Mapping[str, Any]) -> str:
    """Check the record of a stage, which names its run."""
    return _defect(document, _RECORD) or _defect(document["notes"], _NOTES, is_whole=False)


def summary_defect(document: Mapping[str, Any]) -> str:
    """Check the summary of a night, which people and exit codes use."""
    if defect := _defect(document, _SUMMARY) or _defect(document, _SUMMARY_EXTRA, is_whole=False):
        return defect
    defects = (_defect(stage, _STAGE) or _defect(stage, _STAGE_EXTRA, is_whole=False) for stage in document["stages"])
    return next(filter(None, defects), "")


def _defect(document: Mapping[str, Any], fields: Mapping[str, Callable[[Any], bool]], *, is_whole: bool = True) -> str:
    """Return the first field with an invalid value. `is_whole`: no field may be missing."""
    for name, is_fit in fields.items():
        if name not in document:
            if is_whole:
                return f"has no {name}"
        elif not is_fit(document[name]):
            return f"has the {name} {document[name]!r:.100}"
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_optional_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < COUNT_LIMIT


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < COUNT_LIMIT  # type: ignore[arg-type]  # it is a number by now


def _is_time(value: object) -> bool:
    """True for a time with a zone, in ISO 8601."""
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False


def _is_slice(value: object) -> bool:
    """True for `[3, 7]`, the fourth of seven slices."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)) and value[0] < value[1]


def _is_tally(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_disproof(value: object) -> bool:
    """True for a `jobs.nights.disproofs.Disproof`, as JSON has it."""
    return isinstance(value, dict) and not _defect(value, _DISPROOF)


_DISPROOF: Mapping[str, Callable[[Any], bool]] = {
    "night": _is_text,
    "found_at": _is_time,
    "stage": _is_text,
    "run_id": _is_text,
    "rows": _is_count,
    "sample": _is_slice,
}
_CLAIM: Mapping[str, Callable[[Any], bool]] = {
    "night": _is_text,
    "began_at": _is_number,
    "sample": _is_slice,
    "deep": lambda value: value is None or _is_slice(value),
    "margin_seconds": lambda value: _is_number(value) and value >= 0,
}
_CLAIM_EXTRA: Mapping[str, Callable[[Any], bool]] = {
    "replica_margin_seconds": lambda value: value is None or (_is_number(value) and value >= 0),
    "places": lambda value: isinstance(value, dict),
}
_RECORD: Mapping[str, Callable[[Any], bool]] = {
    "run_id": _is_text,
    "refused": _is_optional_text,
    "notes": lambda value: isinstance(value, dict),
    "written_at": _is_number,
}
_NOTES: Mapping[str, Callable[[Any], bool]] = {
    "repairable_rows": _is_count,
    "is_listed": lambda value: isinstance(value, bool),
    "source_objects": _is_count,
}
_SUMMARY: Mapping[str, Callable[[Any], bool]] = {
    "night": _is_text,
    "pair": _is_text,
    "state": _is_text,
    "verdict": _is_text,
    "left": _is_count,
    "exit_code": lambda value: _is_count(value) and value < 256,
    "seconds": _is_number,
    "finished_at": _is_time,
    "stages": lambda value: isinstance(value, list) and all(isinstance(stage, dict) for stage in value),
    "summary": _is_text,
}
_SUMMARY_EXTRA: Mapping[str, Callable[[Any], bool]] = {
    "source": _is_text,
    "destination": _is_text,
    "left_first": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "next_steps": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "margin_seconds": lambda value: _is_number(value) and value >= 0,
    "is_made_up": lambda value: isinstance(value, bool),
    "report_html": _is_optional_text,
    "unanswered": lambda value: isinstance(value, list) and all(map(_is_disproof, value)),
    "answered": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}
"""What a summary may lack."""
_STAGE: Mapping[str, Callable[[Any], bool]] = {
    "stage": _is_text,
    "run_id": _is_optional_text,
    "state": _is_optional_text,
    "refused": _is_optional_text,
    "counts": _is_tally,
    "left": _is_count,
}
_STAGE_EXTRA: Mapping[str, Callable[[Any], bool]] = {
    "rows": lambda value: value is None or _is_count(value),
    "sample": lambda value: value is None or _is_slice(value),
    "report_html": _is_optional_text,
    "excluded": _is_tally,
    "notes": lambda value: isinstance(value, dict) and not _defect(value, _NOTES, is_whole=False),
    "emptied": lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and _is_text(value.get("night"))
            and _is_count(value.get("objects"))
            and ("at" not in value or _is_time(value["at"]))
        )
    ),
}
