"""Tags of many objects, with few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.core.model import ObjectRef
from jobs.errors import Denied, Rejected
from jobs.s3.annotations import NOT_IMPLEMENTED
from jobs.s3.store import Store


@dataclass(slots=True)
class TagReader:
    """Reads the tags of objects of one bucket, few of which have some.

    S3 says how many an object has only to those who may read them:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    So one object that seems to have none is asked. Until one such request succeeds, all are.
    """

    store: Store
    _is_allowed: bool = field(default=False, init=False)
    _is_refused: bool = field(default=False, init=False)
    _is_counted: bool = field(default=True, init=False)
    _first: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def read(self, ref: ObjectRef, count: int) -> Mapping[str, str]:
        """The tags of a version that seems to have `count`. Raises StoreError."""
        if count:
            return await self.store.get_tags(ref)
        if self._is_unknown:
            async with self._first:
                if self._is_unknown:
                    return await self._ask(ref)
        return {} if self._is_allowed and self._is_counted else await self._ask(ref)

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

    @property
    def _is_unknown(self) -> bool:
        return not (self._is_allowed or self._is_refused)

    async def _ask(self, ref: ObjectRef) -> Mapping[str, str]:
        try:
            tags = await self.store.get_tags(ref)
        except Denied:
            self._is_refused = True
            raise
        self._is_allowed = True
        self._is_counted = self._is_counted and not tags
        return tags
