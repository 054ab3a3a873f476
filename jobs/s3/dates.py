"""Dates in HTTP headers. Pure.

https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
"""

from __future__ import annotations

import calendar

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}


def parse_http_date(text: str) -> float:
    """`Wed, 25 Nov 2026 00:33:40 GMT` → epoch seconds. 0.0 when it is no date."""
    try:
        clock = (int(text[17:19]), int(text[20:22]), int(text[23:25]))
        return float(calendar.timegm((int(text[12:16]), _MONTHS[text[8:11]], int(text[5:7]), *clock)))
    except (ValueError, KeyError):
        pass
    from email.utils import parsedate_to_datetime  # seldom needed

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # a zone of 10¹² hours, a year that no clock has
        return 0.0
