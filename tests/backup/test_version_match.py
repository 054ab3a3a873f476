"""Version matching by identity: where nothing has a version id, the ETag tells objects apart."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from jobs.backup.copy_candidates import CopyIndex
from jobs.backup.version_match import VersionMatcher, identity
from jobs.core.model import Attributes, Listed, ObjectRef
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import Conflict
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore, Request

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


async def test_what_was_said_of_an_object_is_not_said_of_the_one_that_replaced_it() -> None:
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


def test_a_copy_of_an_object_is_no_copy_of_the_one_that_replaced_it() -> None:
    known = matcher(MemoryStore())
    first, second = listed("a"), listed("b")
    made = Outcome(0, "k", None, Status.COPIED, evidence=Evidence.CHECKSUM, destination_etag="a")
    known.record_copy(identity(first), made)
    assert known.verdict(first, listed("a", "null")).same is True
    with pytest.raises(KeyError):
        known.verdict(second, listed("a", "null"))


KMS = {"sse": "aws:kms"}


class Scene:
    """One key in two buckets, written in the order of the calls, an hour apart."""

    def __init__(self, **options: Any) -> None:
        seconds, self.asked = itertools.count(1e9, 3600.0), Counter[str]()
        self.store = MemoryStore(clock=lambda: next(seconds), **options)
        for bucket in ("docs", "hot"):
            self.store.create_bucket(bucket)
        self.store.hook(every=self._count)

    async def _count(self, request: Request) -> Any:
        self.asked[f"{request.operation} {request.place.bucket}"] += 1
        return await request()

    def put(self, bucket: str, data: bytes, **attributes: Any) -> Listed:
        async def write() -> Listed:
            written = await MemoryStore.put(self.store, bucket, "k", data, Attributes(**attributes), guard=UNGUARDED)
            entries = (await MemoryStore.list_versions(self.store, bucket, "k")).entries
            return next(each for each in entries if each.version_id == written.version_id)

        return asyncio.run(write())

    def find(self, version: Listed, copies: Sequence[Listed], limit_bytes: int | None = None, **options: Any) -> Any:
        """The place of the copy. `depth` is that of the top."""
        known = VersionMatcher(self.store, SOURCE, self.store, DESTINATION, ByteBudget(1 << 20), limit_bytes)
        return asyncio.run(known.find_copy(version, CopyIndex(copies), 0, **options))

    def is_older_on_top(self, older: Sequence[Listed], top: Listed) -> bool:
        known = VersionMatcher(self.store, SOURCE, self.store, DESTINATION, ByteBudget(1 << 20))
        return asyncio.run(known.is_older_on_top(older, top))


@pytest.mark.parametrize(
    ("ours", "theirs", "is_copy"),
    [
        ({}, {}, True),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "1"}}, True),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, False),
        ({"headers": {"content-type": "text/html"}}, {"headers": {"content-type": "text/plain"}}, False),
        ({"headers": {"x-amz-website-redirect-location": "/x"}}, {}, True),
        ({"tags": {"t": "1"}}, {"tags": {"t": "1"}}, True),
        ({"tags": {"t": "1"}}, {"tags": {"t": "2"}}, False),
        ({"tags": {"t": "1"}}, {}, False),
    ],
)
def test_a_copy_has_the_same_headers_metadata_and_tags(
    ours: dict[str, Any], theirs: dict[str, Any], is_copy: bool
) -> None:
    scene = Scene()
    version, copy = scene.put("docs", b"body", **ours), scene.put("hot", b"body", **theirs)
    assert scene.find(version, [copy]) == (0 if is_copy else None)
    assert scene.asked["get_tags docs"] == (1 if ours.get("tags") and theirs.get("tags") else 0)
    assert (scene.asked["head docs"], scene.asked["head hot"]) == (1, 1)


@pytest.mark.parametrize("attributes", [{}, KMS])
def test_other_bytes_are_no_copy_and_are_read_only_where_nothing_else_tells(attributes: dict[str, Any]) -> None:
    scene = Scene(default_checksum=None)
    version = scene.put("docs", b"body", **attributes)
    other, same = scene.put("hot", b"BODY", **attributes), scene.put("hot", b"body", **attributes)
    assert scene.find(version, [same, other]) == 0
    assert scene.find(version, [other]) is None
    assert bool(scene.asked["get hot"]) is bool(attributes)


def test_copies_whose_md5_differs_cost_no_look() -> None:
    """The first HEAD of the destination shows that its ETags are MD5s."""
    scene = Scene(default_checksum=None)
    version = scene.put("docs", b"body")
    copies = [scene.put("hot", b"%4d" % number) for number in range(10)]
    assert scene.find(version, copies) is None
    assert scene.asked["head hot"] == 1
    assert scene.find(version, [scene.put("hot", b"body"), *copies]) == 0


@pytest.mark.parametrize(
    ("is_only", "is_exact", "is_older", "counts"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_an_archived_copy_that_cannot_be_compared_counts_for_the_only_version_of_its_size(
    is_only: bool, is_exact: bool, is_older: bool, counts: bool
) -> None:
    scene = Scene(default_checksum=None)
    version = scene.put("docs", b"body", **KMS)
    copy = scene.put("hot", b"body", storage_class="GLACIER", **KMS)
    if is_older:
        copy = copy._replace(last_modified=version.last_modified - 1)
    if not is_exact:
        version = version._replace(version_id=None)
    assert scene.find(version, [copy], is_only=is_only) == (0 if counts else None)


def test_an_older_version_on_top_is_seen_by_its_bytes() -> None:
    scene = Scene(default_checksum=None)
    older = [scene.put("docs", b"%4d" % number, **KMS) for number in range(3)]
    top = scene.put("hot", b"   1", **KMS)
    assert scene.is_older_on_top(older, top)
    assert not scene.is_older_on_top([older[0], older[2]], top)
    assert not scene.is_older_on_top([], top)
    assert not scene.is_older_on_top(older, scene.put("hot", b"another size", **KMS))


@pytest.mark.parametrize("bucket", ["docs", "hot"])
def test_what_is_gone_is_no_copy(bucket: str) -> None:
    scene = Scene()
    version, copy = scene.put("docs", b"body"), scene.put("hot", b"body")
    gone = version if bucket == "docs" else copy
    asyncio.run(scene.store.delete(bucket, "k", version_id=gone.version_id))
    assert scene.find(version, [copy]) is None


def test_a_copy_under_kms_is_looked_at_though_its_etag_is_no_md5() -> None:
    """Nothing was said of the destination's ETags yet, so they tell nothing."""
    scene = Scene(default_checksum=None)
    version, copy = scene.put("docs", b"body"), scene.put("hot", b"body", **KMS)._replace(etag="f" * 32)
    known = VersionMatcher(scene.store, SOURCE, scene.store, DESTINATION, ByteBudget(1 << 20))
    assert asyncio.run(known.describe(version)).size_bytes == asyncio.run(known.describe(version)).size_bytes == 4
    assert scene.asked["head docs"] == 1
    assert asyncio.run(known.find_copy(version, CopyIndex([copy]), 0)) == 0


def test_what_size_and_time_rule_out_on_top_costs_no_look() -> None:
    scene = Scene()
    older = [scene.put("docs", b"body")]
    top = scene.put("hot", b"another size")
    scene.asked.clear()
    assert not scene.is_older_on_top(older, top)
    assert not scene.asked


@pytest.mark.parametrize(
    ("attributes", "etag", "copy_etag"), [(KMS, "e" * 32, None), ({}, None, "e" * 32 + "-2")], ids=["KMS", "in parts"]
)
def test_etags_tell_only_where_both_are_md5s(
    attributes: dict[str, Any], etag: str | None, copy_etag: str | None
) -> None:
    """The top copy shows that the destination has MD5s. It says nothing of the source, or of another copy."""
    scene = Scene(default_checksum=None)
    version = scene.put("docs", b"body", **attributes)
    copy, top = scene.put("hot", b"body"), scene.put("hot", b"BODY")
    version, copy = version._replace(etag=etag or version.etag), copy._replace(etag=copy_etag or copy.etag)
    assert scene.find(version, [copy, top]) == 0


def test_a_copy_that_was_just_made_is_known_by_its_version() -> None:
    known = matcher(MemoryStore())
    made = Outcome(0, "k", None, Status.COPIED, destination_version_id="v9", destination_etag="a")
    known.record_copy(identity(listed("a", "v1")), made)
    assert known.verdict(listed("a", "v1"), listed("a", "v9")).same is True


def test_an_archived_version_cannot_be_compared_by_bytes() -> None:
    scene = Scene(default_checksum=None)
    version = scene.put("docs", b"body", storage_class="GLACIER", **KMS)
    copy = scene.put("hot", b"body", **KMS)
    assert scene.find(version, [copy]) is None
    assert scene.find(version, [copy], is_only=True) == 0


def test_each_side_is_asked_at_its_own_service() -> None:
    here, there = Scene(), Scene()
    version = here.put("docs", b"body", tags={"a": "1"})
    copy = there.put("hot", b"body", tags={"a": "1"})
    known = VersionMatcher(here.store, SOURCE, there.store, DESTINATION, ByteBudget(1 << 20))
    assert asyncio.run(known.find_copy(version, CopyIndex([copy]), 0)) == 0
    assert (here.asked["head docs"], there.asked["head hot"]) == (1, 1)
    assert (here.asked["get_tags docs"], there.asked["get_tags hot"]) == (1, 1)


def test_a_copy_without_an_id_that_was_overwritten_after_the_listing_is_a_conflict() -> None:
    scene = Scene()
    version, copy = scene.put("docs", b"body"), scene.put("hot", b"body")
    with pytest.raises(Conflict, match="overwritten"):
        scene.find(version, [copy._replace(version_id=None, etag="e" * 32)])
