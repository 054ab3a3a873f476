"""`sealift runs`: everything from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, discard, make_world


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
    for command in ("report", "watch"):
        result = world.sealift("runs", command, second["run_id"], "--json")
        assert result.code == 0
        assert result.document == {name: value for name, value in second.items() if name != "code"}


def test_text_for_people_names_the_run_and_what_to_do(world: World) -> None:
    world.put("a")
    report = world.run("verify")
    assert report["outcomes"] == {"missing": 1}
    shown = world.sealift("runs", "report", report["run_id"])
    assert shown.code == 3
    assert "1 of 1 rows need attention: 1 missing" in shown.stdout
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
    assert "reconcile --repair" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def compared(seaweed: Server) -> Iterator[tuple[World, str]]:
    """A reconcile run that found one copy missing."""
    world = make_world(seaweed, versioned=False)
    world.put("a")
    pair = ("--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
    yield world, world.sealift("reconcile", *pair, "--margin", "0s", "--json").document["run_id"]
    discard(world)
