"""What an exchange with S3 is told as: a table, and the record as the function reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.backup.events import EventKind, parse_message
from jobs.local.notifications import Change, Exchange, read_changes, to_record

VERSION = {"x-amz-version-id": "v1", "etag": '"e1"'}
COPIED = b'<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ETag>"e"</ETag></CopyObjectResult>'
FAILED = b"<Error><Code>InternalError</Code></Error>"


@pytest.mark.parametrize(
    ("exchange", "changes"),
    [
        (
            Exchange("PUT", "/b/a%20b%2Fc?x-id=PutObject", {"content-length": "5"}, status=200, answer_headers=VERSION),
            [Change("ObjectCreated:Put", "b", "a b/c", "v1", 5, "e1")],
        ),
        (
            Exchange("PUT", "/b/k?X-Amz-Signature=s&X-Amz-Date=d", {"content-length": "0"}, status=200),
            [Change("ObjectCreated:Put", "b", "k", None, 0, None)],
        ),
        (
            Exchange(
                "PUT",
                "/b/k",
                {"content-length": "90", "x-amz-decoded-content-length": "7"},
                status=200,
                answer_headers=VERSION,
            ),
            [Change("ObjectCreated:Put", "b", "k", "v1", 7, "e1")],
        ),
        (
            Exchange(
                "PUT", "/b/k", {"x-amz-copy-source": "/x/y"}, b"", 200, {"x-amz-version-id": "v2"}, answer_body=COPIED
            ),
            [Change("ObjectCreated:Copy", "b", "k", "v2")],
        ),
        (Exchange("PUT", "/b/k", {"x-amz-copy-source": "/x/y"}, status=200, answer_body=FAILED), []),
        (
            Exchange(
                "POST",
                "/b/k?uploadId=u",
                status=200,
                answer_headers=VERSION,
                answer_body=b"\n<CompleteMultipartUploadResult/>",
            ),
            [Change("ObjectCreated:CompleteMultipartUpload", "b", "k", "v1")],
        ),
        (Exchange("POST", "/b/k?uploadId=u", status=200, answer_body=FAILED), []),
        (Exchange("POST", "/b/k?uploads", status=200), []),
        (Exchange("PUT", "/b/k?partNumber=1&uploadId=u", status=200), []),
        (Exchange("PUT", "/b/k?partNumber=1&uploadId=u", {"x-amz-copy-source": "/x/y"}, status=200), []),
        (Exchange("PUT", "/b/k?tagging", status=200), []),
        (Exchange("PUT", "/b", status=200), []),
        (Exchange("PUT", "/b/k", {"if-none-match": "*"}, status=412), []),
        (Exchange("GET", "/b/k", status=200), []),
        (Exchange("OPTIONS", "*", status=200), []),
        (
            Exchange("DELETE", "/b/k", status=204, answer_headers={"x-amz-delete-marker": "true"} | VERSION),
            [Change("ObjectRemoved:DeleteMarkerCreated", "b", "k", "v1")],
        ),
        (
            Exchange("DELETE", "/b/k?versionId=v0", status=204, answer_headers={"x-amz-delete-marker": "true"}),
            [Change("ObjectRemoved:Delete", "b", "k", "v0")],
        ),
        (Exchange("DELETE", "/b/k", status=204), [Change("ObjectRemoved:Delete", "b", "k")]),
        (Exchange("DELETE", "/b/k?uploadId=u", status=204), []),
        (Exchange("DELETE", "/b/k?tagging", status=204), []),
        (
            Exchange(
                "POST",
                "/b?delete",
                status=200,
                answer_body=b"<DeleteResult><Deleted><Key>a&amp;b</Key><DeleteMarker>true</DeleteMarker>"
                b"<DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted><Deleted><Key>c</Key>"
                b"<VersionId>v</VersionId></Deleted><Error><Key>d</Key></Error></DeleteResult>",
            ),
            [
                Change("ObjectRemoved:DeleteMarkerCreated", "b", "a&b", "m"),
                Change("ObjectRemoved:Delete", "b", "c", "v"),
            ],
        ),
        (
            Exchange(
                "POST",
                "/b/?delete=",
                {},
                b"<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>d</Key></Object></Delete>",
                200,
                {},
                b"<DeleteResult><Error><Key>d</Key></Error></DeleteResult>",
            ),
            [Change("ObjectRemoved:Delete", "b", "a")],
        ),
    ],
)
def test_what_an_exchange_changed(exchange: Exchange, changes: list[Change]) -> None:
    assert read_changes(exchange) == changes


@given(key=st.text(min_size=1).filter(lambda text: text.isprintable()), version=st.none() | st.just("v1"))
def test_the_function_reads_what_was_told(key: str, version: str | None) -> None:
    change = Change("ObjectCreated:Put", "bucket", key, version, 0, "etag")
    (event,) = parse_message(json.dumps({"Records": [to_record(change, "0A", 1764030000.5, "us-east-1")]}))
    assert (event.kind, event.key, event.version_id, event.size_bytes) == (EventKind.CREATED, key, version, 0)
    assert (event.etag, event.sequencer, event.event_time) == ("etag", "0A", 1764030000.5)
