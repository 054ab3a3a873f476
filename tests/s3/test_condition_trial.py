"""The trial of conditions: servers that heed them, that ignore one, and that answer oddly."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.selection import is_sealift_object
from jobs.errors import Denied, NotFound, PreconditionFailed, Rejected, StoreError, Unavailable
from jobs.s3.condition_trial import LEFT_SECONDS, find_ignored
from jobs.s3.http.endpoints import aws_endpoint, given_endpoint
from jobs.s3.operations import Operation
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED
from tests.doubles.ceph_server import is_on_ceph
from tests.doubles.hooks import Killed, names, refuse, watch
from tests.doubles.memory_store import Hook, MemoryStore, Request
from tests.doubles.servers import Server

CONDITIONAL = (Operation.PUT, Operation.COPY, Operation.COPY_PART, Operation.COMPLETE, Operation.DELETE)
PLACE = Location("b", "copies/2026")


def server(hooks: Mapping[str, Hook] | None = None, *, versioned: bool = True) -> MemoryStore:
    """A server whose conditions nothing documents."""
    store = MemoryStore(on=hooks)
    store.heeds_conditions = False
    store.create_bucket("b", versioned=versioned)
    return store


def ignored(store: MemoryStore, *operations: Operation) -> list[Operation]:
    return asyncio.run(find_ignored(store, PLACE, operations or tuple(Operation)))


def left(store: MemoryStore) -> list[str]:
    """What is in the bucket, with unfinished uploads."""
    return [*sorted(store._buckets.named["b"].versions), *(each.upload_id for each in store.uploads("b"))]


@pytest.mark.parametrize("bucket", ["versioned", "suspended", "plain"])
def test_a_server_that_heeds_all_conditions_passes_and_nothing_is_left(bucket: str) -> None:
    """Where versioning is suspended, a delete leaves a marker with the id of what it removed."""
    store = server(versioned=bucket != "plain")
    if bucket == "suspended":
        store.suspend_versioning("b")
    assert ignored(store) == []
    assert left(store) == []


def ignores_absent(arguments: dict[str, Any]) -> None:
    if arguments["guard"].absent:
        arguments["guard"] = UNGUARDED


def ignores_etag(arguments: dict[str, Any]) -> None:
    if "if_match" in arguments:
        arguments["if_match"] = None
    elif not arguments["guard"].absent:
        arguments["guard"] = UNGUARDED


def ignores_source(arguments: dict[str, Any]) -> None:
    arguments["source_etag"] = None


WRITES = (Operation.PUT, Operation.COPY, Operation.COMPLETE)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(
    ("operation", "ignore"),
    [
        *((each, ignores_absent) for each in WRITES),
        *((each, ignores_etag) for each in (*WRITES, Operation.DELETE)),
        *((each, ignores_source) for each in (Operation.COPY, Operation.COPY_PART)),
    ],
)
def test_each_condition_that_is_ignored_is_found(operation: Operation, ignore: Any, versioned: bool) -> None:
    async def careless(request: Request) -> Any:
        ignore(request.arguments)
        return await request()

    store = server({operation.call: careless}, versioned=versioned)
    assert ignored(store) == [operation]
    assert left(store) == []


@pytest.mark.parametrize("is_head_too", [True, False])
def test_a_delete_that_removes_another_version_than_it_names_is_found(is_head_too: bool) -> None:
    """Such a gateway hides what is current, and says that the version is gone."""

    async def current(request: Request) -> Any:
        request.arguments["ref"] = request.arguments["ref"]._replace(version_id=None)
        return await request()

    assert ignored(server(dict.fromkeys(["delete", "head"] if is_head_too else ["delete"], current))) == [
        Operation.DELETE
    ]


def refusing(error: type[StoreError]) -> Hook:
    """Refuses each ETag, also the one that is there: Ceph 18.2 does so for PutObject."""

    async def refuse(request: Request) -> Any:
        if request.arguments.get("if_match") or request.arguments.get("guard", UNGUARDED).etag:
            raise error(request.operation, "b", "X", "", 412)
        return await request()

    return refuse


@pytest.mark.parametrize("error", [PreconditionFailed, NotFound, Rejected])
@pytest.mark.parametrize("operation", [*WRITES, Operation.DELETE])
def test_an_operation_that_refuses_every_etag_counts_as_one_that_ignores_it(
    operation: Operation, error: type[StoreError]
) -> None:
    """A 404 for what is there, or a 400 for the header, was once taken for heed."""
    store = server({operation.call: refusing(error)})
    assert ignored(store) == [operation]
    assert left(store) == []


@pytest.mark.parametrize("operation", [*WRITES, Operation.DELETE])
def test_a_write_whose_answer_is_lost_is_tried_anew_and_not_taken_for_refused(operation: Operation) -> None:
    """A second try meets what the first one wrote: a storm on a real server showed it."""
    lost = 0

    async def lose(request: Request) -> Any:
        nonlocal lost
        answer = await request()
        if not lost and (request.arguments.get("if_match") or request.arguments["guard"].etag):
            lost += 1
            raise Unavailable(request.operation, "b", "NoAnswer", "lost")
        return answer

    store = server({operation.call: lose})
    assert ignored(store, operation) == []
    assert lost == 1
    assert left(store) == []


def test_a_trial_that_is_denied_raises() -> None:
    with pytest.raises(Denied):
        ignored(server({"put": refuse(Denied("PutObject", "b", "AccessDenied", "", 403))}))


def test_nothing_is_tried_where_conditions_are_documented() -> None:
    store = server({"every": refuse(AssertionError())})
    store.heeds_conditions = True
    assert ignored(store) == []


def test_only_what_the_operations_need_is_made_below_the_prefix() -> None:
    store = server()
    seen = watch(store)
    assert ignored(store, Operation.DELETE) == []
    made = Counter(names(seen))
    assert (made["put"], made["create_multipart"]) == (2, 0)
    seen.clear()
    assert ignored(store) == []
    uploads = {each.place.key for each in seen if each.operation == "create_multipart"}
    # SeaweedFS takes a second to abort two of one key at once
    assert names(seen).count("create_multipart") == len(uploads) == 5
    keys = {each.place.key for each in seen}
    objects = {key for key in keys if key.startswith("copies/2026/.sealift/trial-") and is_sealift_object(key)}
    assert len(objects) == 14
    assert uploads < objects
    assert keys - objects == {""}  # listed


@pytest.mark.parametrize("versioned", [True, False])
def test_what_a_killed_trial_left_is_swept_by_the_next_one_an_hour_later(versioned: bool) -> None:
    store = server(versioned=versioned)
    others = ["copies/2026/.sealift/trial-mine", "copies/2026/.sealift/place-" + "a" * 32 + ".json", "copies/2026/k"]
    others.append("copies/2026/.sealift/trial-" + "a" * 32 + ".txt")
    for key in others:
        asyncio.run(store.put(ObjectRef("b", key), b"data", Attributes(), guard=UNGUARDED))
    requests = 0
    for stops_at in range(1, 80):
        requests = 0

        async def kill(request: Request, stops_at: int = stops_at) -> Any:
            nonlocal requests
            requests += 1
            if requests > stops_at:
                raise Killed
            return await request()

        store.hook(every=kill)
        try:
            ignored(store)
        except Killed:
            continue
        break
    assert stops_at > 15
    store.hook(every=None)
    before = left(store)
    assert len(before) > len(others) + stops_at
    ignored(store)
    assert left(store) == before  # another trial may be at work
    with mock.patch("jobs.s3.condition_trial.time.time", return_value=time.time() + LEFT_SECONDS + 60):
        ignored(store)
    assert sorted(store._buckets.named["b"].versions) == sorted(others)


@pytest.mark.parametrize("versioned", [True, False])
def test_seaweedfs_heeds_all_conditions_and_ceph_none(seaweed: Server, versioned: bool) -> None:
    assert _tried(seaweed, versioned) == (list(CONDITIONAL) if is_on_ceph() else [])


@pytest.mark.slow
def test_moto_ignores_the_conditions_of_copies_and_deletes(moto_server: Server) -> None:
    assert {Operation.COPY, Operation.COPY_PART} <= set(_tried(moto_server, True))


def _tried(subject: Server, versioned: bool) -> list[Operation]:
    bucket = f"t-{uuid.uuid4().hex[:12]}"
    client = subject.client()
    client.create_bucket(Bucket=bucket)
    if versioned:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    async def tried() -> list[Operation]:
        store = open_store(subject.endpoint, None, None, max_in_flight=4)
        try:
            return await find_ignored(store, Location(bucket, "copies/"), tuple(Operation))
        finally:
            await store.close()

    with mock.patch.dict(os.environ, subject.environment()):
        found = asyncio.run(tried())
    listed = client.list_object_versions(Bucket=bucket)
    assert (listed.get("Versions", []), listed.get("DeleteMarkers", [])) == ([], [])
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    return found


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
