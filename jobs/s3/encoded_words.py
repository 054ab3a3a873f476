"""Encoded words of RFC 2047: text of any script in a header of ASCII. Pure.

S3 decodes such words in a metadata value before it keeps it, and answers with such words where the
value is not ASCII. Bytes beyond ASCII it takes for Latin-1, so that UTF-8 sent as it is comes back
as other text (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
"""

from __future__ import annotations

import binascii
import re

_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}
_WORD = re.compile(r"=\?([\w-]+)\?([BbQq])\?([!->@-~]*)\?=", re.ASCII)
_WORDS = re.compile(rf"{_WORD.pattern}(?:[ \t]+{_WORD.pattern})*", re.ASCII)
_PLAIN = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_BREAKS = re.compile("[\r\n\0\ud800-\udfff]")
_WORD_BYTES = 45
"""A word has 75 characters at most, 12 of them its frame, and three bytes become four."""


def encode(text: str) -> str:
    """The text as a header's value.

    Printable ASCII stays as it is, encoded words as well: older archives hold values as S3 sent
    them. Everything else becomes encoded words, also white space that a server may trim or sign
    otherwise. A lone surrogate or line break stays, for the check of the request's head to refuse.
    """
    if _PLAIN.fullmatch(text) or _BREAKS.search(text):
        return text
    words, word = [], b""
    for character in text:
        data = character.encode()
        if len(word) + len(data) > _WORD_BYTES:
            words.append(word)
            word = b""
        word += data
    return " ".join(f"=?UTF-8?B?{binascii.b2a_base64(each, newline=False).decode()}?=" for each in [*words, word])


def decode(value: str) -> str:
    """The text of a header's value, as `encode` or S3 writes it.

    A value of encoded words alone is decoded. Any other value is the text itself: S3 encodes all
    of a value or nothing. So is one that holds no text, or a line break, which no request could
    send back. Bytes that are not UTF-8 (surrogates) are Latin-1.
    """
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape").decode("latin-1")
        return value
    if "=?" not in value or not _WORDS.fullmatch(value):
        return value
    words = _WORD.findall(value)
    charsets = {charset.lower() for charset, _, _ in words}
    try:
        data = b"".join(_bytes(encoding, text) for _, encoding, text in words)
        text = data.decode(_CHARSETS[charsets.pop()])
    except (KeyError, ValueError):  # binascii.Error and UnicodeDecodeError are ValueErrors
        return value
    return value if charsets or _BREAKS.search(text) else text


def _bytes(encoding: str, text: str) -> bytes:
    if encoding in "Bb":
        return binascii.a2b_base64(text, strict_mode=True)
    return binascii.a2b_qp(text, header=True)
