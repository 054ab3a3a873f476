"""Reports of checksums at rest that a verify run is given: read, described, and joined to its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.core.display import Display, shown
from jobs.core.model import Route
from jobs.s3.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


async def attest(
    batches: AsyncIterator[pa.RecordBatch],
    route: Route,
    options: Mapping[str, Any],
    store: Store,
    scratch: Path,
    now: float,
    display: Display,
) -> tuple[AsyncIterator[pa.RecordBatch], dict[str, Any]]:
    """The rows with the checksums of the reports that a job's options name, and what these options become.

    `source_checksums` and `destination_checksums` are URIs in `options`, descriptions of the reports in what is
    returned; without them the rows are as they were.
    """
    uris = {side: str(uri) for side in ("source", "destination") if (uri := options.get(f"{side}_checksums"))}
    if not uris:
        return batches, {}
    from jobs.verify.attest_rows import attest_rows, read_reports

    found = await read_reports(store, route, uris, scratch)
    for side, each in found.items():
        lines = "".join(f"\n  {shown(bad.file)} line {bad.line}: {shown(bad.problem)}" for bad in each.examples)
        display.say(
            f"checksums at rest of the {side}: {each.evidence:,} objects; without: {each.failed:,} that S3 could not "
            f"read, {each.ambiguous:,} that contradict themselves, {each.rejected:,} lines of no use{lines}"
        )
    return attest_rows(batches, route, scratch), {
        f"{side}_checksums": {
            "uri": each.uri,
            "computed_at": each.computed_at,
            "age_hours": round((now - each.computed_at) / 3600, 2),
            "evidence": each.evidence,
            "failed": each.failed,
            "ambiguous": each.ambiguous,
            "rejected": each.rejected,
        }
        for side, each in found.items()
    }
