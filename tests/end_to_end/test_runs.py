"""`sealift runs`: everything from the ledger alone."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.reports.document import iso_time
from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, discard, make_world
from tests.end_to_end.forged_ledger import copy_run, edit_json, names
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_reconcile import settle

WELL = "Nothing wrong was found in "
"""How the status begins, without a policy, where nothing is wrong."""


def test_list_show_report_and_watch_agree_on_a_run(world: World) -> None:
    world.put("a")
    first, second = world.run("replicate"), world.run("verify")
    listed = world.sealift("runs", "list", "--json").document["runs"]
    assert [run["run_id"] for run in listed] == [second["run_id"], first["run_id"]]
    assert [run["state"] for run in listed] == ["complete", "complete"]
    shown = world.sealift("runs", "show", second["run_id"], "--json")
    assert shown.code == 0
    assert (shown.document["state"], shown.document["outcomes"]) == ("complete", {"verified": 1})
    assert shown.document["spec"]["source"]["uri"] == f"s3://{world.source}/"
    report = {name: value for name, value in second.items() if name != "code"}
    assert shown.document == report | {"spec": shown.document["spec"], "plan": shown.document["plan"]}
    followed = world.sealift("runs", "show", second["run_id"], "--follow", "--json")
    assert (followed.code, followed.document) == (0, report)


def test_text_for_people_names_the_run_and_what_to_do(world: World) -> None:
    world.put("a")
    report = world.run("verify")
    assert report["outcomes"] == {"missing": 1}
    shown = world.sealift("runs", "show", report["run_id"])
    assert shown.code == 3
    assert "1 of 1 row needs attention: 1 missing" in shown.stdout
    assert f"sealift runs retry {report['run_id']}" in shown.stdout
    assert report["run_id"] in world.sealift("runs", "list").stdout


def test_retry_acts_on_the_failed_rows_and_nothing_else(world: World) -> None:
    for key in ("a", "b", "c"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"in the way")
    report = world.run("replicate")
    assert report["outcomes"] == {"copied": 2, "changed": 1}
    world.client.delete_object(Bucket=world.destination, Key="b")
    world.client.delete_object(Bucket=world.destination, Key="a")
    retried = world.sealift("runs", "retry", report["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (0, {"copied": 1})
    assert retried.document["retry_of"] == report["run_id"]
    assert world.copy_of("b") == b"content"
    assert "Contents" not in world.client.list_objects_v2(Bucket=world.destination, Prefix="a")


def test_retry_of_a_clean_run_does_nothing(world: World) -> None:
    world.put("a")
    report = world.run("replicate")
    retried = world.sealift("runs", "retry", report["run_id"])
    assert (retried.code, "Nothing to retry" in retried.stdout) == (0, True)
    assert len(world.sealift("runs", "list", "--json").document["runs"]) == 1


@pytest.mark.slow
def test_failed_rows_are_a_manifest(world: World) -> None:
    world.put("docs/a")
    world.put("docs/b")
    report = world.run(
        "verify", "--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/x/"
    )
    assert report["outcomes"] == {"missing": 2}
    again = world.run(
        "replicate", "--manifest", f"run:{report['run_id']}", "--destination", f"s3://{world.destination}/x/"
    )
    assert again["outcomes"] == {"copied": 2}
    assert world.copy_of("x/a") == b"content"
    proven = world.run(
        "verify", "--manifest", f"proven:{again['run_id']}", "--destination", f"s3://{world.destination}/x/"
    )
    assert proven["outcomes"] == {"verified": 2}


@pytest.mark.parametrize("kind", ["run", "proven"])
@pytest.mark.parametrize("job", ["replicate", "verify", "compact"])
def test_a_reconcile_run_has_no_rows_to_work_on(compared: tuple[World, str], job: str, kind: str) -> None:
    world, run_id = compared
    place = "--archives" if job == "compact" else "--destination"
    refused = world.sealift(job, "--manifest", f"{kind}:{run_id}", place, f"s3://{world.destination}/x")
    assert (refused.code, refused.stdout) == (2, "")
    assert run_id in refused.stderr
    assert "sealift runs show" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def compared(seaweed: Server) -> Iterator[tuple[World, str]]:
    """A reconcile run that found one copy missing."""
    world = make_world(seaweed, versioned=False)
    world.put("a")
    pair = ("--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
    yield world, world.sealift("reconcile", *pair, "--margin", "0s", "--json").document["run_id"]
    discard(world)


def test_runs_are_listed_with_their_places_and_by_what_is_asked(world: World) -> None:
    world.put("a")
    first, second = world.run("replicate"), world.run("verify")
    listed = world.sealift("runs", "list", "--json").document["runs"]
    assert [each["source"] for each in listed] == [f"s3://{world.source}/"] * 2
    assert listed[0]["destination"] == f"s3://{world.destination}/"
    assert listed[1]["planned_dollars"] == first["planned_dollars"]

    def ids(*options: str) -> list[str]:
        return [each["run_id"] for each in world.sealift("runs", "list", "--json", *options).document["runs"]]

    assert ids("--job", "verify") == [second["run_id"]]
    assert ids("--state", "complete", "--limit", "1") == [second["run_id"]]
    assert ids("--state", "stopped") == ids("--state", "unreported") == []
    assert ids("--since", "1h") == [second["run_id"], first["run_id"]]
    text = world.sealift("runs", "list").stdout
    assert f"s3://{world.source}/" in text
    assert first["run_id"] in text


def test_one_damaged_run_is_named_and_the_others_are_listed(world: World) -> None:
    world.put("a")
    runs = [world.run("replicate"), *(world.run("verify") for _ in range(4))]
    for report, name, body in (
        (runs[0], "report.json", b'{"spec_version": 1}'),
        (runs[1], "spec.json", b"{"),
        (runs[2], "report.json", b'{"spec_version": 99}'),
        (runs[3], "report.json", b"[]"),
    ):
        world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{report['run_id']}/{name}", Body=body)
    result = world.sealift("runs", "list", "--json")
    assert result.code == 0
    states = {each["run_id"]: each["state"] for each in result.document["runs"]}
    assert [states[each["run_id"]] for each in runs] == ["unreadable"] * 4 + ["complete"]
    for report in runs[:4]:
        assert f"{report['run_id']} cannot be read" in result.stderr
    assert "version 99" in result.stderr
    assert "version 99" in world.sealift("runs", "show", runs[2]["run_id"]).stderr
    for verb in ("retry", "show"):
        assert world.sealift("runs", verb, runs[3]["run_id"]).code == 10


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spec.json", {"created_at": 1e300}),
        ("spec.json", {"manifest": {}}),
        ("spec.json", {"options": ["deep"]}),
        ("spec.json", {"retry_of": []}),
        ("spec.json", {"source": {"uri": "no place", "endpoint": None, "region": None, "profile": None}}),
        ("report.json", {"failures": "x"}),
        ("report.json", {"outcomes": []}),
        ("report.json", {"rows": None}),
        ("report.json", {"state": 5}),
        ("report.json", {"seconds": "long"}),
        ("report.json", {"left_out_archives": 5}),
        ("report.json", {"run_id": "20261125T003345Z-verify-1f3a02"}),
    ],
)
def test_a_field_that_no_sealift_writes_is_a_damaged_document(
    world: World, name: str, change: dict[str, object]
) -> None:
    """One such field ended `runs list`, `status` and `query` over the whole ledger with a traceback."""
    world.put("a")
    damaged, whole = world.run("replicate"), world.run("verify")
    place = f"runs/{damaged['run_id']}/{name}"
    edit_json(world, place, lambda document: document.update(change))
    listed = world.sealift("runs", "list", "--json")
    states = {each["run_id"]: each["state"] for each in listed.document["runs"]}
    assert states == {damaged["run_id"]: "unreadable", whole["run_id"]: "complete"}
    found = world.sealift("status")
    assert (found.code, f"run {damaged['run_id']} is unreadable" in found.stdout) == (3, True), found.stderr
    asked = world.sealift("query", "SELECT run_id, state FROM runs")
    assert asked.code == 0 or (asked.code == 10 and damaged["run_id"] in asked.stderr), asked.stderr
    others = world.sealift("query", "SELECT state FROM runs", "--run", whole["run_id"])
    assert (others.code, "complete" in others.stdout) == (0, True)


def test_a_run_whose_command_is_gone_is_stopped_whoever_has_its_process_id(world: World) -> None:
    """After a restart of the machine, or in a container, the id is another process's: the run was at work for ever."""
    world.put("a")
    run_id = unfinished(world)
    [launch] = names(world, f"runs/{run_id}/launches/")

    def states(since: float) -> tuple[str, str]:
        claimed = {"pid": os.getpid(), "since": iso_time(since)}
        edit_json(world, launch, lambda document: document.update(claimed))
        [run] = world.sealift("runs", "list", "--json").document["runs"]
        return run["state"], world.sealift("status", "--json").document["state"]

    assert states(time.time()) == ("incomplete", "well")
    assert states(time.time() - 30 * 86_400) == ("stopped", "wrong")


def test_a_run_that_nobody_ever_claimed_is_stopped(world: World) -> None:
    """Its command was killed, or Batch took nothing: it was called at work, and followed, for ever."""
    world.put("a")
    run_id = unfinished(world)
    for name in names(world, f"runs/{run_id}/launches/"):
        world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    assert world.sealift("status", "--json").document["state"] == "well"  # it may be about to
    old_id = f"20261120T000000Z-replicate-{run_id[-6:]}"
    copy_run(world, run_id, old_id, lambda spec: None)
    for name in names(world, f"runs/{run_id}/"):
        world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    status = world.sealift("status")
    assert (status.code, f"run {old_id} is stopped: sealift runs retry {old_id}" in status.stdout) == (3, True)
    watched = world.sealift("runs", "show", old_id, "--follow")
    assert (watched.code, "never claimed the run" in watched.stdout) == (75, True)
    assert world.sealift("runs", "retry", old_id, "--json").document["outcomes"] == {"same": 1}


def unfinished(world: World) -> str:
    """The id of a run without outcomes, as a killed command leaves it."""
    run_id: str = world.run("replicate")["run_id"]
    for name in names(world, f"runs/{run_id}/"):
        if "/outcomes/" in name or "/report." in name or "/leases/" in name:
            world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    return run_id


def test_a_run_is_named_by_latest_or_by_what_is_unique_of_its_id(world: World) -> None:
    world.put("a")
    first, second = world.run("replicate"), world.run("verify")
    assert world.sealift("runs", "show", "latest", "--json").document["run_id"] == second["run_id"]
    for part in (first["run_id"][-6:], first["run_id"][:-3]):
        assert world.sealift("runs", "show", part, "--json").document["run_id"] == first["run_id"]
    several = world.sealift("runs", "show", first["run_id"][:4])
    assert (several.code, first["run_id"] in several.stderr, second["run_id"] in several.stderr) == (2, True, True)
    none = world.sealift("runs", "show", "zzz", "--follow")
    assert (none.code, "runs list" in none.stderr) == (10, True)
    counted = world.sealift("query", "SELECT count(*) AS n FROM outcomes", "--run", "latest", "--format", "json")
    assert json.loads(counted.stdout) == [{"n": 1}]
    again = world.run("verify", "--manifest", f"proven:{second['run_id'][-6:]}")
    assert again["outcomes"] == {"verified": 1}


def test_the_page_of_a_report_is_written_where_it_is_asked_for(world: World, tmp_path: Path) -> None:
    world.put("a")
    report = world.run("verify")
    page = tmp_path / "page.html"
    assert world.sealift("runs", "show", "latest", "--html", str(page)).code == 3
    bucket, _, key = report["report_html"][5:].partition("/")
    assert page.read_bytes() == world.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    refused = world.sealift("runs", "show", "latest", "--html", str(tmp_path / "no" / "page.html"))
    assert (refused.code, "--html" in refused.stderr) == (10, True)


def test_hints_lead_out_of_what_a_retry_only_repeats(world: World) -> None:
    world.put("a")
    first = world.sealift("verify", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
    assert f"Every row is missing: is s3://{world.destination}/ the right destination?" in first.stdout
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"newer")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/"]
    changed = world.sealift("replicate", *places).stdout
    run_id = world.sealift("runs", "show", "latest", "--json").document["run_id"]
    compare = ["verify", "--manifest", f"run:{run_id}", *places, "--deep"]
    assert f"Compare what changed: sealift {' '.join(compare)}" in changed
    assert "try them again" not in changed.lower()
    assert "Copy them again: sealift runs retry" in world.sealift(*compare).stdout
    assert world.sealift("runs", "retry", "latest").code == 0
    assert world.copy_of("a") == b"content"
    assert f"run {run_id}: 1 of 1 row needs attention" in world.sealift("status").stdout
    assert f"Then close this finding, which `sealift status` names: sealift runs retry {run_id}" in changed
    assert world.sealift("runs", "retry", run_id).code == 0
    assert run_id not in world.sealift("status").stdout


def test_hints_of_a_run_over_all_versions_are_about_all_versions(versioned: World) -> None:
    """Without that, the rows of old versions are left out of what they name: there was nothing to verify."""
    for key in ("a", "b"):
        versioned.put(key, b"the first")
        versioned.put(key, b"the last")
    places = ["--source", f"s3://{versioned.source}/", "--destination", f"s3://{versioned.destination}/"]
    assert versioned.sealift("replicate", *places, "--versions", "all").code == 0
    client, lost = versioned.client, versioned.history(versioned.destination, "a")[0]
    client.delete_object(Bucket=versioned.destination, Key="a", VersionId=lost.version_id)
    late = versioned.sealift("replicate", *places, "--versions", "all")
    assert (late.code, "sealift verify" in late.stdout) == (3, False), late.stdout
    [dismissal] = [line for line in late.stdout.splitlines() if "No version can be put below a newer one" in line]
    assert "copy the whole history to an empty place" in dismissal
    client.put_object(Bucket=versioned.destination, Key="b", Body=b"of others")
    covered = versioned.sealift("replicate", *places, "--versions", "all", "--include", "b")
    [compare] = [line for line in covered.stdout.splitlines() if "Compare what changed: " in line]
    command = shlex.split(compare.partition(": sealift ")[2])
    assert command[-3:] == ["--versions", "all", "--deep"]
    assert "1 mismatched" in versioned.sealift(*command).stdout
    assert versioned.sealift("runs", "retry", "latest").code == 0
    assert versioned.copy_of("b") == b"the last"


def test_hints_reach_the_sides_as_the_run_did(world: World) -> None:
    """Without that, the command would compare buckets of these names wherever the defaults lead."""
    world.put("a")
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"newer")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/"]
    access = ["--source-endpoint", world.server.endpoint, "--destination-endpoint", world.server.endpoint]
    changed = world.sealift("replicate", *places, *access)
    [compare] = [line for line in changed.stdout.splitlines() if "Compare what changed: " in line]
    command = shlex.split(compare.partition(": sealift ")[2])
    assert command[3:] == [*places, *access, "--deep"]
    assert "1 mismatched" in world.sealift(*command).stdout


def test_status_names_a_verify_of_the_wrong_place_until_one_of_the_same_place_ends_well(world: World) -> None:
    world.put("a")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/mistyped/"]
    first = world.sealift("verify", *places)
    assert "If not, nothing is wrong with your copies. Dismiss this run, so that `sealift status`" in first.stdout
    run_id = world.sealift("runs", "show", "latest", "--json").document["run_id"]
    assert world.run("replicate")["code"] == 0
    assert run_id in world.sealift("status").stdout
    world.client.put_object(Bucket=world.destination, Key="mistyped/a", Body=b"content")
    assert world.sealift("verify", *places).code == 0
    assert run_id not in world.sealift("status").stdout


def test_a_list_of_runs_says_what_it_leaves_out(world: World) -> None:
    world.put("a")
    for _ in range(2):
        world.run("verify")
    cut = world.sealift("runs", "list", "--limit", "1")
    assert "the latest 1 of 2, --limit N shows more" in cut.stdout
    listed = world.sealift("runs", "list", "--limit", "1", "--json").document
    assert (len(listed["runs"]), listed["has_more"], listed["total"]) == (1, True, 2)
    whole = world.sealift("runs", "list", "--limit", "2", "--json").document
    assert (len(whole["runs"]), whole["has_more"], whole["total"]) == (2, False, 2)
    for filter, value in (("--state", "complete"), ("--job", "replicate")):
        wrong = world.sealift("runs", "list", filter, "foo")
        assert (wrong.code, value in wrong.stderr) == (2, True)
    empty = world.sealift("runs", "list", "--job", "restore")
    assert (empty.code, "no run matches" in empty.stdout) == (0, True)


def test_status_keeps_damage_until_a_run_has_looked_at_all_of_it(world: World) -> None:
    for number in range(3):
        world.put(f"docs/{number}", b"content")
    places = ["--source", f"s3://{world.source}/docs", "--destination", f"s3://{world.destination}/docs"]
    slashed = [f"{each}/" if each.startswith("s3:") else each for each in places]
    assert world.run("replicate", *places)["code"] == 0
    for number in range(2):
        world.client.put_object(Bucket=world.destination, Key=f"docs/{number}", Body=b"damaged")
    found = world.run("verify", "--deep", *places)
    assert found["failures"] == 2
    line = f"run {found['run_id']}: 2 of 3 rows need attention"
    assert world.run("verify", "--deep", *places, "--include", "*/2")["code"] == 0
    assert world.run("verify", "--deep", *places, "--include", "zzz", "--allow-empty")["code"] == 0
    assert world.run("verify", "--deep", *places, "--manifest", f"proven:{found['run_id']}")["code"] == 0
    assert world.run("verify", *places, "--sample", "1/1000", "--allow-empty")["code"] == 0
    still = world.sealift("status")
    assert (still.code, line in still.stdout) == (3, True)
    for number in range(2):
        world.client.put_object(Bucket=world.destination, Key=f"docs/{number}", Body=b"content")
    assert world.run("verify", *places)["code"] == 0
    assert line in world.sealift("status").stdout, "stored checksums prove less than bytes"
    assert world.run("verify", "--deep", *slashed)["code"] == 0
    assert line in world.sealift("status").stdout, "docs2/ may be wrong as well"
    assert world.run("verify", "--deep", *places)["code"] == 0
    well = world.sealift("status")
    assert (well.code, WELL in well.stdout) == (0, True)


def test_status_keeps_bad_rows_that_a_backfill_of_another_prefix_did_not_look_at(world: World, tmp_path: Path) -> None:
    for key in ("docs/a", "drafts/b"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"another, and newer")
    rows = tmp_path / "rows.csv"
    rows.write_text(f"{world.source},docs/a\n{world.source},drafts/b\n")
    backfill = ["backfill", "--pair", "docs", "--policy", write_policy(world, tmp_path), "--manifest", str(rows)]
    assert world.sealift(*backfill).code == 3
    assert world.sealift(*backfill, "--prefix", "drafts/").code == 0
    assert "1 of 2 rows needs attention" in world.sealift("status").stdout
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/a")
    assert world.sealift(*backfill).code == 0
    assert WELL in world.sealift("status").stdout


def test_status_keeps_bad_rows_of_a_pair_until_its_next_night(world: World, tmp_path: Path) -> None:
    world.put("docs/a")
    policy = ["--policy", write_policy(world, tmp_path)]
    settle()
    night = ["nightly", "--pair", "docs", *policy, "--margin", "0s", "--json"]
    assert world.sealift(*night).code == 0
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"another, and newer")
    assert world.sealift("backfill", "--pair", "docs", *policy).code == 3
    status = world.sealift("status", *policy, "--json").document
    assert status["pairs"][0]["exit_code"] == 0
    assert any("-replicate-" in each["problem"] for each in status["problems"]), status["problems"]
    settle()  # the end of a night is known to the second
    again = world.sealift(*night, "--again").document
    assert again["left"] == 1
    document = world.sealift("status", *policy, "--json").document
    problems = [each["problem"] for each in document["problems"]]
    assert not any("-replicate-" in each for each in problems), problems
    assert any(each.startswith(f"pair docs, night of {again['night']}: 1 object needs attention") for each in problems)


def test_status_takes_the_retry_of_a_retry(world: World) -> None:
    for key in ("a", "b"):
        world.put(key)
        world.client.put_object(Bucket=world.destination, Key=key, Body=b"in the way")
    run_id = world.run("replicate")["run_id"]
    world.client.delete_object(Bucket=world.destination, Key="a")
    again = world.sealift("runs", "retry", run_id, "--json").document
    assert again["failures"] == 1
    world.client.delete_object(Bucket=world.destination, Key="b")
    assert world.sealift("runs", "retry", again["run_id"], "--json").code == 0
    well = world.sealift("status", "--json")
    assert (well.code, well.document["problems"]) == (0, [])


def test_a_pair_that_nobody_has_is_named_with_those_that_there_are(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path)
    nobody = world.sealift("runs", "list", "--pair", "dosc")
    assert (nobody.code, nobody.stdout, "SEALIFT_POLICY" in nobody.stderr) == (2, "", True), nobody.stderr
    by_policy = world.sealift("runs", "list", "--pair", "dosc", SEALIFT_POLICY=policy)
    assert (by_policy.code, by_policy.stdout) == (2, "")
    assert "--pair dosc: neither the policy nor a run" in by_policy.stderr
    assert "did you mean docs? the pairs are docs, logs" in by_policy.stderr
    none_yet = world.sealift("runs", "list", "--pair", "docs", SEALIFT_POLICY=policy)
    assert (none_yet.code, "no run matches in" in none_yet.stdout) == (0, True)
    world.put("docs/a")
    assert world.sealift("backfill", "--pair", "docs", "--policy", policy, "--yes").code == 0
    by_ledger = world.sealift("runs", "list", "--pair", "dosc", "--json")
    assert (by_ledger.code, by_ledger.document["error"]["code"]) == (2, "UsageError")
    assert "did you mean docs?" in by_ledger.document["error"]["message"]
    assert len(world.sealift("runs", "list", "--pair", "docs", "--json").document["runs"]) == 1
    other = world.sealift("runs", "list", "--pair", "docs", "--job", "verify")
    assert (other.code, "no run matches in" in other.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--state", "failed"], "'failed' is not one of"),  # which no run of a ledger is
        (["--job", "replicat"], "'replicat' is not one of"),
        (["--since", "2999-01-01"], "no run can have begun then"),
    ],
)
def test_a_filter_that_no_run_can_match_is_refused(world: World, words: list[str], says: str) -> None:
    refused = world.sealift("runs", "list", *words)
    assert (refused.code, refused.stdout, says in refused.stderr) == (2, "", True), refused.stderr


def test_status_says_what_needs_attention_until_it_is_repaired(world: World, tmp_path: Path) -> None:
    world.put("docs/a")
    clean = world.sealift("status", "--json")
    assert (clean.code, clean.document["problems"], clean.document["state"]) == (3, [], "not_known")
    found = world.run("verify")
    wrong = world.sealift("status")
    assert (wrong.code, f"run {found['run_id']}: 1 of 1 row needs attention" in wrong.stdout) == (3, True)
    assert world.sealift("runs", "retry", found["run_id"], "--json").code == 0
    well = world.sealift("status")
    assert (well.code, WELL in well.stdout) == (0, True)
    world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{found['run_id']}/spec.json", Body=b"{")
    assert "is unreadable" in world.sealift("status").stdout
    pairs = world.sealift("status", "--policy", write_policy(world, tmp_path), "--json")
    assert [each["night"] for each in pairs.document["pairs"]] == [None, None]
    problems = [each["problem"] for each in pairs.document["problems"]]
    assert "pair docs: no night has ended yet. Start one: sealift nightly --pair docs" in problems
