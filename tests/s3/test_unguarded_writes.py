"""Writes to a server that ignores every condition, where the user agreed to that."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import nullcontext
from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import PreconditionFailed, Rejected
from jobs.s3.gated_store import looking_first
from jobs.s3.operations import Operation
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Store, Written
from tests.doubles.memory_store import MemoryStore, Request

CONDITIONAL = (Operation.PUT, Operation.COPY, Operation.COPY_PART, Operation.COMPLETE, Operation.DELETE)
WRITES = ("put", "copy", "complete_multipart")
HOW = ("put", "copy", "complete")


def careless(*, versioned: bool = False) -> MemoryStore:
    async def ignore(request: Request) -> Any:
        request.arguments["guard"] = UNGUARDED
        if request.operation == "copy":
            request.arguments["source_etag"] = None
        return await request()

    async def copy_part(request: Request) -> Any:
        request.arguments["source_etag"] = (await MemoryStore.head(store, request.arguments["source"])).etag
        return await request()

    store = MemoryStore(on=dict.fromkeys(WRITES, ignore) | {"copy_part": copy_part}, minimum_part_bytes=1)
    store.create_bucket("b", versioned=versioned)
    put(store, "s", b"new")
    return store


def put(store: Store, key: str, data: bytes) -> Written:
    return asyncio.run(store.put(ObjectRef("b", key), data, Attributes(), guard=UNGUARDED))


def content(store: Store, key: str) -> bytes:
    return asyncio.run(store.get(ObjectRef("b", key))).data


async def upload(store: Store, guard: Guard) -> Written:
    upload_id = await store.create_multipart(ObjectRef("b", "k"), Attributes())
    part = await store.put_part(upload_id, 1, b"new")
    return await store.complete_multipart(upload_id, [part], guard=guard)


def write(store: Store, how: str, guard: Guard) -> Written:
    """Write `new` at the key `k` by one of the three operations."""
    if how == "put":
        return asyncio.run(store.put(ObjectRef("b", "k"), b"new", Attributes(), guard=guard))
    if how == "copy":
        return asyncio.run(store.copy(ObjectRef("b", "s"), None, ObjectRef("b", "k"), CopySettings(), guard=guard))
    return asyncio.run(upload(store, guard))


OLD = Guard(etag=hashlib.md5(b"old").hexdigest())


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("there", "guard", "versioned", "error"),
    [
        (None, ABSENT, False, None),
        (None, ABSENT, True, None),
        (b"newer", ABSENT, False, PreconditionFailed),
        (b"newer", ABSENT, True, PreconditionFailed),
        (b"newer", OLD, True, PreconditionFailed),
        (b"old", OLD, True, None),
        (b"old", OLD, False, Rejected),  # it would be lost for good
    ],
)
def test_a_write_replaces_what_it_may_and_what_stays_as_a_version(
    how: str, there: bytes | None, guard: Guard, versioned: bool, error: type[Exception] | None
) -> None:
    bare = careless(versioned=versioned)
    if there is not None:
        put(bare, "k", there)
    with pytest.raises(error, match=r"Enable versioning|ETag") if error else nullcontext():
        write(looking_first(bare, CONDITIONAL), how, guard)
    assert content(bare, "k") == (there if error else b"new")


def test_a_delete_marker_hides_the_expected_object_only() -> None:
    async def ignore(request: Request) -> Any:
        request.arguments["if_match"] = None
        return await request()

    bare = careless(versioned=True)
    bare.hook(delete=ignore)
    old, store = put(bare, "k", b"old"), looking_first(bare, [Operation.COPY])
    put(bare, "k", b"newer")
    with pytest.raises(PreconditionFailed):
        asyncio.run(store.delete(ObjectRef("b", "k"), if_match=old.etag))
    assert content(bare, "k") == b"newer"
    asyncio.run(store.delete(ObjectRef("b", "k"), if_match=put(bare, "k", b"newest").etag))
    assert bare.stored("b", "k")[-1].is_delete_marker


def test_an_operation_whose_conditions_are_heeded_keeps_them_and_costs_no_look() -> None:
    asked: list[tuple[str, Guard | None]] = []

    async def note(request: Request) -> Any:
        asked.append((request.operation, request.arguments.get("guard")))
        return await request()

    bare = careless()
    bare.hook(every=note)
    write(looking_first(bare, [Operation.COPY]), "put", ABSENT)
    assert asked == [("put", ABSENT)]


def test_a_source_that_has_moved_on_is_not_copied() -> None:
    bare = careless()
    store = looking_first(bare, CONDITIONAL)
    with pytest.raises(PreconditionFailed, match="it has the ETag"):
        asyncio.run(store.copy(ObjectRef("b", "s"), "0" * 32, ObjectRef("b", "k"), CopySettings(), guard=ABSENT))
    assert bare.stored("b", "k") == []


@pytest.mark.parametrize("operation", ["copy", "copy_part"])
def test_a_source_that_is_overwritten_at_that_moment_is_no_copy_of_the_first(operation: str) -> None:
    """The object had parts of both, and the outcome said `copied`."""

    async def overwrite(request: Request) -> Any:
        await MemoryStore.put(bare, ObjectRef("b", "s"), b"other", Attributes(), guard=UNGUARDED)
        request.arguments["source_etag"] = (await MemoryStore.head(bare, ObjectRef("b", "s"))).etag
        return await request()

    async def work(source: ObjectRef, etag: str) -> None:
        if operation == "copy":
            await store.copy(source, etag, ObjectRef("b", "k"), CopySettings(), guard=ABSENT)
        else:
            upload_id = await store.create_multipart(ObjectRef("b", "k"), Attributes())
            await store.copy_part(source, etag, 0, None, upload_id, 1)

    bare = careless()
    etag = asyncio.run(bare.head(ObjectRef("b", "s"))).etag
    bare.hook(**{operation: overwrite})
    store = looking_first(bare, CONDITIONAL)
    with pytest.raises(PreconditionFailed, match="it has the ETag"):
        asyncio.run(work(ObjectRef("b", "s"), etag))
