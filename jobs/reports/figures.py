"""Figures: numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from jobs.core.model import parse_time

UNKNOWN = "–"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_bytes(size_bytes: float | None) -> str:
    """`1536` → `1.5 KiB`, unknown → `–`."""
    if size_bytes is None:
        return UNKNOWN
    unit = 0
    while size_bytes >= 1024 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{size_bytes:.0f} {_UNITS[unit]}" if unit == 0 else f"{size_bytes:.1f} {_UNITS[unit]}"


def plural(count: int, noun: str) -> str:
    """`1 row`, `1,000 rows`."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def human_dollars(dollars: float) -> str:
    """`$1,234.5678`. What is too little for four digits is no zero."""
    if dollars == 0:
        return "$0"
    return f"${dollars:,.4f}" if dollars >= 0.0001 else "under $0.0001"


def human_seconds(seconds: float) -> str:
    """`3723` → `1 h 02 min`, from two days on in days."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def human_time(value: datetime | float | str | None) -> str:
    """Epoch seconds, ISO 8601 or a datetime (UTC without a zone) as `2026-11-25 00:33 UTC`. Unknown, invalid → `–`."""
    try:
        at_seconds = value if isinstance(value, int | float) else parse_time(str(value))
        return f"{datetime.fromtimestamp(at_seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return UNKNOWN
