"""Advice of a night, followed to the letter: each command that it prints works and leads on."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from jobs.cli.status import status_text
from jobs.nights.calendar import due
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import runs, write_policy
from tests.end_to_end.test_checksums_at_rest import upload_in_parts
from tests.end_to_end.test_nightly import NOW
from tests.end_to_end.test_nightly_odd import copied
from tests.end_to_end.test_reconcile import settle

ALL = {"verify": {"rota": "1/1", "deep": "1/1"}}
"""Each night looks at all keys."""


def commands(text: str) -> list[list[str]]:
    """The commands that a text tells people to type, in its order."""
    return [
        shlex.split(found)
        for found in re.findall(r": +(sealift [^\n]+)|  (?=sealift)([^\n]+)", text)
        for found in found
        if found
    ]


def follow(world: World, policy: str, command: list[str]) -> Result:
    """Type a command that was printed."""
    settle()
    return world.sealift(*command[1:], SEALIFT_POLICY=policy)


@pytest.fixture
def policy(world: World, tmp_path: Path) -> str:
    return write_policy(world, tmp_path, docs=ALL)


def test_the_advice_of_a_night_leads_to_a_night_that_is_well(world: World, policy: str) -> None:
    """One copy differs and one is missing: the night repairs the second, and its words the first."""
    copied(world, "a", "b", "c")
    settle()
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"X")
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    night = follow(world, policy, ["sealift", "nightly", "--pair", "docs", *NOW])
    assert night.code == 3
    [see, *_] = commands(night.stdout)
    assert see[:3] == ["sealift", "runs", "show"]
    assert "reconcile" in see[3]
    report = follow(world, policy, see)
    assert "1 missing" in report.stdout
    assert re.search(r"since then +\S+-replicate-\S+: 1 copied", report.stdout)
    repair, check = commands(report.stdout)
    assert repair[:4] == ["sealift", "backfill", "--pair", "docs"]
    repaired = follow(world, policy, repair)
    assert (repaired.code, "1 copied" in repaired.stdout) == (0, True)
    assert world.copy_of("copies/docs/a") == b"a"
    again = follow(world, policy, check)
    assert (again.code, "All is well" in again.stdout) == (0, True)


def test_the_report_of_a_comparison_has_the_whole_command_that_repairs_it(world: World) -> None:
    for key in ("in/a b", "in/c"):
        world.put(key)
    places = ["--source", f"s3://{world.source}/in/", "--destination", f"s3://{world.destination}/out/"]
    settle()
    assert world.sealift("reconcile", *places, *NOW, "--confirm").code == 3
    report = world.sealift("runs", "show", "latest")
    [repair] = commands(report.stdout)
    assert repair == ["sealift", "reconcile", *places, *NOW, "--confirm", "--repair"]
    refused = world.sealift("runs", "retry", "latest")
    assert (refused.code, shlex.join(repair) in refused.stderr) == (2, True)
    settle()
    assert world.sealift(*repair[1:]).code == 0
    assert world.copy_of("out/a b") == b"content"


def about_docs(status: Result) -> list[list[str]]:
    """The commands of the problems with the pair docs, and with runs."""
    lines = [line for line in status.stdout.splitlines() if line.startswith("  ! ") and "pair logs" not in line]
    return [command for line in lines for command in commands(line)]


def test_status_counts_an_object_once_and_says_what_to_do_until_a_night_is_well(world: World, policy: str) -> None:
    copied(world, "a", "b")
    settle()
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"X")
    night = follow(world, policy, ["sealift", "nightly", "--pair", "docs", *NOW])
    assert night.code == 3
    status = ["sealift", "status"]
    wrong = follow(world, policy, status)
    [see] = about_docs(wrong)
    assert wrong.code == 3
    assert [each for each in commands(night.stdout) if each[1] == "runs"] == [see]
    sample = next(each["run_id"] for each in runs(world) if each["job"] == "verify")
    retried = follow(world, policy, ["sealift", "runs", "retry", sample])
    assert (retried.code, world.copy_of("copies/docs/a")) == (0, b"a")
    assert "nothing is at the destination" not in retried.stderr + retried.stdout
    waits = follow(world, policy, status)
    [check] = about_docs(waits)
    assert (waits.code, "repaired since" in waits.stdout) == (3, True)
    assert check[:4] == ["sealift", "nightly", "--pair", "docs"]
    assert follow(world, policy, check).code == 0
    assert about_docs(follow(world, policy, status)) == []


@pytest.mark.slow
def test_a_copy_that_only_a_deep_look_proves_wrong_is_a_finding_until_it_is_mended(
    world: World, tmp_path: Path
) -> None:
    """An upload in parts: no report and no checksum can compare it. Later nights look at other slices."""
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/3", "deep": "1/3"}})
    first, second, third = (datetime.now(UTC).date() - timedelta(days=ago) for ago in (3, 2, 1))
    copied(world, *(f"k{number}" for number in range(12)))
    big = next(key for key in map("docs/big{}".format, range(99)) if due(first, 3).contains(key))
    body = bytes(range(256)) * (6 << 12)
    upload_in_parts(world, world.source, big, body, 5 << 20)
    settle()
    upload_in_parts(world, world.destination, f"copies/{big}", b"X" + body[1:], 5 << 20)

    def night(day: date, *arguments: str) -> Result:
        return follow(world, policy, ["sealift", "nightly", "--pair", "docs", *NOW, "--night", f"{day}", *arguments])

    def deep_run() -> str:
        return [str(run["run_id"]) for run in runs(world) if run["outcomes"].get("mismatched")][-1]

    found = night(first)
    assert (found.code, [each[3] for each in commands(found.stdout)]) == (3, [deep_run()])
    carried = night(second)
    assert (carried.code, f"1 object that deep found wrong on {first} was not proven" in carried.stdout) == (3, True)
    see, prove = commands(carried.stdout)
    assert see == ["sealift", "runs", "show", deep_run()]
    again = follow(world, policy, [*prove, *NOW])
    assert (again.code, "deep 1 mismatched" in again.stdout or ", 1 mismatched" in again.stdout) == (3, True)
    wrong = follow(world, policy, ["sealift", "status"])
    assert (wrong.code, about_docs(wrong)[0]) == (3, ["sealift", "runs", "show", deep_run()])
    assert follow(world, policy, ["sealift", "runs", "retry", deep_run()]).code == 0
    assert world.copy_of(f"copies/{big}") == body
    last = night(third)
    assert (last.code, "All is well" in last.stdout) == (0, True)
    assert about_docs(follow(world, policy, ["sealift", "status"])) == []


def test_all_is_well_is_not_said_of_a_copy_that_is_too_new_to_be_judged(world: World, policy: str) -> None:
    """The verdict, which is the mail's subject, the page, the status and the exit code agree."""
    copied(world, "a", "b")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"X")
    night = world.sealift("nightly", "--pair", "docs", "--json", SEALIFT_POLICY=policy)
    summary = night.document
    head = "Nothing wrong was found; 1 object is too new to be judged (--margin)"
    assert (night.code, summary["verdict"].startswith(f"{head}: reconcile 1 same, 1 in flight")) == (0, True)
    bucket, _, key = summary["report_html"][5:].partition("/")
    page = world.client.get_object(Bucket=bucket, Key=key)["Body"].read().decode().replace("\N{NO-BREAK SPACE}", " ")
    assert (head in page, "All is well" in page) == (True, False)
    status = world.sealift("status", "--json", SEALIFT_POLICY=policy).document
    assert status["pairs"][0]["verdict"] == summary["verdict"]
    assert status_text(status | {"problems": [], "not_known": []}).startswith("Nothing wrong was found\n")


def test_an_emptied_source_is_put_back_by_the_command_of_the_night(versioned: World, tmp_path: Path) -> None:
    """Also where deletes were mirrored: delete markers hide the copies, and the night says so."""
    policy = write_policy(versioned, tmp_path, docs=ALL | {"deletes": "mirror"})
    copied(versioned, "a", "b c")
    nightly = ["sealift", "nightly", "--pair", "docs", *NOW]
    assert follow(versioned, policy, [*nightly, "--night", "2026-11-20"]).code == 0
    settle()
    for name in ("docs/a", "docs/b c"):
        versioned.client.delete_object(Bucket=versioned.source, Key=name)
        versioned.client.delete_object(Bucket=versioned.destination, Key=f"copies/{name}")
    night = follow(versioned, policy, nightly)
    assert (night.code, "all copies stay" in night.stdout) == (3, False)
    assert "0 copies are there, and the others are hidden by delete markers" in night.stdout
    [restore] = [each for each in commands(night.stdout) if each[1] == "restore"]
    back = follow(versioned, policy, restore)
    assert back.code == 0, back.stderr
    body = versioned.client.get_object(Bucket=versioned.source, Key="docs/b c")["Body"].read()
    assert body == b"b c"
