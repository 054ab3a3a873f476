"""What people read of each reason: one file shows every sentence."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from jobs.core.reasons import Reason
from jobs.core.words import explained, explained_sql, sentence, why

SENTENCES = Path(__file__).parent / "sentences.txt"
"""Each reason in words: without a detail, with one, and with those that have words of their own. Delete the file, and
the test writes it again."""
ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reasons.md"


def cases() -> list[tuple[str, str]]:
    return [(reason, detail) for reason in Reason for detail in ("", "DETAIL", *reason.cases)]


def test_the_sentences_are_these() -> None:
    shown = "".join(f"{reason} [{detail}]\n    {explained(reason, detail)}\n" for reason, detail in cases())
    if not SENTENCES.exists():
        SENTENCES.write_text(shown)
    assert SENTENCES.read_text() == shown


def test_reasons_are_few_and_each_is_used() -> None:
    files = [path for folder in ("jobs", "scheduler") for path in (ROOT / folder).rglob("*.py")]
    code = "".join(path.read_text() for path in files if path.name not in ("reasons.py", "words.py"))
    assert len(Reason) <= 60
    assert not [reason.name for reason in Reason if f"Reason.{reason.name}" not in code]


def test_sql_words_a_reason_as_well() -> None:
    known = [*cases(), ("", ""), ("of_another_release", ""), ("later", "it's {}")]
    rows = ", ".join(["(?::VARCHAR, ?::VARCHAR)"] * len(known))
    sql = f"SELECT {explained_sql()} FROM (VALUES {rows}) AS t(reason, detail)"
    said = duckdb.execute(sql, [each for pair in known for each in pair]).fetchall()
    assert [text for (text,) in said] == [explained(*pair) for pair in known]


def test_a_code_of_a_later_release_is_shown_as_it_is() -> None:
    assert (sentence("odd"), sentence("odd", "a")) == ("odd", "odd (a)")
    assert (why({"reason": "odd"}), why({})) == ("odd", "")


def test_each_reason_is_documented_once() -> None:
    cells = re.findall(r"^- (`.*?):", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(Reason)
