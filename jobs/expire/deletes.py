"""Deletes: in which steps a server heeds their conditions, and versions removed by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobs.core.enums import Step
from jobs.core.model import Location
from jobs.errors import ConfigError, Denied, Interrupted, NotFound, Rejected, StoreError
from jobs.s3.condition_trial import Operation, find_ignored, untried_error
from jobs.s3.retries import retry
from jobs.s3.store import DELETED_AT_ONCE, Store


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


async def remove_versions(
    store: Store, bucket: str, versions: Sequence[tuple[str, str]], send_by: float | None = None
) -> list[StoreError | None]:
    """Remove versions for good, each named by (key, version id). Locks are never bypassed.

    Return None for each, or why it stays. `send_by`: see `Store.delete`.

    A version id names the same bytes for ever, so no condition is necessary. `null` does not.
    Raises Interrupted only if no request was sent whose answer is unknown.
    """
    answers: list[StoreError | None] = []
    for start in range(0, len(versions), DELETED_AT_ONCE):
        group, failures = versions[start : start + DELETED_AT_ONCE], list[StoreError]()
        request = partial(store.delete_versions, bucket, group, send_by=send_by)
        try:
            answers += await retry(request, partial(_note, failures))
        except Interrupted as stop:
            if failures:  # its answer was lost, so it may have removed them
                raise failures[-1] from stop
            raise
    return answers


def _note(failures: list[StoreError], error: StoreError) -> None:
    if error.code == "TooLate":  # a later try is too late as well
        raise failures[-1] if failures else error
    failures.append(error)
