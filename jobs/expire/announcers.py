"""Announcers: the expire runs that may have announced copies of this run.

A run's spec says where it deletes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.core.spelling import one_spelling
from jobs.errors import LedgerError, UsageError
from jobs.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Announcers:
    """The expire runs of one ledger, for the run of `spec` whose copies are in `places`.

    An expire run deletes nothing outside of its spec's source. So the announcements of a run whose
    source does not overlap `places` need not be read. A run whose source is unknown may have
    announced anything.
    """

    ledger: Ledger
    spec: RunSpec
    places: Sequence[Location]
    _sources: dict[str, Side | None] = field(default_factory=dict)

    async def concern(self, bucket: str, run_id: str) -> bool:
        """Return True if the run may have announced a copy of this run in the bucket."""
        source = await self._source_of(run_id)
        if source is None or source.location.bucket != bucket:
            return True
        if not any(_spelled(source.location).overlaps(_spelled(place)) for place in self.places):
            return False
        return not self._is_elsewhere(source)

    def _is_elsewhere(self, source: Side) -> bool:
        """True if it is this run's own source, while the copies are on another service in a bucket
        of that name.
        """
        own = self.spec.source
        is_own = replace(source, location=own.location) == own and source.location.bucket == own.location.bucket
        return is_own and bool(self.spec.options.get("streamed"))

    async def _source_of(self, run_id: str) -> Side | None:
        if run_id not in self._sources:
            try:
                self._sources[run_id] = (await self.ledger.spec(run_id)).source
            except (LedgerError, UsageError):
                self._sources[run_id] = None
        return self._sources[run_id]


def _spelled(place: Location) -> Location:
    return place._replace(key=one_spelling(place.key))
