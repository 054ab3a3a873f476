"""Partial reports: those that lack what a bucket has had since before them.

A report of S3 Inventory lists the keys below its configuration's prefix, and does not name that
prefix. Keys that both reports leave out would be missed by everybody. So a few pages of the bucket
are listed: at the beginning of each prefix and behind the report's last key below it, which any
narrower filter leaves out, and behind a few of the report's keys. What is there and older than the
report has to be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import duckdb

from jobs.core.model import Listed
from jobs.reconcile.stage import StagedReport, UnusableReport
from jobs.reports.document import iso_time
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Marker, Store
from jobs.tables.duck import in_thread

PAGES = 5
"""So many pages are listed from one place until one has a key that the report must have."""

RANDOM_PLACES = 8

UPLOAD_SECONDS = 7 * 86_400
"""S3 dates an object that was uploaded in parts by the beginning of its upload. It may have come
this much later."""


async def check_coverage(
    connection: duckdb.DuckDBPyConnection,
    staged: StagedReport,
    store: Store,
    prefixes: Sequence[str],
    inside: Callable[[str], str | None],
    horizon: float,
) -> None:
    """Raise UnusableReport where listed keys that are older than `horizon` are not in the report.

    `store` has the bucket that it should cover below the prefixes, where `inside` gives a key of the
    other side. `horizon`: epoch seconds. Raises a StoreError when S3 refuses to list.
    """
    name = staged.inventory.source_bucket

    async def look(place: tuple[str, str | None]) -> list[Listed]:
        prefix, behind = place
        after = None if behind is None else Marker(behind)
        for _ in range(PAGES):
            page = await retry(partial(store.list_objects, name, prefix, after=after))
            if due := [each for each in page.entries if inside(each.key) is not None and _came(each) <= horizon]:
                return due
            if (after := page.next_marker) is None:
                break
        return []

    places = await in_thread(connection, _places, connection, staged, prefixes)
    due = [each for page in await gather_bounded(look, places) for each in page]
    listed = {each.key: each for each in due}
    key = staged.field("key")
    reported = f"SELECT DISTINCT {key} FROM {staged.relation} r WHERE {key} IN (SELECT unnest(?::VARCHAR[]))"
    found = await in_thread(connection, lambda: connection.execute(reported, [list(listed)]).fetchall())
    if absent := listed.keys() - {row[0] for row in found}:  # a noncurrent version is enough
        example = listed[min(absent)]
        raise UnusableReport(
            f"{staged.inventory.manifest} lacks {len(absent):,} of {len(listed):,} keys of {name} that were listed now "
            f"and which are older than it, such as {example.key!r} of {iso_time(example.last_modified)}: check the "
            "prefix of the inventory's configuration"
        )


def _came(entry: Listed) -> float:
    """Return the latest time at which the object may have come, in epoch seconds."""
    return entry.last_modified + (UPLOAD_SECONDS if "-" in (entry.etag or "") else 0)


def _places(
    connection: duckdb.DuckDBPyConnection, staged: StagedReport, prefixes: Sequence[str]
) -> list[tuple[str, str | None]]:
    """Return (prefix, key to list behind) of each place. No key: the prefix's beginning."""
    key, named = staged.field("key"), "(SELECT unnest(?::VARCHAR[]) AS prefix)"
    below = f"(SELECT prefix, {key} AS key FROM {staged.relation} r JOIN {named} ON starts_with({key}, prefix))"
    sql = f"""
        SELECT prefix, NULL FROM {named} UNION SELECT prefix, max(key) FROM {below} GROUP BY 1
        UNION (FROM {below} USING SAMPLE reservoir({RANDOM_PLACES} ROWS))"""
    return connection.execute(sql, [list(prefixes)] * 3).fetchall()
