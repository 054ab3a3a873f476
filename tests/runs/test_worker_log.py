"""A worker's log: JSON lines with run, shard and attempt, and few bytes, however many rows there are."""

from __future__ import annotations

import json

import pytest

from jobs.core.model import Location
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.core.run import RunSpec, Side
from jobs.errors import Denied, Interrupted
from jobs.runs.worker_log import WorkerLog

SPEC = RunSpec("run", "verify", 0.0, Side(Location("a")), Side(Location("b")), "", sealift_version="1.2.3")


def test_two_lines_say_what_was_done_by_whom() -> None:
    lines: list[str] = []
    with WorkerLog(SPEC, 3, "attempt", 300, lines.append) as log:
        for row in range(300):
            outcome = Outcome(row, f"k{row}", None, Status.DONE, size_bytes=10, detail=f"of {row}")
            if row % 3 == 0:
                outcome = outcome._replace(status=Status.BLOCKED, reason=Reason.DENIED)
            elif row % 5 == 0:
                outcome = outcome._replace(status=Status.MISSING, reason=Reason.SOURCE_GONE)
            log.count([outcome])
    started, ended = map(json.loads, lines)
    assert {(each["run"], each["shard"], each["attempt"], each["job"]) for each in (started, ended)} == {
        ("run", 3, "attempt", "verify")
    }
    assert (started["event"], started["planned"], started["version"]) == ("started", 300, "1.2.3")
    assert (ended["event"], ended["level"], ended["exit_code"], ended["bytes"]) == ("ended", "info", 0, 3_000)
    assert ended["outcomes"] == {"done": 160, "blocked": 100, "missing": 40}
    assert ended["errors"] == {"denied": 100, "source_gone": 40}


@pytest.mark.parametrize(
    ("error", "level", "exit_code", "message"),
    [
        (Interrupted("stopped"), "warning", 75, "stopped"),
        (Denied("GetObject", "b/k", "No", "no\nway " * 2_000), "error", 10, "GetObject b/k: No: no way"),
        (ZeroDivisionError("at http://user:secret@host"), "error", 1, "ZeroDivisionError: at http://***@host"),
    ],
)
def test_an_attempt_that_breaks_says_why_in_one_line(
    error: Exception, level: str, exit_code: int, message: str
) -> None:
    lines: list[str] = []
    with pytest.raises(type(error)), WorkerLog(SPEC, 0, "a", 5, lines.append):
        raise error
    ended = json.loads(lines[-1])
    assert (ended["level"], ended["exit_code"]) == (level, exit_code)
    assert ended["message"].startswith(message)
    assert len(lines[-1]) < 4_000
