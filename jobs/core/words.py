"""Words: what people read of a `Reason`. Nothing here is compared, and nothing else words a reason.

Reports, pages, the terminal and CSV files say `explained(reason, detail)`. `query`, `--json` and
Parquet have the codes. A snapshot in the tests shows every sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.outcome import Status
from jobs.core.reasons import Reason

_REASONS: Mapping[str, Reason] = {reason.value: reason for reason in Reason}

DONE = {"replicate": "copied", "compact": "packed", "restore": "restored", "expire": "expired", "rollback": "put back"}
"""What `done` is called, by the job."""
DELETED = "deleted"
"""What `done` is called of a delete marker that was made."""


def called(status: str, job: str, reason: str = "") -> str:
    """The word for a status of a job's rows."""
    if status != Status.DONE:
        return status
    return DELETED if reason == Reason.DELETED and job == "replicate" else DONE.get(job, status)


def explained(reason: str, detail: str = "") -> str:
    """The sentence of a reason, and what to do. Empty: there is no reason."""
    known = _REASONS.get(reason)
    return sentence(reason, detail) + (f"; {known.advice}" if known and known.advice else "")


def sentence(reason: str, detail: str = "") -> str:
    """What a reason says. A code of a later release is said as it is."""
    known = _REASONS.get(reason)
    text = known.text if known else reason
    return (known and known.cases.get(detail)) or (f"{text} ({detail})" if detail else text)


def why(row: Mapping[str, Any]) -> str:
    """`explained` of a row with the fields `reason` and `detail`, or of several that share them."""
    return explained(row.get("reason") or "", row.get("detail") or "")


def explained_sql() -> str:
    """`explained` in SQL, over the columns `reason` and `detail`."""
    whens = ""
    for reason in Reason:
        is_it = f"WHEN reason = {_quoted(reason)}"
        whens += "".join(
            f"{is_it} AND detail = {_quoted(each)} THEN {_quoted(explained(reason, each))} "
            for each in ("", *reason.cases)
        )
        whens += f"{is_it} THEN replace({_quoted(explained(reason, '{}'))}, '{{}}', detail) "
    return f"CASE {whens}WHEN detail = '' THEN reason ELSE reason || ' (' || detail || ')' END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
