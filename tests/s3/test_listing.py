"""A parallel listing gives every entry exactly once, whatever the keys, the concurrency and the server's order."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Listed, Location
from jobs.errors import Denied, Rejected, Throttled, Unavailable
from jobs.s3.listing import MAX_BRANCHES, list_all
from jobs.s3.retries import Tries
from jobs.s3.store import Marker, Page, Store
from tests.doubles.examples import examples

BYTES = str
KEY = st.text(alphabet="a/0-.é\U00010000", min_size=1, max_size=10)


def tree(key):
    """The order of a directory tree: SeaweedFS lists `a/1` before `a.txt`."""
    return key.replace("/", "\0")


def scrambled(key):
    """An order in which the keys of a prefix are no neighbours (SeaweedFS's versions come close to it)."""
    return hashlib.md5(key.encode()).hexdigest()


class Pages:
    """The listing half of a Store over given entries, in small pages; answers in a shuffled order of time."""

    def __init__(self, entries, *, order=BYTES, page_keys=1000, delays=(0,), fail_at=None, error=None, heal_at=10**9):
        self.entries = sorted(entries, key=lambda entry: order(entry.key))
        self.order, self.page_keys, self.delays = order, page_keys, delays
        self.fail_at, self.heal_at, self.error = fail_at, heal_at, error
        self.requests = self.running = 0
        self.places: list[str] = []

    async def list_objects(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        page = await self.list_versions(bucket, prefix, after=after, delimiter=delimiter, max_keys=max_keys)
        if page.next_marker:  # S3 goes on by a token, which has nothing to do with `start-after`
            return page._replace(next_marker=Marker(page.next_marker.key, None, "token"))
        return page

    async def list_versions(self, bucket, prefix, *, after=None, delimiter="", max_keys=1000):
        self.requests += 1
        self.running += 1
        number = self.requests
        try:
            for _ in range(self.delays[number % len(self.delays)]):
                await asyncio.sleep(0)
            if self.fail_at is not None and self.fail_at <= number < self.heal_at:
                raise self.error
            return self._page(prefix, after, min(max_keys, self.page_keys))
        finally:
            self.running -= 1

    def _page(self, prefix, after, limit):
        found = [entry for entry in self.entries if entry.key.startswith(prefix)]
        if after is not None:
            self.places.append(after.key)
            found = [entry for entry in found if self._is_behind(entry, after)]
        more = Marker(found[limit - 1].key, found[limit - 1].version_id) if len(found) > limit else None
        return Page(found[:limit], [], more)

    def _is_behind(self, entry, after):
        if self.order is tree and not after.version_id and not after.token and entry.key.startswith(after.key + "/"):
            return False  # SeaweedFS, started after a directory's name, leaves the directory out
        if entry.key == after.key:
            return after.version_id is not None and entry.version_id > after.version_id
        return self.order(entry.key) > self.order(after.key)


def entry(key, version="1"):
    return Listed(key, version, True, False, 1, "e", 0.0, "STANDARD")


def collect(store, prefix="", *, versions=False, concurrency=4):
    async def run():
        return [
            page
            async for page in list_all(
                cast(Store, store), Location("bucket", prefix), versions=versions, concurrency=concurrency
            )
        ]

    return asyncio.run(run())


@settings(max_examples=examples(300))
@given(
    contents=st.dictionaries(KEY, st.integers(1, 5), max_size=60),
    prefix=st.sampled_from(["", "a", "a/", "0-"]),
    versions=st.booleans(),
    concurrency=st.integers(1, 9),
    page_keys=st.integers(1, 7),
    order=st.sampled_from([BYTES, tree]),
    delays=st.lists(st.integers(0, 12), min_size=1, max_size=7),
)
def test_each_entry_comes_exactly_once(contents, prefix, versions, concurrency, page_keys, order, delays):
    counts = {key: count if versions else 1 for key, count in contents.items()}
    entries = [entry(key, str(version)) for key, count in counts.items() for version in range(count)]
    store = Pages(entries, order=order, page_keys=page_keys, delays=delays)
    listed = [one for page in collect(store, prefix, versions=versions, concurrency=concurrency) for one in page]
    assert sorted(listed) == sorted(one for one in entries if one.key.startswith(prefix))
    for key in contents:
        of_key = [one.version_id for one in listed if one.key == key]
        assert of_key == sorted(of_key)  # the versions of a key are never torn between ranges


def test_a_server_without_order_is_listed_page_by_page():
    entries = [entry(f"{number % 7}/{number}") for number in range(500)]
    store = Pages(entries, order=scrambled, page_keys=20)
    assert sorted(one for page in collect(store, concurrency=8) for one in page) == sorted(entries)
    assert store.requests == 25


@settings(max_examples=examples(100))
@given(keys=st.sets(KEY, max_size=40), concurrency=st.integers(2, 9))
def test_a_listing_ends_even_where_disorder_shows_late(keys, concurrency):
    store = Pages([entry(key) for key in keys], order=scrambled, page_keys=2, delays=(1, 5, 2))
    listed = [one for page in collect(store, versions=True, concurrency=concurrency) for one in page]
    assert set(listed) <= set(store.entries)


def test_a_flat_counter_is_shared_between_the_workers_at_little_cost():
    entries = [entry(f"a/{number:06d}") for number in range(1, 5_001)]
    store = Pages(entries, page_keys=25, delays=(3,))
    alone, shared = Pages(entries, page_keys=25, delays=(3,)), store
    assert sum(map(len, collect(alone, concurrency=1))) == 5_000
    assert sum(map(len, collect(shared, concurrency=16))) == 5_000
    assert alone.requests == 200
    assert shared.requests <= 500
    pages_in_a_row = [place for place in shared.places if not place.endswith("\U0010ffff")]
    assert len(pages_in_a_row) < 190  # many pages began a range of their own: they needed no page before


def test_one_worker_asks_for_nothing_but_pages():
    store = Pages([entry(f"k{number}") for number in range(10)], page_keys=3)
    collect(store, concurrency=1)
    assert store.requests == 4


def test_a_fork_into_more_branches_than_ranges_keeps_the_rest_together():
    entries = [entry(chr(0x4E00 + number) + suffix) for number in range(3 * MAX_BRANCHES) for suffix in "xy"]
    listed = [one for page in collect(Pages(entries, page_keys=5, delays=(1, 4, 2))) for one in page]
    assert sorted(listed) == sorted(entries)


@pytest.mark.parametrize("fail_at", [1, 2, 5, 9, 20])
def test_an_error_of_any_request_reaches_the_caller(fail_at):
    error = Denied("ListObjectsV2", "s3://bucket/", "AccessDenied")
    store = Pages([entry(f"a/{number:03d}") for number in range(300)], page_keys=7, fail_at=fail_at, error=error)
    with pytest.raises(Denied):
        collect(store)


UNANSWERED = Unavailable("ListObjectsV2", "s3://bucket/", "ConnectionLost")
MALFORMED = Unavailable("ListObjectsV2", "s3://bucket/", "MalformedAnswer", status=200)


@pytest.mark.parametrize("error", [Throttled("ListObjectsV2", "s3://bucket/", "SlowDown", status=503), UNANSWERED])
@pytest.mark.parametrize("fail_at", [2, 5, 9, 20])
def test_a_listing_outlives_failures_that_pass(fail_at, error, monkeypatch):
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    entries = [entry(f"a/{number:03d}") for number in range(300)]
    store = Pages(entries, page_keys=7, fail_at=fail_at, heal_at=fail_at + 400, error=error)
    assert sorted(one for page in collect(store) for one in page) == entries


@pytest.mark.parametrize(("error", "seconds"), [(UNANSWERED, 0.0), (MALFORMED, 300.0)])
def test_failures_that_do_not_pass_end_a_listing(error, seconds, monkeypatch):
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    monkeypatch.setattr("jobs.s3.listing.persist", Tries(seconds=seconds))
    store = Pages([entry(f"a/{number:03d}") for number in range(300)], page_keys=7, fail_at=5, error=error)
    with pytest.raises(Unavailable):
        collect(store)


def test_a_server_that_does_not_answer_at_all_ends_a_listing_at_once():
    store = Pages([entry("a")], fail_at=1, error=UNANSWERED)
    with pytest.raises(Unavailable):
        collect(store)
    assert store.requests == 1


def test_a_server_that_rejects_the_places_between_keys_is_listed_page_by_page():
    class Strict(Pages):
        def _page(self, prefix, after, limit):
            if after is not None and after.key not in {one.key for one in self.entries}:
                raise Rejected("ListObjectsV2", "s3://bucket/", "InvalidArgument", status=400)
            return super()._page(prefix, after, limit)

    entries = [entry(f"a/{number:03d}") for number in range(300)]
    assert sorted(one for page in collect(Strict(entries, page_keys=7)) for one in page) == entries


def test_stopping_early_cancels_what_is_under_way():
    store = Pages([entry(f"a/{number:05d}") for number in range(5000)], page_keys=10, delays=(1, 50))

    async def run():
        async with aclosing(list_all(cast(Store, store), Location("bucket"), versions=False)) as pages:
            async for _ in pages:
                break
        assert store.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert store.requests < 500
