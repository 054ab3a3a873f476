"""Writers between a look and a copy: the copy is of what the row names, and replaces nothing that it has not seen."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import ObjectRef, Repair
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import Conflict, PreconditionFailed
from tests.doubles.memory_store import MemoryStore, Request
from tests.sync.scene import COPY, EVENT, KIB, PARTS, SOURCE, bodies, make_store, put, replicate, sync_one, verify

SMALL: dict[str, Any] = {}
STREAMED: dict[str, Any] = PARTS | {"streamed": True}


async def replicate_while(
    operation: str, other: ObjectRef, size_bytes: int, **options: Any
) -> tuple[Outcome, MemoryStore]:
    """Copy an object of a bucket without versions, in which somebody writes before the last of such requests.

    S3 keeps nothing of the content that would show mixed bytes: the conditions alone have to.
    """
    store, asked = make_store(versioned=False, default_checksum=None), 0
    row = await put(store, b"a" * size_bytes, sse="aws:kms")

    async def write_first(request: Request) -> Any:
        nonlocal asked
        asked += 1
        if asked == (2 if size_bytes > 6 * KIB and operation in ("copy_part", "get") else 1):
            await put(store, b"b" * size_bytes, other, sse="aws:kms")
        return await request()

    store.hook(**{operation: write_first})
    try:
        outcome = await replicate(store, row, **options)
    except (PreconditionFailed, Conflict):  # the worker calls it again
        outcome = await replicate(store, row, **options)
    assert asked > 0
    return outcome, store


@pytest.mark.parametrize(
    ("operation", "size_bytes", "options"),
    [("copy", 3, SMALL), ("copy_part", 7 * KIB, PARTS), ("get", 17 * KIB, STREAMED)],
)
async def test_a_source_that_was_overwritten_is_copied_as_it_is_then(
    operation: str, size_bytes: int, options: dict[str, Any]
) -> None:
    outcome, store = await replicate_while(operation, SOURCE, size_bytes, **options)
    assert (outcome.status, outcome.reason) == (Status.DONE, Reason.NEWER_COPIED)
    assert bodies(store) == [b"b" * size_bytes]


@pytest.mark.parametrize(
    ("operation", "size_bytes", "options"), [("copy", 3, SMALL), ("create_multipart", 7 * KIB, PARTS)]
)
async def test_what_others_wrote_meanwhile_is_not_replaced(
    operation: str, size_bytes: int, options: dict[str, Any]
) -> None:
    outcome, store = await replicate_while(operation, COPY, size_bytes, **options)
    assert outcome.status is Status.CHANGED
    assert bodies(store) == [b"b" * size_bytes]


NIGHT: dict[str, Any] = {"keeps_replaced": True}
"""What the copies of a pair have (`jobs.policy.run_options`)."""


@pytest.mark.parametrize("options", [{}, {"all_versions": True}], ids=["current", "all versions"])
@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("caller", ["replicate", "retry", "repair", "night", "event"])
async def test_a_source_that_was_overwritten_in_the_second_of_its_copy_is_brought_up_to_date(
    caller: str, versioned: bool, options: dict[str, Any]
) -> None:
    """In a source without versions nothing but the date says that the copy is of the object before."""
    store = make_store(versioned=versioned, kept=True, clock=lambda: 1_000.0)
    assert (await replicate(store, await put(store, b"one"), **options)).status is Status.DONE
    row = await put(store, b"two")
    if caller in ("retry", "repair"):
        found = await verify(store, row, **options)
        assert found.status in (Status.DIFFERENT, Status.MISSING)
        row = row._replace(beside=Repair(condemned_etag=found.destination_etag))
    if caller == "event":
        outcome = await sync_one(store, row, **EVENT)
    else:
        outcome = await replicate(store, row, **options, **({} if caller == "replicate" else NIGHT))
    assert outcome.status is Status.DONE
    assert bodies(store) == [b"one", b"two"]
    assert (await verify(store, row, **options)).status is Status.VERIFIED
