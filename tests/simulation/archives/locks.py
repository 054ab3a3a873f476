"""What was under Object Lock, and when: expire takes nothing of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tests.doubles.memory_buckets import Version
from tests.simulation.copies.schedule import Kind

if TYPE_CHECKING:
    from tests.simulation.archives.model import ArchiveModel


class _Span(NamedTuple):
    """From when to when (seconds of the simulation) a version is locked."""

    start: float
    end: float
    is_hold: bool


class Locks:
    """Remembers each lock."""

    def __init__(self, model: ArchiveModel):
        self.model = model
        self._spans: dict[int, list[_Span]] = defaultdict(list)

    def locked(self, version: Version, seconds: float | None) -> None:
        """Somebody has locked a version: for so long, by a legal hold (None), or has lifted that (0).

        What comes later replaces what was said before; holds and retention are apart.
        """
        now, spans = self.model.world.loop.time(), self._spans[id(version)]
        is_hold = not seconds
        spans[:] = [each._replace(end=min(each.end, now)) if each.is_hold is is_hold else each for each in spans]
        if seconds != 0:
            spans.append(_Span(now, float("inf") if seconds is None else now + seconds, seconds is None))

    def is_held(self, version: Version, since: float) -> bool:
        """Whether it has been locked from then until now; who has a wrong clock may think that retention is over."""
        now = self.model.world.loop.time()
        is_clock_right = not self.model.world.network.fired[Kind.JUMP]
        return any(
            each.start <= since and now < each.end and (each.is_hold or is_clock_right)
            for each in self._spans[id(version)]
        )

    def was_held(self, versions: Iterable[Version], since: float) -> bool:
        """Whether one of them was locked at some time from then on; a clock that goes wrong may lengthen it."""
        is_clock_right = not self.model.world.network.fired[Kind.JUMP]
        spans = [span for version in versions for span in self._spans[id(version)]]
        return any(span.end > since or not is_clock_right for span in spans)
