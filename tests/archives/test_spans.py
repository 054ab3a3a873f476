"""Coalesced ranges: nothing is lost, little is read beside what is wanted, no request is larger than allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.archives.spans import ByteRange, Span, coalesce

STRETCHES = st.lists(
    st.builds(
        lambda start, length, content: ByteRange(start, start + length, content),
        st.integers(0, 3_000),
        st.integers(0, 300),
        st.integers(0, 200),
    ),
    max_size=40,
)


@given(wanted=STRETCHES, gap_bytes=st.integers(0, 200), span_bytes=st.integers(1, 900))
def test_each_stretch_lies_whole_in_exactly_one_span(wanted, gap_bytes, span_bytes):
    spans = coalesce(wanted, gap_bytes=gap_bytes, span_bytes=span_bytes)
    assert sorted(item for span in spans for item in span.items) == list(range(len(wanted)))
    for span in spans:
        inside = [wanted[item] for item in span.items]
        assert span.start == min(each.start for each in inside)
        assert span.end == max(each.end for each in inside)
        assert span.held_bytes == span.end - span.start + sum(each.content_bytes for each in inside)
        assert span.held_bytes <= span_bytes or len(span.items) == 1, "only a stretch alone may be larger"


def test_neighbours_come_by_one_request():
    members = [ByteRange(1536 * place, 1536 * place + 1000, 1000) for place in range(10)]
    assert coalesce(members) == [Span(0, 9 * 1536 + 1000, tuple(range(10)), 9 * 1536 + 1000 + 10_000)]
