"""`sealift rollback`: a bucket or prefix put back in place, and that taken back."""

from __future__ import annotations

import time

from jobs.cli.command import SourceAccess, Work
from jobs.cli.options import Run, Share, When, option, shared
from jobs.cli.run_command import StartOptions
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.runs.request import Request


class Rollback(SourceAccess, StartOptions):
    """Put a bucket or prefix back in place, as it was at a time, from the versions that it keeps.

    The plan says what changes and what it costs, and asks. What was overwritten is copied on top, with
    metadata, tags, annotations, storage class and encryption. What came later is hidden by a delete
    marker. What was deleted is shown again: its delete marker is removed. All versions stay, with their
    locks and holds. A key that changes after the plan is left as it is (changed). Rows end as rolled
    back, same, changed, missing, blocked or different, with the reason.

    A version was there at TIME if its Last-Modified, in whole seconds, is not later. What a lifecycle
    rule has removed since counts as never written, and archived versions must be restored first.

    --undo takes back exactly what the outcomes of a run say it wrote: it removes the copies and delete
    markers of the run, and puts back the markers that the run removed, where nothing newer is on top.

    \b
    sealift rollback --source s3://docs/2026/ --as-of 2026-11-01T06:00:00Z --dry-run
    sealift rollback --source s3://docs/ --as-of 2h --max-share 100%
    sealift rollback --source s3://docs/ --undo 20261201T004105Z-rollback-9b02
    """

    source: Location = shared("source", "The bucket that keeps versions, or a prefix in it.", required=True)
    at: float | None = option("As it was at: 2h (ago), 2026-11-01, 2026-11-01T06:00:00Z.", name="--as-of", type=When)
    undo: str | None = option("Take back what this rollback run did.", type=Run)
    max_objects: int | None = shared("max-objects")
    max_share: float = option("Refuse to change a larger share of the keys in one run.", default="50%", type=Share)

    def run(self) -> Work:
        """Plan, ask, and put back."""
        if (self.at is None) is (self.undo is None):
            raise UsageError("back to when?", advice="give --as-of TIME, or --undo RUN to take a rollback back")
        if self.at is not None and self.at > time.time():  # often local time that was given as UTC
            raise UsageError("--as-of is in the future", advice="name a time that has passed, in UTC or with an offset")
        side = self.source_side(self.source)
        options = {
            "at": self.at,
            "undo": self.undo,
            "delete": self.undo is not None,
            "max_share": 1.0 if self.undo else self.max_share,
            "dry_run": self.dry_run,
        }
        request = Request("rollback", side, side, None, Selection(self.source.key, versions="all"), options)
        return self.launch(request, self.open_ledger(), max_objects=self.max_objects, may_be_empty=True)
