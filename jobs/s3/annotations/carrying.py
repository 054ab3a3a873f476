"""Annotations of a version, put onto a copy that S3 made without them.

S3 has no request that copies annotations alone, so each one is read and written after the copy is
made. A worker that is killed in between leaves a copy that lacks some. The next attempt finds that
copy the same, and puts the missing ones (`jobs.s3.copying`).
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.core.evidence import is_md5
from jobs.core.model import ObjectRef, is_exact
from jobs.errors import REFUSALS, Conflict, NoSuchBucket, NotFound, PreconditionFailed
from jobs.s3.annotations.lists import AnnotationLists, brief
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import Annotation, Store

AT_ONCE = 4
"""How many annotations of one object are in flight."""
EXCLUDED = "without annotations, as --annotations skip says"
NOT_KEPT_THERE = "without the source's annotations: the destination's server keeps none"
LOST = "without some of the source's annotations: {why}"
DIFFERENT = "the copy keeps other texts for some annotations of the source"
UNCOMPARED = "nobody knows whether the copy has the texts of the source's annotations: {why}"
UNKNOWN = "nobody knows whether the source has annotations that the copy lacks: {why}"


@dataclass(frozen=True, slots=True)
class AnnotationCarrier:
    """Carries annotations from versions in one store to their copies in another."""

    source: AnnotationLists
    destination: AnnotationLists
    budget: ByteBudget

    @classmethod
    def between(cls, source: Store, destination: Store, budget: ByteBudget) -> AnnotationCarrier:
        """A carrier for copies between stores, or within one. `budget` bounds the texts in memory."""
        return cls(AnnotationLists(source), AnnotationLists(destination), budget)

    async def carry(self, ref: ObjectRef, source_etag: str | None, copy: ObjectRef, copy_etag: str) -> str:
        """Put the annotations whose names the copy does not have onto it.

        Annotations of the copy stay as they are. Returns what the copy still lacks and why, for its
        outcome, else an empty text. `source_etag` None: unknown, so that only a version id in `ref`
        pins the source.

        Raises Conflict if source or copy was replaced, Unavailable where a retry may help.
        """
        try:
            wanted = await self.source.read(ref)
            if await self.source.are_kept(ref):
                await self._check_source(ref, source_etag)
            if not wanted:
                return ""
            if not await self.destination.are_kept(copy):
                return NOT_KEPT_THERE
            there = await self.destination.read(copy)
        except NoSuchBucket:
            raise
        except REFUSALS as error:
            return UNKNOWN.format(why=brief(error))

        async def put(annotation: Annotation) -> str:
            return await self._put(ref, source_etag, annotation, copy, copy_etag)

        async def find_difference(annotation: Annotation) -> str:
            return await self._find_difference(ref, source_etag, annotation, copy, there[annotation.name])

        missing = [each for name, each in wanted.items() if name not in there]
        reasons = sorted(filter(None, await gather_bounded(put, missing, AT_ONCE)))
        if reasons:
            return LOST.format(why=reasons[0])
        both = [each for name, each in wanted.items() if name in there]
        differences = set(await gather_bounded(find_difference, both, AT_ONCE))
        return DIFFERENT if DIFFERENT in differences else max(differences, default="")

    async def _put(
        self, ref: ObjectRef, source_etag: str | None, annotation: Annotation, copy: ObjectRef, copy_etag: str
    ) -> str:
        """Copy one annotation. Returns why S3 refused it, else an empty text."""
        held = await self.budget.acquire(annotation.size_bytes)
        try:
            text = await _text(self.source, ref, annotation.name)
            await self._check_source(ref, source_etag)
            if text is None:
                return ""
            await retry(
                lambda: self.destination.store.put_annotation(copy, annotation.name, text, object_etag=copy_etag)
            )
        except NoSuchBucket:
            raise
        except (NotFound, PreconditionFailed) as error:
            raise _replaced(error.operation, error.target) from error
        except REFUSALS as error:
            return brief(error)
        finally:
            self.budget.release(held)
        return ""

    async def _find_difference(
        self, ref: ObjectRef, source_etag: str | None, wanted: Annotation, copy: ObjectRef, there: Annotation
    ) -> str:
        """Compare one annotation with that of the same name at the copy: by size and MD5, else by
        their texts.

        Returns DIFFERENT, why the texts cannot be compared, or an empty text. With a KMS key an
        ETag is no MD5, and differs by object.
        """
        if wanted.size_bytes != there.size_bytes:
            return DIFFERENT
        if is_md5(wanted.etag) and wanted.etag == there.etag:
            return ""
        held = await self.budget.acquire(wanted.size_bytes + there.size_bytes)
        try:
            text = await _text(self.source, ref, wanted.name)
            await self._check_source(ref, source_etag)
            if text is None:
                return ""
            return "" if text == await _text(self.destination, copy, wanted.name) else DIFFERENT
        except NoSuchBucket:
            raise
        except NotFound as error:
            raise _replaced(error.operation, error.target) from error
        except REFUSALS as error:
            return UNCOMPARED.format(why=brief(error))
        finally:
            self.budget.release(held)

    async def _check_source(self, ref: ObjectRef, etag: str | None) -> None:
        """Raise Conflict if another object has replaced the source.

        S3 has no condition that pins the annotations that are listed or read to the ETag of their
        object. A version id pins them.
        """
        if etag is None or is_exact(ref.version_id):
            return
        there = await retry(lambda: self.source.store.head(ref))
        if there.etag != etag:
            raise _replaced("HeadObject", ref)


async def _text(lists: AnnotationLists, ref: ObjectRef, name: str) -> bytes | None:
    """An annotation's text. None: it was deleted meanwhile."""
    try:
        return await retry(lambda: lists.store.get_annotation(ref, name))
    except NotFound as error:
        if error.code != "NoSuchAnnotation":
            raise
        return None


def _replaced(operation: str, place: object) -> Conflict:
    what = "source or copy changed while annotations were copied"
    return Conflict(operation, str(place), "Raced", what)
