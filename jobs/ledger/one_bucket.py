"""One bucket under two names: what an access point shows is looked at, its name says nothing.

A run whose sides overlap would copy its own copies, and one that writes into the ledger's place
could replace documents there. Names of buckets settle that (`check_apart`). The name of an access
point does not say its bucket, and asking for it takes a permission that few workers have.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.core.bucket_names import is_second_name
from jobs.core.model import Listed, overlap
from jobs.core.run import RunSpec, Side
from jobs.errors import Denied, Rejected, UsageError
from jobs.ledger.ledger import Ledger
from jobs.s3.retries import retry
from jobs.s3.sessions import are_apart, open_side


async def check_two_places(source: Side, destination: Side) -> None:
    """Check that no access point has one side show what the other does.

    The first version below both is looked at: two buckets do not get one at the same time, with the
    same id. Raises UsageError and StoreError.
    """
    if _may_be_one(source, destination) and await _show_the_same(source, destination):
        raise UsageError(
            f"{source.location} and {destination.location} show the same first object, written at the same time: an "
            "access point and its bucket would be one place",
            advice="name both buckets by their own names",
        )


async def warning_of_one(source: Side, destination: Side) -> str:
    """A warning where two endpoints show the same first version of a bucket. Else an empty text.

    S3's own replication keeps times and ids, so it is no error. Raises StoreError.
    """
    is_named_alike = source.location.bucket == destination.location.bucket and are_apart(source, destination)
    if not is_named_alike or not await _show_the_same(source, destination):
        return ""
    return (
        f"both endpoints show the same first version of {source.location}, with one time: if they lead to one bucket, "
        "it is compared with itself, and nothing is a copy"
    )


async def check_ledger_apart(spec: RunSpec, ledger: Ledger) -> None:
    """Check that no side of a run shows the ledger, which has the run's spec by now.

    No other bucket has a key with the run's id. Raises UsageError, and StoreError where a side cannot be listed.
    """
    for name, side in (("source", spec.source), ("destination", spec.destination)):
        if _may_be_one(side, Side(ledger.location)) and await _first(side, ledger.at(spec.run_id, "spec.json").key):
            raise UsageError(
                f"the {name} {side.location} is an access point of the ledger's bucket and shows {ledger.location}: "
                "copies would be written over documents of the ledger, or the other way",
                advice="name places of their own",
            )


def _may_be_one(side: Side, other: Side) -> bool:
    buckets = side.location.bucket, other.location.bucket
    if buckets[0] == buckets[1] or not any(map(is_second_name, buckets)):
        return False
    is_elsewhere = side.region and other.region and side.region != other.region
    return not is_elsewhere and overlap(side.location.key, other.location.key) and not are_apart(side, other)


async def _show_the_same(source: Side, destination: Side) -> bool:
    prefix = max(source.location.key, destination.location.key, key=len)
    ours, theirs = [await _first(side, prefix) for side in (source, destination)]
    return bool(ours) and ours == theirs


async def _first(side: Side, prefix: str) -> Sequence[Listed]:
    """The first version below a prefix, or the first object where versions may not be listed."""
    bucket, store = side.location.bucket, open_side(side, max_in_flight=4)
    try:
        try:
            page = await retry(lambda: store.list_versions(bucket, prefix, max_keys=1))
        except (Denied, Rejected):
            page = await retry(lambda: store.list_objects(bucket, prefix, max_keys=1))
        return page.entries
    finally:
        await store.close()
