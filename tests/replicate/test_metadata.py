"""A copy with other metadata: verify names it, and a retry puts it right by a new version."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import Attributes
from jobs.core.outcome import Status
from jobs.core.reasons import Reason
from jobs.s3.store import UNGUARDED
from tests.replicate.scene import COPY, make_store, put, replicate, verify


@pytest.mark.parametrize("attributes", [{"metadata": {"by": "another"}}, {"headers": {"cache-control": "no-store"}}])
async def test_a_retry_puts_other_metadata_right_by_a_new_version(attributes: Any) -> None:
    store = make_store()
    row = await put(store, b"data")
    assert (await replicate(store, row)).status is Status.COPIED
    await store.put(*COPY[:2], b"data", Attributes(**attributes), guard=UNGUARDED)
    found = await verify(store, row)
    assert (found.status, found.reason) == (Status.MISMATCHED, Reason.METADATA_DIFFERS)
    assert (await replicate(store, row)).status is Status.CHANGED, "it is newer, and nobody agreed to replace it"
    retry = row._replace(condemned_etag=found.destination_etag)
    assert (await replicate(store, retry)).status is Status.COPIED
    assert (await verify(store, row)).status is Status.VERIFIED
    assert (await replicate(store, retry)).status is Status.SAME
