"""`runs dismiss`: a person says that nobody has to act on a run any more. Deletion believes none of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from jobs.runs.launch import HERE_ROWS
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_expire import DELETE, expire, keys, reasons
from tests.end_to_end.test_expire import fill as fill_for_expiry
from tests.end_to_end.test_expire import replicate as replicate_for_expiry
from tests.end_to_end.test_resume import await_copies
from tests.end_to_end.test_small_runs import fill, replicate
from tests.end_to_end.test_status import copied, night, status

REASON = ["--reason", "the bucket is gone, see ticket 12"]


def stop_halfway(world: World) -> str:
    """The id of a run that was cut short."""
    fill(world, HERE_ROWS)
    process = replicate(world, SEALIFT_IN_FLIGHT="1")
    await_copies(world, process, 5)
    process.send_signal(signal.SIGTERM)
    document = json.loads(process.communicate(timeout=60)[0])
    assert 0 < document["accounted"] < HERE_ROWS
    return str(document["run_id"])


def test_status_names_a_run_that_was_cut_short_no_more_until_it_goes_on(world: World) -> None:
    run_id = stop_halfway(world)
    assert f"run {run_id} is stopped" in world.sealift("status").stdout
    dismissed = world.sealift("runs", "dismiss", run_id, *REASON)
    assert dismissed.code == 0, dismissed.stderr
    assert "still counts for expire and for nights" in dismissed.stdout
    status = world.sealift("status")
    assert status.code == 0
    assert "Nothing wrong was found" in status.stdout.splitlines()[0]
    assert "1 run was dismissed by hand" in status.stdout.splitlines()[0]
    [line] = [each for each in status.stdout.splitlines() if run_id in each]
    assert line.startswith(f"  - run {run_id} is stopped")
    assert "dismissed by hand: the bucket is gone, see ticket 12 (" in line
    assert "!" not in line
    document = world.sealift("status", "--json").document
    assert (document["state"], document["problems"]) == ("well", [])
    assert [(each["run_id"], each["reason"]) for each in document["dismissed"]] == [(run_id, REASON[1])]
    assert all(document["dismissed"][0][name] for name in ("by", "at"))
    assert "  dismissed by hand: the bucket is gone, see ticket 12 (" in world.sealift("runs", "show", run_id).stdout
    planned = world.sealift("runs", "retry", run_id, "--dry-run")
    assert f"{run_id} was dismissed by hand: the bucket is gone, see ticket 12 (" in planned.stderr
    again = world.sealift("runs", "dismiss", run_id, "--reason", "another")
    assert (again.code, again.stdout) == (2, "")
    assert "is dismissed already: the bucket is gone" in again.stderr

    for number in range(3):
        world.client.put_object(Bucket=world.destination, Key=f"k{HERE_ROWS - 1 - number:05d}", Body=b"in the way")
    assert world.sealift("runs", "retry", run_id).code == 3
    after = world.sealift("status")
    assert (after.code, "! since" in after.stdout) == (3, True)
    assert f"run {run_id}: 3 of {HERE_ROWS} rows need attention" in after.stdout
    assert "dismissed by hand" not in world.sealift("runs", "show", run_id).stdout
    assert world.sealift("runs", "dismiss", run_id, *REASON).code == 0
    assert world.sealift("status").code == 0


def test_a_dismissed_finding_keeps_its_original_until_bytes_were_compared_again(world: World) -> None:
    names = fill_for_expiry(world, 2)
    run_id = replicate_for_expiry(world)
    right = world.client.get_object(Bucket=world.destination, Key=names[0])["Body"].read()
    world.client.put_object(Bucket=world.destination, Key=names[0], Body=b"wrong")
    found = world.run("verify", "--deep")
    assert found["outcomes"] == {"mismatched": 1, "verified": 1}
    assert world.sealift("runs", "dismiss", found["run_id"], *REASON).code == 0
    assert world.sealift("status").code == 0
    world.client.put_object(Bucket=world.destination, Key=names[0], Body=right)
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1, "kept": 1}
    assert keys(world) == names[:1]
    assert f"run {found['run_id']} disproved its copy" in reasons(report)
    assert "dismissed" not in reasons(report)


def test_what_nobody_has_to_act_on_or_nobody_can_read_is_not_dismissed(world: World) -> None:
    world.put("a")
    clean = world.run("replicate")["run_id"]
    nothing = world.sealift("runs", "dismiss", clean, *REASON)
    assert (nothing.code, "has nothing to dismiss" in nothing.stderr) == (2, True)
    failed = world.run("verify", "--destination", f"s3://{world.destination}/mistyped")["run_id"]
    for reason in (["--reason", " \n"], []):
        refused = world.sealift("runs", "dismiss", failed, *reason)
        assert (refused.code, "--reason" in refused.stderr) == (2, True)
    report = f"runs/runs/{failed}/report.json"
    body = world.client.get_object(Bucket=world.ledger, Key=report)["Body"].read()
    world.client.delete_object(Bucket=world.ledger, Key=report)
    unreported = world.sealift("runs", "dismiss", failed, *REASON)
    assert (unreported.code, f"sealift runs show {failed}" in unreported.stderr) == (2, True)
    world.client.put_object(Bucket=world.ledger, Key=report, Body=b"{")
    unreadable = world.sealift("runs", "dismiss", failed, *REASON)
    assert (unreadable.code, "report.json" in unreadable.stderr) == (10, True)
    world.client.put_object(Bucket=world.ledger, Key=report, Body=body)
    assert world.sealift("runs", "dismiss", failed, *REASON, "--json").document["dismissed"]["failures"] == 1
    assert world.sealift("status").code == 0


FORGED = '{"spec_version": 1, "reason": "r", "by": "b", "state": "complete", "accounted": 1, "failures": 1, "at": %s}'


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"spec_version": 1}',
        b'{"spec_version": 1, "state": "complete"}',
        *((FORGED % at).encode() for at in ("1e300", "-1e300", "NaN")),
    ],
)
def test_a_dismissal_that_was_altered_dismisses_nothing(world: World, body: bytes) -> None:
    world.put("a")
    failed = world.run("verify")["run_id"]
    world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{failed}/dismissed/000000.json", Body=body)
    status = world.sealift("status")
    assert (status.code, "! since" in status.stdout, failed in status.stdout) == (3, True, True)


def test_a_document_of_another_number_is_in_no_later_dismissal_s_way(world: World) -> None:
    """The next number was the count of names: it was there already, for ever."""
    world.put("a")
    failed = world.run("verify")["run_id"]
    for name in ("000001.json", "x.json"):
        world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{failed}/dismissed/{name}", Body=b"{}")
    assert world.sealift("runs", "dismiss", failed, "--reason", "mistyped").code == 0
    assert failed in world.sealift("status").stdout
    assert world.sealift("status").code == 0


def test_what_a_night_found_is_answered_by_nights_alone(world: World, tmp_path: Path) -> None:
    policy = write_policy(world, tmp_path)
    copied(world, "a", "b")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/b", Body=b"another, and newer")
    ended = night(world, policy)
    [compared] = [each["run_id"] for each in ended["stages"] if each["stage"] == "reconcile"]
    before = status(world, policy).document["problems"]
    refused = world.sealift("runs", "dismiss", compared, *REASON)
    assert (refused.code, refused.stdout) == (2, "")
    assert f"is of the night {ended['night']} of docs: only a later night answers what it found" in refused.stderr
    assert status(world, policy).document["problems"] == before


def test_a_run_whose_command_is_at_work_is_not_dismissed(world: World) -> None:
    fill(world, HERE_ROWS)
    process = replicate(world, SEALIFT_IN_FLIGHT="1")
    try:
        await_copies(world, process, 5)
        process.send_signal(signal.SIGSTOP)
        refused = world.sealift("runs", "dismiss", "latest", *REASON)
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert (refused.code, f"is at work (process {process.pid} on " in refused.stderr) == (2, True)
