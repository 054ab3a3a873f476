"""An index of an archive, forged: what a restore sends is of a fixed list, and what it reads is the archive."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.end_to_end.conftest import World
from tests.end_to_end.packed import ALL, EVERYTHING, compact, fill, restore, restored

SECRET = b"what nobody may read"


def forge(world: World, change: dict[str, Any], record: dict[str, Any]) -> None:
    """Other values in each row of the only index, and in its footer's record."""
    (name,) = [key for key in world.keys(world.ledger, "runs/archives/") if key.endswith(".parquet")]
    table = pq.read_table(io.BytesIO(world.read(world.ledger, name)))
    known = json.loads((table.schema.metadata or {})[b"sealift.archive"])
    footer = {b"sealift.archive": json.dumps(known | record).encode()}
    rows = [row | change for row in table.to_pylist()]
    sink = io.BytesIO()
    forged = pa.Table.from_pylist(rows, schema=table.schema.with_metadata(footer))
    pq.write_table(forged, sink, write_page_checksum=True)
    world.client.put_object(Bucket=world.ledger, Key=name, Body=sink.getvalue())
    for key in world.keys(world.ledger, "runs/archives/"):
        if key.endswith(".directory.json"):
            world.client.delete_object(Bucket=world.ledger, Key=key)


def test_a_member_that_asks_for_more_than_itself_is_a_damaged_index(world: World) -> None:
    fill(world, 3)
    compact(world, ALL)
    world.put("secret", SECRET)
    forge(world, {"headers": json.dumps({"x-amz-copy-source": f"/{world.source}/secret"})}, {})
    report = restore(world, *EVERYTHING)
    assert report["code"] == 3
    assert restored(world) == {}
    details = [row["detail"] for row in world.failed_rows(report)]
    assert len(details) == 3
    assert all("'x-amz-copy-source' of an object" in each and "reindex" in each for each in details)
