"""Where the two clients differ, and why. What is not here must be the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jobs.s3.store import AnnotationPage, Page, PartDone
from tests.doubles.scripted_server import Reply

EXPECTED_IN_REQUESTS: dict[str, str] = {
    "accept-encoding": "botocore says that it takes no compressed body; S3 sends none that nobody asked for",
    "amz-sdk-invocation-id": "AWS's number of the call, the same in all its attempts; S3 does not need it",
    "amz-sdk-request": "AWS's count of attempts; S3 does not need it",
    "authorization": "made of all the others: test_signing holds our signatures equal to botocore's",
    "user-agent": "each says who it is",
    "x-amz-content-sha256": "of a body that is spelled otherwise; compared with the body that came",
    "x-amz-date": "the second in which it was sent",
}
EXPECTED_WITH_DOCUMENTS: dict[str, str] = {
    "content-type": "ours says application/xml; botocore says nothing, and S3 asks for nothing",
    "content-length": "the documents are spelled otherwise: order, namespace, escapes",
    "x-amz-checksum-sha256": "of the document; compared with the body that came",
}
_DESCRIBES = "botocore signs all; S3 does not demand it, and proxies change what describes an object"
SIGNED_BY_ONE: dict[str, str] = {
    "cache-control": _DESCRIBES,
    "content-disposition": _DESCRIBES,
    "content-encoding": _DESCRIBES,
    "content-language": _DESCRIBES,
    "content-type": EXPECTED_WITH_DOCUMENTS["content-type"],
    "expires": _DESCRIBES,
}
EXPECTED_PATHS = {"/bucket": "/bucket/"}
"""botocore leaves out the slash behind a bucket. S3 takes both for the bucket."""


class Difference(NamedTuple):
    """A difference in what the clients make of an answer.

    `covers(method, reply, ours, theirs)`: whether it explains two results. Each example shows it.
    """

    name: str
    reason: str
    covers: Callable[[str, Reply, Any, Any], bool]
    examples: Sequence[tuple[str, Reply]]


def _are(result: Any, *names: str) -> bool:
    """Whether a result is an error of one of these classes."""
    return isinstance(result, tuple) and len(result) == 2 and result[0] in names


def _no_xml(method: str, reply: Reply, ours: Any, theirs: Any) -> bool:
    is_blank = method in ("get_tags", "put_annotation") and not reply.body.strip()  # "no tags", "done" for our client
    return (
        (_are(ours, "Unavailable") or is_blank) and theirs == ("Unavailable", "InternalError") and reply.status == 200
    )


def _archive_status(method: str, reply: Reply, ours: Any, theirs: Any) -> bool:
    headers = {name.lower() for name in reply.headers}
    return (
        method == "get"
        and "x-amz-archive-status" in headers
        and ours.info == replace(theirs.info, is_archived=ours.info.is_archived, archive_tier=ours.info.archive_tier)
    )


def _part_type(method: str, reply: Reply, ours: Any, theirs: Any) -> bool:
    return (
        method in ("put_part", "copy_part")
        and isinstance(ours, PartDone)
        and isinstance(theirs, PartDone)
        and ours.etag == theirs.etag
    )


def _raw_marker(method: str, reply: Reply, ours: Any, theirs: Any) -> bool:
    if method != "list_versions" or b"<EncodingType>url" not in reply.body or not isinstance(ours, Page):
        return False
    return isinstance(theirs, Page) and ours._replace(next_marker=None) == theirs._replace(next_marker=None)


def _outside_list(method: str, reply: Reply, ours: Any, theirs: Any) -> bool:
    return isinstance(ours, AnnotationPage) and _are(theirs, "Unavailable") and b"<Annotations>" not in reply.body


_RAW = (
    "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    "<NextKeyMarker>a+b</NextKeyMarker><Version><Key>a%2Bb</Key><VersionId>v</VersionId>"
    "<LastModified>2026-11-25T00:33:40Z</LastModified></Version></ListVersionsResult>"
)
EXPECTED_IN_ANSWERS: tuple[Difference, ...] = (
    Difference(
        "another code for a 200 that is no XML",
        "botocore makes a 500 of it before it has an error code; both clients retry it",
        _no_xml,
        [("copy", Reply(body=b"no XML")), ("list_objects", Reply(body=b"no XML"))],
    ),
    Difference(
        "a marker that is not encoded as declared",
        "Ceph sends it raw: our client takes the key that it names, botocore decodes it to another one",
        _raw_marker,
        [("list_versions", Reply(body=_RAW.encode()))],
    ),
    Difference(
        "annotations outside of their list",
        "MinIO sends them so: botocore overlooks them, which our store on it refuses to take for none",
        _outside_list,
        [
            (
                "list_annotations",
                Reply(
                    body=b"<ListObjectAnnotationsOutput><Annotation><AnnotationName>a</AnnotationName><Size>1</Size>"
                    b"</Annotation></ListObjectAnnotationsOutput>"
                ),
            )
        ],
    ),
    Difference(
        "the archive tier in an answer to GET",
        "S3 documents x-amz-archive-status for HEAD alone: a GET of what is archived is refused",
        _archive_status,
        [("get", Reply(200, {"ETag": '"e1"', "x-amz-archive-status": "ARCHIVE_ACCESS"}, b"0123456789"))],
    ),
    Difference(
        "the checksum type in an answer to UploadPart",
        "S3 documents x-amz-checksum-type for whole objects alone: a part has no type, and none is sent on",
        _part_type,
        [
            (
                "put_part",
                Reply(200, {"ETag": '"e"', "x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "COMPOSITE"}),
            )
        ],
    ),
)
