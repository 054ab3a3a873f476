"""Histories of one key: their order, and the rows that name their versions."""

import pytest

from jobs.core.histories import in_order, is_in_order, keys_of
from jobs.core.model import ObjectVersion


def version(name: str, time: float | None, *, is_latest: bool = False) -> ObjectVersion:
    return ObjectVersion(0, "k", name, is_latest=is_latest, last_modified=time)


@pytest.mark.parametrize(
    ("listed", "ordered", "why"),
    [
        ("", "", "no version"),
        ("a3 b1", "a3 b1", "without a null version, the listing's own order is the truth"),
        ("null1 a2 b3", "null1 a2 b3", "it is the oldest"),
        ("a1 null2 b3", "a1 null2 b3", "it is where it belongs"),
        ("null2 a1 b3", "a1 null2 b3", "listed below all others, written between them"),
        ("null4 a1 b3", "a1 b3 null4", "listed below all others, written after them"),
        ("a2 b3 null1", "null1 a2 b3", "listed above all others, written before them"),
        ("a1 b3 null2 c4", "a1 null2 b3 c4", "listed above one that is newer"),
        ("a1 null3 b2 c4", "a1 b2 null3 c4", "listed below one that is older"),
        ("null2 a2", "null2 a2", "of one second, the listing's order counts"),
        ("a2 null2", "a2 null2", "of one second, the listing's order counts"),
        ("a2 null2 b2 c3", "a2 null2 b2 c3", "of one second, the listing's order counts"),
        ("a3 null2 b2 c4", "null2 a3 b2 c4", "behind none that is newer"),
        ("null3 a1 b3 c4", "a1 b3 null3 c4", "behind all that are not newer"),
        ("null1* a2", "a2 null1*", "the current version is on top, whatever the clocks say"),
        ("null? a2", "null? a2", "a time that is not known is before all others"),
        ("a1 null?", "null? a1", "a time that is not known is before all others"),
    ],
)
def test_the_null_version_goes_where_its_time_puts_it(listed: str, ordered: str, why: str) -> None:
    def parse(text: str) -> list[ObjectVersion]:
        versions = []
        for word in text.split():
            is_latest, name = word.endswith("*"), word.rstrip("*")
            time = None if name[-1] == "?" else float(name[-1])
            versions.append(version(name[:-1], time, is_latest=is_latest))
        return versions

    assert in_order(parse(listed)) == parse(ordered), why


def test_rows_of_one_key_come_together() -> None:
    rows = [ObjectVersion(number, key, None) for number, key in enumerate("aabac")]
    assert [[row.row for row in versions] for versions in keys_of(rows)] == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ([(False, 1.0), (False, 2.0), (True, 3.0)], True),
        ([(False, 1.0), (False, 2.0), (True, 0.5)], True),  # the latest one, dated by the beginning of its upload
        ([(False, 2.0), (False, 2.0), (True, 3.0)], False),
        ([(True, 2.0), (True, 1.0)], False),
        ([(True, None)], False),
        ([(True, 1.0)], True),
        ([(False, 1.0), (True, None)], False),
    ],
)
def test_only_different_dates_say_an_order(dates: list[tuple[bool, float | None]], expected: bool) -> None:
    rows = [ObjectVersion(0, "k", "v", is_latest, last_modified=time) for is_latest, time in dates]
    assert is_in_order(rows) is expected
