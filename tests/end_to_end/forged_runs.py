"""What a writer to the ledger can do: runs that nobody planned, made of the documents of one that somebody did."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.end_to_end import forged_ledger
from tests.end_to_end.conftest import World


@dataclass(frozen=True)
class Forger:
    """Reads and writes the documents of the ledger of a world."""

    world: World

    def read(self, name: str) -> bytes:
        return forged_ledger.read(self.world, name)

    def write(self, name: str, data: bytes) -> None:
        forged_ledger.write(self.world, name, data)

    def document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.read(name))
        return document

    def write_document(self, name: str, document: dict[str, Any]) -> None:
        self.write(name, json.dumps(document).encode())

    def table(self, name: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.read(name)))

    def write_table(self, name: str, table: pa.Table) -> None:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        self.write(name, sink.getvalue())

    def copy_run(self, run_id: str, forged_id: str, /, **spec: Any) -> None:
        """Spec, plan and shards of a run under another id, as if its planning had just ended."""
        made = self.document(f"runs/{run_id}/spec.json") | {"run_id": forged_id} | spec
        for name in forged_ledger.names(self.world, f"runs/{run_id}/shards/"):
            self.write(name.replace(run_id, forged_id), self.read(name))
        self.write_document(f"runs/{forged_id}/spec.json", made)
        self.write(f"runs/{forged_id}/plan.json", self.read(f"runs/{run_id}/plan.json"))
