"""RestStore against a server that answers by script: what goes over the wire."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

import pytest

from jobs import errors
from jobs.core.model import Attributes, Checksum, ObjectLock, ObjectRef
from jobs.s3.checksums import full_object
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Marker, PartDone
from tests.doubles.scripted_server import COPIED, REF, Reply, Script, ask, copy
from tests.doubles.servers import Server


def test_a_copy_is_pinned_and_guarded(script: Script) -> None:
    script.reply = Reply(body=COPIED)
    assert ask(script, copy).etag == "e"
    (seen,) = script.seen
    assert (seen.method, seen.path, seen.body) == ("PUT", "/bucket/b", b"")
    assert seen.headers["x-amz-copy-source"] == "/bucket/a%20key?versionId=v1"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e1"'
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["host"] == script.endpoint.removeprefix("http://")
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "x-amz-copy-source-if-match" in seen.headers["authorization"]
    assert "x-amz-request-payer" not in seen.headers


def test_a_delete_may_be_conditional(script: Script) -> None:
    script.reply = Reply(204)
    ask(script, lambda store: store.delete("bucket", "k", if_match="e1"))
    ask(script, lambda store: store.delete("bucket", "k", version_id="v1"))
    guarded, exact = script.seen
    assert (guarded.method, guarded.path, guarded.headers["if-match"]) == ("DELETE", "/bucket/k", '"e1"')
    assert (exact.path, "if-match" in exact.headers) == ("/bucket/k?versionId=v1", False)


def test_versions_are_deleted_by_one_request_and_each_has_its_answer(script: Script) -> None:
    script.reply = Reply(
        body=b"<DeleteResult><Deleted><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Deleted>"
        b"<Deleted><Key>m</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>2</DeleteMarkerVersionId></Deleted>"
        b"<Error><Key>held</Key><VersionId>3</VersionId><Code>AccessDenied</Code><Message>locked</Message></Error>"
        b"</DeleteResult>"
    )
    versions = [("a&b\n", "1"), ("m", "2"), ("held", "3"), ("forgotten", "4")]
    told = ask(script, lambda store: store.delete_versions("bucket", versions))
    (seen,) = script.seen
    assert (seen.method, seen.path) == ("POST", "/bucket/?delete=")
    assert seen.headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(seen.body).digest()).decode()
    assert b"<Object><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Object>" in seen.body
    assert b"Quiet" not in seen.body
    assert told[:2] == [None, None]
    assert isinstance(told[2], errors.Denied)
    assert isinstance(told[3], errors.Unavailable)  # nothing is known of it


def test_a_version_that_is_gone_counts_as_deleted_and_a_missing_bucket_does_not(script: Script) -> None:
    """AWS says Deleted of it, others NoSuchVersion, SeaweedFS no version where none are kept."""
    script.reply = Reply(
        body=b"<DeleteResult><Error><Key>gone</Key><VersionId>1</VersionId><Code>NoSuchVersion</Code></Error>"
        b"<Error><Key>key</Key><VersionId>2</VersionId><Code>NoSuchKey</Code></Error><Deleted><Key>plain</Key></Deleted>"
        b"<Error><Key>b</Key><VersionId>3</VersionId><Code>NoSuchBucket</Code></Error></DeleteResult>"
    )
    versions = [("gone", "1"), ("key", "2"), ("plain", "null"), ("plain", "4"), ("b", "3")]
    *gone, unknown, bucket = ask(script, lambda store: store.delete_versions("bucket", versions))
    assert gone == [None] * 3
    assert isinstance(unknown, errors.Unavailable)  # not named, so it may be there
    assert isinstance(bucket, errors.NoSuchBucket)


def test_copy_settings_are_asked_for(script: Script) -> None:
    script.reply = Reply(body=COPIED)
    lock = ObjectLock("GOVERNANCE", "2099-01-01T00:00:00Z", legal_hold=True)
    settings = CopySettings(storage_class="STANDARD_IA", sse="aws:kms", kms_key_id="key", lock=lock)
    ask(script, lambda store: store.copy(REF, None, "bucket", "b", settings, guard=UNGUARDED))
    headers = script.seen[0].headers
    assert "x-amz-copy-source-if-match" not in headers
    assert "if-none-match" not in headers
    assert {name: value for name, value in headers.items() if "lock" in name or "server-side" in name} == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
        "x-amz-object-lock-legal-hold": "ON",
    }


def test_the_requester_pays_for_every_request_when_asked_to(script: Script) -> None:
    script.reply = Reply(body=COPIED, headers={"ETag": '"e"'})
    ask(script, copy, request_payer=True)
    ask(script, lambda store: store.head(REF), request_payer=True)
    script.reply = Reply(headers={"ETag": '"e"'})
    ask(script, lambda store: store.put("bucket", "k", b"", Attributes(), guard=ABSENT), request_payer=True)
    assert [seen.headers["x-amz-request-payer"] for seen in script.seen] == ["requester"] * 3


def test_a_part_copy_names_its_range(script: Script) -> None:
    script.reply = Reply(body=b'<CopyPartResult><ETag>"e"</ETag></CopyPartResult>')
    ask(script, lambda store: store.copy_part(REF, "e1", 10, 20, "bucket", "k", "u/+=", 7))
    (seen,) = script.seen
    assert seen.path == "/bucket/k?partNumber=7&uploadId=u%2F%2B%3D"
    assert seen.headers["x-amz-copy-source-range"] == "bytes=10-19"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e1"'


def test_reads_ask_for_checksums_and_are_conditional(script: Script) -> None:
    script.reply = Reply(206, {"Content-Range": "bytes 2-3/10", "ETag": '"e1"'}, b"xy")
    body = ask(script, lambda store: store.get(REF, start=2, end=4, if_match="e1"))
    assert (body.data, body.info.size_bytes) == (b"xy", 10)
    ask(script, lambda store: store.head(REF, part_number=3))
    get, head = script.seen
    assert (get.path, get.headers["range"], get.headers["if-match"]) == (
        "/bucket/a%20key?versionId=v1",
        "bytes=2-3",
        '"e1"',
    )
    assert head.path == "/bucket/a%20key?versionId=v1&partNumber=3"
    assert get.headers["x-amz-checksum-mode"] == head.headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_multipart_upload_says_which_checksum_it_will_have(script: Script) -> None:
    script.reply = Reply(body=b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
    attributes = Attributes(
        headers={"content-type": "x/y"}, metadata={"k": "v"}, tags={"a": "b"}, storage_class="GLACIER_IR"
    )
    upload_id = ask(
        script,
        lambda store: store.create_multipart("bucket", "k", attributes, checksum_algorithm="SHA256", is_composite=True),
    )
    (seen,) = script.seen
    assert (upload_id, seen.method, seen.path) == ("u", "POST", "/bucket/k?uploads=")
    expected = {
        "content-type": "x/y",
        "x-amz-meta-k": "v",
        "x-amz-tagging": "a=b",
        "x-amz-storage-class": "GLACIER_IR",
        "x-amz-checksum-algorithm": "SHA256",
        "x-amz-checksum-type": "COMPOSITE",
    }
    assert {name: seen.headers.get(name) for name in expected} == expected


def test_complete_demands_the_full_object_checksum(script: Script) -> None:
    script.reply = Reply(body=b'<CompleteMultipartUploadResult><ETag>"e-1"</ETag></CompleteMultipartUploadResult>')
    checksum = Checksum("CRC64NVME", "AAAAAAAAAAA=")
    ask(
        script,
        lambda s: s.complete_multipart("bucket", "k", "u", [PartDone(1, "e")], guard=ABSENT, checksum=checksum),
    )
    (seen,) = script.seen
    assert seen.headers["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="
    assert seen.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert b'<PartNumber>1</PartNumber><ETag>"e"</ETag>' in seen.body


@pytest.mark.parametrize("data", [b"x", b""])
def test_bytes_without_a_checksum_bring_their_md5_which_s3_demands_where_locks_are_the_default(
    script: Script, data: bytes
) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    ask(script, lambda store: store.put("bucket", "k", data, Attributes(), guard=ABSENT))
    ask(script, lambda store: store.put_part("bucket", "k", "u", 1, data))
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    assert [seen.headers.get("content-md5") for seen in script.seen] == [md5, md5]


def test_bytes_with_a_checksum_need_no_md5(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    checksum = full_object("SHA256", b"x")
    ask(script, lambda store: store.put("bucket", "k", b"x", Attributes(), guard=ABSENT, checksum=checksum))
    assert "content-md5" not in script.seen[0].headers
    assert script.seen[0].headers["x-amz-checksum-sha256"] == checksum.value


def test_listings_ask_for_encoded_keys_and_go_on_where_they_stopped(script: Script) -> None:
    script.reply = Reply(body=b"<ListBucketResult></ListBucketResult>")
    ask(script, lambda store: store.list_objects("bucket", "p/ü", after=Marker("k"), delimiter="/"))
    ask(script, lambda store: store.list_objects("bucket", "", after=Marker("k", None, "t+k="), max_keys=5))
    script.reply = Reply(body=b"<ListVersionsResult></ListVersionsResult>")
    ask(script, lambda store: store.list_versions("bucket", "", after=Marker("k", "v1")))
    assert [seen.path for seen in script.seen] == [
        "/bucket/?list-type=2&encoding-type=url&max-keys=1000&prefix=p%2F%C3%BC&delimiter=%2F&start-after=k",
        "/bucket/?list-type=2&encoding-type=url&max-keys=5&continuation-token=t%2Bk%3D",
        "/bucket/?versions=&encoding-type=url&max-keys=1000&key-marker=k&version-id-marker=v1",
    ]


def test_64_mib_go_up_in_one_request_and_come_back_in_another(seaweed: Server) -> None:
    os.environ.update(seaweed.environment())
    seaweed.client().create_bucket(Bucket="large")
    data = os.urandom(64 * 1024 * 1024)

    async def run() -> tuple[str, bytes]:
        store = open_store(None, None, None, max_in_flight=4)
        await store.put("large", "k", data, Attributes(), guard=ABSENT)
        body = await store.get(ObjectRef("large", "k"), start=0, end=len(data))
        await store.close()
        return body.info.etag, body.data

    etag, back = asyncio.run(run())
    assert back == data
    assert etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
