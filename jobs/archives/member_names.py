"""Names of members inside a tar, spelled so that untarring is harmless anywhere.

A key may be `../../etc/passwd`, `/x`, `a//b`, `a/`, hold control characters, or be both a file and
a folder (`a` and `a/b`). The name keeps what is harmless and percent-encodes the rest. The PAX
header and the index have the true key. Names are unique within an archive.
"""

from __future__ import annotations

import hashlib
import unicodedata

NAME_BYTES = 240
"""A longer component is cut and ends in a hash, because file systems take 255 bytes."""

INDEX_NAME = "%index/sealift.parquet"
"""The index's own name. No key is spelled so, because a key's `%` becomes `%25`."""


def spell(key: str) -> str:
    """A relative path without `.`, `..`, empty or over-long components and control characters."""
    return "/".join(_component(part) for part in key.split("/"))


def spell_flat(key: str) -> str:
    """The key as one component, for keys whose path is taken."""
    return _component("%2F" + spell(key).replace("/", "%2F"), is_spelled=True)


def spell_version(key: str, version_id: str | None) -> str:
    """The name of a version that is not the latest."""
    folder, slash, name = spell(key).rpartition("/")
    versioned = f"{name}%40{_escape(version_id or 'null')}"
    return f"{folder}{slash}{_component(versioned, is_spelled=True)}"


class Names:
    """Spells the keys of one archive, in its order. The same keys get the same names."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def spell(self, key: str, version_id: str | None, is_latest: bool) -> str:
        """The name of the next member: unique, and not a folder of another name."""
        plain = spell(key) if is_latest else spell_version(key, version_id)
        number = 0
        for name in (plain, spell_flat(key if is_latest else f"{key}@{version_id}")):
            if self._take(name):
                return name
        while not self._take(name := f"%{number}/{spell_flat(key)}"):
            number += 1
        return name

    def _take(self, name: str) -> bool:
        folders = []
        end = name.find("/")
        while end >= 0:
            folders.append(name[:end])
            end = name.find("/", end + 1)
        if name in self._files or name in self._folders or not self._files.isdisjoint(folders):
            return False
        self._files.add(name)
        self._folders.update(folders)
        return True


def _component(part: str, *, is_spelled: bool = False) -> str:
    text = _normal(part) if is_spelled else _escape(part)
    if text in ("", ".", ".."):
        return text.replace(".", "%2E") or "%2F"
    data = text.encode()
    if len(data) <= NAME_BYTES:
        return text
    kept = data[: NAME_BYTES - 40].decode(errors="ignore")
    return f"{kept}%~{hashlib.sha256(data).hexdigest()[:32]}"


def _escape(text: str) -> str:
    """Percent-encode control characters, `%` and the other kinds of separator.

    Text that is not in normal form C is encoded as well: bsdtar and macOS would give two such keys
    one name.
    """
    if text.isascii():
        is_plain = text.isprintable() and not _SPECIAL.intersection(text)
        return text if is_plain else "".join(c if _is_plain(c) else _percent(c) for c in text)
    return _normal("".join(c if _is_plain(c) else _percent(c) for c in text))


def _is_plain(character: str) -> bool:
    """True for a character that a name may have as it is."""
    if character.isascii():
        return character.isprintable() and character not in _SPECIAL
    category = _TABLE.category(character)
    if category == "Cn":
        return any(first <= ord(character) <= last for first, last in _LATER)
    return category[0] not in "CZ" and character != _SOFT_HYPHEN


def _normal(text: str) -> str:
    if text.isascii() or _TABLE.is_normalized("NFC", text):
        return text
    return "".join(c if c.isascii() else _percent(c) for c in text)


_TABLE = unicodedata.ucd_3_2_0
"""Unicode 3.2, which every Python has. Python's own table grows with its version, and one key would
get two names. Normal forms of these characters are stable:
https://www.unicode.org/policies/stability_policy.html
"""

_SOFT_HYPHEN = "\xad"
"""The one character of the table that was called printable then, and is invisible."""

_LATER = ((0x1F300, 0x1FAFF), (0x2A700, 0x323AF))
"""Pictographs and ideographs that came after 3.2. None of them combines or decomposes. All other
later characters are percent-encoded.
"""

_SPECIAL = frozenset("%\\:/")


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
