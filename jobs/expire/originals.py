"""Originals: the version of a row as S3 has it now, and since when it is hidden."""

from __future__ import annotations

from jobs.core.evidence import is_multipart
from jobs.core.model import NULL_VERSION, ObjectInfo, ObjectRef, ObjectVersion, is_exact
from jobs.expire.rules import CopyAt, Original
from jobs.s3.lookup import KeyLooks, find
from jobs.s3.retries import retry


async def find_original(looks: KeyLooks, row: ObjectVersion, copy: CopyAt, *, is_versioned: bool) -> Original | None:
    """Return the row's version as S3 has it now, None when it is gone.

    A row without a version id names the newest version with its ETag. Without such a version, this
    returns what is current now, and the caller must see that it is another. One request where the
    version is current.
    """

    def made(info: ObjectInfo, version_id: str | None) -> Original:
        return Original(row, copy, ObjectRef(looks.bucket, row.key, version_id), info)

    def is_named(version_id: str | None, etag: str | None) -> bool:
        return row.etag == etag if row.version_id is None else row.version_id == version_id

    current = await looks.current(row.key)
    has_others = is_versioned or is_exact(row.version_id)
    if current is not None and (not has_others or is_named(current.version_id or NULL_VERSION, current.etag)):
        return made(current, current.version_id)
    history = await looks.history(row.key) if has_others else []
    named = [not each.is_delete_marker and is_named(each.version_id, each.etag) for each in history]
    if True not in named:
        return made(current, current.version_id) if current is not None and row.version_id is None else None
    place = len(named) - 1 - named[::-1].index(True)
    info = await retry(lambda: find(looks.store, ObjectRef(looks.bucket, row.key, history[place].version_id)))
    if info is None:
        return None
    found, later = made(info, info.version_id or history[place].version_id), history[place + 1 :]
    if not later:
        return found
    # S3 dates an upload in parts by its beginning. All else hid the version at its date.
    dated = (each.last_modified for each in later if not is_multipart(each.etag))
    return found._replace(
        is_current=False,
        hidden_at=min(dated, default=later[0].last_modified),
        markers_above=tuple(each for each in later if each.is_delete_marker),
        newest_etag=next((each.etag for each in reversed(later) if not each.is_delete_marker), None),
    )
