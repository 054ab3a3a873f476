"""Pages of listings."""

from __future__ import annotations

import asyncio

from jobs.s3.store import Marker
from tests.s3.contract.checks import Subject, contract


@contract()
async def test_objects_come_in_pages_in_byte_order(s: Subject) -> None:
    bucket = s.bucket()
    keys = [f"p/{n:02d}" for n in range(20)] + ["p/é", "p/Z", "p/a", "p/\U0001f6a2", "p/～"]
    await asyncio.gather(*(s.put(bucket, key) for key in [*keys, "other"]))
    found: list[str] = []
    sizes: list[int] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_objects(bucket, "p/", after=after, max_keys=7)
        found += [entry.key for entry in page.entries]
        sizes.append(len(page.entries))
        if page.next_marker is None:
            break
        after = page.next_marker
    assert found == sorted(keys)
    assert sizes == [7, 7, 7, 4]


@contract()
async def test_objects_are_listed_after_any_key(s: Subject) -> None:
    bucket = s.bucket()
    for key in ("a", "b b", "c"):
        await s.put(bucket, key)
    for after, expected in [("b b", ["c"]), ("b", ["b b", "c"]), ("c", []), ("", ["a", "b b", "c"])]:
        page = await s.store.list_objects(bucket, "", after=Marker(after))
        assert [entry.key for entry in page.entries] == expected


@contract()
async def test_a_listing_says_what_head_says(s: Subject) -> None:
    bucket = s.bucket()
    ref = await s.put(bucket, "k", b"content")
    info = await s.store.head(ref)
    (entry,) = (await s.store.list_objects(bucket, "")).entries
    assert (entry.size_bytes, entry.etag, entry.storage_class) == (7, info.etag, info.storage_class)
    assert int(entry.last_modified) == info.last_modified
    assert entry.is_latest
    assert not entry.is_delete_marker


@contract()
async def test_a_delimiter_rolls_up_common_prefixes(s: Subject) -> None:
    bucket = s.bucket()
    for key in ("a/1", "a/2", "b c/1", "b c/2", "top", "z/1"):
        await s.put(bucket, key)
    entries: list[str] = []
    prefixes: list[str] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_objects(bucket, "", after=after, delimiter="/", max_keys=2)
        entries += [entry.key for entry in page.entries]
        prefixes += page.prefixes
        if page.next_marker is None:
            break
        after = page.next_marker
    assert (entries, prefixes) == (["top"], ["a/", "b c/", "z/"])


@contract()
async def test_versions_come_in_pages(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    expected: list[tuple[str, str | None]] = []
    for key in ("a", "b b", "c+c"):
        refs = [await s.put(bucket, key, f"{n}".encode()) for n in range(3)]
        expected += [(key, ref.version_id) for ref in reversed(refs)]
    found: list[tuple[str, str | None]] = []
    after: Marker | None = None
    while True:
        page = await s.store.list_versions(bucket, "", after=after, max_keys=2)
        assert len(page.entries) <= 2
        found += [(entry.key, entry.version_id) for entry in page.entries]
        if page.next_marker is None:
            break
        after = page.next_marker
    assert found == expected


@contract()
async def test_versions_with_a_delimiter_roll_up_too(s: Subject) -> None:
    bucket = s.bucket(versioned=True)
    for key in ("a/1", "a/1", "b", "c/1"):
        await s.put(bucket, key)
    page = await s.store.list_versions(bucket, "", delimiter="/")
    assert [entry.key for entry in page.entries] == ["b"]
    assert page.prefixes == ["a/", "c/"]
    assert [entry.key for entry in (await s.store.list_versions(bucket, "a/")).entries] == ["a/1", "a/1"]
