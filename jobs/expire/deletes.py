"""Deletes that take exactly what they name: a version by its id, a current object only if it has the expected ETag."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Attributes, ObjectRef
from jobs.errors import ConfigError, Conflict, Denied, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.retries import do_all, try_often
from jobs.s3.store import DELETED_AT_ONCE, UNGUARDED, Deleted, Store

LOOKS_AT_ONCE = 64
WRONG = "0123456789abcdef" * 2
"""An ETag that no object has."""


@dataclass(slots=True)
class ExactDeletes:
    """Deletes in one bucket. Locks are never bypassed."""

    store: Store
    bucket: str
    _checked: set[Step] = field(default_factory=set, init=False)
    _is_careless: bool = field(default=False, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

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

        Call `check_hiding` or `check_removing` before. Raises PreconditionFailed or NotFound when it is another, or
        gone. It may be this very request that did it, when its first answer was lost and it was sent again: look.
        """
        return await self.store.delete(self.bucket, key, if_match=etag)

    async def check_versioned(self) -> None:
        """Raises Conflict when the bucket keeps no versions any more: what should be hidden would be gone."""
        if not await try_often(lambda: self.store.is_versioned(self.bucket)):
            raise Conflict("GetBucketVersioning", self.bucket, "Raced", "it has been suspended meanwhile: look again")

    async def check_hiding(self, originals: Sequence[tuple[str, str]]) -> StoreError | None:
        """Once: does this server heed If-Match where a marker would hide an object? Else why that is not known.

        `originals`: (key, ETag) of current objects that are about to be hidden. Each is asked with an ETag that it
        does not have, until one is refused for that. No other object is there to ask, as one that is written for it
        may be locked for years. Raises ConfigError for a server that hides it all the same; that is undone at once.
        """
        async with self._turn:  # a second trial would hide a second original
            if self._is_careless:
                raise self._careless()
            why: StoreError | None = None
            for key, etag in [] if Step.HIDE in self._checked else originals:
                wrong = WRONG if etag != WRONG else WRONG[::-1]
                try:
                    made = await try_often(partial(self.store.delete, self.bucket, key, if_match=wrong))
                except PreconditionFailed:
                    self._checked.add(Step.HIDE)
                    return None
                except (NotFound, Denied, Rejected) as error:
                    why = error
                else:
                    self._is_careless = True
                    await self._show_again(key, made.version_id)
                    raise self._careless()
            if isinstance(why, NotFound):
                return Conflict(why.operation, why.target, "Raced", "what was to be hidden is gone: look again")
            return why

    async def _show_again(self, key: str, marker_id: str | None) -> None:
        """Remove the marker of a trial, also when the worker is told to end meanwhile."""
        if marker_id is None:
            return
        remove = partial(self.store.delete, self.bucket, key, version_id=marker_id)
        try:
            await try_often(remove)
        except asyncio.CancelledError:
            await try_often(remove)
            raise

    async def check_removing(self, beside: str) -> None:
        """Once: does this server heed If-Match where an object would be removed? Asked of an empty one beside that key.

        Raises ConfigError when it does not, or when that cannot be found out: nothing can be deleted safely then.
        """
        if Step.REMOVE in self._checked:
            return
        probe = f"{beside[:200]}.sealift-{secrets.token_hex(8)}"
        try:
            made = await try_often(lambda: self.store.put(self.bucket, probe, b"", Attributes(), guard=UNGUARDED))
            try:
                await try_often(lambda: self.store.delete(self.bucket, probe, if_match=WRONG))
            except PreconditionFailed:
                self._checked.add(Step.REMOVE)
            finally:
                await self._remove_probe(probe, made.version_id)
        except (NotFound, Denied, Rejected) as error:
            raise ConfigError(
                f"it cannot be found out whether the server of s3://{self.bucket} heeds If-Match, and nothing is "
                f"deleted: {error}; permit s3:PutObject and s3:DeleteObject beside the originals"
            ) from error
        if Step.REMOVE not in self._checked:
            raise self._careless()

    async def _remove_probe(self, probe: str, version_id: str | None) -> None:
        left = await try_often(lambda: self.store.delete(self.bucket, probe, version_id=version_id))
        if left.is_delete_marker and version_id is None:  # versioning is suspended
            await try_often(lambda: self.store.delete(self.bucket, probe, version_id=left.version_id or NULL_VERSION))

    def _careless(self) -> ConfigError:
        return ConfigError(
            f"the server of s3://{self.bucket} deletes whatever If-Match says: nothing can be deleted safely there"
        )
