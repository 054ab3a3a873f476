"""What became of a batch of events: a line for each pair of the system (`none` for events without a pair).

It counts how many ended how. The age of the oldest event that failed and comes again, in seconds to the end of the
batch, is a metric.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from jobs.backup.events import ObjectEvent
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
    """One line a pair. `now` is epoch time."""
    by_pair: dict[str, list[tuple[ObjectEvent, Entry]]] = defaultdict(list)
    for pair, event, entry in events:
        by_pair[pair.name if pair else "none"].append((event, entry))
    for name, ended in by_pair.items():
        by_ending = Counter(entry.status for _, entry in ended)
        counts = {count: sum(by_ending[ending] for ending in endings) for count, endings in _COUNTS.items()}
        copied = sum(entry.size_bytes or 0 for _, entry in ended if entry.status is Ending.COPIED)
        unhandled = [event.event_time for event, entry in ended if entry.status not in SETTLED and event.event_time]
        oldest = {"OldestUnhandledEventAge": max(0.0, now - min(unhandled))} if unhandled else {}
        measure(oldest, {"System": system, "Pair": name}, Function="backup", **counts, BytesBackedUp=copied)
