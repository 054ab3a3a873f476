"""What a writer to the ledger can do: runs that nobody planned, made of the documents of one that somebody did."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.end_to_end.conftest import World


@dataclass(frozen=True)
class Forger:
    """Reads and writes the documents of the ledger of a world."""

    world: World

    def read(self, name: str) -> bytes:
        body: bytes = self.world.client.get_object(Bucket=self.world.ledger, Key=f"runs/{name}")["Body"].read()
        return body

    def write(self, name: str, data: bytes) -> None:
        self.world.client.put_object(Bucket=self.world.ledger, Key=f"runs/{name}", Body=data)

    def document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.read(name))
        return document

    def write_document(self, name: str, document: dict[str, Any]) -> None:
        self.write(name, json.dumps(document).encode())

    def write_table(self, name: str, table: pa.Table) -> None:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        self.write(name, sink.getvalue())

    def table(self, name: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.read(name)))

    def copy_run(self, run_id: str, forged_id: str, /, **spec: Any) -> None:
        """Spec, plan and shards of a run under another id, as if its planning had just ended."""
        made = self.document(f"runs/{run_id}/spec.json") | {"run_id": forged_id} | spec
        plan = self.read(f"runs/{run_id}/plan.json")
        for shard in range(len(json.loads(plan)["shards"])):
            name = f"shards/{shard:05d}.parquet"
            self.write(f"runs/{forged_id}/{name}", self.read(f"runs/{run_id}/{name}"))
        self.write_document(f"runs/{forged_id}/spec.json", made)
        self.write(f"runs/{forged_id}/plan.json", plan)
