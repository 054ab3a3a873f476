"""Lists of the annotations of object versions, at servers that may not keep any."""

from __future__ import annotations

from functools import partial

from jobs.core.model import ObjectRef
from jobs.errors import Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.retries import retry
from jobs.s3.store import Annotation, Store

NO_SUCH_NAME = "sealift.no-such-annotation"
"""An annotation that no object has. The answer shows whether a server knows annotations."""

MAX_PAGES = 1_000
"""The largest number of annotations of a version:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html"""


class AnnotationLists:
    """Lists annotations of objects in one store.

    A server that is not known to keep annotations is tried once for each bucket: others than AWS's,
    and AWS's in some regions.
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
        tokens: set[str] = set()
        while True:
            try:
                page = await retry(partial(self.store.list_annotations, ref, token=token))
            except Rejected as error:
                if error.status != NOT_IMPLEMENTED:
                    raise
                self._kept[ref.bucket] = False
                return {}
            found |= {each.name: each for each in page.annotations}
            if page.next_token is None:
                return found
            token = page.next_token
            if token in tokens or len(tokens) == MAX_PAGES:
                what = "the pages of the list repeat, or there are more than a version can have"
                raise Unavailable("ListObjectAnnotations", str(ref), "MalformedAnswer", what)
            tokens.add(token)

    async def are_kept(self, ref: ObjectRef) -> bool:
        """Whether the server keeps annotations, tried on the existing object `ref`.

        AWS's own servers do in most regions. Any other one is asked for an annotation that no
        object has. A server that knows annotations answers that this one is missing. Others refuse
        the request, or take it for a GetObject. Raises StoreError where the answer does not show
        which.
        """
        if self.store.keeps_annotations:
            return self._kept.get(ref.bucket, True)
        if ref.bucket not in self._kept:
            self._kept[ref.bucket] = await self._try(ref)
        return self._kept[ref.bucket]

    async def _try(self, ref: ObjectRef) -> bool:
        try:
            await self.store.get_annotation(ref, NO_SUCH_NAME)
        except NotFound as error:
            if error.code in ("NoSuchKey", "NoSuchVersion", "NoSuchBucket"):
                raise
            return error.code == "NoSuchAnnotation"
        except Rejected:
            return False
        except Unavailable as error:
            if error.code != "AnswerTooLarge":  # no annotation is as large as this object
                raise
        return False


NOT_IMPLEMENTED = 501
"""S3's status for a bucket that cannot have annotations, such as a directory bucket."""


def brief(error: StoreError) -> str:
    """An error as a reason without the object's name, so that a report can count equal reasons."""
    hint = f": allow s3:{error.operation}" if isinstance(error, Denied) else ""
    return f"{error.operation} {error.code}{hint}"
