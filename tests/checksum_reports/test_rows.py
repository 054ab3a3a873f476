"""Rows of Compute checksum reports: AWS's documented examples, and whatever a report could hold."""

from __future__ import annotations

import base64
import csv
import io
import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.checksum_reports.rows import Row, parse_row
from jobs.core.model import Checksum

GOOD = {
    "checksum_base64": "bS9TOQ==",
    "etag": "3c3c1813042989094598e4b57ecbdc82",
    "checksumAlgorithm": "CRC32",
    "checksumType": "FULL_OBJECT",
    "checksum_hex": "6D2F5339",
}


def fields(message: object, *, version: str = "", status: str = "succeeded") -> list[str]:
    return ["bucket", "key", version, status, "200", "", message if isinstance(message, str) else json.dumps(message)]


def test_a_checksum_is_taken_as_s3_spells_it() -> None:
    assert parse_row(fields(GOOD)) == Row(
        "bucket", "key", None, "3c3c1813042989094598e4b57ecbdc82", Checksum("CRC32", "bS9TOQ==")
    )


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"checksum_hex": "6D2F5338"}, "not the same value"),
        ({"checksum_hex": "xyz"}, "not base64, or not hex"),
        ({"checksum_base64": "b!"}, "not base64, or not hex"),
        ({"checksum_base64": "bS9TOQ==-2"}, "not base64, or not hex"),
        ({"checksum_base64": "bS9T", "checksum_hex": "6d2f53"}, "3 bytes, which no CRC32 has"),
        ({"checksum_base64": ""}, "0 bytes"),
        ({"checksum_base64": None}, "Expected `str`, got `null` - at `$.checksum_base64`"),
        ({"checksumType": "PARTIAL"}, "Invalid enum value 'PARTIAL'"),
        ({"checksumAlgorithm": "BLAKE9"}, "BLAKE9 is an algorithm that this Sealift does not know"),
        ({"checksumAlgorithm": 5}, "at `$.checksumAlgorithm`"),
        ({"etag": 5}, "at `$.etag`"),
    ],
)
def test_what_is_not_right_is_said(changed: dict, problem: str) -> None:
    found = parse_row(fields(GOOD | changed))
    assert isinstance(found, str)
    assert problem in found


@pytest.mark.parametrize("version", ["", "null"])
def test_the_null_version_can_be_overwritten_and_so_pins_nothing(version: str) -> None:
    found = parse_row(fields(GOOD, version=version))
    assert isinstance(found, Row)
    assert found.version_id is None


def test_other_rows_are_refused_with_a_reason() -> None:
    assert parse_row(["bucket", "key"]) == "2 fields instead of 7"
    assert parse_row(["bucket", "%FF", *fields(GOOD)[2:]]) == "the key is not URL-encoded UTF-8"
    assert parse_row(["", "key", *fields(GOOD)[2:]]) == "no bucket or no key"
    assert parse_row(fields(GOOD, status="skipped")) == "the task's status is 'skipped'"


sizes = {"CRC32": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32, "MD5": 16}


@given(
    key=st.text(min_size=1),
    version=st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True).filter(lambda v: v != "null")),
    algorithm=st.sampled_from(sorted(sizes)),
    data=st.data(),
)
def test_every_key_and_checksum_survives_the_way_through_csv_and_json(key, version, algorithm, data) -> None:
    digest = data.draw(st.binary(min_size=sizes[algorithm], max_size=sizes[algorithm]))
    value = base64.b64encode(digest).decode()
    message = GOOD | {"checksum_base64": value, "checksum_hex": digest.hex(), "checksumAlgorithm": algorithm}
    text = json.dumps(message).replace("=", "\\u003d")
    try:
        encoded = quote_plus(key)
    except UnicodeEncodeError:  # a lone surrogate is no UTF-8, and so no key
        return
    sink = io.StringIO()
    csv.writer(sink).writerow(["bucket", encoded, version or "", "succeeded", "200", "", text])
    [row] = csv.reader(sink.getvalue().splitlines(keepends=True))
    assert parse_row(row) == Row("bucket", key, version, message["etag"], Checksum(algorithm, value))


@given(st.lists(st.text(), max_size=9))
def test_nothing_at_all_breaks_the_parser(row: list[str]) -> None:
    found = parse_row(row)
    assert isinstance(found, Row | str)
    assert found
