"""Keys as attackers write them, through the front door: what people, spreadsheets and terminals are shown."""

from __future__ import annotations

import csv
import io
from typing import Any

from tests.end_to_end.conftest import World

HOSTILE = (
    "=HYPERLINK(A1)",
    "+1",
    "@sum",
    "-2",
    "clear\x1b[2J\x1b[31mred",
    "bell\x07",
    "turned\u202eround",
    "next\x9bline",
    "\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "a,b",
    'quo"te',
)


def test_hostile_keys_reach_people_as_text_and_programs_as_they_are(world: World) -> None:
    for key in HOSTILE:
        world.put(key, b"source")
        world.client.put_object(Bucket=world.destination, Key=key, Body=b"else!!")
    report = world.sealift("verify", *world.sides, "--json")
    assert report.code == 3, report.stderr
    assert report.document["outcomes"] == {"different": len(HOSTILE)}
    run_id = report.document["run_id"]
    told = [
        world.sealift("runs", "show", run_id),
        world.sealift("query", "SELECT key, reason FROM outcomes", "--run", run_id),
        world.sealift("verify", "--source", f"s3://{world.source}/{HOSTILE[4]}", "--destination", "s3://none-such"),
        report,
    ]
    for result in told:
        for text in (result.stdout, result.stderr):
            assert all(c.isprintable() or c == "\n" for c in text)
    answer: Any = world.sealift("query", "FROM outcomes", "--run", run_id, "--format", "json").document
    keys = [row["key"] for row in answer]
    assert sorted(keys) == sorted(HOSTILE)
    name = f"runs/runs/{run_id}/failures.csv"
    sheet = world.read(world.ledger, name).decode()
    assert all(c.isprintable() or c in "\r\n" for c in sheet)  # for `cat`, too
    lines = list(csv.DictReader(io.StringIO(sheet, newline="")))
    assert [line["key"] for line in lines if line["key"][:1] in "=+-@\t\r"] == []
