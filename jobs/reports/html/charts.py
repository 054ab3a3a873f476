"""Charts as static SVG by pygal, without scripts. The page's CSS colours them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pygal  # type: ignore[import-untyped]  # pygal has no types
from markupsafe import Markup
from pygal.style import Style  # type: ignore[import-untyped]  # as above

from jobs.reports.html.visible import visible_text

WIDTH = 360
"""A phone's width, so that text in a chart is as large as text beside it."""

# pygal leaves a finder for old Pythons in sys.meta_path. It has no find_spec, which breaks imports.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

_FONT_SIZE = 11
_COLUMNS_MIN = 7
_COLUMN_LETTERS = 5
"""A longer label is aslant, since the next one would overlap it."""
_SVG = "http://www.w3.org/2000/svg"
_NOT_FOR_PEOPLE = frozenset({"defs", "desc", "title"})


class Bar(NamedTuple):
    """One bar: its label, its length (None: an empty place), and the text at its end."""

    label: str
    length: float | None
    text: str
    emphasised: bool = False


def draw_columns(bars: Sequence[Bar], description: str) -> Markup:
    """Upright bars, the first at the left, at most about ten. A few are aligned to the right."""
    bars = [Bar("", None, "")] * (_COLUMNS_MIN - len(bars)) + list(bars)
    is_wide = any(len(bar.label) > _COLUMN_LETTERS for bar in bars)
    chart = pygal.Bar(
        height=220 if is_wide else 190,
        x_label_rotation=40 if is_wide else 0,
        margin_bottom=2,
        print_values_position="top",
        show_y_labels=False,
        **_config(bars, 1.12),
    )
    return _draw(chart, bars, description)


def draw_bars(bars: Sequence[Bar], description: str) -> Markup:
    """Horizontal bars, the first on top, for labels of several words."""
    upward = list(reversed(bars))  # pygal begins at the bottom
    height = 12 + 27 * len(bars)
    chart = pygal.HorizontalBar(height=height, print_values_position="top", show_x_labels=False, **_config(bars, 1.75))
    return _draw(chart, upward, description)


def _config(bars: Sequence[Bar], headroom: float) -> dict[str, Any]:
    longest = max((bar.length or 0 for bar in bars), default=0) or 1
    return {
        "width": WIDTH,
        "style": Style(label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, value_font_size=_FONT_SIZE),
        "range": (0, longest * headroom),
        "js": [],
        "margin": 4,
        "spacing": 4,
        "show_legend": False,
        "print_values": True,
        "truncate_label": 40,
        "disable_xml_declaration": True,
    }


def _draw(chart: Any, bars: Sequence[Bar], description: str) -> Markup:
    chart.x_labels = [visible_text(bar.label) for bar in bars]
    values = [_value(bar) for bar in bars]
    chart.add("", values)
    return Markup(_plain(chart.render(is_unicode=True), description))


def _value(bar: Bar) -> dict[str, Any]:
    def formatter(_: float) -> str:
        return visible_text(bar.text)

    value: dict[str, Any] = {"value": bar.length, "formatter": formatter}
    return value | {"style": "fill: var(--bar-now)"} if bar.emphasised else value


def _plain(svg: str, description: str) -> str:
    """Only shapes and text: no random id, no date of today, no tooltips that need a script."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(f"{{{_SVG}}}") in _NOT_FOR_PEOPLE or child.get("class") in (
                "plot tooltip-overlay",
                "plot overlay",
                "titles",
            ):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    root.attrib.pop("id", None)
    root.attrib |= {"xmlns": _SVG, "role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")
