"""`runs retry --dry-run`: which rows a retry would try again, and what that takes. It starts nothing."""

from __future__ import annotations

import json
import signal

from jobs.ledger.ledger import Checkpoint
from jobs.runs.launch import HERE_ROWS
from jobs.tables.rows import read_outcomes, write_outcomes
from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import names, read, write
from tests.end_to_end.test_resume import await_copies
from tests.end_to_end.test_small_runs import fill, replicate


def everything(world: World) -> list[tuple[str, str]]:
    """All objects of the ledger and the destination, by name and ETag."""
    buckets = (world.ledger, world.destination)
    listed = [world.client.list_objects_v2(Bucket=bucket).get("Contents", ()) for bucket in buckets]
    return [(each["Key"], each["ETag"]) for objects in listed for each in objects]


def test_it_counts_the_failed_rows_names_the_first_and_prices_them(world: World) -> None:
    for number in range(8):
        world.put(f"k{number}")
    for number in range(6):
        world.client.put_object(Bucket=world.destination, Key=f"k{number}", Body=b"in the way")
    run_id = world.run("replicate")["run_id"]
    before = everything(world)
    dry = world.sealift("runs", "retry", run_id, "--dry-run")
    assert (dry.code, everything(world)) == (0, before), dry.stderr
    assert f"Dry run: a retry of {run_id} would try 6 rows again. Nothing was started.\n" in dry.stdout
    assert "6 × changed: k0, k1, k2, k3, k4, … and 1 more" in dry.stdout
    assert "requests  6 copy" in dry.stdout
    assert "cost      under $0.0001" in dry.stdout
    planned = world.sealift("runs", "retry", run_id, "--dry-run", "--json").document
    assert (planned["retry_of"], planned["rows"], planned["dry_run"]) == (run_id, 6, True)
    assert planned["retried"] == {
        "rows": 6,
        "outcomes": {"changed": 6},
        "first_keys": {"changed": ["k0", "k1", "k2", "k3", "k4"]},
    }


def test_a_run_that_stopped_shows_the_rows_that_are_left_and_stays_where_it_is(world: World) -> None:
    fill(world, HERE_ROWS)
    process = replicate(world, SEALIFT_IN_FLIGHT="1")
    await_copies(world, process, 5)
    process.send_signal(signal.SIGTERM)
    stopped = json.loads(process.communicate(timeout=60)[0])
    left = HERE_ROWS - stopped["accounted"]
    assert 0 < left < HERE_ROWS
    before = everything(world)
    dry = world.sealift("runs", "retry", stopped["run_id"], "--dry-run")
    assert (dry.code, everything(world)) == (0, before), dry.stderr
    assert f"a retry of {stopped['run_id']} would try {left} rows again" in dry.stdout
    assert f"{left} × without an outcome: k{stopped['accounted']:05d}, " in dry.stdout
    assert f"requests  about {left} copy" in dry.stdout
    assert "cost      under $0.0001 by us-east-1" in dry.stdout or "cost      $0.0" in dry.stdout
    page = world.sealift("runs", "show", stopped["run_id"], "--html", "page.html")
    assert (page.code, f"continue it with: sealift runs retry {stopped['run_id']}" in page.stderr) == (10, True)
    assert "may be at work" not in dry.stdout
    document = world.sealift("runs", "retry", stopped["run_id"], "--dry-run", "--json").document
    assert (document["rows"], document["requests"]["copy"]) == (left, left)
    assert world.sealift("runs", "retry", stopped["run_id"], "--json").document["outcomes"] == {"copied": HERE_ROWS}


def test_rows_that_two_attempts_did_are_not_counted_for_rows_that_nobody_did(world: World) -> None:
    """An attempt that was late wrote its checkpoint after all: `status` said that every row is done."""
    for key in "abcd":
        world.put(key)
    run_id = world.run("replicate")["run_id"]
    folder = f"runs/{run_id}/"
    [whole] = names(world, f"{folder}outcomes/")
    outcomes = sorted(read_outcomes(read(world, whole)))
    half, rest = outcomes[:2], outcomes[2:]
    for name in names(world, folder):
        if "/outcomes/" in name or "/report." in name:
            world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    for attempt in ("0000000000001aaaaaa", "0000000000002bbbbbb"):
        checkpoint = Checkpoint(0, attempt, 0, 2, 0, 14)
        rows = write_outcomes([each._replace(attempt=attempt) for each in half])
        write(world, f"{folder}outcomes/00000/{checkpoint.name}", rows)
    dry = world.sealift("runs", "retry", run_id, "--dry-run")
    assert f"2 × without an outcome: {', '.join(each.key for each in rest)}\n" in dry.stdout
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    assert (run["state"], run["accounted"]) == ("stopped", 2)
    assert f"is stopped: sealift runs retry {run_id}" in world.sealift("status").stdout
    assert world.sealift("runs", "retry", run_id, "--json").document["outcomes"] == {"copied": 2, "same": 2}


def test_it_refuses_and_calms_as_the_retry_would(world: World) -> None:
    world.put("a")
    run_id = world.run("replicate")["run_id"]
    clean = world.sealift("runs", "retry", run_id, "--dry-run")
    assert (clean.code, "Nothing to retry" in clean.stdout) == (0, True)
    world.client.delete_object(Bucket=world.ledger, Key=f"runs/runs/{run_id}/report.json")
    unreported = world.sealift("runs", "retry", run_id, "--dry-run")
    assert "A retry only makes its report" in unreported.stdout
    world.client.delete_object(Bucket=world.destination, Key="a")
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    compared = world.sealift("reconcile", *places, "--margin", "0s", "--json").document
    assert compared["findings"] == 1
    refused = world.sealift("runs", "retry", compared["run_id"], "--dry-run")
    assert (refused.code, refused.stdout, "only compared" in refused.stderr) == (2, "", True)
