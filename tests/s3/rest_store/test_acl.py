"""The canned ACL of a side: in the requests that make an object, and in no others."""

from __future__ import annotations

import asyncio

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, CopySettings, PartDone
from tests.doubles.scripted_server import COPIED, Reply, Script

FULL_CONTROL = "bucket-owner-full-control"
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = COPIED.replace(b"CopyObjectResult", b"CompleteMultipartUploadResult")
ANSWERS = [
    Reply(headers={"ETag": '"e"'}),
    Reply(body=COPIED),
    Reply(body=BEGUN),
    Reply(headers={"ETag": '"e"'}),
    Reply(body=COPIED.replace(b"CopyObjectResult", b"CopyPartResult")),
    Reply(body=COMPLETED),
    Reply(204),
]


@pytest.mark.parametrize("acl", [FULL_CONTROL, None])
def test_what_makes_an_object_brings_the_acl_of_its_side(script: Script, acl: str | None) -> None:
    async def write() -> None:
        store = open_store(script.endpoint, "us-east-1", None, max_in_flight=2, acl=acl)
        try:
            await store.put("b", "k", b"x", Attributes(), guard=ABSENT)
            await store.copy(ObjectRef("a", "k"), "e", "b", "k", CopySettings(), guard=ABSENT)
            upload_id = await store.create_multipart("b", "k", Attributes())
            await store.put_part("b", "k", upload_id, 1, b"x")
            await store.copy_part(ObjectRef("a", "k"), "e", 0, 5, "b", "k", upload_id, 1)
            await store.complete_multipart("b", "k", upload_id, [PartDone(1, "e")], guard=ABSENT)
            await store.delete("b", "k")
        finally:
            await store.close()

    script.first = list(ANSWERS)
    asyncio.run(write())
    assert [seen.headers.get("x-amz-acl") for seen in script.seen] == [acl, acl, acl, None, None, None, None]


@pytest.mark.parametrize("acl", [FULL_CONTROL, None])
def test_a_side_keeps_its_acl_in_the_spec_of_a_run(acl: str | None) -> None:
    side = Side(Location("bucket", "p/"), acl=acl)
    assert Side.from_dict(side.to_dict()) == side
    assert side.to_dict().get("acl") == acl
