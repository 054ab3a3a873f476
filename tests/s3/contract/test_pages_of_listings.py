"""Pages of listings."""

from __future__ import annotations

import asyncio

from jobs.s3.store import Marker
from tests.s3.contract.checks import Subject, contract


@contract()
async def test_objects_come_in_pages_in_byte_order(s: Subject) -> None:
    keys = [f"p/{n:02d}" for n in range(20)] + ["p/é", "p/Z", "p/a", "p/\U0001f6a2", "p/～"]
    await asyncio.gather(*(s.put(key) for key in [*keys, "other"]))
    pages = await s.pages(s.store.list_objects, "p/", max_keys=7)
    assert [entry.key for page in pages for entry in page.entries] == sorted(keys)
    assert [len(page.entries) for page in pages] == [7, 7, 7, 4]


@contract()
async def test_objects_are_listed_after_any_key(s: Subject) -> None:
    for key in ("a", "b b", "c"):
        await s.put(key)
    for after, expected in [("b b", ["c"]), ("b", ["b b", "c"]), ("c", []), ("", ["a", "b b", "c"])]:
        page = await s.store.list_objects(s.bucket, "", after=Marker(after))
        assert [entry.key for entry in page.entries] == expected


@contract()
async def test_a_listing_says_what_head_says(s: Subject) -> None:
    ref = await s.put("k", b"content")
    info = await s.store.head(ref)
    (entry,) = (await s.store.list_objects(s.bucket, "")).entries
    assert (entry.size_bytes, entry.etag, entry.storage_class) == (7, info.etag, info.storage_class)
    assert int(entry.last_modified) == info.last_modified
    assert entry.is_latest
    assert not entry.is_delete_marker


@contract()
async def test_a_delimiter_rolls_up_common_prefixes(s: Subject) -> None:
    for key in ("a/1", "a/2", "b c/1", "b c/2", "top", "z/1"):
        await s.put(key)
    pages = await s.pages(s.store.list_objects, delimiter="/", max_keys=2)
    assert [entry.key for page in pages for entry in page.entries] == ["top"]
    assert [prefix for page in pages for prefix in page.prefixes] == ["a/", "b c/", "z/"]


@contract(versioned=True)
async def test_versions_come_in_pages(s: Subject) -> None:
    expected: list[tuple[str, str | None]] = []
    for key in ("a", "b b", "c+c"):
        refs = [await s.put(key, f"{n}".encode()) for n in range(3)]
        expected += [(key, ref.version_id) for ref in reversed(refs)]
    pages = await s.pages(s.store.list_versions, max_keys=2)
    assert all(len(page.entries) <= 2 for page in pages)
    assert [(entry.key, entry.version_id) for page in pages for entry in page.entries] == expected


@contract(versioned=True)
async def test_versions_with_a_delimiter_roll_up_too(s: Subject) -> None:
    for key in ("a/1", "a/1", "b", "c/1"):
        await s.put(key)
    page = await s.store.list_versions(s.bucket, "", delimiter="/")
    assert [entry.key for entry in page.entries] == ["b"]
    assert page.prefixes == ["a/", "c/"]
    assert [entry.key for entry in (await s.store.list_versions(s.bucket, "a/")).entries] == ["a/1", "a/1"]
