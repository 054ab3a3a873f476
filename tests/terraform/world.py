"""The module applied for a policy file, by the offline Terraform that lies beside the repository in CI.

Where it is not there these tests are left out and say so; `terraform test` in terraform/ needs a registry instead.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.doubles.policies import resolved

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = ROOT / "terraform"
TERRAFORM = ROOT.parent / "shared" / "tools" / "terraform" / "tf"
SETTINGS = MODULE / "tests" / "ci.tfvars"


def written(folder: Path, policy: Mapping[str, Any] | str) -> str:
    """policy.json of a policy, which is written as policy.yaml into the folder."""
    text = policy if isinstance(policy, str) else yaml.safe_dump(dict(policy))
    (folder / "policy.yaml").write_text(text)
    path = folder / "policy.json"
    path.write_bytes(resolved(text.encode()))
    return str(path)


def example() -> str:
    """The text of policy.example.yaml."""
    return (ROOT / "policy.example.yaml").read_text()


def module_call(folder: Path) -> str:
    """The source, the image and the package of a call of the module, in a root that lies in `folder`."""
    return f"""
      source        = "{os.path.relpath(MODULE, folder)}"
      image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/backup@sha256:{"0" * 64}"
      lambda_object = {{ bucket = "example-packages", key = "sealift/lambda-arm64.zip", version = "1" }}
    """


@dataclass(frozen=True)
class Terraform:
    """Terraform with a working folder of its own: nothing is written into the repository.

    `root` is the folder of the root module: the module itself, or one that calls it. `provider_region` is
    what the environment says for a provider without a region, None if it says nothing.
    """

    work: Path
    root: Path = MODULE
    provider_region: str | None = None

    def init(self) -> None:
        done = self.run("init", "-backend=false", "-input=false")
        assert done.returncode == 0, done.stdout + done.stderr

    def plan(self, policy_file: str) -> tuple[int, str]:
        """(exit code, everything that was said, on one line)."""
        done = self.run("plan", "-no-color", "-input=false", f"-var-file={SETTINGS}", f"-var=policy_file={policy_file}")
        return done.returncode, " ".join(re.sub(r"[│╷╵]", " ", done.stdout + done.stderr).split())

    def apply(self, policy_file: str, *variables: str) -> State:
        """Apply it; `variables` as `name=value`, in Terraform's syntax."""
        settings = [f"-var-file={SETTINGS}", f"-var=policy_file={policy_file}"]
        return self.apply_root(*settings, *(f"-var={each}" for each in variables))

    def apply_root(self, *options: str) -> State:
        """Apply a root module that takes its settings from `options` alone."""
        done = self.run("apply", "-no-color", "-auto-approve", "-input=false", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = self.run("show", "-json")
        assert shown.returncode == 0, shown.stderr
        values = json.loads(shown.stdout)["values"]
        return State(list(_resources(values["root_module"])), values["outputs"])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(TERRAFORM), f"-chdir={self.root}", *arguments]
        environment = {
            "TF_OFFLINE_WORK": str(self.work),
            "TF_DATA_DIR": str(self.work / "data"),
            "TF_IN_AUTOMATION": "1",
        }
        if self.provider_region is not None:
            environment["AWS_REGION"] = self.provider_region
        return subprocess.run(
            command, env=os.environ | environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )


def _resources(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _resources(child)


@dataclass(frozen=True)
class State:
    """What was made."""

    resources: Sequence[dict[str, Any]]
    outputs: dict[str, Any]

    def all(self, kind: str, name: str | None = None) -> dict[str, dict[str, Any]]:
        """for_each key (or the name) → values, of the resources of a type."""
        return {
            str(each.get("index", each["name"])): each["values"]
            for each in self.resources
            if each["mode"] == "managed" and each["type"] == kind and name in (None, each["name"])
        }

    def output(self, name: str) -> Any:
        return self.outputs[name]["value"]

    def policies(self, kind: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each policy of a kind of resource: its values and its statements."""
        made = (values for values in self.all_values(kind) if values["policy"])
        return ((values, json.loads(values["policy"])["Statement"]) for values in made)

    def statements(self, role: str) -> list[dict[str, Any]]:
        """The statements of a role's policies."""
        found = [
            each for values, made in self.policies("aws_iam_role_policy") if values["role"] == role for each in made
        ]
        assert found, f"no role {role} has a policy"
        return found

    def all_values(self, kind: str) -> Iterator[dict[str, Any]]:
        return (each["values"] for each in self.resources if each["mode"] == "managed" and each["type"] == kind)
