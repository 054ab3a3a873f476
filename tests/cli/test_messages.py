"""Mistakes at the command line: the exit code, one line that names the thing and says what to do, nothing on stdout."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.cli import run
from tests.cli.command_tree import COMMANDS

SIDES = "--source s3://aaa --destination s3://bbb"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger and credentials, and an endpoint where nothing listens."""
    for name, value in {
        "SEALIFT_LEDGER": "s3://ledger/runs",
        "SEALIFT_POLICY": "",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "us-east-1",
        "SEALIFT_TUNING": "patience_seconds=0.1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("replcate", 2, "replicate"),
        ("runs lits", 2, "list"),
        ("replicate --sorce s3://a", 2, "--source"),
        ("runs retry", 2, "RUN"),
        ("nightly", 2, "--pair"),
        ("inventory s3://aaa", 2, "--destination"),
        ("replicate s3://aaa s3://bbb", 2, "s3://aaa"),
        ("verify --destination s3://aaa", 2, "--source"),
        ("verify --source s3://aaa", 2, "--destination"),
        (f"verify {SIDES} --sample 4/3", 2, "1/30"),
        ("verify --archives s3://aaa --deep", 2, "--deep"),
        ("replicate --source bucket/prefix --destination s3://bbb", 2, "--source s3://bucket/prefix"),
        ("replicate --source s3://Bad_Bucket!/x --destination s3://bbb", 2, "Bad_Bucket"),
        (f"replicate {SIDES} --ledger", 2, "--ledger"),
        (f"compact {SIDES} --max-size bananas", 2, "--max-size bananas"),
        (f"replicate {SIDES} --newer-than yesterdayish", 2, "--newer-than 30d"),
        (f"replicate {SIDES} --storage-class STANDARD-IA", 2, "STANDARD_IA"),
        (f"replicate {SIDES}", 75, "s3:// AWS_ENDPOINT_URL"),
        (f"reconcile {SIDES} --margin soon", 2, "--margin age"),
        (f"reconcile {SIDES} --repair-different", 2, "--repair"),
        (f"reconcile {SIDES} --repair", 2, "--yes"),
        ("reconcile --source s3://docs/a/ --destination s3://docs/b/", 2, "docs verify"),
        ("compact --source s3://aaa", 2, "--destination"),
        ("restore --destination s3://aaa --key k", 2, "nothing to restore from"),
        ("restore --destination s3://aaa --archives s3://bbb", 2, "restore what?"),
        ("policy check", 2, "SEALIFT_POLICY"),
        ("expire", 2, "--destination"),
        (f"expire {SIDES} --max-share half", 2, "percentage"),
        (f"expire {SIDES} --replace", 2, "--declare"),
        (f"expire {SIDES} --declare --yes-delete", 2, "commands of their own"),
        (f"expire {SIDES} --manifest run:latest", 2, "no run's word"),
        ("runs show ../archives", 2, "../archives"),
        ("archives reindex --source s3://cold --source-profile zz", 10, "zz --source-profile"),
        (f"replicate {SIDES} --source-endpoint http://harbour:s3/cret@127.0.0.1:9", 10, "http://***@127.0.0.1:9"),
        ("replicate --max-cost 0", 2, "--max-cost"),
        ("replicate --max-rate 0", 2, "--max-rate"),
        (f"replicate {SIDES} --max-rate 5 --max-rate 9", 2, "--max-rate twice"),
        ("reconcile --max-objects 0", 2, "--max-objects"),
        ("runs list --limit 0", 2, "--limit"),
        ("restore --source s3://docs --as-of 2999-01-01 --destination s3://back", 2, "--as-of is in the future"),
        ("rollback --source s3://docs", 2, "back to when?"),
        ("rollback --source s3://docs --as-of 1d --undo 20261201T004105Z-rollback-9b02", 2, "back to when?"),
        ("rollback --source s3://docs --as-of 2999-01-01", 2, "--as-of is in the future"),
        ("rollback --as-of 1d", 2, "--source"),
        ("runs retry ''", 2, "RUN"),
        ("expire --undo ''", 2, "--undo"),
        ("query SELECT --run ''", 2, "--run"),
        ("replicate --manifest ''", 2, "--manifest"),
        ("worker ''", 2, "RUN"),
        ("local --policy nowhere.yaml", 10, "nowhere.yaml"),
        ("local --policy ''", 2, "--policy"),
        ("local --policy s3://ledger/policy.yaml", 2, "s3://ledger/policy.yaml"),
        ("local --data /proc/nothing", 10, "--data /proc/nothing"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], line: str, code: int, words: str
) -> None:
    assert run(shlex.split(line)) == code
    answer = capsys.readouterr()
    said = answer.err.removeprefix("Starting …\n")
    assert (answer.out, said.count("\n"), said.startswith("sealift: ")) == ("", 1, True), said
    assert [word for word in words.split(" ") if word not in said] == [], said
    assert "cret" not in said.replace("secret", "")


def test_a_rollback_to_a_time_within_a_day_that_has_not_passed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    soon = datetime.now(UTC) + timedelta(hours=2)  # what the clock shows two zones to the east
    assert run(["rollback", "--source", "s3://docs", "--as-of", soon.isoformat()]) == 2
    assert "--as-of is in the future" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_an_error_of_any_verb_is_one_document(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert run([*path.split(), "--no-such-option", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error.keys() == {"code", "message", "advice", "exit_code"}
    assert (error["exit_code"], error["code"]) == (2, "UsageError")


@pytest.mark.parametrize("words", [[], ["runs"]])
def test_without_a_verb_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert run(words) == 2
    shown = capsys.readouterr()
    assert run([*words, "--help"]) == 0
    assert (shown.out, shown.err.strip()) == ("", capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("", ["the file: is empty"]),
        ("a: [1,", ["line 1", "close each bracket"]),
        ("versoin: 1", ["version (line 1): missing: write 1", "versoin (line 1): ", "did you mean version?"]),
        ("version: 2", ["version (line 1): 2: expected 1, ", "ledger (line 1): missing", "pairs (line 1): missing"]),
    ],
)
def test_every_mistake_of_a_policy_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, policy: str, says: list[str]
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    assert run(["policy", "check", str(file)]) == 10
    text = capsys.readouterr().out
    assert [each for each in says if each not in text] == [], text
