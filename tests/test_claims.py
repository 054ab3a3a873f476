"""Numbers that the documents claim, read out of them and held against the code.

A sentence that is reworded is found as well: then its place here is corrected with it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.archives.spans import GAP_BYTES, SPAN_BYTES
from jobs.compact.packing import MEMBERS_MAX, SERVER_SIDE_BYTES
from jobs.config import Settings
from jobs.core.histories import SKEW_SECONDS
from jobs.core.pace import QUEUEING_FACTOR
from jobs.runs import launch
from jobs.runs.worker import WorkerLimits
from jobs.s3.http import connect, connection_pool, transport

ROOT = Path(__file__).parent.parent
MIB = 1024**2
SETTINGS = Settings.from_environment({})
LIMITS = WorkerLimits()

CLAIMS = [
    # page, sentence, the numbers that the code has
    (
        "DESIGN.md",
        r"Outcomes are written each ([\d,]+) rows or (\d+) s\.",
        (SETTINGS.checkpoint_rows, SETTINGS.checkpoint_seconds),
    ),
    (
        "DESIGN.md",
        r"Outcomes are written each ([\d,]+) rows or (\d+) s\.",
        (LIMITS.checkpoint_rows, LIMITS.checkpoint_seconds),
    ),
    (
        "docs/README.md",
        r"when a worker writes a checkpoint \(default: ([\d,]+) rows or (\d+) s\)",
        (SETTINGS.checkpoint_rows, SETTINGS.checkpoint_seconds),
    ),
    ("DESIGN.md", r"S3's names are resolved again every (\d+) s", (connect.RESOLVE_SECONDS,)),
    (
        "DESIGN.md",
        r"A silent server is given up after (\d+) s, (\d+) s for lists and bodies, (\d+) s for copies and completes\.",
        (connection_pool.SILENCE_SECONDS, transport.SLOW_SILENCE_SECONDS, transport.LATE_SILENCE_SECONDS),
    ),
    ("DESIGN.md", r"A connection idle for (\d+) s is not used again\.", (connection_pool.IDLE_SECONDS,)),
    ("DESIGN.md", r"a byte budget of object data \((\d+) MiB\)", (SETTINGS.buffer_bytes / MIB,)),
    ("docs/README.md", r"object data in a worker's memory \(default: (\d+)\)", (SETTINGS.buffer_bytes / MIB,)),
    ("DESIGN.md", r"or until answers take ([\d.]+) times the quickest", (QUEUEING_FACTOR,)),
    (
        "DESIGN.md",
        r"\(up to (\d+) rows and (\d+) MiB\)",
        (launch.HERE_ROWS, launch.HERE_BYTES / MIB),
    ),
    (
        "DESIGN.md",
        r"Neighbours at most (\d+) KiB apart come by one request of about (\d+) MiB\.",
        (GAP_BYTES / 1024, SPAN_BYTES / MIB),
    ),
    ("docs/archives.md", r"An archive holds at most ([\d,]+) members\.", (MEMBERS_MAX,)),
    ("docs/archives.md", r"Members of (\d+) MiB and more are copied by S3", (SERVER_SIDE_BYTES / MIB,)),
    ("docs/restore.md", r"written more than (five) minutes after the archive", (SKEW_SECONDS / 60,)),
]
WORDS = {"five": "5"}


def text_of(page: str) -> str:
    """A page with its lines joined."""
    return " ".join((ROOT / page).read_text().split())


@pytest.mark.parametrize(("page", "sentence", "numbers"), CLAIMS)
def test_each_number_of_a_claim_is_the_one_of_the_code(page: str, sentence: str, numbers: tuple[float, ...]) -> None:
    found = re.search(sentence, text_of(page))
    assert found, f"{page} no longer says: {sentence}"
    claimed = tuple(float(WORDS.get(each, each).replace(",", "")) for each in found.groups())
    assert claimed == numbers
