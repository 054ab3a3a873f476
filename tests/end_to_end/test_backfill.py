"""`sealift replicate` on a real server: a pair's old objects, where the policy says, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import keys, runs, write_policy

OURS = ["docs/a", "docs/b[1]*?", "docs/é ü", "drafts/c"]


@pytest.fixture
def filled(world: World) -> World:
    for key in (*OURS, "docs/tmp/d", "logs/e", "other"):
        world.put(key, key.encode())
    return world


def test_all_of_a_pair_is_copied_and_nothing_that_the_policy_leaves_out(filled: World, tmp_path: Path) -> None:
    given = ["replicate", "--pair", "docs", "--policy", write_policy(filled, tmp_path), "--json"]
    plan = filled.sealift(*given, "--dry-run")
    assert plan.code == 0, plan.stderr
    assert (plan.document["rows"], keys(filled, filled.destination)) == (4, [])
    report = filled.sealift(*given).document
    assert report["outcomes"] == {"copied": 4}
    assert sorted(keys(filled, filled.destination)) == sorted(f"copies/{key}" for key in OURS)
    assert filled.copy_of("copies/docs/é ü") == "docs/é ü".encode()
    again = filled.sealift(*given).document
    assert (again["outcomes"], again["excluded"]) == ({"same": 4}, {"exclude": 1})
    assert runs(filled)[0]["run_id"] == report["run_id"]


def test_a_forecast_that_looks_knows_what_is_there(filled: World, tmp_path: Path) -> None:
    given = ["replicate", "--pair", "docs", "--policy", write_policy(filled, tmp_path), "--prefix", "docs/"]
    assert filled.sealift(*given, "--json").document["outcomes"] == {"copied": 3}
    filled.client.delete_object(Bucket=filled.destination, Key="copies/docs/a")
    plan = filled.sealift(*given, "--dry-run", "--look", "--json").document
    assert plan["look"] == {"listed": 2, "same": 2, "other": 0, "absent": 1}
    assert plan["requests"] == {"copy": 3, "head": 2 * 2}
    text = filled.sealift(*given, "--dry-run", "--look").stdout
    assert "2 of the objects are there with the same size" in text
    backlog = f"s3://{filled.ledger}/runs/manifests/docs.jsonl"
    for wrong in (given, [*given, "--dry-run", "--manifest", backlog]):
        refused = filled.sealift(*wrong, "--look")
        assert (refused.code, "--look" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_below_a_prefix_in_the_other_pair(filled: World, tmp_path: Path) -> None:
    policy = write_policy(filled, tmp_path)
    report = filled.sealift("replicate", "--pair", "docs", "--policy", policy, "--prefix", "drafts/", "--json").document
    assert (report["outcomes"], report["manifest"]) == ({"copied": 1}, f"listing of s3://{filled.source}/drafts/")
    result = filled.sealift("replicate", "--pair", "logs", "--json", SEALIFT_POLICY=policy)
    assert (result.code, result.document["outcomes"]) == (0, {"copied": 1})
    assert keys(filled, filled.destination) == ["copies/drafts/c", "elsewhere/logs/e"]


@pytest.mark.slow
def test_between_two_dates(filled: World, tmp_path: Path) -> None:
    policy = write_policy(filled, tmp_path)
    second = int(time.time()) + 1
    while time.time() < second + 0.05:
        time.sleep(0.05)
    filled.put("docs/later")
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second - 1))
    given = ["replicate", "--pair", "docs", "--policy", policy, "--json"]
    assert filled.sealift(*given, "--newer-than", since).document["outcomes"] == {"copied": 1}
    assert filled.sealift(*given, "--newer-than", "1d", "--older-than", "2030-01-01").document["outcomes"] == {
        "copied": 4,
        "same": 1,
    }
    assert filled.sealift(*given, "--older-than", "1d").document["rows"] == 0


@pytest.mark.slow
def test_listed_in_a_file_of_which_only_the_pairs_keys_are_taken(filled: World, tmp_path: Path) -> None:
    rows = [f"{filled.source},{key}" for key in ("docs/a", "docs/%C3%A9+%C3%BC", "docs/tmp/d", "logs/e", "docs/gone")]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    policy = write_policy(filled, tmp_path)
    given = ["replicate", "--pair", "docs", "--policy", policy, "--manifest", str(tmp_path / "rows.csv"), "--json"]
    result = filled.sealift(*given)
    assert (result.code, result.document["outcomes"]) == (3, {"copied": 2, "missing": 1}), result.stderr
    assert result.document["excluded"] == {"include": 1, "exclude": 1}


def test_copies_have_the_storage_class_of_the_pair(filled: World, tmp_path: Path) -> None:
    hot = {"bucket": filled.destination, "region": "us-east-1", "prefix": "copies/", "storage_class": "STANDARD_IA"}
    policy = write_policy(filled, tmp_path, docs={"destination": hot})
    assert filled.sealift("replicate", "--pair", "docs", "--policy", policy).code == 0
    copy = filled.client.head_object(Bucket=filled.destination, Key="copies/docs/a")
    assert copy["StorageClass"] == "STANDARD_IA"


def lowered(objects: int, cost: float) -> dict[str, object]:
    return {"limits": {"max_objects": objects, "max_cost": cost}}


@pytest.mark.parametrize(
    ("limits", "options", "allowed"),
    [
        (lowered(3, 100), [], "--max-objects allows 3"),
        (lowered(3, 100), ["--max-objects", "1000"], "--max-objects allows 3"),
        (lowered(1000, 100), ["--max-objects", "2"], "--max-objects allows 2"),
        (lowered(1000, 0.000001), ["--max-cost", "50"], "--max-cost allows under $0.0001"),
    ],
)
def test_the_policys_limits_hold_unless_options_are_tighter(
    filled: World, tmp_path: Path, limits: dict[str, object], options: list[str], allowed: str
) -> None:
    policy = write_policy(filled, tmp_path, docs=limits)
    result = filled.sealift("replicate", "--pair", "docs", "--policy", policy, *options)
    assert (result.code, result.stdout) == (2, "")
    assert allowed in result.stderr
    assert "limits of the pair docs in the policy" in result.stderr
    assert (runs(filled), keys(filled, filled.destination)) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--pair", "dogs"], 2, "no such pair, only docs, logs"),
        (["--pair", "docs", "--prefix", "logs/"], 2, "protects no keys"),
        (["--pair", "docs", "--prefix", "docs/tmp/"], 2, "protects no keys"),
        (["--pair", "docs", "--manifest", "none.csv"], 10, "none.csv"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_in_one_line(
    filled: World, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = filled.sealift("replicate", *arguments, "--policy", write_policy(filled, tmp_path))
    assert (result.code, result.stdout) == (code, ""), result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_policy_it_says_how_to_name_one(world: World) -> None:
    result = world.sealift("replicate", "--pair", "docs")
    assert (result.code, "SEALIFT_POLICY" in result.stderr) == (2, True)


@pytest.mark.slow
def test_rows_that_events_left_behind_never_hide_a_newer_version(versioned: World, tmp_path: Path) -> None:
    older = versioned.put("docs/a", b"older")["VersionId"]
    versioned.put("docs/a", b"newer")
    policy = write_policy(versioned, tmp_path)
    given = ["replicate", "--pair", "docs", "--policy", policy, "--json"]
    assert versioned.sealift(*given).document["outcomes"] == {"copied": 1}
    row = f"{versioned.source},docs%2Fa,{older}\n".encode()
    versioned.client.put_object(Bucket=versioned.ledger, Key="runs/manifests/pair=docs/000001-x.csv", Body=row)
    late = versioned.sealift(*given, "--manifest", f"s3://{versioned.ledger}/runs/manifests/pair=docs/000001-x.csv")
    assert (late.code, late.document["outcomes"]) == (0, {"copied": 1}), late.stderr
    bodies = [
        versioned.client.get_object(Bucket=versioned.destination, Key="copies/docs/a", VersionId=each.version_id)[
            "Body"
        ].read()
        for each in versioned.history(versioned.destination, "copies/docs/a")
    ]
    assert b"older" in bodies
    assert bodies[-1] == b"newer"


def test_new_objects_of_a_backlog_are_copied_whatever_they_cost(versioned: World, tmp_path: Path) -> None:
    """The sizes of its rows are known, so that one large object would stop all of them."""
    world, place = versioned, "runs/manifests/pair=docs/000001-x.csv"
    world.put("docs/a", b"new")
    rows = f"{world.source},docs/a,,3,2026-11-25T00:33:40.000Z\n{world.source},docs/gone,,{10**13},\n"
    world.client.put_object(Bucket=world.ledger, Key=place, Body=rows.encode())
    policy = write_policy(world, tmp_path, docs=lowered(1000, 0.000001))
    given = ["replicate", "--pair", "docs", "--policy", policy, "--manifest", f"s3://{world.ledger}/{place}", "--json"]
    assert world.sealift(*given, "--max-cost", "0.000001").code == 2
    late = world.sealift(*given)
    assert (late.code, late.document["outcomes"]) == (3, {"copied": 1, "missing": 1}), late.stderr
    assert world.copy_of("copies/docs/a") == b"new"


def test_a_row_that_s3_refuses_keeps_no_other_row_of_a_backlog_from_being_copied(
    versioned: World, tmp_path: Path
) -> None:
    """It ended the worker, and so did each retry."""
    world, names = versioned, ["docs/folder/", *(f"docs/{number:02}" for number in range(20))]
    for name in names:
        world.put(name, b"" if name.endswith("/") else name.encode())  # SeaweedFS lists a folder, and finds none
    rows = "".join(f"{world.source},{name.replace('/', '%2F')}\n" for name in names)
    place = "runs/manifests/pair=docs/000001-x.csv"
    world.client.put_object(Bucket=world.ledger, Key=place, Body=rows.encode())
    policy = write_policy(world, tmp_path)
    manifest = f"s3://{world.ledger}/{place}"
    late = world.sealift("replicate", "--pair", "docs", "--policy", policy, "--manifest", manifest, "--json")
    assert (late.code, late.document["outcomes"]) == (3, {"copied": 20, "failed": 1}), late.stderr
    assert "directory" in late.document["reasons"][0]["reason"]
    retried = world.sealift("runs", "retry", late.document["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (3, {"failed": 1}), retried.stderr


@pytest.mark.parametrize("option", [["--storage-class", "GLACIER"], ["--source", "s3://docs"], ["--include", "*"]])
def test_an_option_that_says_what_the_policy_says_is_refused(world: World, tmp_path: Path, option: list[str]) -> None:
    given = ["replicate", "--pair", "docs", "--policy", write_policy(world, tmp_path)]
    refused = world.sealift(*given, *option)
    assert (refused.code, f"leave out {option[0]}" in refused.stderr) == (2, True), refused.stderr
