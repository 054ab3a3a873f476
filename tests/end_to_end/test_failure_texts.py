"""Reports of runs with failures: a terminal shows which objects, and how to see all of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.end_to_end.conftest import Result, World


def printed(result: Result, label: str) -> list[str]:
    """The command that a report prints behind a label, as words without the program's name."""
    (line,) = [each for each in result.stdout.splitlines() if each.startswith(f"  {label}  ")]
    program, *words = shlex.split(line.removeprefix(f"  {label}"))
    assert program == "sealift"
    return words


def verify(world: World) -> Result:
    return world.sealift("verify", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")


def test_a_report_names_the_first_keys_of_each_reason_and_how_to_see_all(world: World, tmp_path: Path) -> None:
    missing = [f"m/{number}" for number in range(7)]
    for key in [*missing, "other", "same"]:
        world.put(key)
    for key, body in {"other": b"damaged", "same": b"content"}.items():
        world.client.put_object(Bucket=world.destination, Key=key, Body=body)
    result = verify(world)
    assert result.code == 3
    lines = [each.strip() for each in result.stdout.splitlines()]
    reason = next(number for number, line in enumerate(lines) if line.startswith("7 × missing"))
    assert lines[reason + 1 : reason + 7] == [*missing[:5], "… and 2 more"]
    reason = next(number for number, line in enumerate(lines) if line.startswith("1 × mismatched"))
    assert lines[reason + 1] == "other"
    assert "… and" not in lines[reason + 2]
    query = printed(result, "all of them")
    rows = json.loads(world.sealift(*query, "--format", "json").stdout)
    assert {each["key"] for each in rows} == {*missing, "other"}
    page = printed(result, "as a page  ")
    assert page[-1] == "report.html"
    assert world.sealift(*page[:-1], str(tmp_path / "report.html")).code == 3
    assert "other" in (tmp_path / "report.html").read_text("utf-8")


def test_control_characters_of_a_key_are_escaped(world: World) -> None:
    world.put("m/\x1b[31mred")
    result = verify(world)
    assert "\x1b" not in result.stdout
    assert re.search(r"^ +m/\\x1b\[31mred$", result.stdout, re.MULTILINE)


def test_a_replicate_report_says_so_too(world: World) -> None:
    world.put("a", b"one")
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"another, and newer")
    result = world.sealift(
        "replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--yes"
    )
    assert result.code == 3, result.stderr
    lines = result.stdout.splitlines()
    reason = next(number for number, line in enumerate(lines) if "1 × changed" in line)
    assert lines[reason + 1].strip() == "a"
    rows = json.loads(world.sealift(*printed(result, "all of them"), "--format", "json").stdout)
    assert [(each["key"], each["status"]) for each in rows] == [("a", "changed")]


def test_a_report_says_what_a_retry_copied_since(world: World) -> None:
    for key in ("a", "b", "c"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="c", Body=b"content")
    first = verify(world)
    run_id = world.sealift("runs", "show", "latest", "--json").document["run_id"]
    assert "since then" not in first.stdout
    assert "Copy them again: sealift runs retry" in world.sealift("runs", "show", run_id).stdout
    assert world.sealift("runs", "retry", run_id).code == 0
    after = world.sealift("runs", "show", run_id)
    assert after.code == 3
    assert re.search(r"^  since then   \S+-replicate-\S+: 2 copied$", after.stdout, re.MULTILINE)
    assert "runs retry" not in after.stdout
    check = world.sealift(*printed(after, "check"))
    assert (check.code, "All 2 rows ended well: 2 verified" in check.stdout) == (0, True)
    proven = world.sealift("runs", "show", run_id).stdout
    assert re.search(r"^  since then   \S+-verify-\S+: 2 verified$", proven, re.MULTILINE)
    assert "  check  " not in proven


def test_a_report_whose_retry_left_rows_still_says_what_to_do(world: World) -> None:
    for key in ("a", "b", "c"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="c", Body=b"content")
    verify(world)
    run_id = world.sealift("runs", "show", "latest", "--json").document["run_id"]
    world.client.delete_object(Bucket=world.source, Key="b")
    assert world.sealift("runs", "retry", run_id).code == 3
    after = world.sealift("runs", "show", run_id).stdout
    assert re.search(r"^  since then   \S+-replicate-\S+: 1 copied, 1 missing$", after, re.MULTILINE)
    assert "Copy them again: sealift runs retry" in after
    assert "  check  " not in after
