"""XML that no answer of S3 is: refused before it takes memory or time, in whatever way it grows."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from jobs.s3 import wire
from jobs.s3.list_pages import parse_page
from jobs.s3.operations import Operation
from jobs.s3.transport import XML_BYTES
from jobs.s3.xml_bounds import BYTES_MAX, DEPTH_MAX

_LISTS = (Operation.LIST_OBJECTS, Operation.LIST_VERSIONS)

ROOM = BYTES_MAX - 1_000
HOSTILE: dict[str, Callable[[], bytes]] = {
    "levels": lambda: b"<a>" * (ROOM // 7) + b"</a>" * (ROOM // 7),
    "levels that never end": lambda: b"<a>" * (ROOM // 3),
    "elements": lambda: b"<R>" + b"<a/>" * (ROOM // 4) + b"</R>",
    "attributes": lambda: b"<R" + b"".join(b' a%x=""' % number for number in range(ROOM // 12)) + b"/>",
    "attributes with spaces": lambda: b"<R" + b"".join(b" a%x = ''" % number for number in range(ROOM // 14)) + b"/>",
    "a namespace in each name": lambda: b'<R xmlns="%b">' % (b"u" * 100_000)
    + b"".join(b"<a%d/>" % n for n in range(20_000)),
    "a prefix": lambda: b"<R xmlns:p='%b'>" % (b"u" * 100_000) + b"".join(b"<p:a%d/>" % n for n in range(20_000)),
    "entries": lambda: b"<R>" + b"<Contents><Key>k</Key></Contents>" * (ROOM // 40) + b"</R>",
    "another encoding": lambda: b'<?xml version="1.0" encoding="cp037"?>' + '<!DOCTYPE x []><R>&a;</R>'.encode("cp037"),
}  # fmt: skip
"""How to make each. All of them are megabytes, which the collection of tests leaves out."""
PARSERS = (
    lambda body: parse_page(body, Operation.LIST_VERSIONS),
    wire.parse_xml,
    wire.parse_tags,
    wire.parse_upload_id,
    wire.parse_versioning,
    lambda body: wire.parse_written(Operation.COPY, {}, body),
    lambda body: wire.parse_deletions(body, "bucket"),
)


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_beyond_the_bounds_is_malformed_in_little_time_and_memory(make: Callable[[], bytes]) -> None:
    body = make()
    assert len(body) <= XML_BYTES == BYTES_MAX
    tracemalloc.start()
    began = time.process_time()
    try:
        for parse in PARSERS:
            with pytest.raises(wire.Malformed):
                parse(body)
        assert wire.parse_error(b"<Error/>" + body) is None
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
        assert time.process_time() - began < 5
    finally:
        tracemalloc.stop()


def test_an_answer_as_deep_as_the_bound_is_read() -> None:
    assert wire.parse_xml(b"<a>" * DEPTH_MAX + b"</a>" * DEPTH_MAX).tag == "a"
    with pytest.raises(wire.Malformed, match="levels"):
        wire.parse_xml(b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1))


def test_the_longest_page_of_s3_is_read() -> None:
    key = b"%00" * 1_024
    owner = b"<Owner><ID>%b</ID></Owner>" % (b"o" * 64)
    fields = owner + b"<Size>5</Size><ETag>e</ETag>" + b"<ChecksumAlgorithm>SHA256</ChecksumAlgorithm>" * 12
    for kind, root in ((b"Contents", b"ListBucketResult"), (b"DeleteMarker", b"ListVersionsResult")):
        entry = b"<%b><Key>%b</Key>%b</%b>" % (kind, key, fields, kind)
        body = b"<%b><EncodingType>url</EncodingType>%b</%b>" % (root, entry * 1_000, root)
        assert [each.key for each in parse_page(body, _LISTS[kind != b"Contents"]).entries] == ["\0" * 1_024] * 1_000


def test_a_page_whose_entry_has_countless_fields_is_not_taken_apart_by_a_countless_expression() -> None:
    fields = b"".join(b"<a%d>1</a%d>" % (number, number) for number in range(90_000))
    began = time.process_time()
    page = parse_page(
        b"<ListBucketResult><Contents><Key>k</Key>%b</Contents></ListBucketResult>" % fields, Operation.LIST_OBJECTS
    )
    assert [each.key for each in page.entries] == ["k"]
    assert time.process_time() - began < 5
