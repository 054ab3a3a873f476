"""Messages of the command line: each names the thing, says what is wrong, and what to do."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from jobs.cli import cli, run
from tests.cli.command_tree import COMMANDS

PLACES = ["--source", "s3://docs", "--destination", "s3://copies"]


def message(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """What the command says on stderr when it ends with this code."""
    assert run(list(arguments)) == code
    return capsys.readouterr().err


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
    ("command", "option", "value"),
    [
        ("replicate", "--source", "/tmp/l"),
        ("compact", "--max-size", "10XB"),
        ("replicate", "--newer-than", "yesterday"),
        ("replicate", "--max-rate", "fast"),
        ("reconcile", "--margin", "5"),
        ("nightly", "--margin", "5"),
        ("expire", "--grace", "5"),
    ],
)
def test_an_invalid_value_is_refused_by_the_name_of_its_option(
    capsys: pytest.CaptureFixture[str], command: str, option: str, value: str
) -> None:
    required = ["--pair", "docs"] if command == "nightly" else []
    text = message(capsys, command, *required, option, value)
    assert text.startswith(f"sealift: {option}: '{value}' ")


def test_two_prefixes_of_one_bucket_are_refused_before_anything_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "reconcile", "--source", "s3://docs/a/", "--destination", "s3://docs/b/")
    assert "both in the bucket docs" in text
    assert "sealift verify --source s3://docs/a/ --destination s3://docs/b/" in text


def test_a_missing_profile_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "archives", "reindex", "--source", "s3://cold", "--source-profile", "zz", code=10)
    assert "zz" in text
    assert "--source-profile" in text


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://nohost.invalid"])
def test_a_server_that_does_not_answer_is_an_endpoint_to_check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    text = message(capsys, "runs", "list", code=75)
    assert "AWS_ENDPOINT_URL" in text
    assert "run the same command again" in text


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_of_a_manifest_is_called_one(capsys: pytest.CaptureFixture[str], tmp_path: Path, zipped: bool) -> None:
    from jobs.errors import ManifestError
    from jobs.manifests import _read_csv

    file, data = tmp_path / ("m.csv.gz" if zipped else "m.csv"), b"bucket,key\na,k\n"
    file.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(ManifestError, match=r"line 1 looks like a header \(bucket,key\): remove it"):
        list(_read_csv(str(file), file, None))


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
    answer = capsys.readouterr()
    text = answer.out + answer.err
    assert [each for each in says if each not in text] == [], text


def test_a_slice_of_all_has_its_turn_each_night(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    example = (Path(__file__).resolve().parents[2] / "policy.example.yaml").read_text()
    file.write_text(re.sub(r"rota: 1/\d+", "rota: 1/1", example))
    assert run(["policy", "explain", "s3://example-scans/scans/1Z.jpg", "--policy", str(file)]) == 0
    text = capsys.readouterr().out
    assert ("by checksums each night" in text, "1 nights" in text) == (True, False)


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_a_replica_is_the_twin_that_s3_makes_and_no_bucket_of_an_example(path: str) -> None:
    assert "s3://replica" not in (COMMANDS[path].help or "")
    assert "s3://replica" not in (cli.help or "")
