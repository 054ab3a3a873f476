"""`sealift policy bind`, as a person calls it after terraform apply."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

ENVIRONMENT = {
    "SEALIFT_LEDGER": "s3://example-ledger/sealift",
    "SEALIFT_POLICY": "s3://example-ledger/sealift/policy.yaml",
    "SEALIFT_EXECUTOR": "batch",
    "SEALIFT_BATCH_QUEUE": "parcels",
    "SEALIFT_BATCH_JOB_DEFINITION": "parcels-replicate",
    "AWS_REGION": "eu-central-1",
}


def sealift(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", "policy", "bind", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=given, check=False)


def outputs(environment=ENVIRONMENT):
    kept = {"sensitive": False, "type": ["map", "string"]}
    return json.dumps({"environment": kept | {"value": environment}, "topic": kept | {"value": "arn:aws:sns:x:1:t"}})


def test_a_shell_reads_what_it_prints(tmp_path):
    odd = ENVIRONMENT | {"SEALIFT_LEDGER": "s3://example-ledger/with space/$HOME/it's"}
    (tmp_path / "outputs.json").write_text(outputs(odd))
    done = sealift("--terraform-output", str(tmp_path / "outputs.json"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "sealift.env").write_text(done.stdout)
    shell = "set -a; . ./sealift.env; exec env -0"
    bare = {"PATH": os.environ["PATH"]}
    found = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=bare, capture_output=True, text=True, check=True)
    read = dict(line.split("=", 1) for line in found.stdout.split("\0") if line)
    assert {name: read.get(name) for name in odd} == odd


def test_stdin_and_json():
    done = sealift("--terraform-output", "-", "--json", given=outputs())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ENVIRONMENT


@pytest.mark.parametrize(
    "given", ["", "{", "[]", "{}", '{"environment": 1}', '{"environment": {"value": {"SEALIFT_LEDGER": 1}}}']
)
def test_what_is_no_output_is_refused(given):
    done = sealift("--terraform-output", "-", given=given)
    assert done.returncode == 10
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "terraform output -json" in done.stderr


@pytest.mark.parametrize("name", ["A;touch pwned;B", "SEALIFT_A\nB", "PATH", "SEALIFT_", ""])
def test_a_name_that_is_no_variable_of_sealift_reaches_no_shell(name: str) -> None:
    done = sealift("--terraform-output", "-", given=outputs(ENVIRONMENT | {name: "1"}))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (10, "", 1)
    assert "expected SEALIFT_" in done.stderr


def test_a_file_that_is_not_there():
    done = sealift("--terraform-output", "no/such/file.json")
    assert done.returncode == 2
    assert "no/such/file.json" in done.stderr
