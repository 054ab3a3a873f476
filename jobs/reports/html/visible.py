"""Visible keys: hidden and rearranging characters become escapes.

A key is any UTF-8. It may hold markup, newlines, characters that reverse the reading direction, or
two spellings of one letter. Two different keys must never look the same.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

# Cc Cf Cs Co Cn: controls, formats (bidi overrides, zero width), surrogates, private, unassigned.
# Zl Zp Zs: separators; the plain space is handled by its neighbours. Mn Mc Me: marks.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_MARKS = frozenset({"Mn", "Mc", "Me"})
_PLAIN = re.compile(r"[!-\[\]-~]*")
"""A usual key: ASCII without spaces and without the backslash, which begins an escape."""


def visible_text(text: object) -> str:
    """The text with every hidden character as a Python escape, and each backslash doubled."""
    plain = str(text)
    if _PLAIN.fullmatch(plain):
        return plain
    is_composed = unicodedata.is_normalized("NFC", plain)
    return "".join(_shown(plain, place, is_composed=is_composed) for place in range(len(plain)))


def visible(text: object) -> Markup:
    """`visible_text` as HTML. Folders are isolated, so that right-to-left letters reorder no neighbours."""
    parts = [escape(part) for part in visible_text(text).split("/")]
    return Markup("/").join(part if part.isascii() else Markup("<bdi>{}</bdi>").format(part) for part in parts)


def _shown(text: str, place: int, *, is_composed: bool) -> str:
    character = text[place]
    if character == " ":
        is_alone = 0 < place < len(text) - 1 and text[place - 1] != " " and text[place + 1] != " "
        return " " if is_alone else "\\x20"
    if character != "\\" and not _hides(character, place, is_composed=is_composed):
        return character
    return character.encode("unicode_escape").decode()


def _hides(character: str, place: int, *, is_composed: bool) -> bool:
    """A mark hides if the text is not in NFC (NFC and NFD look alike) or has no base character."""
    category = unicodedata.category(character)
    if category in _MARKS:
        return not is_composed or place == 0
    return category in _HIDDEN or not (is_composed or unicodedata.is_normalized("NFC", character))
