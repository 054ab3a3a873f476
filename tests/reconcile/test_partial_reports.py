"""Coverage: a report of a part of the bucket is found out, and one of all of it never is."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path

import pytest

from jobs.core.model import Attributes, Listed, ObjectRef
from jobs.core.prefix_map import PrefixMap
from jobs.reconcile.partial_reports import UPLOAD_SECONDS
from jobs.reconcile.stage import UnusableReport
from jobs.s3.store import UNGUARDED, Page
from tests.doubles.memory_store import MemoryStore, Request
from tests.inventory.samples import FORMATS, ODD_KEYS, deliver
from tests.reconcile.scene import MADE, OLD, row, run

PREFIXES = PrefixMap((("in/", "out/"),), excluded=("in/tmp/",))


def store_of(*keys: str, at: float = OLD) -> MemoryStore:
    """The source's bucket, with these keys, written at that time. What comes later is of `MADE`."""
    times = iter([at] * len(keys))
    store = MemoryStore(clock=lambda: next(times, MADE), buckets=["src"])
    for key in keys:
        asyncio.run(store.put(ObjectRef("src", key), b"", Attributes(), guard=UNGUARDED))
    return store


def judge(folder: Path, store: MemoryStore, *keys: str, file_format: str = "Parquet") -> None:
    """Reconcile a report of the source that has only these keys, and has to cover `in/`."""
    source = deliver(folder, "src", [row(key) for key in keys], created_at=MADE, file_format=file_format)
    destination = deliver(folder, "dst", [row("out/a")], created_at=MADE)
    run(folder, source, destination, maps=PREFIXES, doubted=(store, None))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_whole_report_covers_its_bucket_whatever_the_keys(tmp_path: Path, file_format: str) -> None:
    keys = [f"in/{key}" for key in ODD_KEYS]
    judge(tmp_path, store_of(*keys, "in/tmp/a", "before", "x"), *keys, file_format=file_format)


@pytest.mark.parametrize("within", ["in/a/", "in/k/", "in/z/", "other"])
def test_a_filter_that_is_narrower_than_the_prefixes_is_found_out(tmp_path: Path, within: str) -> None:
    """Also where everything beside it is one key, far behind a page."""
    keys = [f"in/{folder}/{number:04d}" for folder in "akz" for number in range(400)]
    with pytest.raises(UnusableReport, match=r"lacks .* keys of src .* older than it, such as 'in/"):
        judge(tmp_path, store_of(*keys, "other"), *(key for key in (*keys, "other") if key.startswith(within)))


def test_one_key_behind_all_reported_ones_is_found(tmp_path: Path) -> None:
    keys = [f"in/a/{number:04d}" for number in range(1500)]
    with pytest.raises(UnusableReport, match="'in/b'"):
        judge(tmp_path, store_of(*keys, "in/b"), *keys)


def test_what_is_newer_than_the_report_or_left_out_by_the_pair_need_not_be_in_it(tmp_path: Path) -> None:
    store = store_of("in/a", "in/tmp/b", "out")
    asyncio.run(store.put(ObjectRef("src", "in/new"), b"", Attributes(), guard=UNGUARDED))
    judge(tmp_path, store, "in/a")


@pytest.mark.parametrize(("seconds", "is_due"), [(60.0, False), (UPLOAD_SECONDS + 900.0, True)])
def test_an_upload_in_parts_may_have_come_long_after_its_date(tmp_path: Path, seconds: float, is_due: bool) -> None:
    async def listing(request: Request) -> Page:
        entry = Listed("in/parts", None, True, False, 1, f"{'0' * 32}-2", MADE - seconds, "STANDARD")
        return Page([entry], [], None)

    with pytest.raises(UnusableReport, match="'in/parts'") if is_due else nullcontext():
        judge(tmp_path, MemoryStore(on={"list_objects": listing}), "in/a")
