"""A day of the system in two regions: commands, functions and Batch jobs, with the settings and roles of a plan.

Everything is what a user starts: S3's events at the functions, jobs at Batch, commands at a person's machine. The
recorder (`tests.doubles.aws_recorder`) hears what each of them asks of AWS.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import yaml
from moto.s3.models import FakeDeleteMarker, FakeKey, S3Backend

from tests.doubles.aws_recorder import AwsRecorder, aws_recorder
from tests.doubles.batch.account import await_value, make_client
from tests.doubles.batch.engine import Environment, Job
from tests.doubles.batch.runners import ProcessRunner
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.lambda_invoke import LambdaApi, lambda_api
from tests.doubles.lambda_runtime import Answer, Function, function
from tests.doubles.policies import resolved
from tests.doubles.servers import moto
from tests.scheduler.event_samples import batch as messages
from tests.scheduler.event_samples import notification, record
from tests.terraform.world import MODULE, ROOT, State, module_call, written

NAME, REGION, ACCOUNT, OTHER_ACCOUNT = "parcels", "eu-central-1", "123456789012", "222233334444"
PERSON = "person"
"""Who has all rights: the requests of people are not held to a role."""
SCANS, SIGNATURES = "scans/2026/", "signatures/2026/"
DAY_SECONDS = 120


def day_policy() -> dict[str, Any]:
    """The example in two accounts, with small thresholds and room for one worker at a time.

    The other account has the copies of customs, which cross regions, the twin of scans, and its archives.
    """
    content: dict[str, Any] = yaml.safe_load((ROOT / "policy.example.yaml").read_text())
    content["batch"] |= {"max_vcpus": content["batch"]["vcpus"]}
    content["defaults"]["thresholds"] = {"lambda_max_size": "1 MiB", "backlog_rows": 1, "backlog_age": "1h"}
    content["defaults"]["verify"] = {"rota": "1/1", "deep": "1/1"}
    content["pairs"][0]["archive"]["expire"] = {"grace": "1s", "max_share": "100%"}
    scans, customs, tracking = content["pairs"]
    customs["verify"] = {"rota": "1/1", "deep": "1/1"}
    del tracking["thresholds"]
    for rule in scans["archive"]["rules"]:
        rule["older_than"] = "1s"
        rule.pop("tags", None)
    content["account"] = ACCOUNT
    for side in (customs["destination"], scans["replica"], scans["archive"], tracking["replica"]):
        side["account"] = OTHER_ACCOUNT
    customs["destination"]["kms_key"] = "create"
    return content


def two_accounts(folder: Path, policy: Mapping[str, Any]) -> Path:
    """A root that applies the policy in both accounts, as `terraform/examples/two-accounts` does."""
    written(folder, policy)
    (folder / "main.tf").write_text(f"""
      provider "aws" {{
        region = "{REGION}"
      }}
      provider "aws" {{
        alias  = "other"
        region = "{REGION}"
        assume_role {{
          role_arn = "arn:aws:iam::{OTHER_ACCOUNT}:role/terraform"
        }}
      }}
      module "system" {{
        {module_call(folder)}
        policy_file        = "${{path.module}}/policy.json"
        closed_network     = true
        object_annotations = true
        restore_to         = ["example-back/back/"]
        other_accounts     = {{ "{OTHER_ACCOUNT}" = module.other.made }}
      }}
      module "other" {{
        source    = "{os.path.relpath(MODULE / "modules" / "other-account", folder)}"
        providers = {{ aws = aws.other }}
        asked     = module.system.other_accounts["{OTHER_ACCOUNT}"]
      }}
      output "environment" {{ value = module.system.environment }}
      output "queues" {{ value = module.system.queues }}
      output "policy" {{ value = module.system.policy }}
    """)
    return folder


@dataclass
class Day:
    """The system: its servers, and what has been sent to it."""

    state: State
    policy: Mapping[str, Any]
    folder: Path
    aws: AwsRecorder
    batch: BatchServer
    invoked: LambdaApi
    storage: str
    functions: dict[str, Function] = field(default_factory=dict)
    followed: set[str] = field(default_factory=set)

    def owners(self) -> dict[str, str]:
        """Bucket → the account that owns it, of those in the other account."""
        sections = ("destination", "replica", "archive")
        sides = [pair[name] for pair in self.policy["pairs"] for name in sections if name in pair]
        return {side["bucket"]: side["account"] for side in sides if "account" in side}

    def roles(self) -> list[str]:
        """The roles of functions and jobs."""
        found = [values["role"] for values in self.state.all_values("aws_lambda_function")]
        for values in self.state.all_values("aws_batch_job_definition"):
            found.append(json.loads(values["container_properties"])["jobRoleArn"])
        return sorted(arn.rpartition("/")[2] for arn in found)

    def client(self, region: str = REGION, service: str = "s3") -> Any:
        """A client of the server behind the recorder: what it asks is not recorded."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.storage,
            region_name=region,
            aws_access_key_id=PERSON,
            aws_secret_access_key="secret",
        )

    def put(self, bucket: str, key: str, body: bytes = b"content", **extra: Any) -> dict[str, Any]:
        """A new object, and S3's record of it."""
        answer = self.client(self.aws.bucket_regions[bucket]).put_object(Bucket=bucket, Key=key, Body=body, **extra)
        return self.heard(bucket, key, answer, size=len(body))

    def heard(
        self, bucket: str, key: str, answer: Mapping[str, Any], name: str = "ObjectCreated:Put", **thing: Any
    ) -> dict[str, Any]:
        """S3's record of a change."""
        etag = {"eTag": answer["ETag"].strip('"')} if answer.get("ETag") else {}
        thing |= {"versionId": answer["VersionId"], **etag, "sequencer": f"{uuid.uuid1().time:018X}"}
        return record(bucket, key, name, **thing)

    def invoke(self, name: str, event: Any) -> Answer:
        """Call a function as AWS does, with its own role and settings."""
        answer = self.functions[name].invoke(event)
        assert not answer.error_type, (name, answer.error_message, self.functions[name].lines()[-3:])
        return answer

    def backup(self, *records: dict[str, Any]) -> list[str]:
        """What of S3's records failed."""
        return self.invoke("backup", self.of_queue(messages(notification(*records)))).failed

    def of_queue(self, sent: dict[str, Any]) -> dict[str, Any]:
        """Messages as the plan's queue hands them to the function."""
        queue = self.state.output("queues")["objects"].rpartition("/")[2]
        for each in sent["Records"]:
            each["eventSourceARN"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
        return sent

    def pass_on(self) -> None:
        """Hand what functions invoked to its function."""
        while self.invoked.calls:
            name, payload = self.invoked.calls.pop(0)
            self.invoke(name.rpartition("-")[2], payload)

    def submit(self, job: str, *command: str, queue: str = "orchestrators") -> Job:
        """A job that a person starts."""
        name = f"{job}-{uuid.uuid4().hex[:8]}"
        make_client(self.batch).submit_job(
            jobName=name,
            jobQueue=f"{NAME}-{queue}",
            jobDefinition=f"{NAME}-{job}",
            containerOverrides={"command": list(command)},
        )
        return self.batch.job(name)

    def run(self, job: str, *command: str, codes: tuple[int, ...] = (0,)) -> Job:
        """A job that a person starts, to its end, and to the ends of all that it started."""
        started = self.submit(job, *command)
        self.settle()
        return self.only(started, *codes)

    def command(self, *arguments: str, role: str = PERSON, **settings: str) -> dict[str, Any]:
        """Run a command on a person's machine. Returns its document."""
        variables = self.aws.environment(role, REGION) | self.state.output("environment") | settings
        done = subprocess.run(
            [sys.executable, "-m", "jobs", *arguments, "--json"],
            env=_plain_environment() | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DAY_SECONDS,
            check=False,
        )
        assert done.returncode in (0, 3), done.stderr[-3000:]
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def settle(self) -> None:
        """Wait for all jobs, and tell follow of each end, as EventBridge does."""
        while True:
            with self.batch.engine.lock:
                jobs = [job for job in self.batch.engine.jobs.values() if job.index is None]
            for job in jobs:
                if job.id in self.followed:
                    continue
                await_value(partial(getattr, job, "has_ended"), DAY_SECONDS)
                self.followed.add(job.id)
                self._follow(job)
                break
            else:
                return

    def _follow(self, job: Job) -> None:
        [detail] = make_client(self.batch).describe_jobs(jobs=[job.id])["jobs"]
        event = {"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": detail}
        self.invoke("follow", json.loads(json.dumps(event, default=str)))

    def log(self, job: Job) -> str:
        """What a job said."""
        texts = [(self.folder / each.log_stream.replace("/", "_")).read_text() for each in job.attempts]
        return "\n".join(texts)[-4000:]

    def only(self, job: Job, *codes: int) -> Job:
        """The job, which ended with one of these codes."""
        code = job.attempts[-1].exit_code if job.attempts else None
        assert code in (codes or (0,)), (job.name, code, self.log(job))
        return job


@contextlib.contextmanager
def open_day(state: State, policy: Mapping[str, Any], folder: Path) -> Iterator[Day]:
    """The system's buckets, queues, definitions and functions, as the plan has them, on loopback."""
    regions = {values["bucket"]: values["region"] or REGION for values in state.all_values("aws_s3_bucket")}
    regions |= {pair["source"]["bucket"]: pair["source"]["region"] for pair in policy["pairs"]}
    regions["example-back"] = REGION
    runner = ProcessRunner({}, folder)
    marks = mock.patch.object(S3Backend, "_set_delete_marker", _set_delete_marker)
    with marks, moto() as server, lambda_api() as invoked, batch_server(runner, max_running=8) as batch:
        upstreams = {"batch": batch.endpoint, "lambda": invoked.endpoint}
        upstreams |= dict.fromkeys(("s3", "sqs", "sns"), server.endpoint)
        with aws_recorder(upstreams, regions) as aws, contextlib.ExitStack() as running:
            day = Day(state, policy, folder, aws, batch, invoked, server.endpoint)
            _make_buckets(day)
            _make_services(day)
            runner.environment = _plain_environment()
            for name, values in state.all("aws_lambda_function").items():
                variables = aws.environment(values["role"].rpartition("/")[2], REGION)
                variables |= values["environment"][0]["variables"]
                variables["AWS_LAMBDA_FUNCTION_NAME"] = values["function_name"]
                day.functions[name] = running.enter_context(function(f"scheduler.{name}.handler", variables))
            yield day


def _set_delete_marker(backend: S3Backend, bucket_name: str, key_name: str) -> FakeDeleteMarker:
    """As S3 does it: also where there is no object."""
    keys = backend.get_bucket(bucket_name).keys
    below = keys.get(key_name) or FakeKey(key_name, b"", ACCOUNT, backend.region_name)
    keys[key_name] = FakeDeleteMarker(key=below)
    return keys[key_name]


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}


def _make_buckets(day: Day) -> None:
    locks = {values["bucket"] for values in day.state.all_values("aws_s3_bucket") if values["object_lock_enabled"]}
    sources = {pair["source"]["bucket"] for pair in day.policy["pairs"]}
    for bucket, region in day.aws.bucket_regions.items():
        client = day.client(region)
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        has_locks = bucket in locks or bucket in sources
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=has_locks, **where)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for values in day.state.all_values("aws_s3_bucket_object_lock_configuration"):
        retention = values["rule"][0]["default_retention"][0]
        kept = {"Mode": retention["mode"], "Days": retention["days"]}
        day.client(values["region"] or REGION).put_object_lock_configuration(
            Bucket=values["bucket"],
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": kept}},
        )
    for values in day.state.all("aws_s3_object", "place").values():
        place = {name.title(): values[name] for name in ("bucket", "key")}
        day.client(values["region"] or REGION).put_object(**place, Body=values["content"].encode())
    bucket, _, key = day.state.output("policy").removeprefix("s3://").partition("/")
    day.client().put_object(Bucket=bucket, Key=key, Body=resolved(dict(day.policy)))


def _make_services(day: Day) -> None:
    for values in day.state.all_values("aws_sqs_queue"):
        day.client(values["region"] or REGION, "sqs").create_queue(QueueName=values["name"])
    for values in day.state.all_values("aws_sns_topic"):
        day.client(service="sns").create_topic(Name=values["name"])
    environments = {
        values["arn"]: Environment(values["compute_resources"][0]["max_vcpus"])
        for values in day.state.all_values("aws_batch_compute_environment")
    }
    for values in day.state.all_values("aws_batch_job_queue"):
        arn = values["compute_environment_order"][0]["compute_environment"]
        day.batch.add_queue(values["name"], environment=environments[arn], priority=values["priority"])
    client = make_client(day.batch)
    for values in day.state.all_values("aws_batch_job_definition"):
        container = json.loads(values["container_properties"])
        credentials = day.aws.environment(container["jobRoleArn"].rpartition("/")[2], REGION)
        settings = {each["name"]: each["value"] for each in container["environment"]}
        client.register_job_definition(
            jobDefinitionName=values["name"],
            type="container",
            containerProperties={
                "image": container["image"],
                "resourceRequirements": container["resourceRequirements"],
                "environment": [{"name": name, "value": value} for name, value in {**credentials, **settings}.items()],
            },
        )
