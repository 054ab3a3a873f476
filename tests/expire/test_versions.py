"""A row names exactly one version: that one goes, or none does. However many there are, a key is looked at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import ObjectInfo, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.errors import StoreError
from jobs.s3.store import Deleted, Page
from tests.doubles.examples import examples
from tests.expire.scene import (
    Shop,
    job,
    job_of_another_run,
    one,
    packed,
    replica,
    row_of,
    shop,
    work,
)

CONTENT = b"content"


def null_below(store: Shop, above: bytes) -> tuple[ObjectVersion, ObjectRef]:
    """The row of a null version, and what was written above it when the bucket began to keep versions."""
    store.put_now("docs", "k", CONTENT)
    store.enable_versioning("docs")
    ref = ObjectRef("docs", "k", "null")
    row = row_of(store, 0, ref, packed(store, [ref])[0])
    return row, store.put_now("docs", "k", above)


@pytest.mark.parametrize("above", [CONTENT, b"newer"], ids=["the same bytes", "other bytes"])
def test_a_null_version_beneath_another_goes_and_the_other_stays(above: bytes) -> None:
    store = shop(versioned=False)
    row, newer = null_below(store, above)
    outcome = one(store, row)
    assert outcome.status is Status.EXPIRED, outcome
    assert store.contents() == {("k", newer.version_id): above}
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == above


def test_a_row_without_a_version_id_names_the_newest_version_of_its_etag() -> None:
    store = shop(versioned=False)
    row, newer = null_below(store, CONTENT)
    outcome = one(store, row._replace(version_id=None))
    assert "hidden by the delete marker" in outcome.reason
    history = asyncio.run(store.list_versions("docs", "k")).entries
    assert [(each.version_id, each.is_delete_marker) for each in history[1:]] == [
        (newer.version_id, False),
        ("null", False),
    ]


def test_an_object_of_which_the_server_keeps_no_versions_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SeaweedFS of keys that end with `/`, in a bucket that keeps versions. Its delete removed the object, and the
    run said that it was hidden."""

    class Folders(Shop):
        async def head(self, ref: ObjectRef, **more: Any) -> Any:
            found = await super().head(ref, **more)
            return replace(found, version_id=None) if ref.key.endswith("/") else found

        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            deleted = await super().delete(bucket, key, **more)
            return Deleted(None, is_delete_marker=False) if key.endswith("/") else deleted

    store = Folders()
    store.create_bucket("docs")
    refs = [store.put_now("docs", key, b"content") for key in ("k", "k/")]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    rows[1] = rows[1]._replace(version_id=None, proof=rows[1].proof and rows[1].proof.replace('"v4"', "null"))
    outcomes = work(job(store), rows)
    assert [each.status for each in outcomes] == [Status.EXPIRED, Status.KEPT]
    assert "ends with a slash" in outcomes[1].reason
    monkeypatch.setattr("jobs.expire.rules._unnamed", lambda original, terms: "")
    [outcome] = work(job(store), [rows[1]._replace(row=2)])
    assert (outcome.status, outcome.reason) == (Status.EXPIRED, "removed for good: the server set no delete marker")


def test_a_null_version_that_was_hidden_is_removed_by_the_next_run() -> None:
    """It was called expired, and stayed."""
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", CONTENT)
    row = row_of(store, 0, ref, replica(store, ref))._replace(version_id="null")
    store.enable_versioning("docs")
    assert "hidden by the delete marker" in one(store, row).reason
    assert store.contents() == {("k", "null"): CONTENT}
    outcomes = asyncio.run(job_of_another_run(store, 0.0).process([row]))
    assert [each.status for each in outcomes] == [Status.EXPIRED], outcomes
    assert store.contents() == {}


def test_an_old_version_stays_whose_copy_the_next_replication_replaces() -> None:
    """It was removed, and then the only copy of its content was copied over."""
    store = shop()
    old = store.put_now("docs", "k", CONTENT)
    row = row_of(store, 0, old, replica(store, old))
    store.put_now("docs", "k", b"newer")
    outcome = one(store, row)
    assert (outcome.status, "takes the place of its copy" in outcome.reason) == (Status.KEPT, True), outcome
    asyncio.run(store.delete("docs", "k"))  # now nothing will be copied there
    assert one(store, row).status is Status.EXPIRED
    assert list(store.contents().values()) == [b"newer"]


class Meanwhile(Shop):
    """What somebody does between the proof of a null version and its delete."""

    def suspend(self) -> None:
        self._buckets.named["docs"].is_versioned = False

    def write_over(self) -> None:
        """With versioning suspended in between, and on again."""
        versions = self._buckets.named["docs"].versions["k"]
        versions[0].data, versions[0].etag = b"newer", "f" * 32

    def take_away(self) -> None:
        del self._buckets.named["docs"].versions["k"][0]


@pytest.mark.parametrize("event", ["suspend", "write_over", "take_away"])
def test_a_null_version_that_is_not_what_was_proven_any_more_stays(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Meanwhile()
    store.create_bucket("docs", versioned=False)
    row, _ = null_below(store, b"above")
    made = job(store)
    real = made.announcements.find

    async def find(copies: Any) -> list[str]:
        getattr(store, event)()
        return await real(copies)

    monkeypatch.setattr(type(made.announcements), "find", lambda self, copies: find(copies))
    outcome = work(made, [row])[0]
    assert (outcome.status, "changed or went away" in outcome.reason) == (Status.KEPT, True), outcome
    contents = [data for (_, version_id), data in store.contents().items() if version_id == "null"]
    assert contents == {"suspend": [CONTENT], "write_over": [b"newer"], "take_away": []}[event]


class Counting(Shop):
    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def head(self, ref: ObjectRef, **more: Any) -> ObjectInfo:
        self.asked["head of docs"] += ref.bucket == "docs"
        return await super().head(ref, **more)

    async def list_versions(self, bucket: str, prefix: str, **more: Any) -> Page:
        self.asked["history"] += bucket == "docs" and prefix == "k"
        return await super().list_versions(bucket, prefix, **more)

    async def delete_versions(self, *given: Any) -> list[StoreError | None]:
        self.asked["delete"] += 1
        return await super().delete_versions(*given)


def test_the_history_of_a_key_is_listed_once_for_all_its_versions() -> None:
    store = Counting()
    store.create_bucket("docs")
    refs = [store.put_now("docs", "k", b"%d" % number) for number in range(200)]
    rows = [
        row_of(store, number, ref, proof)
        for number, (ref, proof) in enumerate(zip(refs, packed(store, refs), strict=True))
    ]
    store.asked.clear()
    outcomes = work(job(store), rows)
    assert {outcome.status for outcome in outcomes} == {Status.EXPIRED}
    assert store.asked["history"] == 1
    assert store.asked["head of docs"] == 200  # each older version, and the current one
    assert store.asked["delete"] == 1
    assert list(store.contents()) == [("k", refs[-1].version_id)]


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "marker", "enable"]), min_size=1, max_size=7),
    st.data(),
)
def test_exactly_the_version_that_a_row_names_goes_whatever_lies_around_it(history: list[str], data: Any) -> None:
    """Also with equal bytes, delete markers and null versions. An archive has each object."""
    store = shop(versioned=False)
    is_versioned = False
    for what in history:
        if what == "enable":
            store.enable_versioning("docs")
            is_versioned = True
        elif what != "marker":
            store.put_now("docs", "k", what.encode())
        elif is_versioned:
            asyncio.run(store.delete("docs", "k"))
    before = asyncio.run(store.list_versions("docs", "k")).entries
    versions = [each for each in before if not each.is_delete_marker]
    if not versions:
        return
    chosen = data.draw(st.sampled_from(versions))
    ref = ObjectRef("docs", "k", chosen.version_id)
    row = row_of(store, 0, ref, packed(store, [ref])[0])._replace(version_id=chosen.version_id)
    outcome = one(store, row)
    after = asyncio.run(store.list_versions("docs", "k")).entries
    assert outcome.status is Status.EXPIRED, outcome
    if "hidden by" in outcome.reason:
        assert chosen.is_latest
        assert [each.version_id for each in after[1:]] == [each.version_id for each in before]
    else:
        assert [each.version_id for each in after] == [
            each.version_id for each in before if each.version_id != chosen.version_id
        ]
