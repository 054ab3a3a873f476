"""A listing that was killed goes on where it was: each entry once, and nothing of another listing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Listed, Location, ObjectRef
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.errors import ConfigError, Rejected, Unavailable
from jobs.inventory import listing_record
from jobs.inventory.listing_record import ListingRecord, describe_age, open_record
from jobs.inventory.write import InventoryWritten, write_inventory
from jobs.ledger.ledger import Ledger
from jobs.runs.request import Request, manifest_rows
from jobs.s3.listing import list_all
from jobs.s3.store import Store
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
from tests.s3.test_listing import BYTES, KEY, Pages, entry, tree

PLACE = Location("bucket", "")
SIDE = Side(PLACE, endpoint="http://127.0.0.1:1", region="us-east-1")


class Killed(BaseException):
    """The process is gone, and writes nothing more."""


@pytest.fixture(autouse=True)
def eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records from the first page on, in a folder of the test's own."""
    monkeypatch.setattr(listing_record, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(listing_record, "SAVE_ROWS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "k")


def listed(store: Pages, record: ListingRecord, *, versions: bool = True, concurrency: int = 4) -> list[Listed]:
    async def run() -> list[Listed]:
        found = list_all(cast(Store, store), PLACE, versions=versions, concurrency=concurrency, record=record)
        async with aclosing(found) as pages:
            return [one async for page in pages for one in page]

    return asyncio.run(run())


def die(record: ListingRecord, *_: Any) -> None:
    """What a killed process does at the end of a listing. Its lock goes with it."""
    record._is_kept = False
    record._release()


@settings(max_examples=examples(200), deadline=None)
@given(
    contents=st.dictionaries(KEY, st.integers(1, 4), min_size=1, max_size=50),
    versions=st.booleans(),
    concurrency=st.integers(1, 6),
    page_keys=st.integers(1, 7),
    order=st.sampled_from([BYTES, tree]),
    delays=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    killed_at=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    is_hard=st.booleans(),
    save_rows=st.sampled_from([1, 5, 20]),
)
def test_each_entry_comes_once_however_often_its_listing_is_killed(
    contents: dict[str, int],
    versions: bool,
    concurrency: int,
    page_keys: int,
    order: Any,
    delays: list[int],
    killed_at: list[int],
    is_hard: bool,
    save_rows: int,
) -> None:
    counts = {key: count if versions else 1 for key, count in contents.items()}
    entries = [entry(key, str(version)) for key, count in counts.items() for version in range(count)]
    with (
        mock.patch.object(listing_record, "SAVE_ROWS", save_rows),
        mock.patch.object(ListingRecord, "save_last", die if is_hard else ListingRecord.save_last),
    ):
        for at in killed_at:
            store = Pages(entries, order=order, page_keys=page_keys, delays=delays, fail_at=at, error=Killed())
            try:
                listed(store, open_record(SIDE, PLACE, versions=versions), versions=versions, concurrency=concurrency)
            except Killed:
                continue
            break
    record = open_record(SIDE, PLACE, versions=versions)
    store = Pages(entries, order=order, page_keys=page_keys, delays=delays)
    found = listed(store, record, versions=versions, concurrency=concurrency)
    record.forget()
    assert sorted(found) == sorted(entries)
    for key in contents:
        of_key = [one.version_id or "" for one in found if one.key == key]
        assert of_key == sorted(of_key)


ENTRIES = [entry(f"{number:04d}") for number in range(1000)]


def stop_at(request: int, error: BaseException) -> int:
    """List until this request fails. Returns how many requests there were."""
    store = Pages(ENTRIES, page_keys=10, fail_at=request, error=error)
    with pytest.raises(type(error)):
        listed(store, open_record(SIDE, PLACE, versions=True), concurrency=1)
    return store.requests


def test_a_listing_that_loses_its_network_asks_only_for_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.PERSIST_SECONDS", 0.0)
    stop_at(91, Unavailable("ListObjectVersions", "s3://bucket/", "ConnectionLost"))
    record, again = open_record(SIDE, PLACE, versions=True), Pages(ENTRIES, page_keys=10)
    assert sorted(listed(again, record, concurrency=1)) == ENTRIES
    assert again.requests == 10
    record.forget()
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_a_plan_says_how_old_the_first_part_of_its_listing_is() -> None:
    began = time.time() - 7_200
    with mock.patch("time.time", return_value=began):
        stop_at(50, Killed())
    record = open_record(SIDE, PLACE, versions=True)
    assert record.begun_at == began
    spelled = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    assert describe_age([record]) == f", of which the first part is as of {spelled}"
    assert describe_age([open_record(SIDE, PLACE, versions=False)]) == ""


@pytest.mark.parametrize(
    ("side", "place", "versions"),
    [
        (SIDE, Location("other", ""), True),
        (SIDE, Location("bucket", "a"), True),
        (SIDE, PLACE, False),
        (Side(PLACE, endpoint="http://127.0.0.1:2", region="us-east-1"), PLACE, True),
    ],
)
def test_a_record_is_never_that_of_another_listing(side: Side, place: Location, versions: bool) -> None:
    stop_at(50, Killed())
    assert open_record(side, place, versions=versions).left is None
    assert open_record(SIDE, PLACE, versions=True).left is not None


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_a_bucket_of_the_same_name_in_another_partition_of_aws_has_another_record(region: str) -> None:
    store = Pages(ENTRIES, page_keys=10, fail_at=50, error=Killed())
    with pytest.raises(Killed):
        listed(store, open_record(Side(PLACE, region="us-east-1"), PLACE, versions=True), concurrency=1)
    assert open_record(Side(PLACE, region=region), PLACE, versions=True).left is None
    assert open_record(Side(PLACE, region="eu-west-1"), PLACE, versions=True).left is not None


def test_another_tenant_of_a_server_has_another_record(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(50, Killed())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    assert open_record(SIDE, PLACE, versions=True).left is None


@pytest.mark.parametrize("hours", [-1.0, 24.1])
def test_a_record_of_another_day_or_of_the_future_is_not_continued(hours: float) -> None:
    stop_at(50, Killed())
    now = time.time() + hours * 3600
    with mock.patch("time.time", return_value=now):
        record = open_record(SIDE, PLACE, versions=True)
        assert record.left is None
        assert sorted(listed(Pages(ENTRIES, page_keys=10), record)) == ENTRIES


def test_a_short_listing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_record, "RECORD_SECONDS", 60.0)
    stop_at(50, Killed())
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_two_processes_do_not_share_a_record() -> None:
    stop_at(50, Killed())
    first, second = (open_record(SIDE, PLACE, versions=True) for _ in range(2))
    assert first.left is not None
    assert second.left is None
    assert sorted(listed(Pages(ENTRIES, page_keys=10), second)) == ENTRIES
    assert sorted(listed(Pages(ENTRIES, page_keys=10), first)) == ENTRIES


def test_a_listing_that_began_beside_another_mixes_nothing_into_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the record's folder once the other one is gone, and is killed within its first minute."""
    stop_at(50, Killed())
    first, beside = (open_record(SIDE, PLACE, versions=True) for _ in range(2))
    die(first)
    monkeypatch.setattr(listing_record, "RECORD_SECONDS", 60.0)
    monkeypatch.setattr(ListingRecord, "save_last", die)
    store = Pages(ENTRIES[500:], page_keys=10, fail_at=5, error=Killed())
    with pytest.raises(Killed):
        listed(store, beside, concurrency=1)
    found = listed(Pages(ENTRIES, page_keys=10), open_record(SIDE, PLACE, versions=True))
    assert sorted(found) == ENTRIES


def test_a_record_that_went_on_before_it_was_locked_is_read_as_it_is_then() -> None:
    stop_at(50, Killed())
    acquire = ListingRecord._acquire

    def go_on_first(record: ListingRecord) -> bool:
        with mock.patch.object(ListingRecord, "_acquire", acquire):
            stop_at(20, Killed())
        return acquire(record)

    with mock.patch.object(ListingRecord, "_acquire", go_on_first):
        record = open_record(SIDE, PLACE, versions=True)
    again = Pages(ENTRIES, page_keys=10)
    assert sorted(listed(again, record, concurrency=1)) == ENTRIES
    assert again.requests <= 100 - 49 - 19 + 1


def test_a_folder_that_others_could_write_is_not_read(tmp_path: Path) -> None:
    stop_at(50, Killed())
    [folder] = (tmp_path / "sealift" / "listings").iterdir()
    os.chmod(folder, 0o777)
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_a_damaged_part_is_said_and_removed(tmp_path: Path) -> None:
    stop_at(50, Killed())
    next(tmp_path.rglob("part-00000")).write_bytes(b"junk")
    with pytest.raises(ConfigError, match="start the same command again"):
        listed(Pages(ENTRIES, page_keys=10), open_record(SIDE, PLACE, versions=True))
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_a_bit_that_flipped_in_a_part_is_found(tmp_path: Path) -> None:
    """Decompressed as it is, it is another key."""
    stop_at(50, Killed())
    part = next(tmp_path.rglob("part-00000"))
    data = bytearray(part.read_bytes())
    data[data.index(b"0000")] ^= 4
    part.write_bytes(data)
    with pytest.raises(ConfigError, match="start the same command again"):
        listed(Pages(ENTRIES, page_keys=10), open_record(SIDE, PLACE, versions=True))


def test_a_part_of_another_record_is_found(tmp_path: Path) -> None:
    stop_at(50, Killed())
    first, *_, last = sorted(tmp_path.rglob("part-*"))
    last.write_bytes(first.read_bytes())
    with pytest.raises(ConfigError, match="start the same command again"):
        listed(Pages(ENTRIES, page_keys=10), open_record(SIDE, PLACE, versions=True))


def test_a_place_that_the_server_no_longer_takes_ends_the_record() -> None:
    stop_at(50, Killed())
    error = Rejected("ListObjectVersions", "s3://bucket/", "InvalidArgument", "", 400)
    with pytest.raises(Rejected):
        listed(Pages(ENTRIES, page_keys=10, fail_at=1, error=error), open_record(SIDE, PLACE, versions=True))
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_a_full_disk_ends_the_record_and_not_the_listing() -> None:
    with mock.patch.object(Path, "write_bytes", side_effect=OSError(28, "No space left on device")):
        found = listed(Pages(ENTRIES, page_keys=10), open_record(SIDE, PLACE, versions=True))
    assert sorted(found) == ENTRIES
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_an_inventory_that_was_killed_goes_on_and_dates_from_its_first_beginning() -> None:
    """Who reads the report judges nothing that is newer."""
    target = MemoryStore()
    target.create_bucket("reports")

    async def write(store: Pages, record: ListingRecord) -> InventoryWritten:
        return await write_inventory(
            cast(Store, store),
            PLACE,
            cast(Store, target),
            Location("reports", "x"),
            versions=True,
            file_format="csv",
            now=record.begun_at,
            on_progress=None,
            record=record,
        )

    began = time.time() - 7_200
    store = Pages(ENTRIES, page_keys=10, fail_at=150, error=Killed())
    with mock.patch("time.time", return_value=began), pytest.raises(Killed):
        asyncio.run(write(store, open_record(SIDE, PLACE, versions=True)))
    again = Pages(ENTRIES, page_keys=10)
    written = asyncio.run(write(again, open_record(SIDE, PLACE, versions=True)))
    assert written.rows == len(ENTRIES)
    assert again.requests < 150
    body = asyncio.run(target.get(ObjectRef(*Location.parse(written.manifest)))).data
    assert json.loads(body)["creationTimestamp"] == str(int(began * 1000))
    assert open_record(SIDE, PLACE, versions=True).left is None


def test_a_record_whose_report_is_written_is_removed() -> None:
    """The process was killed in between. Each start of that day would find the report there already."""
    target = MemoryStore()
    target.create_bucket("reports")

    async def write(record: ListingRecord) -> InventoryWritten:
        return await write_inventory(
            cast(Store, Pages(ENTRIES, page_keys=10)),
            PLACE,
            cast(Store, target),
            Location("reports", "x"),
            versions=True,
            file_format="csv",
            now=record.begun_at,
            on_progress=None,
            record=record,
        )

    began = time.time() - 7_200
    with mock.patch("time.time", return_value=began), mock.patch.object(ListingRecord, "forget", die):
        asyncio.run(write(open_record(SIDE, PLACE, versions=True)))
    second = open_record(SIDE, PLACE, versions=True)
    assert second.begun_at == began
    with pytest.raises(ConfigError, match="exists already"):
        asyncio.run(write(second))
    die(second)
    assert asyncio.run(write(open_record(SIDE, PLACE, versions=True))).rows == len(ENTRIES)


def test_a_plan_that_was_killed_goes_on_and_says_so() -> None:
    request = Request("replicate", SIDE, Side(Location("copies", "")), None, Selection(versions="all"), {})

    async def rows(store: Pages) -> tuple[str, int]:
        with mock.patch("jobs.runs.request.open_side", return_value=store):
            _, description, batches = await manifest_rows(request, Ledger(MemoryStore(), Location("ledger", "")))
            return description, sum([batch.num_rows async for batch in batches])

    with pytest.raises(Killed):
        asyncio.run(rows(Pages(ENTRIES, page_keys=10, fail_at=150, error=Killed())))
    again = Pages(ENTRIES, page_keys=10)
    description, count = asyncio.run(rows(again))
    assert description.startswith("listing of s3://bucket/, of which the first part is as of 20")
    assert count == len(ENTRIES)
    fresh = Pages(ENTRIES, page_keys=10)
    assert asyncio.run(rows(fresh)) == ("listing of s3://bucket/", len(ENTRIES))
    assert again.requests < fresh.requests


@pytest.mark.parametrize("is_hard", [False, True], ids=["stopped", "killed"])
def test_a_listing_goes_on_from_every_request_at_which_it_may_be_killed(is_hard: bool) -> None:
    """Also from the middle of a search for branches, when nobody lists yet what lies behind them.

    A thread saves, so how many requests a listing takes depends on its pace.
    """
    entries = [entry(f"{folder}/{number:02d}") for folder in "abcdefghij" for number in range(12)]
    end = ListingRecord.save_last
    most_ranges = 0
    for at in count(2, 3):
        store = Pages(entries, page_keys=3, delays=(1, 9, 2, 0), fail_at=at, error=Killed())
        with mock.patch.object(ListingRecord, "save_last", die if is_hard else end), suppress(Killed):
            listed(store, open_record(SIDE, PLACE, versions=True), concurrency=6)
            break
        record = open_record(SIDE, PLACE, versions=True)
        if record.left is not None:
            most_ranges = max(most_ranges, len(record.left.ranges))
        assert sorted(listed(Pages(entries, page_keys=3), record, concurrency=3)) == entries, at
        record.forget()
    assert store.requests > len(entries) / 3
    assert most_ranges > 1
