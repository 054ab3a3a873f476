"""What a run's retries made of its failures since: the same on the terminal, in JSON and on the page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import jsonschema

from jobs.reports.document import schema
from tests.end_to_end.conftest import World
from tests.end_to_end.test_pages_after_repairs import text, tone
from tests.end_to_end.test_reconcile import pair, settle
from tests.end_to_end.test_report_page import fetch


def page_of(world: World, run_id: str, folder: Path) -> str:
    """The page that `runs show --html` makes now."""
    file = folder / "now.html"
    world.sealift("runs", "show", run_id, "--html", str(file))
    return file.read_text("utf-8")


def test_document_and_page_say_what_a_retry_made_of_the_failures(world: World, tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="c", Body=b"content")
    first = world.run("verify")
    run_id = first["run_id"]
    assert "since_then" not in world.sealift("runs", "show", run_id, "--json").document
    stored = text(fetch(world, first["report_html"]))
    assert f"What was repaired since is in sealift runs show {run_id}" in stored
    assert text(page_of(world, run_id, tmp_path)) == stored
    retry = world.sealift("runs", "retry", run_id, "--json").document

    after = world.sealift("runs", "show", run_id, "--json")
    since = after.document["since_then"]
    assert (after.code, since["is_repaired"]) == (3, True)
    assert [(each["run_id"], each["job"], each["outcomes"]) for each in since["runs"]] == [
        (retry["run_id"], "replicate", {"copied": 2})
    ]
    assert since["runs"][0]["verdict"] == "All 2 rows ended well: 2 copied."
    (step,) = after.document["next_steps"]
    jsonschema.validate(json.loads(after.stdout), schema())
    assert (
        "2 of 3 rows need attention: 2 missing. A retry brought them to a good end.\n"
        in world.sealift("runs", "show", run_id).stdout
    )
    assert world.sealift("runs", "show", run_id, "--follow", "--json").document["since_then"] == since
    (line,) = [each for each in world.sealift("runs", "list").stdout.splitlines() if each.startswith(run_id)]
    assert "2 repaired" in line

    page = page_of(world, run_id, tmp_path)
    words = text(page)
    assert tone(page) == "warn", "it is repaired, and nobody has checked the copies yet"
    assert f"Since then Run Came to replicate {retry['run_id']} 2 copied" in words
    assert "A retry brought all rows that needed attention to a good end." in words
    assert "Copy them again" not in words
    assert step.partition(": ")[2] in words
    assert [f'<code class="key">{key}</code>' in page for key in ("a", "b", "c")] == [True, True, False]

    check = shlex.split(step.partition(": sealift ")[2])
    assert world.sealift(*check).code == 0
    proven = world.sealift("runs", "show", run_id, "--json").document
    assert [each["outcomes"] for each in proven["since_then"]["runs"]] == [{"copied": 2}, {"verified": 2}]
    assert (proven["since_then"]["is_repaired"], proven["next_steps"]) == (True, [])


def test_a_check_that_finds_the_rows_wrong_again_is_no_good_end(world: World, tmp_path: Path) -> None:
    for key in ("a", "b"):
        world.put(key)
    run_id = world.run("verify")["run_id"]
    assert world.sealift("runs", "retry", run_id).code == 0
    world.client.delete_object(Bucket=world.destination, Key="b")
    assert world.run("verify", "--manifest", f"run:{run_id}")["code"] == 3
    after = world.sealift("runs", "show", run_id, "--json").document
    assert after["since_then"]["is_repaired"] is False
    assert after["next_steps"][0].endswith(f"sealift runs retry {run_id}")
    page = page_of(world, run_id, tmp_path)
    assert tone(page) == "bad"
    assert "1 verified, 1 missing" in text(page)
    assert "sealift runs retry" in world.sealift("runs", "show", run_id).stdout


def test_a_look_at_fewer_rows_answers_no_check_that_found_one_wrong_again(world: World, tmp_path: Path) -> None:
    for key in ("a", "b"):
        world.put(key)
    run_id = world.run("verify")["run_id"]
    assert world.sealift("runs", "retry", run_id).code == 0
    world.client.delete_object(Bucket=world.destination, Key="b")
    assert world.run("verify", "--manifest", f"run:{run_id}")["code"] == 3
    assert world.run("verify", "--manifest", f"run:{run_id}", "--include", "a")["code"] == 0
    after = world.sealift("runs", "show", run_id, "--json").document
    assert after["since_then"]["is_repaired"] is False
    assert tone(page_of(world, run_id, tmp_path)) == "bad"
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"content")
    assert world.run("verify", "--manifest", f"run:{run_id}")["code"] == 0
    assert world.sealift("runs", "show", run_id, "--json").document["since_then"]["is_repaired"] is True


def test_a_check_after_many_other_runs_counts_as_well(world: World) -> None:
    for key in ("a", "b"):
        world.put(key)
    run_id = world.run("verify")["run_id"]
    assert world.sealift("runs", "retry", run_id).code == 0
    spec = world.client.get_object(Bucket=world.ledger, Key=f"runs/runs/{run_id}/spec.json")["Body"].read()
    for number in range(30):  # of other rows, and under way
        other = f"{run_id[:-6]}fff{number:03x}"
        body = spec.replace(run_id.encode(), other.encode())
        world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{other}/spec.json", Body=body)
    world.client.delete_object(Bucket=world.destination, Key="b")
    assert world.run("verify", "--manifest", f"run:{run_id}")["code"] == 3
    after = world.sealift("runs", "show", run_id, "--json").document
    assert after["since_then"]["is_repaired"] is False


def test_the_page_of_a_comparison_names_the_later_ones(world: World, tmp_path: Path) -> None:
    world.put("a")
    settle()
    first = world.sealift("reconcile", *pair(world), "--margin", "0s", "--json").document
    settle()
    second = world.sealift("reconcile", *pair(world), "--margin", "0s", "--repair", "--yes", "--json").document
    after = world.sealift("runs", "show", first["run_id"], "--json").document
    (later,) = after["since_then"]["runs"]
    assert (later["run_id"], later["job"]) == (second["run_id"], "reconcile")
    assert later["verdict"] == "The only finding is repaired and verified."
    words = text(page_of(world, first["run_id"], tmp_path))
    assert f"reconcile {second['run_id']} The only finding is repaired and verified." in words
