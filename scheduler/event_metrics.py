"""Metrics of a batch of events: how many ended how, and how old they were.

Namespace `Sealift`, dimensions `System` (the policy's name) and `Pair` (`none` for events without a
pair). Ages are seconds from the
event to the end of the batch. `OldestUnhandledEventAge` and `NewestUnhandledEventAge` count events
that failed and come again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from jobs.backup.events import ObjectEvent
from jobs.core.metrics import Metric, Unit
from jobs.ledger.journal import SETTLED, Ending, Entry
from jobs.policy.model import Pair
from scheduler.log import measure

_COUNTS = {
    "BackedUp": (Ending.COPIED,),
    "Duplicates": (Ending.SAME, Ending.UNVERIFIABLE),
    "Deleted": (Ending.DELETED, Ending.RETAINED),
    "Superseded": (Ending.SUPERSEDED,),
    "HandedOver": (Ending.HANDED_OVER,),
    "Skipped": (Ending.SKIPPED,),
    "Failed": tuple(ending for ending in Ending if ending not in SETTLED),
}


def publish_metrics(system: str, events: Iterable[tuple[Pair | None, ObjectEvent, Entry]], now: float) -> None:
    """One line a pair of the system. Times are epoch seconds."""
    by_pair: dict[str, list[tuple[ObjectEvent, Entry]]] = defaultdict(list)
    for pair, event, entry in events:
        by_pair[pair.name if pair else "none"].append((event, entry))
    for name, ended in by_pair.items():
        counts = Counter(entry.status for _, entry in ended)
        metrics = [
            Metric(metric, Unit.COUNT, sum(counts[ending] for ending in endings)) for metric, endings in _COUNTS.items()
        ]
        copied = sum(entry.size_bytes or 0 for _, entry in ended if entry.status is Ending.COPIED)
        metrics.append(Metric("BytesBackedUp", Unit.BYTES, copied))
        metrics += _ages("Event", [event for event, _ in ended], now)
        metrics += _ages("UnhandledEvent", [event for event, entry in ended if entry.status not in SETTLED], now)
        measure(metrics, {"System": system, "Pair": name}, Function="backup")


def _ages(what: str, events: Iterable[ObjectEvent], now: float) -> list[Metric]:
    ages = [max(0.0, now - event.event_time) for event in events if event.event_time is not None]
    if not ages:
        return []
    return [Metric(f"Oldest{what}Age", Unit.SECONDS, max(ages)), Metric(f"Newest{what}Age", Unit.SECONDS, min(ages))]
