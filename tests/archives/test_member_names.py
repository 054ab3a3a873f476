"""Names inside a tar: harmless anywhere, unique, and never both a file and a folder."""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.archives.member_names import NAME_BYTES, Names, spell, spell_flat, spell_version

# Few different characters, so that keys collide and nest.
hostile = st.text(st.sampled_from(list("ab/.%\\\n\0é~:i\u0308")), min_size=1, max_size=12)
keys = hostile | st.text(min_size=1, max_size=400)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("docs/2026/a b.pdf", "docs/2026/a b.pdf"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("/x", "%2F/x"),
        ("a//b", "a/%2F/b"),
        ("a/", "a/%2F"),
        ("./a", "%2E/a"),
        ("...", "..."),
        ("a\nb", "a%0Ab"),
        ("100%", "100%25"),
        ("C:\\x", "C%3A%5Cx"),
        ("na\u00efve/日本", "na\u00efve/日本"),
        ("nai\u0308ve/日本", "nai%CC%88ve/日本"),
        ("a\u2028b", "a%E2%80%A8b"),
        ("\U0001f600", "\U0001f600"),  # later than the table: encoded, unless they never combine
        ("\U00030000", "\U00030000"),
        ("\u20b9", "%E2%82%B9"),
        ("\U0001e6e3", "%F0%9E%9B%A3"),
    ],
)
def test_what_is_harmless_stays_readable(key: str, name: str) -> None:
    assert spell(key) == name


@pytest.mark.slow
def test_every_python_spells_every_character_alike() -> None:
    """Python 3.11 and 3.13 have different tables of Unicode, and gave archives of one key different bytes."""
    digest = hashlib.sha256()
    for number in range(sys.maxunicode + 1):
        digest.update(spell(f"{chr(number)}/e{chr(number)}\u0301").encode())
    assert digest.hexdigest() == "98016fc1c664531e861970770477eb75b01c5c031015cbb59690d20f99426345"


@given(keys)
def test_a_name_stays_in_its_folder(key: str) -> None:
    for name in (spell(key), spell_flat(key), spell_version(key, "a/../b")):
        path = PurePosixPath(name)
        assert not path.is_absolute()
        parts = name.split("/")
        assert all(part not in ("", ".", "..") and len(part.encode()) <= NAME_BYTES for part in parts)
        assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name)
        assert unicodedata.is_normalized("NFC", name)
        assert "\\" not in name


@example("x" * 1000 + "a", "x" * 1000 + "b")
@given(keys, keys)
def test_different_keys_have_different_names(one: str, other: str) -> None:
    assert (spell(one) == spell(other)) == (one == other)


@given(st.lists(st.tuples(hostile, st.sampled_from([None, "v1", "v2"]), st.booleans()), unique=True, max_size=30))
def test_no_name_is_twice_or_a_folder_of_another(versions: list[tuple[str, str | None, bool]]) -> None:
    names = Names()
    given_names = [names.spell(*version) for version in versions]
    assert len(set(given_names)) == len(versions)
    folders = {str(parent) for name in given_names for parent in PurePosixPath(name).parents}
    assert folders.isdisjoint(given_names)
    again = Names()
    assert [again.spell(*version) for version in versions] == given_names
