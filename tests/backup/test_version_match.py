"""Version matching by identity: where nothing has a version id, the ETag tells objects apart."""

from __future__ import annotations

import asyncio

import pytest

from jobs.backup.version_match import VersionMatcher, identity
from jobs.core.model import Attributes, Listed, ObjectRef
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore

SOURCE, DESTINATION = ObjectRef("docs", "k"), ObjectRef("hot", "k")


def listed(etag: str, version_id: str | None = None) -> Listed:
    return Listed("k", version_id, True, False, 1, etag, 1.0, "STANDARD")


def matcher(store: MemoryStore) -> VersionMatcher:
    return VersionMatcher(store, SOURCE, store, DESTINATION, ByteBudget(1 << 20))


@pytest.mark.parametrize("spelled", [None, "null"])
def test_a_version_without_an_id_of_its_own_is_the_object_with_its_etag(spelled: str | None) -> None:
    assert identity(listed("a", spelled)) == identity(listed("a", "null"))
    assert identity(listed("a", spelled)) != identity(listed("b", "null"))
    assert identity(listed("a", "v1")) != identity(listed("a", spelled))


def test_what_was_said_of_an_object_is_not_said_of_the_one_that_replaced_it() -> None:
    async def scene() -> None:
        store = MemoryStore()
        store.create_bucket("docs", versioned=False)
        one = await store.put(*SOURCE[:2], b"first", Attributes(), guard=UNGUARDED)
        known = matcher(store)
        first = listed(one.etag)
        assert (await known.describe(first)).size_bytes == 5
        two = await store.put(*SOURCE[:2], b"the second", Attributes(), guard=UNGUARDED)
        assert (await known.describe(listed(two.etag))).size_bytes == 10
        with pytest.raises(Conflict, match="overwritten"):
            await matcher(store).describe(first)

    asyncio.run(scene())


def test_a_copy_of_an_object_is_no_copy_of_the_one_that_replaced_it() -> None:
    known = matcher(MemoryStore())
    first, second = listed("a"), listed("b")
    made = Outcome(0, "k", None, Status.COPIED, evidence=Evidence.CHECKSUM, destination_etag="a")
    known.record_copy(identity(first), made)
    assert known.verdict(first, listed("a", "null")).same is True
    with pytest.raises(KeyError):
        known.verdict(second, listed("a", "null"))
