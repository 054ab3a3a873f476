"""Exact deletes: a version by its id, a current object by its expected ETag."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from jobs.core.enums import Step
from jobs.core.model import NULL_VERSION, Location, ObjectRef
from jobs.errors import ConfigError, Conflict, Denied, Interrupted, NotFound, PreconditionFailed, Rejected, StoreError
from jobs.s3.condition_trial import Operation, find_ignored, untried_error
from jobs.s3.retries import gather_bounded, retry
from jobs.s3.store import DELETED_AT_ONCE, Deleted, Store

LOOKS_AT_ONCE = 64


async def heeded_steps(store: Store, originals: Location) -> tuple[Step, ...]:
    """The steps in which the server is known to heed If-Match, now that the bucket keeps versions, or not.

    Raises ConfigError for a server that ignores it, and where that cannot be found out: nothing can be deleted safely
    there. Raises StoreError.
    """
    if store.heeds_conditions:
        return tuple(Step)
    is_versioned = await retry(lambda: store.is_versioned(originals.bucket))
    try:
        ignored = await find_ignored(store, originals, [Operation.DELETE])
    except (NotFound, Denied, Rejected) as error:
        raise untried_error(originals, error) from error
    if ignored:
        raise ConfigError(
            f"the server of {originals} deletes whatever If-Match says, or refuses an ETag that is there: nothing can "
            "be deleted safely there"
        )
    return (Step.HIDE if is_versioned else Step.REMOVE,)


@dataclass(frozen=True, slots=True)
class ExactDeletes:
    """Deletes in one bucket. Locks are never bypassed. `heeded`: the steps of `heeded_steps`."""

    store: Store
    bucket: str
    heeded: Collection[Step] = ()

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

        Call `check_heeded` before. Raises PreconditionFailed or NotFound when
        the object is another or gone. This request itself may have done that, when its first answer
        was lost and it was sent again (`StoreError.was_sent_once` says that it was not): look.
        """
        return await self.store.delete(self.bucket, key, if_match=etag, send_by=send_by)

    def check_heeded(self, steps: Collection[Step]) -> None:
        """Raise ConfigError for a step whose condition was not tried when the run was planned."""
        if set(steps) - set(self.heeded):
            raise ConfigError(
                f"s3://{self.bucket} keeps versions since the run was planned, or no longer, so whether its server "
                "heeds If-Match is not known",
                advice="plan again",
            )

    async def check_versioned(self) -> None:
        """Raise Conflict when the bucket no longer keeps versions: a delete would remove instead of
        hide.
        """
        if not await retry(lambda: self.store.is_versioned(self.bucket)):
            raise Conflict("GetBucketVersioning", self.bucket, "Raced", "it has been suspended meanwhile: look again")
