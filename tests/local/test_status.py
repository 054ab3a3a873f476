"""The status line's numbers."""

from __future__ import annotations

import io
import json

from jobs.core.metrics import Metric, Unit, embed
from jobs.local.status import COUNTS, Ages, FunctionLog, Unhandled
from tests.scheduler.event_samples import notification, record

AT = 1764028800.0  # 2025-11-25T00:00:00Z


def body(key: str, sequencer: str, time: str = "2025-11-25T00:00:00.000Z") -> str:
    return json.dumps(notification(record("bucket", key, time=time, sequencer=sequencer)))


def test_events_are_as_old_as_what_they_tell() -> None:
    now = [AT + 5]
    unhandled = Unhandled(lambda: now[0])
    assert unhandled.ages() is None
    unhandled.add([body("b", "02", "2025-11-25T00:00:03.000Z"), body("a", "01")])
    assert unhandled.ages() == Ages(2, 5.0, 2.0)
    unhandled.add([body("a", "01")])  # a duplicate is no other event
    unhandled.remove([body("a", "01")])
    assert unhandled.ages() == Ages(1, 2.0, 2.0)
    unhandled.remove([body("b", "02"), body("c", "03")])
    assert unhandled.ages() is None


def test_what_is_no_event_has_the_age_of_its_first_sight() -> None:
    now = [AT]
    unhandled = Unhandled(lambda: now[0])
    unhandled.add(["{poison"])
    now[0] += 3
    unhandled.add(["{poison"])
    assert unhandled.ages() == Ages(1, 3.0, 3.0)
    unhandled.forget_old()
    assert len(unhandled) == 1
    now[0] += 10
    unhandled.forget_old()
    assert len(unhandled) == 0


def test_metrics_in_the_log_are_added_up_and_every_line_is_kept() -> None:
    file = io.StringIO()
    log = FunctionLog(file)
    for pair in ("one", "two"):
        metrics = [Metric(name, Unit.COUNT, number) for number, name in enumerate(COUNTS)]
        metrics.append(Metric("BytesBackedUp", Unit.BYTES, 100))
        log.write(json.dumps(embed(metrics, {"Pair": pair}, {"Function": "backup"}, AT)) + "\n")
        rows = [Metric("BacklogRows", Unit.COUNT, 3)]
        log.write(json.dumps(embed(rows, {"Pair": pair}, {"Function": "enqueue"}, AT)) + "\n")
    log.write("no JSON at all\n")
    assert [log.counts[name] for name in COUNTS] == [0, 2, 4, 6, 8, 10, 12]
    assert (log.size_bytes, log.backlog_rows) == (200, {"one": 3, "two": 3})
    assert len(file.getvalue().splitlines()) == 5
