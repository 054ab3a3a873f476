"""`sealift status`: never green where something is wrong or not known, and since when."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.core.sampling import Sample
from tests.doubles.request_counter import request_counter
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.forged_ledger import names
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_compact import compact
from tests.end_to_end.test_reconcile import settle
from tests.end_to_end.test_restore import restore

REQUESTS_MAX = 450
"""For 100 runs, of which each is two or three requests, and two pairs."""
EARLIER, LATER = (datetime.now(UTC).date() - timedelta(days=ago) for ago in (2, 1))
"""Two nights in a row, so of slices in a row. Both have begun at any time of the day, and neither is old."""


@pytest.fixture
def policy(world: World, tmp_path: Path) -> str:
    return write_policy(world, tmp_path)


def status(world: World, policy: str, **extra: str) -> Result:
    return world.sealift("status", "--json", SEALIFT_POLICY=policy, **extra)


def night(world: World, policy: str, *more: str, of: date = LATER) -> dict[str, Any]:
    """Without a date, the hour would choose: until the pair's hour the last night to begin is yesterday's."""
    settle()
    command = ["nightly", "--pair", "docs", "--night", f"{of}", "--margin", "0s", "--json", *more]
    result = world.sealift(*command, SEALIFT_POLICY=policy)
    assert result.code in (0, 3), result.stderr
    return result.document


def copied(world: World, *names: str) -> None:
    for name in names:
        world.put(f"docs/{name}", name.encode())
        world.client.put_object(Bucket=world.destination, Key=f"copies/docs/{name}", Body=name.encode())


def docs(result: Result) -> dict[str, Any]:
    return next(each for each in result.document["pairs"] if each["pair"] == "docs")


def unknown(result: Result) -> dict[str, str]:
    return {each["what"]: each["why"] for each in result.document["not_known"]}


def problems(result: Result) -> dict[str, str | None]:
    return {each["problem"]: each["since"] for each in result.document["problems"]}


def written_at(world: World, key: str) -> str:
    at = world.client.head_object(Bucket=world.source, Key=key)["LastModified"].astimezone(UTC)
    return str(at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def wait_in_backlog(world: World, pair: str, since: float, rows: int, unique: str) -> str:
    name = f"{int(since * 1000):013d}-{rows}-{rows * 10}-{unique}.json"
    world.client.put_object(Bucket=world.ledger, Key=f"runs/backlog/pair={pair}/{name}", Body=b"{}")
    return name


def publish_manifest(world: World, number: int, names: list[str], since: float) -> str:
    """A manifest of the backlog of `docs`, as `enqueue` publishes it. Without names it lists a prefix."""
    folder = "runs/manifests/pair=docs/"
    rows = "".join(f"{world.source},docs/{name}\n" for name in names)
    key = f"{folder}{number:06d}-0123456789ab.csv"
    uri = f"s3://{world.ledger}/{key}"
    document = {
        "version": 1,
        "pair": "docs",
        "number": number,
        "manifest": uri if names else None,
        "prefixes": [] if names else ["docs/"],
        "rows": len(names),
        "size_bytes": 0,
        "created_at": since,
        "taken": [],
    }
    world.client.put_object(Bucket=world.ledger, Key=key, Body=rows.encode())
    body = json.dumps(document).encode()
    world.client.put_object(Bucket=world.ledger, Key=f"{folder}{number:06d}.json", Body=body)
    return uri


def test_a_pair_without_a_night_is_not_known(world: World, policy: str) -> None:
    result = status(world, policy)
    assert (result.code, result.document["state"]) == (3, "wrong")
    assert docs(result)["oldest_unproven"]["not_known"] == "no night has compared the pair yet"
    assert problems(result)["pair docs: no night has ended yet. Start one: sealift nightly --pair docs"] is None
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert "oldest unproven  not known: no night has compared the pair yet" in text
    assert "  ! pair docs: no night has ended yet. Start one: sealift nightly --pair docs\n" in text
    problems_found, unknown_found = len(result.document["problems"]), len(result.document["not_known"])
    assert unknown_found
    assert not any("oldest unproven" in each["what"] for each in result.document["not_known"]), "said twice"
    assert text.startswith(f"{problems_found} problems, {unknown_found} not known\n")
    assert (
        f"\npair docs  s3://{world.source}/docs/, s3://{world.source}/drafts/ → s3://{world.destination}/copies/\n"
        in text
    )
    assert "All is well" not in text


def test_a_queue_that_nobody_can_look_at_is_never_well(world: World, tmp_path: Path) -> None:
    """The server here has no SQS: what it answers says nothing of dead letters."""
    policy = write_policy(world, tmp_path)
    copied(world, "a")
    world.put("logs/b")
    world.client.put_object(Bucket=world.destination, Key="elsewhere/logs/b", Body=b"content")
    assert night(world, policy)["exit_code"] == 0
    settle()
    logs = ["nightly", "--pair", "logs", "--night", f"{LATER}", "--margin", "0s"]
    assert world.sealift(*logs, SEALIFT_POLICY=policy).code == 0
    result = status(world, policy)
    assert (result.code, result.document["state"], problems(result)) == (3, "not_known", {})
    assert "what is in sealift-objects" in unknown(result)
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert text.startswith("Nothing wrong was found, but ")
    assert "? what is in sealift-objects is not known: " in text


def test_the_oldest_unproven_object_is_named_with_when_it_was_written(world: World, policy: str) -> None:
    copied(world, "a", "b")
    settle()
    copied(world, "c")
    for name in ("b", "c"):
        world.client.put_object(Bucket=world.destination, Key=f"copies/docs/{name}", Body=b"another, and newer")
    ended = night(world, policy)
    assert ended["left"] == 2
    oldest = docs(status(world, policy))["oldest_unproven"]
    assert (oldest["key"], oldest["why"], oldest["not_known"]) == ("docs/b", "different", None)
    assert oldest["written_at"] == written_at(world, "docs/b")
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    assert "oldest unproven  docs/b of 20" in text
    for name in ("b", "c"):
        world.client.delete_object(Bucket=world.destination, Key=f"copies/docs/{name}")
    mended = night(world, policy, "--again")
    assert mended["exit_code"] == 0, mended["verdict"]
    proven = docs(status(world, policy))["oldest_unproven"]
    assert (proven["key"], proven["not_known"]) == (None, None)
    assert datetime.fromisoformat(ended["finished_at"]) <= datetime.fromisoformat(proven["until"]) <= datetime.now(UTC)


def test_what_a_later_run_found_wrong_is_not_called_proven(world: World, policy: str) -> None:
    """A run between other places, or one that was mended, says nothing of the pair."""
    copied(world, "a", "b")
    assert night(world, policy)["exit_code"] == 0
    assert "is proven" in world.sealift("status", SEALIFT_POLICY=policy).stdout
    settle()
    world.run("verify", "--destination", f"s3://{world.destination}/mistyped/")
    assert docs(status(world, policy))["oldest_unproven"]["found_since"] == []
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"X")
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    sides = ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/docs/"]
    found = world.run("verify", *sides)
    assert docs(status(world, policy))["oldest_unproven"]["found_since"] == [{"run_id": found["run_id"], "rows": 2}]
    text = world.sealift("status", SEALIFT_POLICY=policy).stdout
    [line] = [each for each in text.splitlines() if "oldest unproven  none at" in each]
    assert line.endswith(f", but since then {found['run_id']} found 2 wrong")
    assert world.sealift("runs", "retry", found["run_id"]).code == 0
    assert docs(status(world, policy))["oldest_unproven"]["found_since"] == []
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/b")
    compared = world.sealift("reconcile", *sides, "--margin", "0s", "--json").document
    assert docs(status(world, policy))["oldest_unproven"]["found_since"] == [{"run_id": compared["run_id"], "rows": 1}]


def test_what_is_wrong_says_since_which_night(world: World, policy: str) -> None:
    copied(world, "a")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"another, and newer")
    first = night(world, policy)
    second = night(world, policy, "--again")
    assert first["exit_code"] == second["exit_code"] == 3
    since = {at for problem, at in problems(status(world, policy)).items() if problem.startswith("pair docs, night")}
    assert since == {first["finished_at"]}


@pytest.mark.parametrize("changed", ["destination", "source"])
def test_a_night_says_nothing_of_places_that_the_pair_was_given_since(
    world: World, policy: str, tmp_path: Path, changed: str
) -> None:
    """All was well, and proven, where no copy is."""
    copied(world, "a")
    assert night(world, policy)["exit_code"] == 0
    rules = yaml.safe_load(Path(policy).read_text())
    given = {"prefix": "nowhere/"} if changed == "destination" else {"prefixes": ["docs/", "never-compared/"]}
    rules["pairs"][0][changed] |= given
    moved = tmp_path / "moved.yaml"
    moved.write_text(yaml.safe_dump(rules))
    result = status(world, str(moved))
    assert docs(result)["oldest_unproven"]["until"] is None
    [problem] = [each for each in problems(result) if each.startswith("pair docs")]
    assert "compared other places than the policy gives the pair now: sealift nightly --pair docs --again" in problem
    night(world, str(moved), "--again")
    assert not any("other places" in each for each in problems(status(world, str(moved))))


def test_a_damaged_report_of_a_night_is_not_known_and_no_proof(world: World, policy: str) -> None:
    copied(world, "a")
    run_id = night(world, policy)["stages"][0]["run_id"]
    key = f"runs/runs/{run_id}/report.json"
    report = json.loads(world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read())
    for body in (b"{", json.dumps(report | {"source": None}).encode(), json.dumps(report | {"unparsed": 2}).encode()):
        world.client.put_object(Bucket=world.ledger, Key=key, Body=body)
        result = status(world, policy)
        oldest = docs(result)["oldest_unproven"]
        assert (result.code, oldest["key"], oldest["until"], bool(oldest["not_known"])) == (3, None, None, True)
        assert "the oldest unproven object of docs" in unknown(result)


Rows = list[dict[str, Any]]


def rewrite_night(world: World, ended: dict[str, Any], category: str, rows: Rows) -> None:
    """Let a night's reconciliation say that these rows, and no others, were of this category."""
    [compared] = [each for each in ended["stages"] if each["stage"] == "reconcile"]
    place = f"runs/runs/{compared['run_id']}"
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"category": category, "is_finding": False} for row in rows]), file)
    world.client.put_object(Bucket=world.ledger, Key=f"{place}/differences/00000.parquet", Body=file.getvalue())
    body = world.client.get_object(Bucket=world.ledger, Key=f"{place}/report.json")["Body"].read()
    report = json.loads(body)
    report["categories"] |= {"same": {"rows": 0, "bytes": 0}, category: {"rows": len(rows), "bytes": 1}}
    world.client.put_object(Bucket=world.ledger, Key=f"{place}/report.json", Body=json.dumps(report).encode())
    summary = {name: value for name, value in ended.items() if name != "ran_before"}
    compared["counts"] |= {"same": 0, category.replace("_", " "): len(rows)}
    key = ended["summary"].partition(f"{world.ledger}/")[2]
    world.client.put_object(Bucket=world.ledger, Key=key, Body=json.dumps(summary).encode())


def days_ago(days: float) -> datetime:
    return datetime.fromtimestamp(int(time.time() - 86_400 * days), UTC)


def rows_of(names: str, copied_days_ago: float = 3) -> Rows:
    """Objects that were written one day after the other, and copied later."""
    return [
        {
            "key": f"docs/{name}",
            "source_last_modified": days_ago(20 - number),
            "destination_last_modified": days_ago(copied_days_ago),
        }
        for number, name in enumerate(names)
    ]


def test_what_reports_cannot_compare_waits_for_the_turn_of_its_slice(world: World, tmp_path: Path) -> None:
    """An object of parts has no MD5, so its copy of other parts is proven by checksums or bytes alone."""
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/2", "deep": "1/2"}})
    copied(world, *"abcdef")
    ended = night(world, policy)
    number = next(each["sample"][0] for each in ended["stages"] if each["stage"] == "sample")
    rewrite_night(world, ended, "unverifiable", rows := rows_of("abcdef"))
    waiting = [row["key"] for row in rows if not Sample(number, 2).contains(row["key"])]
    assert 0 < len(waiting) < len(rows)
    oldest = docs(status(world, policy))["oldest_unproven"]
    assert (oldest["key"], oldest["why"]) == (waiting[0], "unverifiable")
    rewrite_night(world, ended, "unverifiable", rows_of("abcdef", copied_days_ago=-1))  # a turn says nothing of it
    assert docs(status(world, policy))["oldest_unproven"]["key"] == "docs/a"


def test_a_turn_beside_other_copies_proves_nothing(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/2", "deep": "1/2"}})
    copied(world, *"abcdef")
    earlier = night(world, policy, of=EARLIER)
    number = next(each["sample"][0] for each in earlier["stages"] if each["stage"] == "sample")
    for name in "abcdef":
        world.client.put_object(Bucket=world.destination, Key=f"new/docs/{name}", Body=name.encode())
    rules = yaml.safe_load(Path(policy).read_text())
    rules["pairs"][0]["destination"]["prefix"] = "new/"
    Path(policy).write_text(yaml.safe_dump(rules))
    rewrite_night(world, night(world, policy), "unverifiable", rows := rows_of("abcdef"))
    waiting = [row["key"] for row in rows if Sample(number, 2).contains(row["key"])]
    assert docs(status(world, policy))["oldest_unproven"]["key"] == waiting[0]


def test_a_turn_proves_nothing_that_was_within_the_margin_of_its_night(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/2", "deep": "1/2"}})
    copied(world, *"abcdef")
    last = night(world, policy)
    made_up = night(world, policy, "--margin", "30d", of=EARLIER)
    [sample] = [each for each in made_up["stages"] if each["stage"] == "sample"]
    assert (sample["state"], sample["rows"]) == ("complete", 0)
    rewrite_night(world, last, "unverifiable", rows := rows_of("abcdef"))
    waiting = [row["key"] for row in rows if Sample(sample["sample"][0], 2).contains(row["key"])]
    assert docs(status(world, policy))["oldest_unproven"]["key"] == waiting[0]


def test_more_objects_than_a_person_waits_for_are_proven_by_turns_or_not_known(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/2", "deep": "1/2"}})
    copied(world, *"abcdef")
    first = night(world, policy)
    rewrite_night(world, first, "unverifiable", rows_of("abcdef"))
    report_many(world, first)
    waits = docs(status(world, policy))["oldest_unproven"]
    assert waits["not_known"].endswith("1 of 2 slices have had no turn yet that ended well")
    rewrite_night(world, night(world, policy, of=EARLIER), "unverifiable", rows_of("abcdef"))
    proven = docs(status(world, policy))["oldest_unproven"]
    assert (proven["key"], proven["not_known"], proven["why"]) == (None, None, "each at the turn of its slice")
    assert proven["until"] < first["finished_at"]


def report_many(world: World, ended: dict[str, Any]) -> None:
    """Let a night's report count more rows than are looked at one by one."""
    key = f"runs/runs/{ended['stages'][0]['run_id']}/report.json"
    report = json.loads(world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read())
    report["categories"]["unverifiable"]["rows"] = 10**9
    world.client.put_object(Bucket=world.ledger, Key=key, Body=json.dumps(report).encode())


def test_an_old_object_whose_copy_is_in_flight_is_not_proven(world: World, policy: str) -> None:
    copied(world, "a", "b")
    ended = night(world, policy)
    assert docs(status(world, policy))["oldest_unproven"]["key"] is None
    young = {"key": "docs/b", "source_last_modified": days_ago(-1), "destination_last_modified": None}
    rewrite_night(world, ended, "in flight", [*rows_of("a", copied_days_ago=0), young])
    oldest = docs(status(world, policy))["oldest_unproven"]
    assert (oldest["key"], oldest["why"]) == ("docs/a", "in flight")
    rewrite_night(world, ended, "in flight", [young])
    assert docs(status(world, policy))["oldest_unproven"]["key"] is None


def test_a_manifest_of_the_backlog_whose_run_was_refused_is_not_forgotten(versioned: World, tmp_path: Path) -> None:
    """Its rows wait in no backlog any more, and status said that nothing was wrong."""
    world = versioned
    policy = write_policy(world, tmp_path, docs={"limits": {"max_objects": 1}})
    copied(world, "a", "b")
    now = time.time()
    old, young = publish_manifest(world, 1, ["a", "b"], now - 7200), publish_manifest(world, 2, ["a"], now)
    publish_manifest(world, 3, [], now - 7200)
    backfill = ["backfill", "--pair", "docs", "--yes", "--manifest", old]
    refused = world.sealift(*backfill, SEALIFT_POLICY=policy)
    assert (refused.code, "max-objects" in refused.stderr) == (2, True), refused.stderr
    command = f"sealift backfill --pair docs --manifest {old}"
    wrong = f"pair docs: no run has taken the 2 rows of manifest 1 of the backlog: {command}"
    found = problems(status(world, policy))
    assert found[wrong] == datetime.fromtimestamp(int(now - 7200), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not any(young in each or "manifest 3" in each for each in found)
    write_policy(world, tmp_path)
    assert world.sealift(*backfill, SEALIFT_POLICY=policy).code == 0
    assert wrong not in problems(status(world, policy))


def test_only_a_run_that_copies_all_rows_of_a_manifest_has_taken_them(versioned: World, tmp_path: Path) -> None:
    """A plan that was never published, a verification and a run of a part said that nothing waits."""
    world = versioned
    policy = write_policy(world, tmp_path)
    for name in ("a", "b"):
        world.put(f"docs/{name}")
    uri = publish_manifest(world, 1, ["a", "b"], time.time() - 7200)
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/copies/"]
    backfill = ["backfill", "--pair", "docs", "--manifest", uri, "--json"]

    def is_waiting() -> bool:
        return any("no run has taken the 2 rows of manifest 1" in each for each in problems(status(world, policy)))

    for command, code in (
        (["verify", *places, "--manifest", uri, "--json"], 3),
        ([*backfill, "--yes", "--prefix", "docs/a"], 0),
    ):
        assert world.sealift(*command, SEALIFT_POLICY=policy).code == code
        assert is_waiting(), command
    run_id = world.sealift(*backfill, "--yes", SEALIFT_POLICY=policy).document["run_id"]
    assert not is_waiting()
    for name in names(world, f"runs/{run_id}/"):
        if not name.endswith("/spec.json"):  # as if it was killed before it wrote its plan
            world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    assert is_waiting()


def test_rows_that_wait_in_the_backlog_are_counted_since_the_oldest(world: World, policy: str) -> None:
    now = time.time()
    old = now - 90_000
    taken = wait_in_backlog(world, "docs", old - 5, 100, "aa")
    wait_in_backlog(world, "docs", old, 3, "bb")
    wait_in_backlog(world, "docs", now, 4, "cc")
    wait_in_backlog(world, "renamed", now, 2, "dd")
    manifest = {
        "version": 1, "pair": "docs", "number": 1, "manifest": None, "prefixes": [], "rows": 100, "size_bytes": 1000,
        "taken": [taken],
    }  # fmt: skip
    key = "runs/manifests/pair=docs/000001.json"
    world.client.put_object(Bucket=world.ledger, Key=key, Body=json.dumps(manifest).encode())
    result = status(world, policy)
    since = datetime.fromtimestamp(int(old), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    expected = {"rows": 7, "bytes": 70, "oldest_since": since, "is_whole": True, "not_known": None}
    assert docs(result)["backlog"] == expected
    found = problems(result)
    assert found["pair docs: 7 rows of the backlog, and no run has taken them: sealift doctor"] == since
    [orphan] = [each for each in found if "renamed" in each]
    assert orphan.startswith("2 rows wait in the backlog of renamed, and the policy has no such pair")
    assert "backlog          7 rows (70 B) since " in world.sealift("status", SEALIFT_POLICY=policy).stdout
    world.client.put_object(Bucket=world.ledger, Key=key, Body=b"{")
    damaged = status(world, policy)
    assert docs(damaged)["backlog"]["rows"] is None
    assert "the backlog of docs" in unknown(damaged)


def test_without_a_policy_the_first_line_says_what_was_not_looked_at(world: World) -> None:
    empty = world.sealift("status", "--json")
    assert (empty.code, empty.document["state"]) == (3, "not_known")
    world.put("a")
    world.run("replicate")
    well = world.sealift("status")
    assert (well.code, "All is well" in well.stdout) == (0, False)
    assert well.stdout.startswith("Nothing wrong was found in 1 run. No policy is named")


def test_a_comparison_that_judged_nothing_answers_for_no_other(world: World) -> None:
    """Its exit code is 3, and what an earlier one had found was gone."""
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--margin", "2s"]
    world.put("a")
    time.sleep(3.1)
    found = world.sealift("reconcile", *places, "--json")
    assert (found.code, found.document["findings"]) == (3, 1)
    world.put("a", b"written again")
    young = world.sealift("reconcile", *places)
    assert (young.code, "Nothing could be judged" in young.stdout) == (3, True)
    [problem] = problems(world.sealift("status", "--json"))
    assert found.document["run_id"] in problem
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"written again")
    assert world.sealift("reconcile", *places).code == 0
    assert world.sealift("status", "--json").document["state"] == "well"


def test_a_comparison_that_could_not_read_all_is_not_well(world: World) -> None:
    """It ends with exit code 3 and no finding, and nobody knows what the lines name."""
    sides = []
    for bucket in (world.source, world.destination):
        world.client.put_object(Bucket=bucket, Key="a", Body=b"content")
    settle()
    for side, bucket in (("source", world.source), ("destination", world.destination)):
        report = [
            "inventory",
            f"s3://{bucket}",
            "--to",
            f"s3://{world.ledger}/inventories",
            "--format",
            "csv",
            "--json",
        ]
        sides += [f"--{side}-inventory", world.sealift(*report).document["manifest"]]
    compare = ["reconcile", *sides, "--margin", "0s", "--json"]
    add_line(world, sides[1], lambda line: line.replace(b'"a"', b'"b%ff"'))
    found = world.sealift(*compare)
    assert (found.code, found.document["findings"], found.document["unparsed"]) == (3, 0, 1)
    expected = f"run {found.document['run_id']}: 1 inventory line could not be read: sealift runs show"
    [problem] = problems(world.sealift("status", "--json"))
    assert problem.startswith(expected)
    assert "0, 1 unread" in world.sealift("runs", "list").stdout
    assert world.sealift(*compare).code == 3
    assert len(problems(world.sealift("status", "--json"))) == 2  # the later one has the same gap


def add_line(world: World, manifest: str, change: Callable[[bytes], bytes]) -> None:
    """Add a changed copy of the first line to the only file of a CSV report, with its digests."""
    key = manifest.removeprefix(f"s3://{world.ledger}/")
    document = json.loads(world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read())
    [file] = document["files"]
    lines = gzip.decompress(world.client.get_object(Bucket=world.ledger, Key=file["key"])["Body"].read())
    data = gzip.compress(lines + change(lines.splitlines(keepends=True)[0]))
    file |= {"size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}
    text = json.dumps(document).encode()
    digest = hashlib.md5(text).hexdigest().encode()
    for name, body in ((file["key"], data), (key, text), (key.removesuffix(".json") + ".checksum", digest)):
        world.client.put_object(Bucket=world.ledger, Key=name, Body=body)


def test_a_restore_answers_for_no_other_bucket_of_the_same_archives(world: World) -> None:
    other = f"{world.source}-other"
    world.client.create_bucket(Bucket=other)
    world.put("a")
    world.client.put_object(Bucket=other, Key="b", Body=b"of another bucket")
    for bucket in (world.source, other):
        assert compact(world, "--pack-all", "--source", f"s3://{bucket}")["code"] == 0
    world.client.put_object(Bucket=world.destination, Key="back/a", Body=b"in the way")
    found = restore(world, "--include", "*", "--bucket", world.source)
    assert (found["code"], found["outcomes"]) == (3, {"unrestorable": 1})
    assert restore(world, "--include", "*", "--bucket", other)["code"] == 0
    [problem] = problems(world.sealift("status", "--json"))
    assert found["run_id"] in problem
    world.client.delete_object(Bucket=world.destination, Key="back/a")
    assert restore(world, "--include", "*", "--bucket", world.source)["code"] == 0
    assert world.sealift("status", "--json").document["state"] == "well"


def test_a_manifest_of_the_same_name_answers_only_for_the_same_rows(world: World, tmp_path: Path) -> None:
    copied(world, "a", "b", "c")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"x")
    manifest = tmp_path / "rows.csv"
    sides = "--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/copies/"

    def verify(*names: str) -> Result:
        manifest.write_text("".join(f"{world.source},docs/{name}\n" for name in names))
        return world.sealift("verify", *sides, "--manifest", str(manifest), "--yes", "--json")

    assert verify("a", "b").code == 3
    assert verify("b", "c").code == 0
    assert world.sealift("status", "--json").document["state"] == "wrong"  # nobody has looked at `a` since
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"a")
    assert verify("a", "b").code == 0
    assert world.sealift("status", "--json").document["state"] == "well"


def test_a_listing_of_current_objects_answers_for_no_old_version_that_a_manifest_named(
    versioned: World, tmp_path: Path
) -> None:
    old, _ = (versioned.put("a", body)["VersionId"] for body in (b"one", b"two"))
    assert versioned.run("replicate")["code"] == 0
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"{versioned.source},a,{old}\n")
    found = versioned.run("verify", "--manifest", str(manifest))
    assert found["code"] == 3  # only the newer version has a copy
    again = ["--manifest", found["failures_manifest"], "--source", f"s3://{versioned.source}"]
    assert versioned.run("verify", *again)["code"] == 3  # the same row of another manifest
    assert versioned.run("verify")["code"] == 0
    assert len(problems(versioned.sealift("status", "--json"))) == 2
    manifest.write_text(f"{versioned.source},a\n")
    versioned.client.put_object(Bucket=versioned.destination, Key="a", Body=b"another")
    assert versioned.run("verify", "--manifest", str(manifest))["code"] == 3
    versioned.client.put_object(Bucket=versioned.destination, Key="a", Body=b"two")
    assert versioned.run("verify")["code"] == 0
    assert len(problems(versioned.sealift("status", "--json"))) == 2  # a key alone names its current version


def test_hundreds_of_runs_take_a_bounded_number_of_requests(world: World, policy: str) -> None:
    world.put("docs/a")
    report = world.run("replicate", "--source", f"s3://{world.source}/docs/")
    for number in range(250):
        for name in ("spec", "plan", "report"):
            place = f"runs/runs/{report['run_id']}/{name}.json"
            text = world.client.get_object(Bucket=world.ledger, Key=place)["Body"].read().decode()
            run_id = f"20200101T000000Z-replicate-{number:06x}"
            body = text.replace(report["run_id"], run_id).encode()
            world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{run_id}/{name}.json", Body=body)
    with request_counter(world.server.endpoint, {world.ledger}) as counter:
        result = status(world, policy, AWS_ENDPOINT_URL_S3=counter.url)
    assert result.document["looked_at"] == {"runs": 100, "all_runs": 251, "has_policy": True}
    assert 100 < counter.kinds.total() <= REQUESTS_MAX
    assert "251 runs, of which the latest 100 were looked at" in world.sealift("status", SEALIFT_POLICY=policy).stdout
