"""What somebody who may write to the ledger can make of it."""

from __future__ import annotations

import calendar
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.tables.rows import write_parquet
from tests.end_to_end.conftest import World


def read(world: World, name: str) -> bytes:
    """A file of the ledger."""
    return world.read(world.ledger, f"runs/{name}")


def names(world: World, prefix: str) -> list[str]:
    """The ledger's files below a prefix."""
    return [key.removeprefix("runs/") for key in world.keys(world.ledger, f"runs/{prefix}")]


def write(world: World, name: str, data: bytes) -> None:
    """Write, or write over, a file of the ledger."""
    world.client.put_object(Bucket=world.ledger, Key=f"runs/{name}", Body=data)


def edit_json(world: World, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a document of the ledger."""
    document = json.loads(read(world, name))
    change(document)
    write(world, name, json.dumps(document).encode())


def edit_rows(world: World, name: str, **values: Any) -> None:
    """Change columns of all rows of a Parquet file of the ledger."""
    rows = pq.read_table(io.BytesIO(read(world, name)))
    write(world, name, write_parquet(pa.Table.from_pylist([row | values for row in rows.to_pylist()], rows.schema)))


def twin(run_id: str, job: str = "replicate") -> str:
    """Another id of the same second."""
    stamp, _, tail = run_id.split("-")
    return f"{stamp}-{job}-{tail[:-1]}{'0' if tail[-1] != '0' else '1'}"


def copy_run(
    world: World, run_id: str, new_id: str, change: Callable[[dict[str, Any]], None] = lambda spec: None
) -> None:
    """Spec, plan and shards of a run under another id, as if its planning had just ended."""

    def renamed(spec: dict[str, Any]) -> None:
        spec["run_id"] = new_id
        spec["created_at"] = calendar.timegm(time.strptime(new_id[:16], "%Y%m%dT%H%M%SZ"))
        change(spec)

    for name in names(world, f"runs/{run_id}/"):
        if "/shards/" in name or name.endswith(("spec.json", "plan.json")):
            write(world, name.replace(run_id, new_id), read(world, name))
    edit_json(world, f"runs/{new_id}/spec.json", renamed)
