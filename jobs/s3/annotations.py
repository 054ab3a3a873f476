"""Annotations of objects: named texts that S3 keeps beside an object version.

CopyObject copies them by itself. Copies in parts, streamed copies and archives lack them. No HEAD, listing or
inventory shows that an object has any. So "none" must come from a list that succeeded. Never put an annotation onto an
object of a server that is not known to keep them: it may take the request for a PutObject, and replace the object.

S3 has no request that copies annotations alone, so each one is read and written after the copy is made. A worker that
is killed in between leaves a copy that lacks some. The next attempt finds that copy the same, and puts the missing
ones (`jobs.s3.copying`). Nothing pins annotations to the ETag of their object, only a version id does.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from jobs.core.model import ObjectRef, is_exact
from jobs.errors import (
    REFUSALS,
    Conflict,
    Denied,
    NotFound,
    PreconditionFailed,
    Rejected,
    StoreError,
    Unavailable,
)
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.lookup import NOT_IMPLEMENTED
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import ANNOTATION_BYTES, Annotation, Store

AT_ONCE = 4
"""How many annotations of one object are in flight."""
NO_SUCH_NAME = "sealift.no-such-annotation"
"""An annotation that no object has. The answer shows whether a server knows annotations."""
MAX_PAGES = 1_000
"""The largest number of annotations of a version:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html"""
EXCLUDED = "without annotations, as --annotations skip says"
NOT_KEPT_THERE = "without the source's annotations: the destination's server keeps none"
LOST = "without some of the source's annotations: {why}"
UNKNOWN = "whether the source has annotations that the copy lacks is not known: {why}"


class Pinned(NamedTuple):
    """An object version, and the ETag that it has to have. `etag` None: unknown, so that only a version id pins it."""

    ref: ObjectRef
    etag: str | None


class AnnotationLists:
    """Lists annotations of objects in one store.

    A server that is not known to keep annotations is tried once for each bucket: others than AWS's, and AWS's in some
    regions.
    """

    def __init__(self, store: Store):
        self.store = store
        self._kept: dict[str, bool] = {}

    async def read(self, ref: ObjectRef) -> dict[str, Annotation]:
        """A version's annotations by name. Empty where the server keeps none. Raises StoreError."""
        if not await self.are_kept(ref):
            return {}
        found: dict[str, Annotation] = {}
        token: str | None = None
        for _ in range(MAX_PAGES):
            try:
                page = await retry(partial(self.store.list_annotations, ref, token=token))
            except Rejected as error:
                if error.status != NOT_IMPLEMENTED:
                    raise
                self._kept[ref.bucket] = False
                return {}
            found |= {each.name: each for each in page.annotations}
            token = page.next_token
            if token is None:
                return found
        what = "there are more pages than a version can have annotations"
        raise Unavailable("ListObjectAnnotations", str(ref), "MalformedAnswer", what)

    async def text(self, ref: ObjectRef, name: str) -> bytes | None:
        """An annotation's text. None: it was deleted meanwhile."""
        try:
            return await retry(lambda: self.store.get_annotation(ref, name))
        except NotFound as error:
            if error.code != "NoSuchAnnotation":
                raise
            return None

    async def are_kept(self, ref: ObjectRef) -> bool:
        """Whether the server keeps annotations, tried on the existing object `ref`.

        AWS's own servers do in most regions. Any other one is asked for an annotation that no object has. A server that
        knows annotations answers that this one is missing. Others refuse the request, or take it for a GetObject.
        Raises StoreError where the answer does not show which.
        """
        if ref.bucket not in self._kept:
            self._kept[ref.bucket] = self.store.keeps_annotations or await self._try(ref)
        return self._kept[ref.bucket]

    async def _try(self, ref: ObjectRef) -> bool:
        try:
            await self.store.get_annotation(ref, NO_SUCH_NAME)
        except NotFound as error:
            if error.code in ("NoSuchKey", "NoSuchVersion"):
                raise
            return error.code == "NoSuchAnnotation"
        except Rejected:
            return False
        except Unavailable as error:
            if error.code != "AnswerTooLarge":  # no annotation is as large as this object
                raise
        return False


class AnnotationPair:
    """The annotations of objects in one store, and of their copies in another, or at another place in it.

    `budget` bounds the texts in memory.
    """

    def __init__(self, source: Store, copies: Store, budget: ByteBudget):
        self.source, self.copies, self.budget = AnnotationLists(source), AnnotationLists(copies), budget

    async def carry(self, source: Pinned, copy: Pinned) -> str:
        """Put the annotations whose names the copy does not have onto it. Others stay as they are.

        Returns what the copy still lacks and why, for its outcome, else an empty text. Raises Conflict if source or
        copy is gone or was replaced, Unavailable where a retry may help.
        """
        try:
            wanted = await self.source.read(source.ref)
            if await self.source.are_kept(source.ref):
                await self._check_source(source)
            if not wanted:
                return ""
            if not await self.copies.are_kept(copy.ref):
                return NOT_KEPT_THERE
            there = await self.copies.read(copy.ref)
        except REFUSALS as error:
            return UNKNOWN.format(why=brief(error))

        missing = [each for name, each in wanted.items() if name not in there]
        reasons = sorted(filter(None, await gather_bounded(partial(self._put, source, copy), missing, AT_ONCE)))
        return LOST.format(why=reasons[0]) if reasons else ""

    async def _put(self, source: Pinned, copy: Pinned, annotation: Annotation) -> str:
        """Copy one annotation. Returns why S3 refused it, else an empty text."""
        held = await self.budget.acquire(annotation.size_bytes)
        try:
            text = await self.source.text(source.ref, annotation.name)
            await self._check_source(source)
            if text is not None:
                put = partial(self.copies.store.put_annotation, copy.ref, annotation.name, text)
                await retry(partial(put, object_etag=copy.etag or ""))
        except (NotFound, PreconditionFailed) as error:
            raise _replaced(error.operation, error.target) from error
        except REFUSALS as error:
            return brief(error)
        finally:
            self.budget.release(held)
        return ""

    async def _check_source(self, source: Pinned) -> None:
        """Raise Conflict if another object has replaced the source, after its annotations were read."""
        if source.etag is None or is_exact(source.ref.version_id):
            return
        there = await retry(partial(self.source.store.head, source.ref))
        if there.etag != source.etag:
            raise _replaced("HeadObject", str(source.ref))

    async def has_all(self, ref: ObjectRef, copy: ObjectRef | None) -> bool:
        """True if the copy has all annotations of the source, with the same texts. `copy` None: it is in an archive,
        which holds none. Raises StoreError.

        One that is added between this comparison and a delete is lost: an object keeps its ETag then.
        """
        wanted = await self.source.read(ref)
        if not wanted or copy is None:
            return not wanted
        if not wanted.keys() <= (await self.copies.read(copy)).keys():
            return False

        async def is_same(name: str) -> bool:
            held = await self.budget.acquire(2 * ANNOTATION_BYTES)  # equal ETags would not exclude a forged text
            try:
                text = await self.source.text(ref, name)
                return text is not None and text == await self.copies.text(copy, name)
            except NotFound:
                return False
            finally:
                self.budget.release(held)

        return all(await gather_bounded(is_same, wanted, AT_ONCE))


def _replaced(operation: str, target: str) -> Conflict:
    return Conflict(operation, target, "Raced", "source or copy changed while annotations were copied")


def brief(error: StoreError) -> str:
    """An error as a reason without the object's name, so that a report can count equal reasons."""
    hint = f": allow s3:{error.operation}" if isinstance(error, Denied) else ""
    return f"{error.operation} {error.code}{hint}"
