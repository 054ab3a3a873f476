"""The status as OpenMetrics text, for the text file of a node exporter or a cron job.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
A series is left out where nothing is known. Objects and bytes are those of a pair's last comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.category import Category
from jobs.core.model import parse_time

FINDINGS = "what is wrong"
"""What the status does not know where the state could not be read."""
STATUSES = tuple(each for each in Category if each != Category.EXCLUDED)
GAUGES = {
    "sealift_problems": "What a person has to act on.",
    "sealift_good_night_age_seconds": "Since the last night without findings ended.",
    "sealift_oldest_verified_age_seconds": "Since the object that waits longest was verified.",
    "sealift_oldest_read_age_seconds": "Since the bytes that wait longest were read.",
    "sealift_open_findings": "Objects that are known to be wrong and are not accepted.",
    "sealift_backlog_rows": "Objects that wait for a run.",
    "sealift_waiting_events": "Events that wait in a queue.",
    "sealift_objects": "Objects of the last comparison by status.",
    "sealift_bytes": "Bytes of the last comparison by status.",
}


def open_metrics(document: Mapping[str, Any], now: float) -> str:
    """The text. `document`: that of `sealift status`. `now`: epoch seconds.

    Labels are names of pairs, queues and statuses, which need no escapes.
    """
    series: dict[str, dict[str, float]] = {gauge: {} for gauge in GAUGES}
    knows_findings = all(each["what"] != FINDINGS for each in document["not_known"])
    if knows_findings:
        series["sealift_problems"][""] = len(document["problems"])
    for each in document["backlogs"]:
        series["sealift_backlog_rows"][f'pair="{each["pair"]}"'] = each["rows"]
    for each in filter(lambda queue: queue["waiting"] is not None, document["queues"]):
        labels = f'kind="{each["what"].replace(" ", "_")}",queue="{each["queue"]}"'
        series["sealift_waiting_events"][labels] = each["waiting"]
    for pair in document["pairs"]:
        label, copies = f'pair="{pair["pair"]}"', pair["destination"]
        places, findings = (
            [each for each in document[name] if each["place"].startswith(copies)] for name in ("places", "findings")
        )
        if knows_findings:
            series["sealift_open_findings"][label] = sum(each["objects"] for each in findings)
        times = {"good_night": [pair["good_at"]]}
        for gauge, name in (("oldest_verified", "oldest_checked"), ("oldest_read", "oldest_read")):
            times[gauge] = [each[name] for each in places]
        for gauge, at in times.items():
            if ends := [*map(parse_time, filter(None, at))]:
                series[f"sealift_{gauge}_age_seconds"][label] = now - min(ends)
        for what in ("objects", "bytes") if pair["night"] else ():
            for status in STATUSES:
                series[f"sealift_{what}"][f'{label},status="{status.replace(" ", "_")}"'] = pair[what].get(status, 0)
    lines = []
    for gauge, help in GAUGES.items():
        lines += [f"# TYPE {gauge} gauge", f"# HELP {gauge} {help}"]
        lines += [f"{gauge}{{{labels}}} {value:.15g}" for labels, value in series[gauge].items()]
    return "\n".join([*lines, "# EOF"])
