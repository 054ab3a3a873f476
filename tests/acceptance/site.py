"""The system as the script sees it: names, endpoints, and a deadline for what it waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "terraform" / "examples" / "acceptance"
_AWS_AND_OURS = ("AWS_", "SEALIFT_")


class NotSeen(Exception):
    """Something that was awaited did not come in time, or a command ended in another way."""


class NotShown(Exception):
    """A step that could not be tried here. The message says why, and what would show it."""


@dataclass(frozen=True)
class Places:
    """The buckets and regions of a policy of the example."""

    name: str
    near: str
    hot: str
    archives: str
    far: str
    west: str
    twin: str
    back: str
    ledger: str
    reports: str
    east_region: str
    west_region: str

    @classmethod
    def of(cls, policy_file: Path) -> Places:
        """Read them from the policy file."""
        policy = yaml.safe_load(policy_file.read_text())
        near, far = policy["pairs"]
        return cls(
            policy["name"],
            near["source"]["bucket"],
            near["destination"]["bucket"],
            near["archive"]["bucket"],
            far["source"]["bucket"],
            far["destination"]["bucket"],
            far["replica"]["bucket"],
            f"{policy['name']}-back",
            policy["ledger"]["bucket"],
            policy["inventory"]["buckets"][policy["ledger"]["region"]],
            policy["ledger"]["region"],
            far["destination"]["region"],
        )


@dataclass
class Site:
    """A running system. `environment` is what a person's shell has: endpoints, credentials, settings.

    `limit_seconds`: how long any step may take, instead of its own time in AWS. `slow_rate`: requests a second of all
    workers of a run that is to be met at work. At one, a worker takes half a minute, and has 20 s for what it began
    when it must end.
    """

    places: Places
    environment: Mapping[str, str]
    queue: str
    waiting_queue: str
    definition: str
    poll_seconds: float = 2.0
    limit_seconds: float | None = None
    slow_rate: str = "1"
    deadline: float = float("inf")
    noted: dict[str, Any] = field(default_factory=dict)
    """What a step leaves for later ones, such as the id of a run."""
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service: str = "s3", region: str = "") -> Any:
        """A client of AWS, or of what stands in for it."""
        where = service, region or self.places.east_region
        if where not in self._clients:
            self._clients[where] = self._make_client(*where)
        return self._clients[where]

    def _make_client(self, service: str, region: str) -> Any:
        names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key"}
        given: Any = {argument: self.environment[name] for name, argument in names.items() if name in self.environment}
        endpoint = self.environment.get(f"AWS_ENDPOINT_URL_{service.upper()}")
        config = Config(s3={"addressing_style": "path"}) if endpoint else None
        session: Any = boto3.Session(**given)
        return session.client(service, region_name=region, endpoint_url=endpoint, config=config)

    def sealift(
        self, *arguments: str, codes: Sequence[int] = (0,), settings: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run a command as a person does. Returns its document. Raises NotSeen for another exit code."""
        base = dict(os.environ)
        if "AWS_ACCESS_KEY_ID" in self.environment:  # a system of its own: nothing of the shell's account
            base = {name: value for name, value in base.items() if not name.startswith(_AWS_AND_OURS)}
        remaining = min(self.deadline - time.monotonic(), 86_400.0)
        command = [sys.executable, "-m", "jobs", *arguments, "--json"]
        try:
            done = subprocess.run(
                command,
                env={**base, **self.environment, **(settings or {})},
                cwd=ROOT,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=max(remaining, 1.0),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotSeen(f"`sealift {' '.join(arguments)}` did not end within {error.timeout:.0f} s") from error
        if done.returncode not in codes or not done.stdout:
            said = " ".join((done.stdout + done.stderr).split())[-600:]
            raise NotSeen(f"`sealift {' '.join(arguments)}` ended with {done.returncode}: {said}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def await_value(self, what: str, look: Callable[[], T | None]) -> T:
        """The first true value that `look` returns. Raises NotSeen after the step's time."""
        while True:
            if found := look():
                return found
            if time.monotonic() > self.deadline:
                raise NotSeen(f"{what}: it did not come in the time of this step")
            time.sleep(self.poll_seconds)

    def submit(self, job: str, *command: str, queue: str = "") -> str:
        """Start a Batch job with the role of a job definition. Returns its id."""
        answer = self.client("batch").submit_job(
            jobName=f"{self.places.name}-acceptance-{job}",
            jobQueue=queue or self.queue,
            jobDefinition=self.definition.replace("{job}", job),
            containerOverrides={"command": list(command)},
            tags={"sealift:system": self.places.name},
        )
        return str(answer["jobId"])

    def await_job(self, job_id: str) -> dict[str, Any]:
        """The end of a job, as Batch describes it."""

        def look() -> dict[str, Any] | None:
            [job] = self.client("batch").describe_jobs(jobs=[job_id])["jobs"]
            return job if job["status"] in ("SUCCEEDED", "FAILED") else None

        return self.await_value(f"the end of Batch job {job_id}", look)

    def run_job(self, job: str, *command: str, queue: str = "") -> int | None:
        """Run a Batch job to its end. Returns the exit code of its container, None if it had none."""
        ended = self.await_job(self.submit(job, *command, queue=queue))
        code: int | None = ended.get("container", {}).get("exitCode")
        return code

    def reports(self, job: str) -> list[dict[str, Any]]:
        """The reports of a kind of run in the ledger, the newest first."""
        names = self.keys(self.places.ledger, f"{self.ledger_prefix}runs/")
        ours = [name for name in names if f"Z-{job}-" in name and name.endswith("/report.json")]
        return [self.document(name) for name in sorted(ours, reverse=True)]

    def document(self, key: str) -> dict[str, Any]:
        """A document of the ledger."""
        document: dict[str, Any] = json.loads(self.content(self.places.ledger, key) or b"{}")
        return document

    @property
    def ledger_prefix(self) -> str:
        """The ledger's prefix, with a slash."""
        return self.environment["SEALIFT_LEDGER"].removeprefix(f"s3://{self.places.ledger}").strip("/") + "/"

    def put(self, bucket: str, key: str, body: bytes = b"content", **extra: Any) -> dict[str, Any]:
        """Write an object. Returns S3's answer."""
        answer: dict[str, Any] = self.client().put_object(Bucket=bucket, Key=key, Body=body, **extra)
        return answer

    def content(self, bucket: str, key: str, region: str = "") -> bytes | None:
        """An object's content, None if there is no object."""
        try:
            body: bytes = self.client("s3", region).get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return body

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """The current keys below a prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def versions(self, bucket: str, prefix: str, kind: str = "Versions", region: str = "") -> list[dict[str, Any]]:
        """The versions below a prefix, or with `DeleteMarkers` those."""
        pages = self.client("s3", region).get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        return [entry for page in pages for entry in page.get(kind, [])]

    def await_copies(self, bucket: str, wanted: Mapping[str, bytes], region: str = "") -> None:
        """Wait until each of these keys has this content."""
        for key, body in wanted.items():

            def look(key: str = key, body: bytes = body) -> bool:
                return self.content(bucket, key, region) == body

            self.await_value(f"the copy s3://{bucket}/{key}", look)

    def destroy(self, bucket: str, prefix: str) -> int:
        """Remove every version below a prefix, as a mishap would. Returns how many."""
        entries = self.versions(bucket, prefix)
        for each in entries:
            self.client().delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        return len(entries)

    def await_age(self, bucket: str, key: str, seconds: float) -> None:
        """Wait until an object is so old by S3's own clock."""

        def look() -> bool:
            answer = self.client().head_object(Bucket=bucket, Key=key)
            return s3_time(answer) - answer["LastModified"].timestamp() > seconds

        self.await_value(f"s3://{bucket}/{key} to be {seconds:g} s old", look)


def s3_time(answer: Mapping[str, Any]) -> float:
    """S3's clock, by an answer of boto3."""
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
