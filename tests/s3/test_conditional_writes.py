"""Guarded writes on servers that heed conditions, that ignore them, and that answer oddly."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import ConfigError, Conflict, Denied, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.s3 import conditional_writes
from jobs.s3.conditional_writes import ConditionalWrites, Operation, find_ignored, look_first, try_conditions
from jobs.s3.http.endpoints import aws_endpoint, given_endpoint
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Page, PartDone, Store, Written
from tests.doubles.memory_store import MemoryStore, Request
from tests.doubles.servers import Server

PLAIN = Attributes()


WRITES = ("put", "copy", "complete_multipart")


def careless(*, versioned: bool = False, before: Callable[[Request], Any] | None = None) -> MemoryStore:
    """A server that ignores every condition of a write. `before`: comes before each guarded request."""

    async def ignore(request: Request) -> Any:
        if before is not None and request.arguments.get("guard") != UNGUARDED:
            before(request)
        request.arguments["guard"] = UNGUARDED
        if request.operation == "copy":
            request.arguments["source_etag"] = None
        return await request()

    async def copy_part(request: Request) -> PartDone:
        if before is not None:
            before(request)
        return PartDone(1, "etag")

    store = MemoryStore(on=dict.fromkeys(WRITES, ignore) | {"copy_part": copy_part})
    store.heeds_conditions = False
    store.create_bucket("b", versioned=versioned)
    return store


def keys(store: Store) -> list[str]:
    page = asyncio.run(store.list_versions("b", ""))
    return sorted({entry.key for entry in page.entries})


def put(store: Store, key: str, data: bytes) -> Written:
    return asyncio.run(store.put("b", key, data, PLAIN, guard=UNGUARDED))


def content(store: Store, key: str) -> bytes:
    return asyncio.run(store.get(ObjectRef("b", key))).data


async def upload(store: Store, key: str, data: bytes, guard: Guard) -> Written:
    upload_id = await store.create_multipart("b", key, PLAIN)
    part = await store.put_part("b", key, upload_id, 1, data)
    return await store.complete_multipart("b", key, upload_id, [part], guard=guard)


def write(store: Store, how: str, guard: Guard) -> Written:
    """Write `new` at the key `k` by one of the three operations."""
    if how == "put":
        return asyncio.run(store.put("b", "k", b"new", PLAIN, guard=guard))
    if how == "copy":
        return asyncio.run(store.copy(ObjectRef("b", "s"), None, "b", "k", CopySettings(), guard=guard))
    return asyncio.run(upload(store, "k", b"new", guard))


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
@pytest.mark.parametrize("versioned", [True, False])
def test_an_object_that_must_not_be_there_is_never_replaced(how: str, versioned: bool) -> None:
    bare = careless(versioned=versioned)
    put(bare, "k", b"newer")
    put(bare, "s", b"new")
    store = look_first(bare)
    with pytest.raises(PreconditionFailed):
        write(store, how, ABSENT)
    assert content(bare, "k") == b"newer"
    assert keys(bare) == ["k", "s"]


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_write_that_was_only_looked_at_says_so(how: str) -> None:
    bare = careless()
    put(bare, "s", b"new")
    written = write(look_first(bare), how, ABSENT)
    assert "ignores conditions on" in written.note
    assert content(bare, "k") == b"new"
    assert keys(bare) == ["k", "s"]


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_what_would_be_lost_for_good_is_not_replaced(how: str) -> None:
    bare = careless()
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    with pytest.raises(Rejected, match="Enable versioning"):
        write(look_first(bare), how, Guard(etag=old.etag))
    assert content(bare, "k") == b"old"


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_version_that_stays_may_be_covered(how: str) -> None:
    bare = careless(versioned=True)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    store = look_first(bare)
    assert "ignores conditions" in write(store, how, Guard(etag=old.etag)).note
    with pytest.raises(PreconditionFailed):
        write(store, how, Guard(etag=old.etag))
    assert content(bare, "k") == b"new"


def test_a_source_that_has_moved_on_is_not_copied() -> None:
    bare = careless()
    put(bare, "s", b"new")
    store = look_first(bare)

    async def copy_part() -> None:
        upload_id = await store.create_multipart("b", "k", PLAIN)
        await store.copy_part(ObjectRef("b", "s"), "0" * 32, 0, 3, "b", "k", upload_id, 1)

    with pytest.raises(PreconditionFailed, match="the source has the ETag"):
        asyncio.run(store.copy(ObjectRef("b", "s"), "0" * 32, "b", "k", CopySettings(), guard=ABSENT))
    with pytest.raises(PreconditionFailed, match="the source has the ETag"):
        asyncio.run(copy_part())
    assert keys(bare) == ["s"]


def overwritten() -> MemoryStore:
    """Somebody overwrites the source after the look at it, directly before a copy of it, or of its second part."""

    async def overwrite(request: Request) -> Any:
        if request.operation not in ("copy", "copy_part"):
            return await request()
        source: ObjectRef = request.arguments["source"]
        if source.key == "source" and request.arguments.get("start") != 0:
            await MemoryStore.put(store, "b", "source", b"other bytes", PLAIN, guard=UNGUARDED)
        request.arguments["source_etag"] = (await MemoryStore.head(store, source)).etag
        return await request()

    store = careless()
    store._minimum_part_bytes = 1
    store.hook(copy_part=None, every=overwrite)
    return store


def test_parts_of_a_source_that_was_overwritten_meanwhile_are_not_published() -> None:
    """The object had one part of each, and the outcome said `copied`."""

    async def work() -> Any:
        server = overwritten()
        store = look_first(server)
        etag = (await store.put("b", "source", b"first bytes", PLAIN, guard=UNGUARDED)).etag
        upload = await store.create_multipart("b", "target", PLAIN)
        spans = ((0, 6, 1), (6, 11, 2))
        parts = [
            await store.copy_part(ObjectRef("b", "source"), etag, start, end, "b", "target", upload, number)
            for start, end, number in spans
        ]
        with pytest.raises(PreconditionFailed):
            await store.complete_multipart("b", "target", upload, parts, guard=ABSENT)
        return keys_now(await server.list_objects("b", ""))

    assert asyncio.run(work()) == ["source"]


def test_a_copy_of_a_source_that_was_overwritten_meanwhile_is_not_taken_for_one_of_the_first() -> None:
    async def work() -> None:
        store = look_first(overwritten())
        etag = (await store.put("b", "source", b"first bytes", PLAIN, guard=UNGUARDED)).etag
        with pytest.raises(PreconditionFailed):
            await store.copy(ObjectRef("b", "source"), etag, "b", "target", CopySettings(), guard=ABSENT)

    asyncio.run(work())


def keys_now(page: Page) -> list[str]:
    return [entry.key for entry in page.entries]


def test_a_server_is_tried_once_for_each_operation_whoever_asks() -> None:
    asked: Counter[str] = Counter()

    def note(request: Request) -> Awaitable[Any]:
        asked[request.operation] += 1
        return request()

    bare = careless()
    put(bare, "s", b"new")
    bare.hook(every=note)
    store = look_first(bare)

    async def copies() -> None:
        jobs = [
            store.copy(ObjectRef("b", "s"), None, "b", f"k{number}", CopySettings(), guard=ABSENT)
            for number in range(20)
        ]
        await asyncio.gather(*jobs)

    asyncio.run(copies())
    assert (asked["copy"], asked["put"], asked["complete_multipart"]) == (20 + 3, 2, 0)


def test_a_trial_that_failed_is_made_again() -> None:
    def refuse(request: Request) -> Awaitable[Any]:
        raise Denied("PutObject", "b", "AccessDenied", "", 403)

    bare = careless()
    store = look_first(bare)
    bare.hook(every=refuse)  # as by a role that was made a moment ago
    with pytest.raises(Denied):
        write(store, "put", ABSENT)
    bare.hook(every=None)
    assert "ignores conditions" in write(store, "put", ABSENT).note


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.COPY, Operation.COMPLETE])
def test_a_trial_whose_write_had_no_answer_leaves_nothing(operation: Operation, versioned: bool) -> None:
    """The object stayed, since nobody knew its version."""
    for number in range(20):
        left = iter(range(number, -20, -1))

        async def lose(request: Request, left: Iterator[int] = left) -> Any:
            written = await request()
            if next(left) == 0:
                raise Unavailable("PutObject", "b", "timeout", "the answer was lost", 0)
            return written

        store = MemoryStore(on=dict.fromkeys(WRITES, lose))
        store.create_bucket("b", versioned=versioned)
        try:
            asyncio.run(try_conditions(store, "b", "k", [operation]))
        except Unavailable:
            assert keys(store) == [], number
        else:
            break
    assert number >= 3
    assert keys(store) == []


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.COPY, Operation.COMPLETE])
def test_a_trial_whose_versions_are_not_named_leaves_nothing(operation: Operation, versioned: bool) -> None:
    """They stayed below delete markers at each destination. Ceph names none that a copy makes."""

    async def unnamed(request: Request) -> Any:
        written = await request()
        is_copy = request.operation in ("copy", "complete_multipart")
        return written._replace(version_id=None) if is_copy else written

    store = careless(versioned=versioned)
    store.hook(every=unnamed)
    asyncio.run(try_conditions(store, "b", "k", [operation]))
    assert keys(store) == []


def busy(conflicts: list[int]) -> MemoryStore:
    """Answers 409 to conditional writes, so many times each, as S3 does while another write is under way."""
    asked: Counter[str] = Counter()

    def conflict(request: Request) -> None:
        asked[request.operation] += 1
        if asked[request.operation] % (conflicts[-1] + 1):
            raise Conflict(request.operation, "b", "ConditionalRequestConflict", "", 409)

    return careless(before=conflict)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional_writes, "backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.usefixtures("_no_waiting")
def test_a_409_is_no_proof_that_conditions_hold() -> None:
    bare = busy([2])
    put(bare, "k", b"old")
    heeded = asyncio.run(try_conditions(bare, "b", "k"))
    assert {each.operation: each.conditions for each in heeded} == dict.fromkeys(
        ("PutObject", "CopyObject", "CompleteMultipartUpload", "UploadPartCopy"), frozenset()
    )
    assert keys(bare) == ["k"]
    assert bare.uploads("b") == []


@pytest.mark.usefixtures("_no_waiting")
def test_a_trial_that_gets_409_alone_is_made_again_by_the_next_write() -> None:
    conflicts = [1_000]
    bare = busy(conflicts)
    put(bare, "k", b"newer")
    store = look_first(bare)
    with pytest.raises(Conflict):
        write(store, "put", ABSENT)
    conflicts.append(0)
    with pytest.raises(PreconditionFailed):
        write(store, "put", ABSENT)
    assert content(bare, "k") == b"newer"
    assert keys(bare) == ["k"]


def strict(*, versioned: bool, guards: list[Guard] | None = None, error: StoreError | None = None) -> MemoryStore:
    """Refuses every ETag, also the one that is there, as Ceph 18.2 does for PutObject. Notes the conditions."""

    def check(request: Request) -> Awaitable[Any]:
        guard: Guard = request.arguments["guard"]
        if guards is not None:
            guards.append(guard)
        if guard.etag is not None:
            raise error or PreconditionFailed(request.operation, "b", "PreconditionFailed", "", 412)
        return request()

    store = MemoryStore(on=dict.fromkeys(WRITES, check))
    store.heeds_conditions = False
    store.create_bucket("b", versioned=versioned)
    return store


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_version_is_covered_where_the_server_refuses_every_etag(how: str) -> None:
    """Each of the tries was refused, and the row failed with a race that nobody had run."""
    guards: list[Guard] = []
    bare = strict(versioned=True, guards=guards)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    store = look_first(bare)
    written = write(store, how, Guard(etag=old.etag))
    assert "refuses If-Match on" in written.note
    assert content(bare, "k") == b"new"
    with pytest.raises(PreconditionFailed):
        write(store, how, Guard(etag=old.etag))
    guards.clear()
    with pytest.raises(PreconditionFailed):
        write(store, how, ABSENT)
    assert guards == [ABSENT]  # which this server heeds
    assert keys(bare) == ["k", "s"]


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_nothing_is_lost_for_good_where_the_server_refuses_every_etag(how: str) -> None:
    bare = strict(versioned=False)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    with pytest.raises(Rejected, match="refuses If-Match even where it holds, and the bucket keeps no versions"):
        write(look_first(bare), how, Guard(etag=old.etag))
    assert content(bare, "k") == b"old"


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_server_that_refuses_every_etag_is_refused_where_conditions_are_required(how: str) -> None:
    bare = strict(versioned=True)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    with pytest.raises(ConfigError, match="--require-conditions refuses that"):
        write(look_first(bare, is_required=True), how, Guard(etag=old.etag))
    assert content(bare, "k") == b"old"


def test_an_operation_that_refuses_every_etag_is_named_before_a_run_begins() -> None:
    store = look_first(strict(versioned=True))
    named = asyncio.run(find_ignored(store, "b", "k", [Operation.PUT, Operation.COPY_PART, Operation.COMPLETE]))
    assert named == [Operation.PUT, Operation.COMPLETE]


def test_a_404_for_an_object_that_is_there_is_no_proof_that_conditions_hold() -> None:
    bare = strict(versioned=True, error=NotFound("PutObject", "b/k", "NoSuchKey", "", 404))
    put(bare, "k", b"old")
    with pytest.raises(PreconditionFailed):
        write(look_first(bare), "put", Guard(etag="1" * 32))


def test_a_server_that_heeds_conditions_is_used_as_it_is(seaweed: Server) -> None:
    assert _note_of_a_copy(seaweed) == ""


@pytest.mark.slow
def test_moto_ignores_the_conditions_of_a_copy(moto_server: Server) -> None:
    assert "CopyObject" in _note_of_a_copy(moto_server)


def _note_of_a_copy(server: Server) -> str:
    """Copy an object where nothing is; then again, which is refused. Nothing else is left in the bucket."""
    bucket = f"t-{uuid.uuid4().hex[:12]}"
    client = server.client()
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="s", Body=b"new")
    source = ObjectRef(bucket, "s")

    async def copies() -> str:
        store = look_first(open_store(server.endpoint, None, None, max_in_flight=4))
        assert isinstance(store, ConditionalWrites)
        note = (await store.copy(source, None, bucket, "k", CopySettings(), guard=ABSENT)).note
        with pytest.raises(PreconditionFailed):
            await store.copy(source, None, bucket, "k", CopySettings(), guard=ABSENT)
        await store.close()
        return note

    with mock.patch.dict(os.environ, server.environment()):
        note = asyncio.run(copies())
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["k", "s"]
    return note


@pytest.mark.parametrize(
    ("url", "is_aws"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://bucket.vpce-1a2b-3c4d.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn:443", True),
        ("http://s3.eu-central-1.amazonaws.com", False),
        ("https://amazonaws.com.example.org", False),
        ("https://s3amazonaws.com", False),
        ("https://minio-1.elb.eu-west-1.amazonaws.com", False),
        ("https://s3-fips-123456789.us-east-1.elb.amazonaws.com", False),
        ("https://ec2-3-4-5-6.eu-west-1.compute.amazonaws.com:9000", False),
        ("https://abc.execute-api.eu-west-1.amazonaws.com", False),
        ("https://vpce-1a2b.vpce-svc-3c4d.us-east-1.vpce.amazonaws.com", False),
        ("http://127.0.0.1:8333", False),
    ],
)
def test_only_aws_is_believed(url: str, is_aws: bool) -> None:
    assert given_endpoint(url).is_aws is is_aws
    assert aws_endpoint("eu-central-1").is_aws
