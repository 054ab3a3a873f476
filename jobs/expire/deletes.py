"""Exact deletes: a version by its id, a current object by its expected ETag."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Attributes, ObjectRef
from jobs.errors import ConfigError, Conflict, Denied, Interrupted, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.retries import gather_bounded, retry
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
    _ignores_conditions: bool = field(default=False, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def remove(
        self, versions: Sequence[tuple[str, str]], send_by: float | None = None
    ) -> list[StoreError | None]:
        """Remove versions for good, each named by (key, version id).

        Return None for each, or why it stays. `send_by`: see `Store.delete`.

        A version id names the same bytes for ever, so no condition is necessary. `null` does not:
        see `remove_nulls`. Raises Interrupted only if no request was sent whose answer is unknown.
        """
        answers: list[StoreError | None] = []
        for start in range(0, len(versions), DELETED_AT_ONCE):
            group = versions[start : start + DELETED_AT_ONCE]
            answers += await self._remove_group(group, send_by)
        return answers

    async def _remove_group(self, group: Sequence[tuple[str, str]], send_by: float | None) -> list[StoreError | None]:
        failures: list[StoreError] = []

        def note(error: StoreError) -> None:
            if error.code == "TooLate":  # a later try is too late as well
                raise failures[-1] if failures else error
            failures.append(error)

        try:
            return await retry(partial(self.store.delete_versions, self.bucket, group, send_by=send_by), note)
        except Interrupted as stop:
            if failures:  # its answer was lost, so it may have removed them
                raise failures[-1] from stop
            raise

    async def remove_nulls(
        self, versions: Sequence[tuple[str, str]], send_by: float | None = None
    ) -> list[StoreError | None]:
        """Remove null versions that lie below others, each named by (key, ETag).

        Return None for each, or why it stays.

        No condition reaches a version that is not current. But while a bucket keeps versions, no
        write makes a null version, so one look directly before is enough:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersioningEnabledBuckets.html
        """
        if not await retry(lambda: self.store.is_versioned(self.bucket)):
            why = PreconditionFailed("GetBucketVersioning", self.bucket, "Suspended", "it no longer keeps versions")
            return [why] * len(versions)
        refused: dict[str, StoreError] = {}

        async def look(version: tuple[str, str]) -> None:
            try:
                await self._check_null(*version)
            except (NotFound, Denied, Rejected, PreconditionFailed) as error:
                refused[version[0]] = error

        await gather_bounded(look, versions, LOOKS_AT_ONCE)
        keys = [key for key, _ in versions if key not in refused]
        removed = await self.remove([(key, NULL_VERSION) for key in keys], send_by)
        answers: dict[str, StoreError | None] = {**refused, **dict(zip(keys, removed, strict=True))}
        return [answers[key] for key, _ in versions]

    async def _check_null(self, key: str, etag: str) -> None:
        ref = ObjectRef(self.bucket, key, NULL_VERSION)
        now = (await retry(lambda: self.store.head(ref))).etag
        if now != etag:
            raise PreconditionFailed("HeadObject", str(ref), "PreconditionFailed", f"it has the ETag {now}", 412)

    async def delete_current(self, key: str, etag: str, send_by: float) -> Deleted:
        """Delete the current object, if it has this ETag: hide it where versions are kept, else
        remove it.

        Call `check_hiding` or `check_removing` before. Raises PreconditionFailed or NotFound when
        the object is another or gone. This request itself may have done that, when its first answer
        was lost and it was sent again (`StoreError.was_sent_once` says that it was not): look.
        """
        return await self.store.delete(self.bucket, key, if_match=etag, send_by=send_by)

    async def check_versioned(self) -> None:
        """Raise Conflict when the bucket no longer keeps versions: a delete would remove instead of
        hide.
        """
        if not await retry(lambda: self.store.is_versioned(self.bucket)):
            raise Conflict("GetBucketVersioning", self.bucket, "Raced", "it has been suspended meanwhile: look again")

    async def check_hiding(self, originals: Sequence[tuple[str, str]]) -> StoreError | None:
        """Check once that the server obeys If-Match where a marker would hide an object.

        Return why it is unknown.

        `originals`: (key, ETag) of current objects that are about to be hidden. Each gets a delete
        with an ETag that it does not have, until one is refused for that. No other object would do,
        since an object that is written for the check may be locked for years. Raises ConfigError
        for a server that hides the object nevertheless, after undoing that.
        """
        async with self._turn:  # a second check would hide a second original
            if self._ignores_conditions:
                raise self._ignored_condition()
            why: StoreError | None = None
            lost: list[StoreError] = []
            for key, etag in [] if Step.HIDE in self._checked else originals:
                wrong = WRONG if etag != WRONG else WRONG[::-1]
                try:
                    made = await retry(partial(self.store.delete, self.bucket, key, if_match=wrong), lost.append)
                except PreconditionFailed:
                    self._checked.add(Step.HIDE)
                    return None
                except (NotFound, Denied, Rejected) as error:
                    why = error
                else:
                    self._ignores_conditions = True
                    await self._unhide(key, made.version_id)
                    raise self._ignored_condition(key if lost else None)
            if isinstance(why, NotFound):
                return Conflict(why.operation, why.target, "Raced", "what was to be hidden is gone: look again")
            return why

    async def _unhide(self, key: str, marker_id: str | None) -> None:
        """Remove the marker of a check, also when the worker is cancelled meanwhile."""
        if marker_id is None:
            return
        remove = partial(self.store.delete, self.bucket, key, version_id=marker_id)
        try:
            await retry(remove)
        except asyncio.CancelledError:
            await retry(remove)
            raise

    async def check_removing(self, beside: str) -> None:
        """Check once, with an empty object beside that key, that the server obeys If-Match where it
        removes.

        Raises ConfigError when it does not, or when that cannot be found out: then nothing can be
        deleted safely.
        """
        if Step.REMOVE in self._checked:
            return
        probe = f"{beside[:200]}.sealift-{secrets.token_hex(8)}"
        try:
            made = await retry(lambda: self.store.put(self.bucket, probe, b"", Attributes(), guard=UNGUARDED))
            try:
                await retry(lambda: self.store.delete(self.bucket, probe, if_match=WRONG))
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
            raise self._ignored_condition()

    async def _remove_probe(self, probe: str, version_id: str | None) -> None:
        left = await retry(lambda: self.store.delete(self.bucket, probe, version_id=version_id))
        if left.is_delete_marker and version_id is None:  # versioning is suspended
            await retry(lambda: self.store.delete(self.bucket, probe, version_id=left.version_id or NULL_VERSION))

    def _ignored_condition(self, doubtful: str | None = None) -> ConfigError:
        """`doubtful`: the key of a check whose first answer was lost. Its marker may be there."""
        why = f"the server of s3://{self.bucket} deletes whatever If-Match says: nothing can be deleted safely there"
        if doubtful is not None:
            why += f"; look whether a delete marker of this check hides {ObjectRef(self.bucket, doubtful)}"
        return ConfigError(why)
