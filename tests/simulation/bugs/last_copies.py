"""Planted in what stands between an original and its deletion: what a copy is, who may delete, what an undo takes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import jobs.core.evidence
import jobs.expire.copy_checks
import jobs.expire.rules
import jobs.expire.undo
import jobs.s3.stored_checksums
import tests.simulation.last_copies.course
from jobs.core.evidence import Verdict
from jobs.core.model import Listed, ObjectInfo, ObjectRef
from jobs.core.outcome import Evidence
from jobs.core.run import Side
from jobs.expire.announcements import Announcements
from jobs.expire.copy_checks import Copies
from jobs.expire.deletes import ExactDeletes
from jobs.expire.later_disproofs import LaterDisproofs, ProvenCopy
from jobs.expire.marks import Claimed, Marks
from jobs.expire.removals import Removal, Removals
from jobs.expire.rules import Proof
from jobs.ledger.tombstones import Tombstone
from jobs.s3.lookup import find
from tests.simulation.bugs.bug import Bug, Replacements
from tests.simulation.last_copies.course import LastCopyCourse


def _claims_unseen() -> Replacements:
    """Claims are left and never looked at. Announcements alone miss each other by second names."""

    @asynccontextmanager
    async def claim(self: Marks, run_id: str, buckets: Iterable[str], **named: Any) -> AsyncIterator[Claimed]:
        yield Claimed(math.inf, {})

    return [(Marks, "claim", claim)]


def _mutual_proof() -> Replacements:
    async def nobody(self: Announcements, copies: Sequence[Proof]) -> list[str]:
        return [""] * len(copies)

    return [(Announcements, "find", nobody)]


def _announcements(found: Callable[[Any, Sequence[Proof], list[str]], list[str]], *, is_early: bool) -> Replacements:
    """Announcements that are looked at in a wrong way: before this run's own, or `found` changes what is found."""
    real = Removals.remove

    class Changed:
        def __init__(self, removals: Removals, early: dict[int, str]):
            self._removals, self._early = removals, early

        async def find(self, copies: Sequence[Proof]) -> list[str]:
            if is_early:
                return [self._early[id(copy)] for copy in copies]
            return found(self._removals, copies, await self._removals.announcements.find(copies))

    async def remove(self: Removals, removals: Sequence[Removal], looked_at: float) -> Any:
        proofs = [each.proof for each in removals]
        runs = await self.announcements.find(proofs) if is_early else []
        early = {id(proof): run for proof, run in zip(proofs, runs, strict=False)}
        changed: Any = Changed(self, early)
        return await real(replace(self, announcements=changed), removals, looked_at)

    return [(Removals, "remove", remove)]


def _look_before_announcing() -> Replacements:
    return [*_announcements(lambda removals, copies, runs: runs, is_early=True), *_claims_unseen()]


def _own_rows_unseen() -> Replacements:
    def others(removals: Removals, copies: Sequence[Proof], runs: list[str]) -> list[str]:
        return ["" if run == removals.tombstones.run_id else run for run in runs]

    return _announcements(others, is_early=False)


def _copy_not_current() -> Replacements:
    async def look(self: Copies, proof: Proof) -> ObjectInfo | None:
        return await find(self.destination, ObjectRef(proof.bucket, proof.key, proof.version_id))

    return [(Copies, "_find", look)]


def _lifecycle_unseen() -> Replacements:

    def refuse(proof: Proof, current: ObjectInfo | None) -> str:
        return jobs.expire.rules.refuse_copy(proof, current and replace(current, expiration=None))

    return [(jobs.expire.copy_checks, "refuse_copy", refuse)]


def _alias_unseen() -> Replacements:
    async def require_distinct(self: Marks, *given: Any, **named: Any) -> None:
        return None

    return [(Marks, "require_distinct", require_distinct)]


def _crc_is_proof() -> Replacements:
    def protects(*given: Any) -> bool:
        return True

    return [(jobs.core.evidence, "protects", protects), (jobs.s3.stored_checksums, "protects", protects)]


def _always_same(name: str) -> Callable[[], Replacements]:
    async def same(self: Copies, *given: Any) -> Verdict:
        return Verdict(True, Evidence.CONTENT)

    return lambda: [(Copies, name, same)]


def _null_version_confused() -> Replacements:
    return [(Removal, "is_null", property(lambda self: False))]


def _undo_removes_versions() -> Replacements:
    def marker(history: Sequence[Listed], stone: Tombstone) -> str | None:
        return stone.marker_version_id

    return [(jobs.expire.undo, "_marker", marker)]


def _ledger_decides_places() -> Replacements:
    return [(LastCopyCourse, "_named_destination", lambda self, way, runs: runs[-1].destination)]


def _the_whole_other_side() -> Replacements:
    """Of the copies' side only the endpoint comes from the ledger."""

    def side(self: LastCopyCourse, way: int, runs: Sequence[Any]) -> Side:
        return Side(self.copies_of(way), runs[-1].destination.endpoint)

    return [(LastCopyCourse, "_named_destination", side)]


def _orphans_go_on() -> Replacements:
    """The pipe from the command that closes is not watched."""
    return [(LastCopyCourse, "_end_workers", lambda self, run_id: None)]


def _conditions_believed() -> Replacements:
    async def check(self: ExactDeletes, *given: Any) -> None:
        return None

    return [(ExactDeletes, "check_hiding", check), (ExactDeletes, "check_removing", check)]


def _never_is_believed() -> Replacements:
    return [(tests.simulation.last_copies.course, "look_first", lambda store, *, is_required=False: store)]


def _findings_unseen() -> Replacements:
    async def find(self: LaterDisproofs, copies: Sequence[ProvenCopy]) -> list[str]:
        return [""] * len(copies)

    return [(LaterDisproofs, "find", find)]


def _findings_looked_at_once() -> Replacements:
    real = LaterDisproofs._look

    async def look(self: LaterDisproofs) -> None:
        if self._looked_at < 0:
            await real(self)

    return [(LaterDisproofs, "_look", look)]


def _bug(name: str, what: str, seeds: int, plant: Callable[[], Replacements]) -> Bug:
    return Bug(name, what, seeds, plant, "last copies")


BUGS = [
    _bug("mutual-proof", "what is announced to go counts as a copy", 400, _mutual_proof),
    _bug("look-before-announcing", "two runs at once look before they announce", 2_000, _look_before_announcing),
    _bug("claims-unseen", "two runs that know buckets by other names do not see each other", 4_000, _claims_unseen),
    _bug("own-rows-unseen", "a run's own rows count as copies", 1_000, _own_rows_unseen),
    _bug("copy-not-current", "a version below others is a copy", 400, _copy_not_current),
    _bug("lifecycle-unseen", "what a lifecycle rule will remove is a copy", 400, _lifecycle_unseen),
    _bug("alias-unseen", "the original by another name is its copy", 400, _alias_unseen),
    _bug("crc-is-proof", "equal CRCs prove a copy", 1_000, _crc_is_proof),
    _bug("small-members-same", "a small member's bytes are never others", 400, _always_same("_judge")),
    _bug("large-members-same", "a large member's bytes are never others", 400, _always_same("_judge_large")),
    _bug("null-version-confused", "for a null version the one on top is hidden", 1_000, _null_version_confused),
    _bug("undo-removes-versions", "undo removes whatever a tombstone names", 400, _undo_removes_versions),
    _bug("ledger-decides-places", "the last run says where copies are", 400, _ledger_decides_places),
    _bug("ledger-decides-endpoint", "the last run says on which server copies are", 400, _the_whole_other_side),
    _bug("orphans-go-on", "workers delete when their command is gone", 1_000, _orphans_go_on),
    _bug("conditions-believed", "nobody tries whether If-Match is heeded", 1_000, _conditions_believed),
    _bug("never-is-believed", "nobody tries whether If-None-Match is heeded", 1_000, _never_is_believed),
    _bug("findings-unseen", "what was found wrong after the plan goes unseen", 400, _findings_unseen),
    _bug("findings-looked-at-once", "a worker looks for findings only once", 3_700, _findings_looked_at_once),
]
