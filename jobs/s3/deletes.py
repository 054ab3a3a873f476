"""Deletes that take exactly what they name: a version by its id, a current object only if it has the expected ETag."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jobs.core.model import NULL_VERSION, ObjectRef
from jobs.errors import ConfigError, Denied, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.store import DELETED_AT_ONCE, Deleted, Store
from jobs.s3.tries import do_all, try_often

LOOKS_AT_ONCE = 64


@dataclass(slots=True)
class ExactDeletes:
    """Deletes in one bucket. Locks are never bypassed."""

    store: Store
    bucket: str
    _heeds_conditions: bool = field(default=False, init=False)

    async def remove(self, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        """Remove versions for good, each named by (key, version id); for each None, or why it is still there.

        A version id names the same bytes for ever, so that nothing else need be asked. `null` does not: see
        `remove_nulls`.
        """
        told: list[StoreError | None] = []
        for start in range(0, len(versions), DELETED_AT_ONCE):
            some = versions[start : start + DELETED_AT_ONCE]
            told += await try_often(partial(self.store.delete_versions, self.bucket, some))
        return told

    async def remove_nulls(self, versions: Sequence[tuple[str, str]]) -> list[StoreError | None]:
        """Remove null versions that lie beneath others, each named by (key, ETag): for each None, or why it stays.

        No condition reaches a version that is not current. But while a bucket keeps versions, nobody writes a null
        version, so that it is enough to look directly before:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        if not await try_often(lambda: self.store.is_versioned(self.bucket)):
            why = PreconditionFailed("GetBucketVersioning", self.bucket, "Suspended", "it keeps no versions any more")
            return [why] * len(versions)
        refused: dict[str, StoreError] = {}

        async def look(version: tuple[str, str]) -> None:
            try:
                await self._check_null(*version)
            except (NotFound, Denied, Rejected, PreconditionFailed) as error:
                refused[version[0]] = error

        await do_all(look, versions, LOOKS_AT_ONCE)
        sound = [key for key, _ in versions if key not in refused]
        told = await self.remove([(key, NULL_VERSION) for key in sound])
        answers: dict[str, StoreError | None] = {**refused, **dict(zip(sound, told, strict=True))}
        return [answers[key] for key, _ in versions]

    async def _check_null(self, key: str, etag: str) -> None:
        ref = ObjectRef(self.bucket, key, NULL_VERSION)
        now = (await try_often(lambda: self.store.head(ref))).etag
        if now != etag:
            raise PreconditionFailed("HeadObject", str(ref), "PreconditionFailed", f"it has the ETag {now}", 412)

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
