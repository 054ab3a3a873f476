"""The wire format: what goes out comes back, and what is no S3 answer is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import asdict

from jobs.core.model import Attributes, Checksum, ObjectInfo, ObjectLock
from jobs.s3 import wire
from jobs.s3.operations import Operation
from jobs.s3.store import Written

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@pytest.mark.parametrize("quote", ["&quot;", "&#34;", '"', ""])
def test_a_copy_result_names_the_etag_however_its_quotes_are_written(quote: str) -> None:
    body = f'<?xml version="1.0"?>\n<CopyObjectResult {NAMESPACE}><ETag>{quote}abc-2{quote}</ETag></CopyObjectResult>'
    assert wire.parse_written(Operation.COPY, {"x-amz-version-id": "v"}, body.encode()) == Written("abc-2", "v")


def test_a_result_may_be_spelled_with_a_prefix_and_carry_checksums() -> None:
    prefixed = b'<s:CopyPartResult xmlns:s="urn:x"><s:ETag>"abc"</s:ETag></s:CopyPartResult>'
    assert wire.parse_written(Operation.COPY_PART, {}, prefixed).etag == "abc"
    body = b"<CopyObjectResult><ETag>x</ETag><ChecksumSHA256>aa=-2</ChecksumSHA256></CopyObjectResult>"
    assert wire.parse_written(Operation.COPY, {}, body).checksums == (Checksum("SHA256", "aa=-2", True),)


@pytest.mark.parametrize(("date", "expected"), [("2026-11-25T00:33:40.000Z", 1_795_566_820.0), ("soon", None)])
def test_a_copy_result_dates_the_copy(date: str, expected: float | None) -> None:
    body = f"<CopyObjectResult><LastModified>{date}</LastModified><ETag>e</ETag></CopyObjectResult>"
    assert wire.parse_written(Operation.COPY, {}, body.encode()) == Written("e", last_modified=expected)


def test_a_result_after_keep_alive_spaces_is_read() -> None:
    body = b'  \n <?xml version="1.0"?> \n <CopyObjectResult><ETag>a&amp;b</ETag></CopyObjectResult>'
    assert wire.parse_written(Operation.COPY, {}, body).etag == "a&b"
    assert wire.parse_xml(b'  \n <?xml version="1.0"?><R/>').tag == "R"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CopyObjectResult/>",
        b"<CopyObjectResult><ETag></ETag></CopyObjectResult>",
        b"<R><ETag>e</ETag></R>",
        b"<html>",
        b"<CopyObjectResult><ETag>",
        b"\xff\xfe",
    ],
)
def test_an_answer_without_an_etag_is_malformed(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse_written(Operation.COPY, {}, body)


@pytest.mark.parametrize("name", ["ETF-8", "utf-7", "rot13", "cp037", "x" * 70])
def test_a_document_is_utf_8_whatever_it_declares(name: str) -> None:
    assert wire.parse_xml(f'<?xml version="1.0" encoding="{name}"?><R>ä</R>'.encode()).text == "ä"
    with pytest.raises(wire.Malformed):
        wire.parse_xml(f'<?xml version="1.0" encoding="{name}"?><R>ä</R>'.encode("latin-1"))


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><R><ETag>&b;</ETag></R>'


@pytest.mark.parametrize("body", [BOMB, BOMB.decode().encode("utf-16"), BOMB.decode().encode("utf-32")])
def test_a_doctype_is_refused_in_any_encoding(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse_xml(body)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_more_attributes_than_any_answer_has_are_refused(quote: str) -> None:
    attributes = " ".join(f"a{number}={quote}{quote}" for number in range(wire.TAGS_MAX))
    with pytest.raises(wire.Malformed, match="too many"):
        wire.parse_xml(f"<Error {attributes}/>".encode())


def test_errors_are_read_and_anything_else_is_none() -> None:
    body = b"<Error><Code>SlowDown</Code><Message>Please\n  wait</Message><Region>eu-west-1</Region></Error>"
    assert wire.parse_error(body) == ("SlowDown", "Please wait", "eu-west-1")
    assert wire.parse_error(b"<Errors/>") is None
    assert wire.parse_error(b"<Error><Code>") is None
    assert wire.parse_error(b"") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Wed, 25 Nov 2026 00:33:40 GMT", 1795566820.0),
        ("25 Nov 2026 00:33:40 +0000", 1795566820.0),
        ("soon", 0.0),
        ("31 Dec 9999 23:59:59 -9999", 0.0),
        (f"25 Nov 2026 00:33:40 +{'9' * 12}", 0.0),
    ],
)
def test_http_dates(text: str, seconds: float) -> None:
    assert wire.parse_http_date(text) == seconds


HTTP_DATE = "Wed, 25 Nov 2026 00:33:40 GMT"
META, SSE, CLASS = "x-amz-meta-", "x-amz-server-side-encryption", "x-amz-storage-class"
SUM, LOCK, HOLD = "x-amz-checksum-", "x-amz-object-lock-", "x-amz-object-lock-event-hold"
TIERING = "INTELLIGENT_TIERING"
THAWING, THAWED = ({"x-amz-restore": f'ongoing-request="{word}"'} for word in ("true", "false"))
CONTENT = {"content-type": "a/b", "expires": "0", "content-language": "de"}
NOTHING_SAID = ObjectInfo(0, "", 0.0, None, "STANDARD", attributes=Attributes(storage_class="STANDARD"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {}),
        ({"content-length": "7", "etag": '"e-3"', "date": HTTP_DATE}, {"size_bytes": 7, "etag": "e-3"}),
        ({"content-length": "9" * 20, "x-amz-tagging-count": "-1", "x-amz-mp-parts-count": "many"}, {}),
        ({"last-modified": HTTP_DATE, "x-amz-version-id": "v"}, {"last_modified": 1795566820.0, "version_id": "v"}),
        ({"x-amz-tagging-count": "2", "x-amz-mp-parts-count": "3"}, {"tag_count": 2, "parts_count": 3}),
        ({"x-amz-missing-meta": "4", "x-amz-expiration": "soon"}, {"unsent_metadata": 4, "expiration": "soon"}),
        ({"x-amz-replication-status": "REPLICA"}, {"replication_status": "REPLICA"}),
        ({CLASS: "STANDARD_IA"}, {"storage_class": "STANDARD_IA"}),
        ({CLASS: "GLACIER"}, {"storage_class": "GLACIER", "is_archived": True}),
        ({CLASS: "GLACIER"} | THAWING, {"storage_class": "GLACIER", "is_archived": True, "is_restoring": True}),
        ({CLASS: "GLACIER"} | THAWED, {"storage_class": "GLACIER"}),
        (
            {CLASS: TIERING, "x-amz-archive-status": "ARCHIVE_ACCESS"},
            {"storage_class": TIERING, "is_archived": True, "archive_tier": "ARCHIVE_ACCESS"},
        ),
        (
            {SUM + "crc64nvme": "a=", SUM + "type": "FULL_OBJECT", SUM + "new": "b="},
            {"checksums": (Checksum("CRC64NVME", "a=", False), Checksum("NEW", "b=", False))},
        ),
        ({SUM + "sha1": "a=-3"}, {"checksums": (Checksum("SHA1", "a=-3", True),)}),
        ({SUM + "crc32": "a=", SUM + "type": "COMPOSITE"}, {"checksums": (Checksum("CRC32", "a=", True),)}),
        (CONTENT | {"x-amz-id-2": "x"}, {"headers": CONTENT}),
        (
            {META + "port": "Oslo", META + "empty": "", META + "word": "=?UTF-8?B?xYHDs2TFug==?="},
            {"metadata": {"port": "Oslo", "empty": "", "word": "Łódź"}},
        ),
        ({SSE: "aws:kms", SSE + "-aws-kms-key-id": "key/k"}, {"sse": "aws:kms", "kms_key_id": "key/k"}),
        ({LOCK + "mode": "GOVERNANCE", LOCK + "retain-until-date": "2099"}, {"lock": ObjectLock("GOVERNANCE", "2099")}),
        ({LOCK + "legal-hold": "ON"}, {"lock": ObjectLock(legal_hold=True)}),
        ({LOCK + "legal-hold": "OFF", HOLD: "OFF", HOLD + "-duration-days": "3"}, {}),
        ({HOLD: "ON", HOLD + "-duration-days": "3"}, {"lock": ObjectLock(event_hold=True, event_days=3)}),
        ({HOLD: "ON", HOLD + "-duration-years": "2"}, {"lock": ObjectLock(event_hold=True, event_years=2)}),
    ],
)
def test_each_header_of_an_answer_is_read(headers: dict[str, str], expected: dict[str, Any]) -> None:
    found, plain = wire.object_info(headers), NOTHING_SAID
    said = asdict(found) | asdict(found.attributes)
    usual = asdict(plain) | asdict(plain.attributes)
    assert {name: value for name, value in said.items() if name != "attributes" and value != usual[name]} == expected
