"""The status as OpenMetrics text, for the text file of a node exporter or a cron job.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
A series is left out where nothing is known. Objects and bytes are those of a pair's last comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from jobs.core.category import Category
from jobs.errors import ConfigError, StoreError
from jobs.ledger.ledger import Ledger
from jobs.nights.documents import Summary, last_summaries
from jobs.policy.model import Pair, Policy

NIGHTS = 30
"""How many nights of a pair are looked at for a good one."""
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


Sample = tuple[str, str, float]
"""A gauge, its labels as text, and a value. Labels are names of pairs and queues, which need no escapes."""


async def open_metrics(ledger: Ledger, policy: Policy | None, document: Mapping[str, Any], now: float) -> str:
    """The text. `document`: that of `sealift status`. `now`: epoch seconds."""
    samples: list[Sample] = []
    if _knows_findings(document):
        samples.append(("sealift_problems", "", len(document["problems"])))
    samples += [("sealift_backlog_rows", f'pair="{each["pair"]}"', each["rows"]) for each in document["backlogs"]]
    for each in document["queues"]:
        if each["waiting"] is not None:
            labels = f'kind="{each["what"].replace(" ", "_")}",queue="{each["queue"]}"'
            samples.append(("sealift_waiting_events", labels, each["waiting"]))
    for pair in policy.pairs if policy else ():
        with suppress(StoreError, ConfigError):  # the status says why
            nights = await last_summaries(ledger, pair.name, NIGHTS)
            samples += [*_known(document, pair, nights, now), *await _statuses(ledger, pair.name, nights)]
    lines = []
    for gauge, help in GAUGES.items():
        lines += [f"# TYPE {gauge} gauge", f"# HELP {gauge} {help}"]
        lines += [f"{name}{{{labels}}} {value:.15g}" for name, labels, value in samples if name == gauge]
    return "\n".join([*lines, "# EOF"])


def _knows_findings(document: Mapping[str, Any]) -> bool:
    return all(each["what"] != FINDINGS for each in document["not_known"])


def _known(document: Mapping[str, Any], pair: Pair, nights: list[Summary], now: float) -> Iterator[Sample]:
    label, copies = f'pair="{pair.name}"', f"s3://{pair.destination.bucket}/{pair.destination.prefix}"
    places, findings = (
        [each for each in document[name] if each["place"].startswith(copies)] for name in ("places", "findings")
    )
    if _knows_findings(document):
        yield "sealift_open_findings", label, sum(each["objects"] for each in findings)
    times = {"good_night": [each.finished_at for each in nights if not each.exit_code][:1]}
    for gauge, name in (("oldest_verified", "oldest_checked"), ("oldest_read", "oldest_read")):
        times[gauge] = [datetime.fromisoformat(each[name]) for each in places if each[name]]
    for gauge, known in times.items():
        if known:
            yield f"sealift_{gauge}_age_seconds", label, now - min(known).timestamp()


async def _statuses(ledger: Ledger, pair: str, nights: list[Summary]) -> list[Sample]:
    stages = [stage for stage in (nights[0].stages if nights else ()) if stage.stage == "reconcile" and stage.run_id]
    if not stages or (report := await ledger.report(str(stages[0].run_id))) is None:
        return []
    return [
        (f"sealift_{what}", f'pair="{pair}",status="{status.replace(" ", "_")}"', report["categories"][status][name])
        for what, name in (("objects", "rows"), ("bytes", "bytes"))
        for status in STATUSES
    ]
