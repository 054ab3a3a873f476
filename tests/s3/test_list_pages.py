"""Pages of listings as servers spell them, and pages that no listing can go on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Listed, parse_time
from jobs.s3.list_pages import check_advance, parse_page
from jobs.s3.operations import Operation
from jobs.s3.store import Marker, Page
from jobs.s3.wire import Malformed

LEGAL = st.text(st.characters(min_codepoint=32, blacklist_categories=["Cs", "Co", "Cn"]), min_size=1, max_size=12)
VALUES = {
    "VersionId": st.sampled_from(["null", "3HL4kqt", "a&b"]),
    "IsLatest": st.sampled_from(["true", "false"]),
    "Size": st.integers(0, 10**15).map(str),
    "ETag": st.sampled_from(['"d41d8cd98f00b204e9800998ecf8427e"', '"x-2"', "bare", '"a&b"', '""']),
    "LastModified": st.sampled_from(["2026-11-25T00:33:40.123Z", "2026-11-25T00:33:40Z"]),
    "StorageClass": st.sampled_from(["STANDARD", "GLACIER", ""]),
    "ChecksumAlgorithm": st.sampled_from(["CRC64NVME", "SHA256"]),
}


QUOTES = {'"': "&quot;"}
ENTRIES = st.tuples(
    st.sampled_from(["Version", "DeleteMarker"]), st.fixed_dictionaries({"Key": LEGAL}, optional=VALUES)
)


@given(entries=st.lists(ENTRIES, max_size=5), is_encoded=st.booleans(), has_namespace=st.booleans())
def test_each_entry_is_read_however_it_is_spelled(
    entries: list[tuple[str, dict[str, str]]], is_encoded: bool, has_namespace: bool
) -> None:
    """Servers differ in the order and the number of an entry's fields."""
    rows = ""
    for kind, fields in entries:
        sent = {**fields, "Key": quote_plus(fields["Key"]) if is_encoded else fields["Key"]}
        rows += f"<{kind}><Owner><ID>me</ID></Owner>"
        rows += "".join(f"<{name}>{escape(value, QUOTES)}</{name}>" for name, value in sent.items())
        rows += f"</{kind}>"
    space = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' if has_namespace else ""
    encoding = "<EncodingType>url</EncodingType>" if is_encoded else ""
    body = f'<?xml version="1.0"?><ListVersionsResult{space}>{encoding}{rows}</ListVersionsResult>'.encode()
    read = [
        Listed(
            fields["Key"],
            fields.get("VersionId"),
            fields.get("IsLatest") == "true",
            is_marker := kind == "DeleteMarker",
            None if is_marker or "Size" not in fields else int(fields["Size"]),
            None if is_marker or "ETag" not in fields else fields["ETag"].strip('"') or None,
            parse_time(fields.get("LastModified", "1970-01-01")),
            None if is_marker else fields.get("StorageClass") or "STANDARD",
            fields.get("ChecksumAlgorithm"),
        )
        for kind, fields in entries
    ]
    assert parse_page(body, Operation.LIST_VERSIONS).entries == read


TWO = "<Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>"
ENTRY = "<Contents><Key>k</Key>{}</Contents></ListBucketResult>"


@pytest.mark.parametrize(
    "rest",
    [
        *(TWO[:-cut] for cut in (1, 10, 60)),
        *(ENTRY.format(f"<Size>{size}</Size>") for size in ("-1", "+1", "1_0", " 1", "٣", "9" * 19, "9" * 5_000)),
        ENTRY.format("<LastModified>0001-01-01T00:00:00</LastModified>"),
        ENTRY.format("<LastModified>0001-01-01T00:00:00+23:59</LastModified><Size>-1</Size>"),
        ENTRY.format("<LastModified>yesterday</LastModified>"),
        "<Contents><Size>1</Size></Contents></ListBucketResult>",
        "<Prefix>p</Prefix><CommonPrefixes><Prefix>a\x01</Prefix></CommonPrefixes></ListBucketResult>",
    ],
)
def test_a_page_is_malformed_that_is_cut_off_or_says_what_no_object_has(rest: str) -> None:
    with pytest.raises(Malformed):
        parse_page(f"<ListBucketResult>{rest}".encode(), Operation.LIST_OBJECTS)


def versions_page(keys: list[str], marker: str, more: str = "") -> bytes:
    rows = "".join(f"<Version><Key>{quote_plus(key)}</Key><VersionId>v</VersionId></Version>" for key in keys)
    return (
        f"<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>{rows}{more}"
        f"<NextKeyMarker>{marker}</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker></ListVersionsResult>"
    ).encode()


@pytest.mark.parametrize("key", ["a+b", "100%25", "a%2Bb", "a b", "50%", "%", "+", "ü"])
@pytest.mark.parametrize("spell", [quote_plus, str, escape], ids=["encoded", "raw", "escaped"])
def test_the_marker_of_a_page_is_its_last_key_however_the_server_spells_it(
    key: str, spell: Callable[[str], str]
) -> None:
    page = parse_page(versions_page(["A", key], spell(key)), Operation.LIST_VERSIONS)
    assert (page.next_marker or ())[:3] == Marker(key, "v")[:3]


def test_the_marker_of_a_page_may_be_its_last_prefix() -> None:
    prefix = "<CommonPrefixes><Prefix>a%2Bb%2F</Prefix></CommonPrefixes>"
    page = parse_page(versions_page(["A"], "a+b/", prefix), Operation.LIST_VERSIONS)
    assert (page.next_marker or ())[:3] == Marker("a+b/", "v")[:3]


@pytest.mark.parametrize(
    ("key", "marker", "after", "advances"),
    [
        (None, Marker(""), None, False),
        ("k", Marker("k", "v"), Marker("k", "v"), False),
        ("k", Marker("k", None), Marker("k", None), False),
        ("l", Marker("l", None, "t"), Marker("k", None, "t"), False),
        ("k", Marker("k", None, "u"), Marker("k", None, "t"), False),
        ("k", None, Marker("k"), True),
        ("k", Marker("k", "w"), Marker("k", "v"), True),
        ("l", Marker("l", None, "u"), Marker("k", None, "t"), True),
        (None, Marker("", None, "u"), Marker("", None, "t"), True),
        (None, Marker("", None, "t"), None, True),
        ("k", Marker("k"), None, True),
    ],
)
def test_a_page_that_does_not_advance_is_malformed(
    key: str | None, marker: Marker | None, after: Marker | None, advances: bool
) -> None:
    entries = [Listed(key, None, True, False, 1, "e", 0.0, "STANDARD")] if key else []
    with nullcontext() if advances else pytest.raises(Malformed):
        check_advance(Page(entries, [], marker), after)


@pytest.mark.parametrize("ends", ["abab", "abcdefgabcdefgab", "1234abababab"], ids=["two", "seven", "two of six"])
@pytest.mark.parametrize("operation", [Operation.LIST_OBJECTS, Operation.LIST_VERSIONS])
def test_a_listing_that_goes_round_is_found_out(ends: str, operation: Operation) -> None:
    """No page ends where the one before it ended."""

    def follow(after: Marker | None, numbered: tuple[int, str]) -> Marker | None:
        number, key = numbered
        page = versions_page([key], key, f"<NextContinuationToken>{number}</NextContinuationToken>")
        if operation is Operation.LIST_OBJECTS:
            page = page.replace(b"Versions", b"Bucket").replace(b"Version>", b"Contents>")
        return parse_page(page, operation, after).next_marker

    with pytest.raises(Malformed, match="for the second time"):
        reduce(follow, enumerate(ends), None)


def test_a_page_of_another_question_is_no_answer() -> None:
    """A cache may give it: taken as the end of its range, it would hide the keys that were asked for."""
    page = versions_page(["02/a", "02/b"], "02/b")
    assert len(parse_page(page, Operation.LIST_VERSIONS, prefix="02/").entries) == 2
    with pytest.raises(Malformed, match="does not begin with"):
        parse_page(page, Operation.LIST_VERSIONS, prefix="03/")
    replaced = versions_page(["a\ufffdb"], "a\ufffdb")
    assert len(parse_page(replaced, Operation.LIST_VERSIONS, prefix="a\x01b").entries) == 1
