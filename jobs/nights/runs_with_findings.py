"""Runs that may have findings about copies, and the files that each has written to the ledger.

A run may have compared originals with copies in either direction, under any spelling of their
prefixes. A run whose source is the bucket of either may have found objects in it damaged, whatever
its destination is. The name of an access point does not show its bucket, so it counts as any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from jobs.core.bucket_names import is_second_name
from jobs.core.outcome import Status
from jobs.core.run import RunSpec
from jobs.errors import LedgerError, NotFound, UsageError
from jobs.ledger.agreement import run_job
from jobs.ledger.files import list_files
from jobs.ledger.ledger import DIFFERENCES, Checkpoint, Ledger
from jobs.s3.retries import gather_bounded

READS = 32
OUTCOMES = "outcomes/"
DISPROOFS = {
    "verify": frozenset({Status.DIFFERENT, Status.MISSING, Status.DAMAGED}),
    "replicate": frozenset({Status.DIFFERENT, Status.DAMAGED}),
}
"""Job → the outcomes that disprove a copy: it is wrong or missing, or its original is damaged, so
that nothing shows whether the copy is right. `missing` of a replicate run is about the original."""


_UNREAD = {"verify": frozenset({Status.BLOCKED})}
"""Job → the outcomes that disprove a copy as well, if the run reads bytes: nobody can read them,
whatever S3 keeps beside them."""


def disproofs_of(spec: RunSpec) -> frozenset[Status]:
    """Return the outcomes of a run that disprove a copy."""
    unread = _UNREAD.get(spec.job, frozenset()) if spec.options.get("deep") else frozenset()
    return DISPROOFS[spec.job] | unread


COMPARISON = "reconcile"
"""The job whose rows with different checksums are disproofs as well. They are about the bytes."""
_JOBS = frozenset({*DISPROOFS, COMPARISON})

ALTERED = (LedgerError, UsageError, NotFound)
"""What the ledger raises for documents that somebody has altered or removed."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run that may have findings about the copies.

    `files`: name → when S3 received it (epoch seconds). `checkpoints`: the same for its outcomes.
    `report`: None while the run has not ended. `is_swapped`: the directions in which it may have
    compared. True: from the copies to the originals. `reads_copies`: what its source may have been.
    True: copies. False: originals. `problem`: why its findings cannot be read, else empty.
    """

    run_id: str
    spec: RunSpec | None = None
    files: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Sequence[tuple[Checkpoint, float]] = ()
    report: Mapping[str, Any] | None = None
    is_swapped: Sequence[bool] = ()
    reads_copies: Sequence[bool] = ()
    problem: str = ""

    @property
    def may_have_findings(self) -> bool:
        """True if it may have findings about the copies, or cannot be read."""
        return bool(self.problem or self.reads_copies or self.is_swapped)

    @property
    def disproofs(self) -> frozenset[Status]:
        """The outcomes that disprove a copy, in the directions in which it compared."""
        statuses = disproofs_of(self.spec) if self.spec else frozenset()
        return statuses if self.is_swapped else statuses & {Status.DAMAGED}

    @property
    def newest(self) -> float:
        """When S3 received its newest file (epoch seconds). 0 without files."""
        return max(self.files.values(), default=0.0)


async def find_runs(
    ledger: Ledger, bucket: str, copy_buckets: AbstractSet[str], known: AbstractSet[str] = frozenset()
) -> list[RunFiles]:
    """Return the verify, replicate and reconcile runs that were planned, oldest first.

    `bucket`: that of the originals. `copy_buckets`: those of the copies. `known`: ids of runs to
    leave out. Altered documents become the `problem` of their run. Raises StoreError.
    """

    async def read(run_id: str) -> RunFiles | None:
        try:
            spec = await ledger.spec(run_id)
        except ALTERED as error:
            files = await _list(ledger, run_id)
            if isinstance(error.__cause__, NotFound) and not any(map(_is_of_findings, files)):
                return None  # it was never planned
            return RunFiles(run_id, files=files, problem=str(error))
        directions, reads = _directions(spec, bucket, copy_buckets)
        if not directions and not reads:
            return RunFiles(run_id, spec)
        report: Mapping[str, Any] | None = None
        checkpoints: list[tuple[Checkpoint, float]] = []
        problem = ""
        try:
            report = await ledger.report(run_id)  # before the listing: what has ended writes no more
        except ALTERED as error:
            problem = str(error)
        files = await _list(ledger, run_id)
        options: object = spec.options
        if not isinstance(options, Mapping):
            problem = f"the options in {ledger.uri(run_id, 'spec.json')} were altered"
        try:
            for name, written_at in files.items():
                if name.startswith(OUTCOMES):
                    checkpoints.append((ledger.parse_checkpoint(run_id, name[len(OUTCOMES) :]), written_at))
        except ALTERED as error:
            problem = str(error)
        return RunFiles(run_id, spec, files, checkpoints, report, directions, reads, problem)

    run_ids = [run_id for run_id in await ledger.run_ids() if run_job(run_id) in _JOBS and run_id not in known]
    return [each for each in await gather_bounded(read, run_ids, READS) if each is not None]


def _is_of_findings(name: str) -> bool:
    """True for a file in which a run may have findings."""
    return name.startswith(OUTCOMES) or name == DIFFERENCES


async def _list(ledger: Ledger, run_id: str) -> dict[str, float]:
    folder = ledger.location.join(f"runs/{run_id}/")
    return {entry.key[len(folder.key) :]: entry.last_modified async for entry in list_files(ledger.store, folder)}


def _directions(spec: RunSpec, bucket: str, copy_buckets: AbstractSet[str]) -> tuple[list[bool], list[bool]]:
    """Return `is_swapped` and `reads_copies` of a run."""
    source, destination = spec.source.location, spec.destination.location
    if source == destination:  # it only read archives
        return [], []

    def may_be(name: str, buckets: Iterable[str]) -> bool:
        return name in buckets or is_second_name(name)

    reads_copies = [
        is_copy for is_copy, buckets in ((False, {bucket}), (True, copy_buckets)) if may_be(source.bucket, buckets)
    ]
    others = {False: copy_buckets, True: {bucket}}
    return [is_copy for is_copy in reads_copies if may_be(destination.bucket, others[is_copy])], reads_copies
