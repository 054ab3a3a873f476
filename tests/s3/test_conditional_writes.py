"""Guarded writes on servers that heed conditions, that ignore them, and that answer oddly."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from typing import Any
from unittest import mock

import pytest

from jobs.core.model import Attributes, ObjectRef
from jobs.errors import ConfigError, Conflict, Denied, NotFound, PreconditionFailed, Rejected, Unavailable
from jobs.s3 import conditional_writes
from jobs.s3.conditional_writes import ConditionalWrites, Operation, find_ignored, look_first, try_conditions
from jobs.s3.http.endpoints import aws_endpoint, given_endpoint
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Guard, Page, PartDone, Store, Written
from tests.doubles.memory_store import MemoryStore
from tests.doubles.servers import Server

PLAIN = Attributes()


class Careless(MemoryStore):
    """A server that ignores every condition of a write, and counts what it is asked."""

    heeds_conditions = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def put(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self.asked["put"] += 1
        return await super().put(*args, guard=UNGUARDED, **more)

    async def copy(self, source: ObjectRef, source_etag: str | None, *args: Any, guard: Guard) -> Written:
        self.asked["copy"] += 1
        return await super().copy(source, None, *args, guard=UNGUARDED)

    async def complete_multipart(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self.asked["complete"] += 1
        return await super().complete_multipart(*args, guard=UNGUARDED, **more)

    async def copy_part(self, source: ObjectRef, source_etag: str, *args: Any) -> PartDone:
        return PartDone(1, "etag")


def careless(*, versioned: bool = False) -> Careless:
    store = Careless()
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


class Overwritten(Careless):
    """Somebody overwrites the source after the look at it, directly before a copy of it, or of its second part."""

    def __init__(self) -> None:
        super().__init__()
        self._minimum_part_bytes = 1
        self.create_bucket("b", versioned=False)

    async def overwrite(self) -> str:
        return (await MemoryStore.put(self, "b", "source", b"other bytes", PLAIN, guard=UNGUARDED)).etag

    async def copy(self, source: ObjectRef, source_etag: str | None, *args: Any, guard: Guard) -> Written:
        if source.key == "source":
            await self.overwrite()
        return await super().copy(source, source_etag, *args, guard=guard)

    async def copy_part(self, source: ObjectRef, source_etag: str, *args: Any) -> PartDone:
        etag = await self.overwrite() if args[0] and source.key == "source" else (await self.head(source)).etag
        return await MemoryStore.copy_part(self, source, etag, *args)


def test_parts_of_a_source_that_was_overwritten_meanwhile_are_not_published() -> None:
    """The object had one part of each, and the outcome said `copied`."""

    async def work() -> Any:
        server = Overwritten()
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
        store = look_first(Overwritten())
        etag = (await store.put("b", "source", b"first bytes", PLAIN, guard=UNGUARDED)).etag
        with pytest.raises(PreconditionFailed):
            await store.copy(ObjectRef("b", "source"), etag, "b", "target", CopySettings(), guard=ABSENT)

    asyncio.run(work())


def keys_now(page: Page) -> list[str]:
    return [entry.key for entry in page.entries]


def test_a_server_is_tried_once_for_each_operation_whoever_asks() -> None:
    bare = careless()
    put(bare, "s", b"new")
    store = look_first(bare)
    bare.asked.clear()

    async def copies() -> None:
        jobs = [
            store.copy(ObjectRef("b", "s"), None, "b", f"k{number}", CopySettings(), guard=ABSENT)
            for number in range(20)
        ]
        await asyncio.gather(*jobs)

    asyncio.run(copies())
    assert bare.asked == {"copy": 20 + 3, "put": 2}


class Refusing(Careless):
    """Denies the first write, as a role may that was made a moment ago."""

    refusals = 1

    async def put(self, *args: Any, guard: Guard, **more: Any) -> Written:
        if self.refusals:
            self.refusals -= 1
            raise Denied("PutObject", "b", "AccessDenied", "", 403)
        return await super().put(*args, guard=guard, **more)


def test_a_trial_that_failed_is_made_again() -> None:
    bare = Refusing()
    bare.create_bucket("b")
    store = look_first(bare)
    with pytest.raises(Denied):
        write(store, "put", ABSENT)
    assert "ignores conditions" in write(store, "put", ABSENT).note


class Silent(MemoryStore):
    """Gives no answer to one of the writes that it makes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def _answered(self, written: Written) -> Written:
        self.left -= 1
        if self.left == -1:
            raise Unavailable("PutObject", "b", "timeout", "the answer was lost", 0)
        return written

    async def put(self, *args: Any, **more: Any) -> Written:
        return self._answered(await super().put(*args, **more))

    async def copy(self, *args: Any, **more: Any) -> Written:
        return self._answered(await super().copy(*args, **more))

    async def complete_multipart(self, *args: Any, **more: Any) -> Written:
        return self._answered(await super().complete_multipart(*args, **more))


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.COPY, Operation.COMPLETE])
def test_a_trial_whose_write_had_no_answer_leaves_nothing(operation: Operation, versioned: bool) -> None:
    """The object stayed, since nobody knew its version."""
    for number in range(20):
        store = Silent(number)
        store.create_bucket("b", versioned=versioned)
        try:
            asyncio.run(try_conditions(store, "b", "k", [operation]))
        except Unavailable:
            assert keys(store) == [], number
        else:
            break
    assert number >= 3
    assert keys(store) == []


class Untold(Careless):
    """Names no version that a copy makes, as Ceph does."""

    async def copy(self, *args: Any, **more: Any) -> Written:
        return (await super().copy(*args, **more))._replace(version_id=None)

    async def complete_multipart(self, *args: Any, **more: Any) -> Written:
        return (await super().complete_multipart(*args, **more))._replace(version_id=None)


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("operation", [Operation.PUT, Operation.COPY, Operation.COMPLETE])
def test_a_trial_whose_versions_are_not_named_leaves_nothing(operation: Operation, versioned: bool) -> None:
    """They stayed below delete markers at each destination."""
    store = Untold()
    store.create_bucket("b", versioned=versioned)
    asyncio.run(try_conditions(store, "b", "k", [operation]))
    assert keys(store) == []


class Busy(Careless):
    """Answers 409 to conditional writes, so many times each, as S3 does while another write is under way."""

    conflicts = 2

    def _answer(self, operation: str, *, is_conditional: bool) -> None:
        if is_conditional and self.asked[operation] % (self.conflicts + 1):
            raise Conflict(operation, "b", "ConditionalRequestConflict", "", 409)

    async def put(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self.asked["guarded put"] += guard != UNGUARDED
        self._answer("guarded put", is_conditional=guard != UNGUARDED)
        return await super().put(*args, guard=guard, **more)

    async def copy(self, source: ObjectRef, source_etag: str | None, *args: Any, guard: Guard) -> Written:
        self.asked["guarded copy"] += 1
        self._answer("guarded copy", is_conditional=True)
        return await super().copy(source, source_etag, *args, guard=guard)

    async def complete_multipart(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self.asked["guarded complete"] += 1
        self._answer("guarded complete", is_conditional=True)
        return await super().complete_multipart(*args, guard=guard, **more)

    async def copy_part(self, source: ObjectRef, source_etag: str, *args: Any) -> PartDone:
        self.asked["guarded part"] += 1
        self._answer("guarded part", is_conditional=True)
        return await super().copy_part(source, source_etag, *args)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional_writes, "backoff_seconds", lambda attempt, jitter: 0.0)


@pytest.mark.usefixtures("_no_waiting")
def test_a_409_is_no_proof_that_conditions_hold() -> None:
    bare = Busy()
    bare.create_bucket("b")
    put(bare, "k", b"old")
    heeded = asyncio.run(try_conditions(bare, "b", "k"))
    assert {each.operation: each.conditions for each in heeded} == dict.fromkeys(
        ("PutObject", "CopyObject", "CompleteMultipartUpload", "UploadPartCopy"), frozenset()
    )
    assert keys(bare) == ["k"]
    assert bare.uploads("b") == []


@pytest.mark.usefixtures("_no_waiting")
def test_a_trial_that_gets_409_alone_is_made_again_by_the_next_write() -> None:
    bare = Busy()
    bare.create_bucket("b")
    put(bare, "k", b"newer")
    bare.conflicts = 1_000
    store = look_first(bare)
    with pytest.raises(Conflict):
        write(store, "put", ABSENT)
    bare.conflicts = 0
    with pytest.raises(PreconditionFailed):
        write(store, "put", ABSENT)
    assert content(bare, "k") == b"newer"
    assert keys(bare) == ["k"]


class Strict(MemoryStore):
    """Refuses every ETag, also the one that is there, as Ceph 18.2 does for PutObject. Notes the conditions."""

    heeds_conditions = False

    def __init__(self, *, versioned: bool) -> None:
        super().__init__()
        self.create_bucket("b", versioned=versioned)
        self.guards: list[Guard] = []

    def _check(self, operation: str, guard: Guard) -> None:
        self.guards.append(guard)
        if guard.etag is not None:
            raise PreconditionFailed(operation, "b", "PreconditionFailed", "", 412)

    async def put(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self._check("PutObject", guard)
        return await super().put(*args, guard=guard, **more)

    async def copy(self, *args: Any, guard: Guard) -> Written:
        self._check("CopyObject", guard)
        return await super().copy(*args, guard=guard)

    async def complete_multipart(self, *args: Any, guard: Guard, **more: Any) -> Written:
        self._check("CompleteMultipartUpload", guard)
        return await super().complete_multipart(*args, guard=guard, **more)


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_version_is_covered_where_the_server_refuses_every_etag(how: str) -> None:
    """Each of the tries was refused, and the row failed with a race that nobody had run."""
    bare = Strict(versioned=True)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    store = look_first(bare)
    written = write(store, how, Guard(etag=old.etag))
    assert "refuses If-Match on" in written.note
    assert content(bare, "k") == b"new"
    with pytest.raises(PreconditionFailed):
        write(store, how, Guard(etag=old.etag))
    bare.guards.clear()
    with pytest.raises(PreconditionFailed):
        write(store, how, ABSENT)
    assert bare.guards == [ABSENT]  # which this server heeds
    assert keys(bare) == ["k", "s"]


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_nothing_is_lost_for_good_where_the_server_refuses_every_etag(how: str) -> None:
    bare = Strict(versioned=False)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    with pytest.raises(Rejected, match="refuses If-Match even where it holds, and the bucket keeps no versions"):
        write(look_first(bare), how, Guard(etag=old.etag))
    assert content(bare, "k") == b"old"


@pytest.mark.parametrize("how", ["put", "copy", "complete"])
def test_a_server_that_refuses_every_etag_is_refused_where_conditions_are_required(how: str) -> None:
    bare = Strict(versioned=True)
    old = put(bare, "k", b"old")
    put(bare, "s", b"new")
    with pytest.raises(ConfigError, match="--require-conditions refuses that"):
        write(look_first(bare, is_required=True), how, Guard(etag=old.etag))
    assert content(bare, "k") == b"old"


def test_an_operation_that_refuses_every_etag_is_named_before_a_run_begins() -> None:
    store = look_first(Strict(versioned=True))
    named = asyncio.run(find_ignored(store, "b", "k", [Operation.PUT, Operation.COPY_PART, Operation.COMPLETE]))
    assert named == [Operation.PUT, Operation.COMPLETE]


class Odd(MemoryStore):
    """Answers 404 to every If-Match, as a server does that does not know what is there."""

    heeds_conditions = False

    async def put(self, *args: Any, guard: Guard, **more: Any) -> Written:
        if guard.etag is not None:
            raise NotFound("PutObject", "b/k", "NoSuchKey", "", 404)
        return await super().put(*args, guard=guard, **more)


def test_a_404_for_an_object_that_is_there_is_no_proof_that_conditions_hold() -> None:
    bare = Odd()
    bare.create_bucket("b", versioned=True)
    put(bare, "k", b"old")
    with pytest.raises(PreconditionFailed):
        write(look_first(bare), "put", Guard(etag="1" * 32))


def test_a_server_that_heeds_conditions_is_used_as_it_is(seaweed: Server) -> None:
    assert _note_of_a_copy(seaweed) == ""


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
