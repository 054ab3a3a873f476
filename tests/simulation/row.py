"""A row of a run, as the oracle knows it."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What a run says of a row of its manifest. `is_settled`: it ended well."""

    key: str
    version_id: str | None
    etag: str | None
    is_marker: bool
    status: str = ""
    evidence: str = "none"
    reason: str = ""
    copy_etag: str | None = None
    copy_version_id: str | None = None
    is_settled: bool = False
