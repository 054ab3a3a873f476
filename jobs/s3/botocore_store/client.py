"""botocore's client, with the few things that Sealift needs otherwise.

Headers that are no parameters: botocore takes `Expires` as a date only, where S3 keeps any text,
and it verifies a checksum of the whole object against a range of it if the parameter ChecksumMode
asks for checksums. Both go out as headers before the request is signed.

Expect: botocore has each body announced, and waits a second for servers that ignore that.

Annotations: botocore may not find them in the document of another server. Their number is counted
in the answer itself, so that none is overlooked.

The order of versions and delete markers: botocore makes two lists of one, which cannot be merged
again by what is in them. So the order is taken from the answer.

A 200 with another document than the operation's is a failure of the server. botocore would take it
for an answer that says nothing, which for a listing is an empty last page.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from jobs import __version__
from jobs.core.request_log import log_botocore
from jobs.s3.http.endpoints import Endpoint

ENTRY_ORDER = "SealiftEntryOrder"
"""The member of an answer that holds `Version` and `DeleteMarker` in S3's order."""
ANNOTATION_COUNT = "SealiftAnnotationCount"
"""The member of an answer that holds the number of annotations in its document."""
CONNECT_SECONDS = 10
READ_SECONDS = 300
"""botocore has one time-out for all requests, and S3 may be silent over a large copy."""
_ENTRY = re.compile(rb"<(Version|DeleteMarker)>")
_ANNOTATION = re.compile(rb"<(?:[\w.-]+:)?AnnotationName[\s/>]")
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CopyObject": "CopyObjectResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectTagging": "Tagging",
    "ListObjectAnnotations": "ListObjectAnnotationsOutput",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
    "PutObjectAnnotation": "PutObjectAnnotationOutput",
    "UploadPartCopy": "CopyPartResult",
}
"""The root element of each operation's answer."""
_EMPTY = frozenset({"DeleteObject", "PutObject", "RestoreObject", "UploadPart"})
"""Operations whose success has no document. A page in its place is somebody else's answer."""
_MAY_BE_SILENT = frozenset({"GetObjectTagging", "PutObjectAnnotation"})
"""Operations that some servers answer without a document: there are no tags, or it is done."""
_MALFORMED = b"<Error><Code>MalformedAnswer</Code><Message>the answer to %b is not %b</Message></Error>"
_headers = threading.local()


def make_client(
    session: Any,
    endpoint: Endpoint,
    region: str,
    *,
    connections: int,
    request_payer: bool,
    tries: int,
    owners: Mapping[str, str],
) -> Any:
    """A client of an endpoint. The session says which credentials and certificates.

    `owners`: bucket → id of the account that has to own it.
    """
    from botocore.config import Config
    from botocore.handlers import add_expect_header

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=connections,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": tries},
        s3={
            "addressing_style": "virtual" if endpoint.is_virtual else "path",
            "us_east_1_regional_endpoint": "regional",
        },
        tcp_keepalive=True,
        user_agent_extra=f"sealift/{__version__}",
    )
    url = None if endpoint.is_virtual else f"{'https' if endpoint.is_tls else 'http'}://{endpoint.host}{endpoint.path}"
    client = session.create_client("s3", region_name=region, endpoint_url=url, config=config)
    events = client.meta.events
    events.unregister("before-call.s3", add_expect_header)
    events.register("before-call.s3", _add_headers)
    if not endpoint.is_aws:
        events.register("before-call.s3", _stay)
    if request_payer:
        events.register("before-call.s3", _request_payer)
    if owners:
        events.register_first("provide-client-params.s3", partial(_expect_owners, owners))
    events.register("before-send.s3", _encode_headers)
    events.register("before-parse.s3.ListObjectVersions", _note_order)
    events.register("before-parse.s3.ListObjectAnnotations", _count_annotations)
    events.register_first("before-parse.s3", _demand_root)
    log_botocore(events)
    return client


@contextmanager
def extra_headers(headers: Mapping[str, str]) -> Iterator[None]:
    """Add headers to the request that this thread makes in the block."""
    _headers.values = headers
    try:
        yield
    finally:
        _headers.values = {}


def _add_headers(params: dict[str, Any], **_: Any) -> None:
    params["headers"].update(getattr(_headers, "values", {}))


def _stay(params: dict[str, Any], **_: Any) -> None:
    """Keep botocore from looking for the bucket's region: a given endpoint serves all regions."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _request_payer(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _expect_owners(owners: Mapping[str, str], params: Mapping[str, Any], model: Any, **_: Any) -> dict[str, Any]:
    """The parameters, with the accounts that have to own the buckets."""
    source = params.get("CopySource") or {}
    named = {
        "ExpectedBucketOwner": owners.get(params.get("Bucket", "")),
        "ExpectedSourceBucketOwner": owners.get(source.get("Bucket", "")),
    }
    known = model.input_shape.members
    return {**params, **{name: owner for name, owner in named.items() if owner and name in known}}


def _encode_headers(request: Any, **_: Any) -> None:
    """`http.client` would send Latin-1. The signature is that of UTF-8."""
    for name, value in list(request.headers.items()):
        if isinstance(value, str) and not value.isascii():
            request.headers[name] = value.encode()


def _note_order(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict[ENTRY_ORDER] = [name.decode() for name in _ENTRY.findall(response_dict["body"])]


def _count_annotations(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict[ANNOTATION_COUNT] = len(_ANNOTATION.findall(response_dict["body"]))


def _demand_root(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Make a failure of a 200 that is another document, so that botocore retries it."""
    name: str = operation_model.name
    root = _ROOTS.get(name, "empty" if name in _EMPTY else None)
    if root is None or not 200 <= response_dict["status_code"] < 300:
        return
    body: bytes = response_dict["body"]
    if name in _EMPTY and not body.strip():
        return
    match = _ROOT.search(re.sub(rb"<[?!][^>]*>", b"", body[:1000]))
    found = match.group(1).decode() if match else ""
    if not body and name in _MAY_BE_SILENT:
        return
    if found != root:
        response_dict["status_code"] = 500
        if found != "Error":
            response_dict["body"] = _MALFORMED % (name.encode(), root.encode())
