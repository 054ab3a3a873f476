"""A copy with other metadata: verify names it, and a retry puts it right by a new version."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Attributes, Repair
from jobs.core.outcome import Depth, Status
from jobs.core.reasons import Reason
from jobs.s3.store import UNGUARDED
from tests.sync.scene import COPY, SOURCE, make_store, put, replicate, ticking, verify


@pytest.mark.parametrize("attributes", [{"metadata": {"by": "another"}}, {"headers": {"cache-control": "no-store"}}])
async def test_a_retry_puts_other_metadata_right_by_a_new_version(attributes: Any) -> None:
    store = make_store(clock=ticking())
    row = await put(store, b"data")
    assert (await replicate(store, row)).status is Status.DONE
    await store.put(COPY, b"data", Attributes(**attributes), guard=UNGUARDED)
    found = await verify(store, row)
    assert (found.status, found.reason) == (Status.DIFFERENT, Reason.METADATA_DIFFERS)
    assert (await replicate(store, row)).status is Status.CHANGED, "it is newer, and nobody agreed to replace it"
    listed = await replicate(store, row, all_versions=True)
    assert (listed.status, listed.depth) == (Status.SAME, Depth.LISTED), "no list shows metadata"
    retry = row._replace(beside=Repair(condemned_etag=found.destination_etag))
    assert (await replicate(store, retry)).status is Status.DONE
    assert (await verify(store, row)).status is Status.VERIFIED
    assert (await replicate(store, retry)).status is Status.SAME


@pytest.mark.parametrize("deep", [False, True])
async def test_a_copy_has_the_tags_of_its_source_and_may_have_more(deep: bool) -> None:
    store = make_store()
    row = await put(store, b"data", tags={"a": "1"})
    assert (await replicate(store, row)).status is Status.DONE
    for tags, found in (({"a": "1", "of": "others"}, ""), ({"a": "2"}, "tags"), ({}, "tags")):
        copy = store.stored(*COPY[:2])[-1]
        copy.attributes = replace(copy.attributes, tags=tags)
        assert (await verify(store, row, deep=deep)).status is Status.VERIFIED, "nobody asked for tags"
        outcome = await verify(store, row, deep=deep, compares_tags=True)
        assert (outcome.status, outcome.detail) == (Status.DIFFERENT if found else Status.VERIFIED, found)
        assert outcome.reason == (Reason.METADATA_DIFFERS if found else "")
    retry = row._replace(beside=Repair(condemned_etag=outcome.destination_etag))
    assert (await replicate(store, retry, compares_tags=True)).status is Status.DONE
    assert (await verify(store, row, compares_tags=True)).status is Status.VERIFIED


async def test_a_copy_has_the_annotations_of_its_source() -> None:
    store = make_store()
    row = await put(store, b"data")
    assert (await replicate(store, row)).status is Status.DONE
    await store.put_annotation(SOURCE, "note", b"text", object_etag=row.etag or "")
    outcome = await verify(store, row, compares_tags=True)
    assert (outcome.reason, outcome.detail) == (Reason.METADATA_DIFFERS, "annotations")
    retry = row._replace(beside=Repair(condemned_etag=outcome.destination_etag))
    assert (await replicate(store, retry)).status is Status.SAME
    assert (await verify(store, row, compares_tags=True)).status is Status.VERIFIED
