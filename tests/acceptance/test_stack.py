"""The system in AWS, whose programs are played: made, tried, and destroyed however the start ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import boto3
import pytest
from moto import mock_aws

from tests.acceptance import __main__ as kit
from tests.acceptance import cost, stack
from tests.acceptance.programs import DIGEST, install
from tests.acceptance.script import Step
from tests.acceptance.stack import Tools, new_stack
from tests.doubles.batch.account import await_value
from tests.terraform.conftest import applied
from tests.terraform.world import MODULE

BASE = f"python@{DIGEST}"


class Machine:
    """Where a start finds the programs, and its folder."""

    def __init__(self, folder: Path):
        self.programs, self.folder = folder / "programs", folder / "acceptance"
        self.paths = install(self.programs)
        self.arguments = ["--folder", str(self.folder), "--base", BASE, "--yes"]
        for name, option in (("terraform", "--terraform"), ("podman", "--engine"), ("make", "--make")):
            self.arguments += [option, self.paths[name]]

    @property
    def tools(self) -> Tools:
        return Tools(self.paths["terraform"], self.paths["podman"], self.paths["make"], BASE)

    def calls(self, verb: str = "") -> list[str]:
        file = self.programs / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if f" {verb}" in line]

    def say(self, word: str) -> Path:
        file = self.programs / word
        file.touch()
        return file

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("sealift-*"))

    def start(self) -> subprocess.Popen[str]:
        """Another process, as `make acceptance` starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.played_account", *self.arguments],
            cwd=MODULE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture(autouse=True)
def account(monkeypatch):
    """An account of moto's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(kit, "STEPS", (Step("same", "…", lambda _: {"a": 1}, {"a": 1}, minutes=60),))
    with mock_aws():
        yield


def test_it_is_made_tried_reported_and_destroyed(machine, capsys):
    assert kit.main(machine.arguments) == 0
    text = capsys.readouterr().out
    assert text.index("It costs at most") < text.index("── make") < text.index("── destroy")
    verbs = [line.split()[2] if "-chdir" in line else line.split()[1] for line in machine.calls()]
    first = ["init", "apply", "lambda", "output", "login", "image", "image-push"]
    assert verbs == [*first, "init", "apply", "output", "plan", "show", "show", "destroy", "destroy"]
    assert machine.folders() == []
    [report] = machine.folder.glob("report-*.json")
    assert json.loads(report.read_text())["counts"]["same"] == 2


@pytest.mark.parametrize(
    ("word", "code", "says"), [("drift", 3, "✗ second plan: different"), ("broken", 10, "It ended early: `")]
)
def test_a_start_that_goes_wrong_destroys_and_says_why(machine, capsys, word, code, says):
    machine.say(word)
    assert kit.main(machine.arguments) == code
    assert says in capsys.readouterr().out
    assert machine.folders() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_destroys_what_it_has_made(machine, number):
    """However often somebody wants it to end."""
    machine.say("hold")
    process = machine.start()
    await_value((machine.programs / "holding").exists)
    for _ in range(3):
        process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert f"It ended early: {number.name}" in said
    assert "reconcile: not tried" in said
    assert machine.calls("destroy")
    assert machine.folders() == []


@pytest.mark.slow
def test_a_second_start_destroys_what_a_killed_one_left(machine, capsys):
    hold = machine.say("hold")
    process = machine.start()
    await_value((machine.programs / "holding").exists)
    process.kill()
    process.communicate()
    hold.unlink()
    [left] = machine.folders()
    assert kit.main(machine.arguments) == 0
    text = capsys.readouterr().out
    assert f"{left} is left of an earlier start: it is destroyed first." in text
    assert text.index(f"── destroy {left}") < text.index("── make")
    assert len(machine.calls("destroy")) == 4  # of each the system, and then the repository
    assert machine.folders() == []


def test_what_cannot_be_destroyed_is_said_and_destroyed_by_the_next_start(machine, capsys):
    stuck = machine.say("stuck")
    assert kit.main(machine.arguments) == 10
    text = capsys.readouterr().out
    [left] = machine.folders()
    assert f"{left} is NOT destroyed" in text
    assert len(machine.calls("destroy")) == stack.ROUNDS
    stuck.unlink()
    assert kit.main(["--destroy", *machine.arguments]) == 0
    assert machine.folders() == []
    assert len(machine.calls("apply")) == 2, "nothing was made again"


def test_nothing_is_made_before_somebody_agrees(machine, capsys):
    arguments = [each for each in machine.arguments if each != "--yes"]
    with mock.patch("builtins.input", return_value="n"):
        assert kit.main(arguments) == 2
    assert "It costs at most" in capsys.readouterr().out
    assert sum(cost.estimate(10, cost.price_table()).values()) < 5
    assert machine.calls() == []


@pytest.mark.slow
def test_what_is_priced_by_the_hour_is_in_the_plan_and_can_be_destroyed(tmp_path_factory):
    root = MODULE / "examples" / "acceptance"
    _, state = applied(tmp_path_factory, "called-acceptance", None, root=root)
    endpoints = [each for each in state.all_values("aws_vpc_endpoint") if each["vpc_endpoint_type"] == "Interface"]
    assert sum(len(each["subnet_ids"]) for each in endpoints) == cost.INTERFACE_ENDPOINTS
    assert len(list(state.all_values("aws_cloudwatch_metric_alarm"))) <= cost.ALARMS
    assert len(list(state.all_values("aws_kms_key"))) == cost.KEYS
    assert all(values["force_destroy"] for values in state.all("aws_s3_bucket", "mine").values())
    assert all(values["bucket"].startswith(stack.NAME) for values in state.all_values("aws_s3_bucket"))
    assert not list(state.all_values("aws_s3_bucket_object_lock_configuration"))


def test_only_buckets_of_this_name_are_emptied(machine):
    made = new_stack(machine.folder, machine.tools)
    client = boto3.client("s3", region_name="us-east-1")
    for bucket in (f"{made.name}-hot", "somebody-elses"):
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        client.put_object(Bucket=bucket, Key="k", Body=b"1")
        client.put_object(Bucket=bucket, Key="k", Body=b"2")
        client.delete_object(Bucket=bucket, Key="k")
    resources = [
        {"type": "aws_s3_bucket", "mode": "managed", "values": {"bucket": bucket, "region": "us-east-1"}}
        for bucket in (f"{made.name}-hot", "somebody-elses", f"{made.name}-gone")
    ]
    stack._empty(resources, made.name)
    counts = {
        bucket: len(client.list_object_versions(Bucket=bucket).get("Versions", []))
        for bucket in (f"{made.name}-hot", "somebody-elses")
    }
    assert counts == {f"{made.name}-hot": 0, "somebody-elses": 2}
    assert not client.list_object_versions(Bucket=f"{made.name}-hot").get("DeleteMarkers")
