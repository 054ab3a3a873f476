"""`sealift policy`, as a person or an editor calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from jobs.policy.reader import parse_policy, read_policy
from tests.end_to_end.conftest import Result

EXAMPLE = Path(__file__).resolve().parents[2] / "policy.example.yaml"


def sealift(*arguments: str, **extra: str) -> Result:
    command = [sys.executable, "-m", "jobs", "policy", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALIFT_")} | extra
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    text = EXAMPLE.read_text().replace("name: customs", "name: scans").replace("rota: 1/7", "rota: weekly")
    file.write_text(text.replace("bucket: example-tracking", "bucket: Tracking"))
    return file


def test_check_tells_what_is_protected():
    result = sealift("check", str(EXAMPLE))
    assert result.code == 0, result.stderr
    assert result.stdout.startswith(f"{EXAMPLE}: right\n")
    assert "customs: s3://example-customs-us/ → s3://example-customs-copies/ (across regions, 22:30" in result.stdout


def test_check_tells_every_mistake(broken):
    result = sealift("check", str(broken))
    assert result.code == 10
    assert result.stdout.startswith(f"{broken}: 2 mistakes\n")
    assert "pairs[1].verify.rota (pair scans, line " in result.stdout
    assert "pairs[2].source.bucket (pair tracking, line " in result.stdout


def test_check_warns_of_alarms_to_nobody_and_of_a_night_that_clocks_jump_over(tmp_path: Path):
    file = tmp_path / "policy.yaml"
    text = EXAMPLE.read_text().replace('hour: "03:30"', 'hour: "02:30"')
    file.write_text(text.replace("emails: [storage-oncall@example.com]", "emails: []"))
    result = sealift("check", str(file))
    assert result.code == 0
    assert (
        "  warning: pair scans: nightly.hour 02:30: expected a time that every day has: Europe/Berlin" in result.stdout
    )
    assert "  warning: alarms.emails []: expected an address" in result.stdout
    assert "pair customs: nightly" not in result.stdout
    assert len(sealift("check", str(file), "--json").document["warnings"]) == 3


def test_check_in_json(broken):
    wrong = sealift("check", str(broken), "--json")
    assert wrong.code == 10
    assert wrong.document["valid"] is False
    mistake = wrong.document["mistakes"][0]
    lines = broken.read_text().splitlines()
    assert mistake["path"] == "pairs[1].verify.rota"
    assert (mistake["value"], mistake["pair"], mistake["expected"]) == ('"weekly"', "scans", "1/N such as 1/30")
    assert lines[mistake["line"] - 1].strip() == "rota: weekly"


def test_check_shows_the_whole_policy_and_it_reads_back():
    document = sealift("check", "--json", SEALIFT_POLICY=str(EXAMPLE)).document
    assert document["valid"] is True
    tracking = document["policy"]["pairs"][2]
    assert tracking["thresholds"] == {"lambda_max_size": "64 MiB", "backlog_rows": 10000, "backlog_age": "1h"}
    assert parse_policy(json.dumps(document["policy"]).encode(), "again") == read_policy(str(EXAMPLE))


def test_explain_says_where_the_copy_goes_and_why():
    given = ("--policy", str(EXAMPLE), "--size", "40KiB", "--age", "500d", "--tag", "claim=none")
    document = sealift("explain", "s3://example-scans/scans/2026/1Z é+.jpg", *given, "--json").document
    assert document["pair"] == "scans"
    assert document["copy"] == "s3://example-hot-fra/delivery/scans/2026/1Z é+.jpg"
    assert document["replica"] == "s3://example-hot-dub/delivery/scans/2026/1Z é+.jpg"
    assert document["archive_rule"] == "settled-scans"
    assert document["is_for_lambda"] is True
    text = sealift("explain", "s3://example-scans/scans/2026/1Z.jpg", *given).stdout
    assert "settled-scans applies: the key begins with 'scans/'; 500d is older than 400d; 40 KiB is smaller" in text
    assert "signatures does not apply: the key does not begin with 'signatures/'" in text


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9324"}, "  copied      at once up to "),
        ({}, "  copied      by a Lambda up to "),
        ({"AWS_ENDPOINT_URL": "https://s3.example.com"}, "  copied      by a Lambda up to "),
    ],
)
def test_explain_names_no_service_that_is_not_there(monkeypatch, environment, words):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = sealift("explain", "s3://example-scans/scans/2026/1Z.jpg", "--policy", str(EXAMPLE)).stdout
    assert words in text
    assert ("Batch" in text) == ("Lambda" in text)


def test_explain_foresees_a_copy_whose_key_is_too_long():
    """S3 refused each copy, and nobody had said so before."""
    for length, is_possible in ((1024 - len("delivery/"), True), (1025 - len("delivery/"), False)):
        uri = "s3://example-scans/scans/" + "é" * ((length - 6) // 2) + "x" * (length % 2)
        result = sealift("explain", uri, "--policy", str(EXAMPLE), "--json")
        assert (result.code == 0, result.document["copy_problem"] is None) == (is_possible, is_possible)
    assert "1,025 bytes" in sealift("explain", uri, "--policy", str(EXAMPLE)).stdout


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://example-scans/scans/incoming/a", "the pair scans leaves out keys that begin with 'scans/incoming/'"),
        ("s3://example-scans/other", "only keys of this bucket that begin with 'scans/', 'signatures/'"),
        ("s3://example-hot-fra/a", "the bucket is the destination of the pair scans"),
        ("s3://elsewhere/a", "no pair has this bucket"),
    ],
)
def test_explain_says_why_nobody_protects_an_object(uri, reason):
    result = sealift("explain", uri, "--policy", str(EXAMPLE))
    assert result.code == 3
    assert f"not protected: {reason}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "big"), "--size 'big': expected a size such as 100 MiB"),
        (("--age", "old"), "--age 'old': expected a duration such as 30d"),
        (("--tag", "claim"), "--tag 'claim': write NAME=VALUE"),
        (("--tag", "a=1", "--tag", "a=2"), "--tag a: it has two values, '1' and '2'; give one"),
    ],
)
def test_explain_refuses_what_it_cannot_read(arguments, message):
    result = sealift("explain", "s3://example-scans/scans/a", "--policy", str(EXAMPLE), *arguments)
    assert result.code == 2
    assert message in result.stderr


def test_a_broken_policy_stops_explain_with_all_mistakes(broken):
    result = sealift("explain", "s3://example-scans/scans/a", "--policy", str(broken))
    assert result.code == 10
    assert result.stdout == ""
    assert "pairs[1].verify.rota" in result.stderr
    assert "pairs[2].source.bucket" in result.stderr


def test_without_a_policy_it_says_how_to_name_one():
    result = sealift("check")
    assert result.code == 2
    assert "SEALIFT_POLICY" in result.stderr


def test_the_schema_is_for_editors():
    schema = json.loads(sealift("schema").stdout)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(EXAMPLE.read_text()))
    assert schema["$defs"]["Verification"]["properties"]["rota"]["default"] == "1/30"


def test_a_policy_is_read_from_s3(world):
    world.client.put_object(Bucket=world.ledger, Key="policy.yaml", Body=EXAMPLE.read_bytes())
    result = world.sealift("policy", "check", SEALIFT_POLICY=f"s3://{world.ledger}/policy.yaml")
    assert result.code == 0, result.stderr
    assert "right" in result.stdout
    missing = world.sealift("policy", "check", f"s3://{world.ledger}/none.yaml")
    assert missing.code == 10
    assert "not there" in missing.stdout
    world.client.delete_object(Bucket=world.ledger, Key="policy.yaml")
