"""The digest of a manifest's rows: the same for the same rows, another for others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobs.tables.rows import RowsDigest, fill_batch

Row = tuple[str, str | None]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
all_rows = st.lists(st.tuples(texts, st.none() | texts), max_size=12)
ALIKE: list[list[Row]] = [  # what a digest of the joined texts could not tell apart
    [("ab", None)],
    [("a", "b")],
    [("a", None), ("b", None)],
    [("ab", "")],
    [("", "ab")],
    [("a", None)],
    [("a", None), ("", None)],
    [],
]


def digest_of(rows: Sequence[Row], cuts: Sequence[int] = ()) -> str:
    """The digest of rows that come in several batches, some of them slices of a larger one."""
    digest = RowsDigest()
    keys, version_ids = (
        pa.array([key for key, _ in rows], pa.string()),
        pa.array([each for _, each in rows], pa.string()),
    )
    whole = fill_batch({"key": keys, "version_id": version_ids}, len(rows))
    places = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, end in pairwise(places):
        digest.add(whole.slice(start, end - start))
    return digest.hexdigest()


@given(all_rows, st.lists(st.integers(0, 12), max_size=4))
def test_the_digest_does_not_depend_on_the_batches(rows: list[Row], cuts: list[int]) -> None:
    assert digest_of(rows, cuts) == digest_of(rows)


@given(all_rows, all_rows)
def test_other_rows_have_another_digest(rows: list[Row], others: list[Row]) -> None:
    assert (digest_of(rows) == digest_of(others)) == (rows == others)


def test_rows_whose_texts_join_to_the_same_have_other_digests() -> None:
    assert len({digest_of(rows) for rows in ALIKE}) == len(ALIKE)
