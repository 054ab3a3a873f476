"""The system in AWS: made by Terraform in a folder of its own, and destroyed with all that is in it.

    build/acceptance/sealift-3f9a1c/               main.tf, policy.yaml, Terraform's state, and what was said
    build/acceptance/sealift-3f9a1c/repository/    the image's repository, a root of its own

The folder is there before anything is made, and goes when everything is destroyed. So a start that
was killed leaves a folder, by which the next one finds and destroys what it made.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from jobs.policy.reader import resolve_policy
from jobs.policy.resolved import encode_policy
from tests.acceptance.site import EXAMPLE, ROOT, Places, Site

NAME = "sealift-acceptance"
"""What the example calls everything. Each start has a name of its own in its place."""
ROUNDS = 3
"""What is still being written may fill a bucket between its emptying and its end."""


class StackError(Exception):
    """A program that makes or destroys the system has failed."""


@dataclass(frozen=True)
class Tools:
    """The programs, and what the image is built from."""

    terraform: str = "terraform"
    engine: str = "podman"
    make: str = "make"
    base: str = ""


@dataclass(frozen=True)
class Stack:
    """One system, by its folder."""

    folder: Path
    tools: Tools

    @property
    def name(self) -> str:
        """The prefix of everything in it."""
        return self.folder.name

    def make(self) -> None:
        """Make it. Raises StackError. Then what was made is in the state, and `destroy` finds it."""
        region = self._write_roots()
        (self._repository / "terraform.tfvars.json").write_text(json.dumps({"name": self.name, "region": region}))
        self._terraform("init", "-input=false", root=self._repository)
        self._terraform("apply", *_UNASKED, root=self._repository)
        _run([self.tools.make, "lambda"], self.folder)
        image = self._push_image(self._outputs(self._repository)["repository"])
        settings = {"image": image, "lambda_zip": str(ROOT / "build" / "lambda-arm64.zip"), "object_annotations": True}
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(settings))
        self._terraform("init", "-input=false")
        self._terraform("apply", *_UNASKED)

    def site(self) -> Site:
        """The running system, for the script."""
        outputs = self._outputs()
        environment = outputs["environment"]
        return Site(
            Places.of(self.folder / "policy.yaml"),
            environment,
            outputs["job_queues"]["workers"],
            outputs["job_queues"]["orchestrators"],
            environment["SEALIFT_BATCH_JOB_DEFINITION"],
        )

    def changes(self) -> list[str]:
        """What a second plan would change, by its address: what AWS says otherwise than it was told."""
        self._terraform("plan", "-input=false", "-no-color", "-out=second.plan")
        shown = json.loads(self._terraform("show", "-json", "second.plan"))
        return [each["address"] for each in shown["resource_changes"] if each["change"]["actions"] != ["no-op"]]

    def destroy(self) -> None:
        """Destroy everything, full or not, and the folder at last. Raises StackError if something is left."""
        for attempt in range(1, ROUNDS + 1 if _is_made(self.folder) else 1):
            _empty(self._resources(), self.name)
            try:
                self._terraform("destroy", *_UNASKED)
            except StackError:
                if attempt == ROUNDS:
                    raise
            else:
                break
        if _is_made(self._repository):
            self._terraform("destroy", *_UNASKED, root=self._repository)
        shutil.rmtree(self.folder)

    @property
    def _repository(self) -> Path:
        return self.folder / "repository"

    def _write_roots(self) -> str:
        """The example and the repository as root modules of their own, with this name. Returns the region."""
        self._repository.mkdir(parents=True)
        shutil.copy(ROOT / "terraform" / "repository" / "main.tf", self._repository)
        text = (EXAMPLE / "main.tf").read_text()
        (self.folder / "main.tf").write_text(text.replace('"../.."', json.dumps(str(ROOT / "terraform"))))
        path = self.folder / "policy.yaml"
        path.write_text((EXAMPLE / "policy.yaml").read_text().replace(NAME, self.name))
        resolved = resolve_policy(str(path))
        path.with_suffix(".json").write_bytes(encode_policy(resolved))
        return str(resolved.policy.ledger.region)

    def _push_image(self, repository: str) -> str:
        """Build the image and push it. Returns its name by digest."""
        registry = repository.partition("/")[0]
        region = registry.split(".")[3]
        [token] = boto3.client("ecr", region_name=region).get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(token["authorizationToken"]).decode().partition(":")
        login = [self.tools.engine, "login", "--username", user, "--password-stdin", registry]
        _run(login, self.folder, stdin=password)
        engine = f"ENGINE={self.tools.engine}"
        platform = "PLATFORM=linux/amd64"
        base = [f"BASE={self.tools.base}"] if self.tools.base else []
        _run([self.tools.make, "image", engine, platform, *base], self.folder)
        said = _run([self.tools.make, "image-push", engine, f"REPOSITORY={repository}"], self.folder)
        found = re.findall(r"\S+@sha256:[0-9a-f]{64}", said)
        if not found:
            raise StackError("`make image-push` printed no reference by digest")
        return str(found[-1])

    def _terraform(self, *arguments: str, root: Path | None = None) -> str:
        return _run([self.tools.terraform, f"-chdir={root or self.folder}", *arguments], self.folder)

    def _outputs(self, root: Path | None = None) -> dict[str, Any]:
        outputs = json.loads(self._terraform("output", "-json", root=root))
        return {name: each["value"] for name, each in outputs.items()}

    def _resources(self) -> list[dict[str, Any]]:
        """Everything in the state, however much of it was made."""
        shown = json.loads(self._terraform("show", "-json"))
        return list(_below(shown.get("values", {}).get("root_module", {})))


_UNASKED = ("-auto-approve", "-input=false", "-no-color")


def new_stack(parent: Path, tools: Tools) -> Stack:
    """A stack with a name that nothing has yet. Nothing is made."""
    return Stack(parent / f"sealift-{secrets.token_hex(3)}", tools)


def leftovers(parent: Path, tools: Tools) -> list[Stack]:
    """What starts before this one have not destroyed."""
    found = sorted(parent.glob("sealift-*")) if parent.is_dir() else []
    return [Stack(folder, tools) for folder in found if folder.is_dir()]


def _is_made(root: Path) -> bool:
    return (root / "terraform.tfstate").exists()


def _below(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (each for each in module.get("resources", []) if each["mode"] == "managed")
    for child in module.get("child_modules", []):
        yield from _below(child)


def _empty(resources: Sequence[dict[str, Any]], name: str) -> None:
    """End the jobs, and remove what keeps buckets from being destroyed.

    Only of what the state has and is called after this stack: names of anybody else's stay untouched.
    """
    ours = [each for each in resources if _called(each["values"]).startswith(name)]
    for each in ours:
        values = each["values"]
        if each["type"] == "aws_batch_job_queue":
            _end_jobs(values["name"], values["region"])
    for each in ours:
        values = each["values"]
        if each["type"] == "aws_s3_bucket":
            empty_bucket(values["bucket"], values["region"])


def _called(values: dict[str, Any]) -> str:
    return str(values.get("bucket") or values.get("name") or "")


def _end_jobs(queue: str, region: str) -> None:
    client = boto3.client("batch", region_name=region)
    for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"):
        for job in client.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]:
            client.terminate_job(jobId=job["jobId"], reason="the acceptance is over")


def empty_bucket(bucket: str, region: str) -> None:
    """Remove every version and delete marker."""
    client = boto3.client("s3", region_name=region)
    with contextlib.suppress(client.exceptions.NoSuchBucket):  # Terraform knows it is gone by the next plan
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in entries]
            if objects:
                client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


def _run(command: Sequence[str], folder: Path, stdin: str = "") -> str:
    """Run a program in the repository. Returns its stdout. Raises StackError with what it said last.

    It has a session of its own, so that Ctrl-C reaches this process alone. If this process is to end
    meanwhile, the program is asked to, and waited for: Terraform then writes its state.
    """
    with (folder / "log").open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"TF_IN_AUTOMATION": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"{command[0]} does not start: {error}") from error
        try:
            said, _ = process.communicate(stdin)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.communicate()
            raise
        log.write(said.encode())
    if process.returncode:
        end = (folder / "log").read_text(errors="replace")[-1500:]
        raise StackError(f"`{' '.join(command)}` ended with {process.returncode}:\n{end}")
    return said
