"""Requests for tests."""

from __future__ import annotations

from jobs.core.model import Location
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.runs.request import Request


def request_for(manifest: str | None) -> Request:
    """A replication of a manifest's rows."""
    return Request("replicate", None, Side(Location("destination")), manifest, Selection())
