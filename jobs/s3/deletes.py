"""Deletes that take exactly what they name: a version by its id, a current object only if it has the expected ETag."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jobs.errors import ConfigError, Denied, NotFound, PreconditionFailed, StoreError
from jobs.s3.store import DELETED_AT_ONCE, Deleted, Store
from jobs.s3.tries import try_often


@dataclass(slots=True)
class ExactDeletes:
    """Deletes in one bucket. Locks are never bypassed."""

    store: Store
    bucket: str
    _heeds_conditions: bool = field(default=False, init=False)

    async def remove(self, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        """Remove versions for good, each named by (key, version id); for each None, or why it is still there.

        A version id names the same bytes for ever, so that nothing else need be asked. Not for `null`.
        """
        told: list[StoreError | None] = []
        for start in range(0, len(versions), DELETED_AT_ONCE):
            some = versions[start : start + DELETED_AT_ONCE]
            told += await try_often(partial(self.store.delete_versions, self.bucket, some))
        return told

    async def take_current(self, key: str, etag: str) -> Deleted:
        """Delete the current object, if it has this ETag: hidden by a marker where versions are kept, else removed.

        Call `check_conditions` before. Raises PreconditionFailed or NotFound when it is another, or gone. It may be
        this very request that did it, when its first answer was lost and it was repeated: look again then.
        """
        return await self.store.delete(self.bucket, key, if_match=etag)

    async def check_conditions(self, beside: str) -> None:
        """Once: does this server heed If-Match at all? Asked of a key that is not there, beside one that is.

        Raises ConfigError when it does not: nothing can be deleted safely then where there are no version ids.
        """
        if self._heeds_conditions:
            return
        probe = f"{beside[:200]}.sealift-{secrets.token_hex(8)}"
        try:
            made = await try_often(lambda: self.store.delete(self.bucket, probe, if_match="0" * 32))
        except (PreconditionFailed, NotFound, Denied):
            self._heeds_conditions = True
            return
        if made.version_id:
            await self.store.delete(self.bucket, probe, version_id=made.version_id)
        raise ConfigError(
            f"the server of s3://{self.bucket} deletes whatever If-Match says: nothing can be deleted safely there"
        )
