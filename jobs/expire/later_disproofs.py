"""Later disproofs: findings that the ledger got after an expire run was planned.

A run may wait for hours in a queue, and work for days. Meanwhile a verify run may find a copy wrong
whose stored checksum has not changed. So a worker reads the ledger again directly before it
deletes: it lists the runs and reads those that had not ended when the plan read them. A later
finding voids every proof of its copy. The next plan decides whether a newer proof restores it.

A finding that a verify run has not written yet is not seen: its workers write a checkpoint every 15
seconds.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jobs.expire.rules import Proof
from jobs.expire.runs_with_findings import RunFiles, Seen, find_runs
from jobs.ledger.ledger import DIFFERENCES, Ledger
from jobs.runs.leases import elapsed_seconds

LOOK_SECONDS = 15.0
"""How long a reading of the ledger counts. Workers write checkpoints as often."""


class ProvenCopy(NamedTuple):
    """An original that is about to be deleted, and the proof of its copy."""

    key: str
    version_id: str | None
    etag: str
    proof: Proof


@dataclass(slots=True)
class LaterDisproofs:
    """The disproofs that one ledger got since the plan, of the copies of one bucket's objects.

    `bucket`: that of the originals. `seen`: how much of each run the plan has read, by run id. The
    ledger's clock alone decides which files are new.
    """

    ledger: Ledger
    bucket: str
    copy_buckets: Iterable[str]
    seen: Mapping[str, Seen]
    _final: set[str] = field(default_factory=set, init=False)
    _runs: dict[str, RunFiles] = field(default_factory=dict, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def find(self, copies: Sequence[ProvenCopy]) -> list[str]:
        """Return for each copy why a later finding voids its proof, else an empty text.

        Raises StoreError.
        """
        replicas = [each for each in copies if each.proof.member is None]
        if not replicas:
            return [""] * len(copies)
        async with self._turn:
            if elapsed_seconds() - self._looked_at > LOOK_SECONDS:
                await self._look()
            found = await self._object(replicas) if self._runs else {}
        return [found.get(id(each), "") for each in copies]

    async def _look(self) -> None:
        began = elapsed_seconds()
        if not self._final:
            self._final |= {run_id for run_id, seen in self.seen.items() if seen is None}
        for run in await find_runs(self.ledger, self.bucket, frozenset(self.copy_buckets), self._final):
            later = run.since(self.seen.get(run.run_id))
            if run.may_have_findings and _has_something_to_read(later):
                self._runs[run.run_id] = later
            if run.is_final:
                self._final.add(run.run_id)
        self._looked_at = began

    async def _object(self, copies: Sequence[ProvenCopy]) -> dict[int, str]:
        """Return the objections to these copies, by `id()` of the ProvenCopy."""
        from jobs.expire.disproofs import void_proofs
        from jobs.expire.findings import FINDINGS, Findings
        from jobs.tables.duck import connect, in_thread

        with (
            tempfile.TemporaryDirectory(prefix="sealift-disproofs-") as scratch,
            closing(connect(Path(scratch), memory_limit="256MB")) as connection,
        ):
            connection.execute(f"CREATE TABLE proven ({_PROVEN})")
            rows = [_row(place, each) for place, each in enumerate(copies)]
            connection.executemany(f"INSERT INTO proven VALUES ({', '.join('?' * len(rows[0]))})", rows)
            connection.execute(f"CREATE TABLE findings ({FINDINGS})")
            await Findings(self.ledger, connection, Path(scratch)).add_disproofs(list(self._runs.values()))
            await in_thread(connection, void_proofs, connection, ())
            found = connection.execute("SELECT place, objection FROM proven WHERE objection IS NOT NULL").fetchall()
        return {id(copies[place]): str(objection) for place, objection in found}


def _has_something_to_read(run: RunFiles) -> bool:
    return (
        bool(run.problem and run.files) or DIFFERENCES in run.files or any(each.bad_rows for each, _ in run.checkpoints)
    )


_PROVEN = """
    place BIGINT, key VARCHAR, version_id VARCHAR, etag VARCHAR, run_id VARCHAR, copy_bucket VARCHAR, copy_key VARCHAR,
    copy_version_id VARCHAR, copy_etag VARCHAR, in_archive BOOLEAN, objection VARCHAR
"""


def _row(place: int, copy: ProvenCopy) -> tuple[object, ...]:
    proof = copy.proof
    pins = proof.version_id, proof.etag
    return place, copy.key, copy.version_id, copy.etag, proof.run_id, proof.bucket, proof.key, *pins, False, None
