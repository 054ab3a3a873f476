"""Encoded words, as S3 documents what it makes of metadata beyond ASCII."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.s3.encoded_words import decode, encode

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\0"), max_size=120)


def s3_keeps(wire: bytes) -> str:
    """What S3 keeps of a value: bytes are Latin-1, encoded words are decoded (UsingMetadata.html)."""
    return str(make_header(decode_header(wire.decode("latin-1"))))


@given(TEXT)
def test_any_text_comes_back(text: str) -> None:
    value = encode(text)
    assert decode(value) == text
    assert value.isascii()
    assert value.isprintable()
    assert value == " ".join(value.split()) or value == text  # nothing that a signer may see otherwise


@pytest.mark.parametrize("text", ["ÄMÄZÕÑ S3", "Łódź — 港", "ö" * 200, "a\xa0b", "港" * 60])
def test_s3_keeps_the_text_itself(text: str) -> None:
    assert s3_keeps(encode(text).encode()) == text
    assert s3_keeps(text.encode()) != text or text.isascii()  # sent as it is, it would become other text


@pytest.mark.parametrize("text", ["", "a", "a b", "a=?b", "=?UTF-8?B?", "a =?UTF-8?B?w4Q=?=", "a  b"])
def test_printable_ascii_stays_as_it_is(text: str) -> None:
    """Words are not encoded again, either."""
    assert encode(text) == text == decode(text)
    assert encode("=?UTF-8?B?w4Q=?=") == "=?UTF-8?B?w4Q=?="


@pytest.mark.parametrize("text", ["a\tb", " a", "a ", "a\x7f"])
def test_what_a_header_cannot_hold_or_would_change_is_encoded(text: str) -> None:
    assert encode(text) != text
    assert decode(encode(text)) == text


def test_the_example_of_s3s_documentation_is_read() -> None:
    answer = "=?UTF-8?B?w4PChE3Dg8KEWsODwpXDg8KRIFMz?="
    assert decode(answer) == "ÄMÄZÕÑ S3".encode().decode("latin-1")  # which S3 made of bytes of UTF-8
    assert decode("=?UTF-8?Q?=C3=84M=C3=84Z?= =?UTF-8?Q?=C3=95=C3=91_S3?=") == "ÄMÄZÕÑ S3"


@pytest.mark.parametrize(
    "value",
    ["=?x-unknown?B?w4Q=?=", "=?UTF-8?B?w4Q?=", "=?UTF-8?B?/w==?=", "=?UTF-8?B?DQo=?=",
     "=?UTF-8?B?YQ==?= b", "=?zlib?B?eA==?="],
)  # fmt: skip
def test_what_is_no_text_in_encoded_words_is_the_text_itself(value: str) -> None:
    assert decode(value) == value


def test_bytes_that_are_not_utf_8_are_latin_1() -> None:
    assert decode(b"\xc4".decode("utf-8", "surrogateescape")) == "Ä"
