"""A row names exactly one version: that one goes, or none does. However many there are, a key is looked at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.errors import ConfigError
from jobs.ledger.tombstones import Tombstones
from tests.doubles.examples import examples
from tests.doubles.memory_store import Request
from tests.expire.scene import Shop, job, one, packed, row_of, shop, work

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
    assert one(store, row).status is Status.DONE
    assert store.contents() == {("k", newer.version_id): above}


def test_a_row_without_a_version_id_names_the_null_version() -> None:
    store = shop(versioned=False)
    row, newer = null_below(store, CONTENT)
    assert one(store, row._replace(version_id=None)).status is Status.DONE
    assert set(store.contents()) == {("k", newer.version_id)}


def test_an_object_of_which_the_server_keeps_no_versions_stays() -> None:
    """As SeaweedFS of keys that end with `/`, in a bucket that keeps versions: a delete removes the object."""
    store = shop()
    row, folder = store.original("k"), store.original("k/", number=1)

    async def head(request: Request) -> Any:
        found = await request()
        return replace(found, version_id=None) if request.place.key.endswith("/") else found

    store.hook(head=head)
    folder = folder._replace(version_id=None)
    assert [each.status for each in work(job(store), [row, folder])] == [Status.DONE, Status.BLOCKED]


def test_an_old_version_stays_whose_copy_the_next_replication_replaces() -> None:
    """It was removed, and then the only copy of its content was copied over."""
    store = shop()
    row = store.original()
    newer = store.put_now("docs", "k", b"newer")
    assert one(store, row).status is Status.BLOCKED
    asyncio.run(store.delete("docs", "k"))  # somebody may take that back, and then it is copied there
    assert one(store, row).status is Status.BLOCKED
    asyncio.run(store.delete("docs", "k", version_id=newer.version_id))  # now nothing will be
    assert one(store, row).status is Status.DONE
    assert not store.contents()


def _suspend(store: Shop) -> None:
    store._buckets.named["docs"].is_versioned = False


def _write_over(store: Shop) -> None:
    """With versioning suspended in between, and on again."""
    versions = store._buckets.named["docs"].versions["k"]
    versions[0].data, versions[0].etag = b"newer", "f" * 32


def _take_away(store: Shop) -> None:
    del store._buckets.named["docs"].versions["k"][0]


@pytest.mark.parametrize(("event", "left"), [(_suspend, [CONTENT]), (_write_over, [b"newer"]), (_take_away, [])])
def test_a_null_version_that_is_not_what_was_proven_any_more_stays(
    event: Callable[[Shop], None], left: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something happens between its proof and its delete."""
    store = shop(versioned=False)
    row, _ = null_below(store, b"above")
    made = job(store)
    real = Tombstones.announce

    async def announce(tombstones: Tombstones, intents: Any) -> str:
        event(store)
        return await real(tombstones, intents)

    monkeypatch.setattr(Tombstones, "announce", announce)
    with contextlib.suppress(ConfigError):  # where versioning is suspended, the documents of places have other ids
        assert work(made, [row])[0].status is Status.BLOCKED
    assert [data for (_, version_id), data in store.contents().items() if version_id == "null"] == left


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "marker", "enable"]), min_size=1, max_size=7), st.data())
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
    assert outcome.status is Status.DONE, outcome
    if outcome.detail == "hidden":
        assert chosen.is_latest
        assert [each.version_id for each in after[1:]] == [each.version_id for each in before]
    else:
        assert [each.version_id for each in after] == [
            each.version_id for each in before if each.version_id != chosen.version_id
        ]
