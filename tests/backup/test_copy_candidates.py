"""Which copies are likely: the order, and that nothing impossible is among them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.backup.copy_candidates import NEAREST, CopyIndex, is_made_after
from jobs.backup.succession import can_be_copy
from jobs.core.model import Listed


def listed(etag: str, time: float = 1000.0, size_bytes: int = 1, *, marker: bool = False, id: str = "v") -> Listed:
    return Listed("k", id, False, marker, None if marker else size_bytes, None if marker else etag, time, None)


def test_the_top_comes_first_then_its_own_etag_then_what_lies_as_deep() -> None:
    copies = CopyIndex(listed(etag) for etag in ("a", "b", "x", "c", "d", "x", "e"))
    assert list(copies.likely(listed("x"), 3, is_newest=False)) == [6, 2, 5, 3, 4, 1, 0]


def test_a_copy_that_was_just_made_is_on_top_and_likely() -> None:
    copies = CopyIndex([])
    assert (copies.top, list(copies.likely(listed("x"), 0, is_newest=True))) == (-1, [])
    assert copies.add(listed("x")) == 0
    assert list(copies.likely(listed("x"), 0, is_newest=True)) == [0]


def test_a_marker_on_top_and_other_sizes_are_no_copies() -> None:
    copies = CopyIndex([listed("x"), listed("x", size_bytes=2), listed("", marker=True)])
    assert list(copies.likely(listed("x"), 0, is_newest=False)) == [0]


def test_below_the_top_only_what_was_made_later_is_a_copy_of_the_newest() -> None:
    copies = CopyIndex([listed("x", 999.0), listed("x", 1000.0), listed("x", 1001.0), listed("y", 900.0)])
    assert list(copies.likely(listed("x"), 0, is_newest=True)) == [3, 2]
    assert list(copies.likely(listed("x", id="null"), 0, is_newest=True)) == [3]
    assert not is_made_after(listed("x", id="null"), listed("x", 2000.0))


def test_of_many_copies_with_other_etags_the_nearest_are_likely() -> None:
    copies = CopyIndex(listed(f"{number}") for number in range(1_000))
    places = list(copies.likely(listed("x"), 500, is_newest=False))
    assert places[:4] == [999, 499, 500, 498]
    assert len(places) == NEAREST + 1


HISTORIES = st.lists(
    st.builds(listed, st.sampled_from("xyz"), st.sampled_from([500.0, 800.0, 1000.0, 2000.0]), st.integers(1, 2))
    | st.just(listed("", marker=True)),
    max_size=40,
)


@given(HISTORIES, st.integers(0, 50), st.booleans())
def test_every_possible_copy_of_few_is_named_once_and_no_other(
    history: list[Listed], depth: int, is_newest: bool
) -> None:
    version = listed("x")
    places = list(CopyIndex(history).likely(version, depth, is_newest=is_newest))
    possible = {
        place
        for place, copy in enumerate(history)
        if can_be_copy(version, copy)
        and (not is_newest or place == len(history) - 1 or copy.last_modified > version.last_modified)
    }
    assert len(places) == len(set(places))
    assert set(places) == possible
