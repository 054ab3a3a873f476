"""Originals: the version of a row as S3 has it now, and since when it is hidden."""

from __future__ import annotations

from typing import NamedTuple

from jobs.core.evidence import is_multipart
from jobs.core.model import NULL_VERSION, Listed, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.expire.rules import CopyAt, MarkerAbove, Original
from jobs.s3.lookup import KeyLooks, find
from jobs.s3.retries import retry


class Seen(NamedTuple):
    """A row whose original is there, with what S3 says of it, and where a copy was listed."""

    row: ObjectVersion
    copy: CopyAt | None
    original: Original
    info: ObjectInfo

    @property
    def is_moved(self) -> bool:
        """True if it lies below others now, or another object is in its place."""
        return not self.original.is_current or self.is_replaced

    @property
    def is_replaced(self) -> bool:
        """True if another object is in its place."""
        return self.row.etag != self.original.etag


async def find_original(
    looks: KeyLooks, row: ObjectVersion, *, is_versioned: bool
) -> tuple[Original, ObjectInfo] | None:
    """Return the row's version and what HEAD says of it, None when it is gone.

    A row without a version id names the newest version with its ETag. Without such a version, this
    returns what is current now, and the caller must see that it is another. One request where the
    version is current.
    """
    current = await looks.current(row.key)
    is_it = current is not None and _names(row, current.version_id or NULL_VERSION, current.etag)
    has_others = is_versioned or is_exact(row.version_id)
    if current is not None and (is_it or not has_others):
        return _original(current)._replace(is_folder=row.key.endswith("/") and current.version_id is None), current
    history = await looks.history(row.key) if has_others else []
    place = _place(row, history)
    if place is None:
        return (_original(current), current) if current is not None and row.version_id is None else None
    version = ObjectRef(looks.bucket, row.key, history[place].version_id)
    info = await retry(lambda: find(looks.store, version))
    if info is None:
        return None
    original = _original(info)._replace(version_id=info.version_id or history[place].version_id)
    if place + 1 < len(history):
        above, later = history[place + 1], history[place + 1 :]
        markers = tuple(MarkerAbove(each.version_id, each.last_modified) for each in later if each.is_delete_marker)
        # S3 dates an upload in parts by its beginning. All else hid the version at its date.
        dated = (each.last_modified for each in later if not is_multipart(each.etag))
        original = original._replace(
            is_current=False,
            hidden_at=min(dated, default=above.last_modified),
            marker_version_id=above.version_id if above.is_delete_marker else None,
            markers_above=markers,
            newest_etag=next((each.etag for each in reversed(later) if not each.is_delete_marker), None),
        )
    return original, info


def _names(row: ObjectVersion, version_id: str | None, etag: str | None) -> bool:
    return row.etag == etag if row.version_id is None else row.version_id == version_id


def _place(row: ObjectVersion, history: list[Listed]) -> int | None:
    """Return the index of the row's version in a key's history (oldest first)."""
    places = [
        place
        for place, each in enumerate(history)
        if not each.is_delete_marker and _names(row, each.version_id, each.etag)
    ]
    return places[-1] if places else None


def _original(info: ObjectInfo) -> Original:
    return Original(info.version_id, info.etag, info.size_bytes, info.last_modified, info.attributes.lock)
