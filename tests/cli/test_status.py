"""`sealift status`: what it calls wrong of runs and nights. What it finds in the state is the state's."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobs.cli import status
from jobs.cli.status import RUN_DAYS, Rows, _backlog, _findings, _look, _night, _runs, status_text
from jobs.core.model import parse_time
from jobs.ledger.backlog import Manifest
from jobs.ledger.files import write_file
from jobs.ledger.ledger import Ledger
from jobs.reports.document import iso_time
from tests.doubles.ledgers import make_ledger
from tests.doubles.policies import policy_of
from tests.ledger.looks import BEGAN, Seen, tell


async def sections(answers: Rows) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict[str, list[dict[str, Any]]](list)
    async for name, row in answers:
        section, named = (name, row) if isinstance(row, dict) else (row.status, row._asdict() | {"about": name})
        found[section].append(named)
    return found


def run(run_id: str, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "job": "compact", "state": "complete", "rows": 2, "failures": 0, "unread": 0, "pair": None,
        "created_at": "2026-11-20T10:00:00+00:00", "source": "s3://here/", "destination": "s3://there/",
        "retry_of": None, "manifest": "listing of s3://here/", "selection": {},
    } | more  # fmt: skip


SINCE, BEFORE = "2026-11-20T00:00:00+00:00", "2026-11-19T23:59:59+00:00"
BAD = {"failures": 1}
ROWS: dict[str, Any] = {"manifest": "rows.csv", "selection": {"rows_sha256": "a"}}
PART = {"filters": {"include": ["b/*"]}}


@pytest.mark.parametrize(
    ("runs", "named"),
    [
        ([run("1", state="stopped")], ["1"]),
        ([run("1", state="unreported"), run("2", state="unreadable", source=None)], ["1", "2"]),
        ([run("1", **BAD)], ["1"]),
        ([run("1", created_at=BEFORE, **BAD), run("2", created_at=BEFORE, job="restore", state="stopped")], []),
        ([run("1", created_at=BEFORE, pair="docs", **BAD)], ["1"]),
        ([run("1", created_at=BEFORE, job="replicate", state="stopped")], ["1"]),
        ([run("1", job="verify", **BAD)], []),
        ([run("1", job="verify", unread=1)], ["1"]),
        ([run("2", **ROWS | {"selection": {"rows_sha256": "b"}}), run("1", state="stopped", **ROWS)], ["1"]),
        ([run("2", **BAD), run("1", **BAD)], ["2"]),
        ([run("2"), run("1", state="stopped")], []),
        ([run("2", job="replicate", selection=PART), run("1", job="replicate", state="stopped")], ["1"]),
        ([run("2", job="verify"), run("1", job="verify", unread=1, selection={"deep": True})], ["1"]),
        ([run("2", selection=PART), run("1", state="stopped", selection=PART)], []),
        ([run("3", state="incomplete"), run("2", selection=PART), run("1", state="stopped")], ["1"]),
        ([run("2", manifest="other"), run("1", **BAD)], ["1"]),
        ([run("2", destination="s3://elsewhere/"), run("1", **BAD)], ["1"]),
        ([run("2", retry_of="1", manifest="run:1"), run("1", **BAD)], []),
        ([run("1", job="verify", destination="s3://here/", **BAD)], ["1"]),
        ([run("1", job="reconcile", **BAD)], []),
    ],
)
async def test_a_run_counts_until_another_one_took_its_rows(
    monkeypatch: pytest.MonkeyPatch, runs: list[dict[str, Any]], named: list[str]
) -> None:
    monkeypatch.setattr("time.time", lambda: parse_time(SINCE) + RUN_DAYS * 86_400)
    found = await sections(_runs(runs))
    assert [each["about"] for each in found["failure"]] == [f"run {name}" for name in named]
    assert [each["run_id"] for each in found["running"]] == [
        each["run_id"] for each in runs if each["state"] == "incomplete"
    ]


async def test_findings_are_a_line_for_each_place_and_code() -> None:
    ledger, rows = make_ledger(), [Seen("bad", 10, code="size_differs")._replace(key=f"docs/{n}") for n in range(7)]
    accepted = Seen("bad", 10, code="metadata_differs")._replace(key="docs/x")
    both = [accepted, accepted._replace(verdict="accepted", at=20)]
    over = Seen("unknown", 10, code="source_gone")._replace(key="docs/y")
    await tell(ledger, "run1", *rows, *both, over)
    found = await sections(_findings(ledger, None))
    [line] = found["failure"]
    text = ("7 objects in s3://copies/docs/", "the sizes differ (docs/0)", "sealift runs show run")
    assert (line["about"], line["says"], line["advice"]) == text
    assert line["since"][:4] == str(datetime.fromtimestamp(BEGAN, UTC).year)
    assert [(each["code"], each["objects"], each["accepted"]) for each in found["findings"]] == [
        ("size_differs", 7, 0),
        ("metadata_differs", 0, 1),
    ]


async def write_manifest(ledger: Ledger, number: int, at: float) -> str:
    name = f"manifests/pair=docs/{number:06d}"
    manifest = Manifest("docs", number, f"s3://ledger/{name}-0123456789ab.csv", 2, 0, at, 0, [])
    await write_file(ledger.store, ledger.location, f"{name}.json", msgspec.json.encode(manifest))
    return manifest.manifest


async def test_a_manifest_of_the_backlog_whose_run_was_refused_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows wait in no backlog any more. The next manifests may come each 5 minutes."""
    ledger, policy, now = make_ledger(), policy_of("docs"), 1_764_000_000.0
    made = [await write_manifest(ledger, number, now - 6000 + 300 * number) for number in range(1, 21)]
    runs = [run(str(number), manifest=made[number - 1]) for number in range(1, 20) if number != 9]

    async def waiting(runs: list[dict[str, Any]], now: float) -> tuple[int, list[str]]:
        monkeypatch.setattr("time.time", lambda: now)
        found = await sections(_backlog(ledger, policy, "docs", runs))
        return found["backlogs"][0]["rows"], [each["advice"].rpartition(": ")[2] for each in found["failure"]]

    assert await waiting(runs, now) == (4, [f"sealift replicate --pair docs --manifest {made[8]}"])
    assert await waiting(runs, now - 1600) == (4, []), "it is not due yet"
    monkeypatch.setattr(status, "RUNS", 20)
    later = [run(str(number), created_at=iso_time(now - 3200)) for number in range(20)]
    assert (await waiting(later, now))[0] == 2 * 11, "an earlier run than the latest ones may have taken them"


async def no_queues(*_: object) -> Rows:
    return
    yield


async def test_a_damaged_manifest_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.cli.status._queues", no_queues)
    ledger, policy = make_ledger(), policy_of("docs", "photos")
    for name in ("manifests/pair=docs/000001.json", "backlog/pair=docs/1764000000000-1-5-a.json"):
        await write_file(ledger.store, ledger.location, name, b"?")
    document = await _look(ledger, policy)
    assert [each["what"] for each in document["not_known"]] == ["the backlog of docs"]
    assert [each["pair"] for each in document["pairs"]] == ["docs", "photos"]


async def test_a_manifest_is_looked_at_when_nothing_is_left_of_the_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifecycle removes the rows of a backlog after 90 days, and keeps its manifests."""

    monkeypatch.setattr("jobs.cli.status._queues", no_queues)
    ledger, policy = make_ledger(), policy_of("docs", nightly={"enabled": False})
    manifest = await write_manifest(ledger, 1, 1_764_000_000.0)
    document = await _look(ledger, policy)
    assert [each["problem"].rpartition(" ")[2] for each in document["problems"]] == [manifest]


async def test_a_pair_whose_nights_are_off_is_not_known_to_be_well_without_one() -> None:
    policy = policy_of("docs", nightly={"enabled": False})
    found = await sections(_night(make_ledger(), policy, policy.pairs[0]))
    assert [each["about"] for each in found["unchecked"]] == ["pair docs"]


async def test_a_run_with_bad_rows_and_unread_lines_says_both() -> None:
    [problem] = (await sections(_runs([run("1", pair="docs", unread=2, **BAD)])))["failure"]
    assert problem["says"].startswith("1 of 2 rows needs attention, could not read 2")


def test_a_command_stays_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    problem = f"pair docs: no run has taken them: sealift replicate --pair docs --manifest s3://{'long-' * 20}.csv"
    sections = {name: list[Any]() for name in ("not_known", "pairs", "backlogs", "places", "running", "findings")}
    looked_at = {"has_policy": True, "runs": 1, "all_runs": 1}
    document = {"state": "wrong", "ledger": "s3://ledger/", "looked_at": looked_at, **sections}
    text = status_text(document | {"problems": [{"since": "2026-11-20T03:00:00+00:00", "problem": problem}]})
    assert f"\n  ! since 2026-11-20 03:00 UTC: {problem}\n" in text
