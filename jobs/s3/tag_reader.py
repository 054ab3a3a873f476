"""Tags of many objects, with few requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.core.model import ObjectRef
from jobs.errors import Rejected
from jobs.s3.annotations import NOT_IMPLEMENTED
from jobs.s3.store import Store


@dataclass(slots=True)
class TagReader:
    """Reads the tags of objects of one bucket, few of which have some.

    S3 says how many an object has only to those who may read them:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    So objects that seem to have none are asked until one such request succeeds.
    """

    store: Store
    _counts_are_told: bool | None = field(default=None, init=False)
    """False: one that seemed to have none has some."""

    async def read(self, ref: ObjectRef, count: int) -> Mapping[str, str]:
        """The tags of a version that seems to have `count`. Raises StoreError."""
        if self._counts_are_told and not count:
            return {}
        tags = await self.store.get_tags(ref)
        if not count and self._counts_are_told is not False:
            self._counts_are_told = not tags
        return tags

    async def read_surely(self, ref: ObjectRef, count: int) -> Mapping[str, str]:
        """As `read`, but only AWS is believed to count tags: any other server is asked each time.

        A server that does not know tags has none.
        """
        try:
            return await (self.read(ref, count) if self.store.heeds_conditions else self.store.get_tags(ref))
        except Rejected as error:
            if error.status != NOT_IMPLEMENTED or count:
                raise
            return {}
