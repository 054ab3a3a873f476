"""Visible keys: hidden and rearranging characters become escapes.

A key is any UTF-8. It may hold markup, newlines, characters that reverse the reading direction, or
two spellings of one letter. Two different keys must never look the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

# Cc Cf Cs Co Cn: controls, formats (bidi overrides, zero width), surrogates, private, unassigned.
# Zl Zp Zs: separators; the plain space is handled by its neighbours. Mn Mc Me: marks.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_MARKS = frozenset({"Mn", "Mc", "Me"})
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_PLAIN = re.compile(r"[!-\[\]-~]*")
"""A usual key: ASCII without spaces and without the backslash, which begins an escape."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def visible_text(text: object) -> str:
    """The text with every hidden character as a Python escape, and each backslash doubled."""
    return "".join(written or character for character, written in _characters(str(text)))


def visible(text: object) -> Markup:
    """`visible_text` as HTML: escapes are marked, parts with right-to-left letters are isolated."""
    if _PLAIN.fullmatch(plain := str(text)):
        return escape(plain)
    parts: list[Markup] = []
    for segment in _segments(list(_characters(plain))):
        shown = Markup("").join(_marked(character, written) for character, written in segment)
        turned = any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character, _ in segment)
        parts.append(Markup("<bdi>{}</bdi>").format(shown) if turned else shown)
    return Markup("").join(parts)


def _characters(text: str) -> Iterator[tuple[str, str]]:
    """(character, its escape if it would be hidden, else empty)."""
    composed = unicodedata.is_normalized("NFC", text)
    for place, character in enumerate(text):
        if character in _SHORT:
            yield character, _SHORT[character]
        elif character == " ":
            alone = 0 < place < len(text) - 1 and text[place - 1] != " " and text[place + 1] != " "
            yield character, "" if alone else "\\x20"
        elif "!" <= character <= "~":
            yield character, ""
        else:
            yield character, _escape(character) if _hides(character, place, composed=composed) else ""


def _hides(character: str, place: int, *, composed: bool) -> bool:
    """A mark hides if the text is not in NFC (NFC and NFD look alike) or has no base character."""
    category = unicodedata.category(character)
    if category in _HIDDEN:
        return True
    if category in _MARKS:
        return not composed or place == 0
    return not composed and not unicodedata.is_normalized("NFC", character)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _segments(characters: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Cut at each slash, so that a right-to-left folder does not reorder its neighbours."""
    segment: list[tuple[str, str]] = []
    for each in characters:
        if each[0] == "/":
            if segment:
                yield segment
            yield [each]
            segment = []
        else:
            segment.append(each)
    if segment:
        yield segment


def _marked(character: str, written: str) -> Markup:
    if not written:
        return escape(character)
    if character == "\\":
        return Markup(written)
    name = unicodedata.name(character, "control character")
    return Markup('<b class="esc" title="U+{:04X} {}">{}</b>').format(ord(character), name, written)
