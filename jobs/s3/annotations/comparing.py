"""Annotations that a copy lacks, compared before its original is deleted.

No condition of a delete covers annotations: an object keeps its ETag when one is added. An
annotation that is added between this comparison and the delete is lost with the original.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.core.model import ObjectRef
from jobs.errors import NotFound
from jobs.s3.annotations.carrying import AT_ONCE
from jobs.s3.annotations.lists import AnnotationLists
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import ANNOTATION_BYTES, Store

NAMED = 3
"""How many annotations a reason names."""
NO_ARCHIVE_HOLDS_THEM = "the original has annotations, which no archive holds"


@dataclass(frozen=True, slots=True)
class AnnotationComparison:
    """Compares the annotations of originals in one store with those of copies in another."""

    originals: AnnotationLists
    copies: AnnotationLists
    budget: ByteBudget

    @classmethod
    def between(cls, originals: Store, copies: Store, budget: ByteBudget) -> AnnotationComparison:
        """A comparison of two stores, or of two places in one."""
        return cls(AnnotationLists(originals), AnnotationLists(copies), budget)

    async def find_lack(self, original: ObjectRef, copy: ObjectRef | None) -> str:
        """Return a reason: which annotations of the original the copy lacks, or has with other texts.

        Empty: none. `copy` None: it is in an archive. Costs one request if the original has no
        annotations. Raises StoreError.
        """
        wanted = await self.originals.read(original)
        if not wanted:
            return ""
        if copy is None:
            return NO_ARCHIVE_HOLDS_THEM
        there = await self.copies.read(copy)
        if missing := sorted(set(wanted) - set(there)):
            return f"the original has annotations that the copy lacks: {_named(missing)}"

        async def is_same(name: str) -> bool:
            return await self._is_same(original, copy, name)

        names = sorted(wanted)
        same = await gather_bounded(is_same, names, AT_ONCE)
        different = [name for name, each in zip(names, same, strict=True) if not each]
        return f"annotations of the original have other texts at the copy: {_named(different)}" if different else ""

    async def _is_same(self, original: ObjectRef, copy: ObjectRef, name: str) -> bool:
        """Compare the texts themselves: equal ETags would not exclude a forged text."""
        held = await self.budget.acquire(2 * ANNOTATION_BYTES)
        try:
            one = await retry(lambda: self.originals.store.get_annotation(original, name))
            other = await retry(lambda: self.copies.store.get_annotation(copy, name))
        except NotFound:
            return False
        finally:
            self.budget.release(held)
        return one == other


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
