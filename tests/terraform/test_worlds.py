"""Where Terraform and the program say the same thing, they agree: what was applied beside what the code has."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import zoneinfo
from importlib import import_module

import pytest
from click import Context
from click.testing import CliRunner

from jobs.aws.batch import Batch
from jobs.aws.batch_arrays import SYSTEM_TAG, retry_strategy
from jobs.cli import cli
from jobs.config import Settings
from jobs.core.enums import StorageClass
from jobs.core.model import Location
from jobs.errors import ExitCode
from jobs.ledger.table_docs import TABLES
from jobs.policy.reader import read_policy
from jobs.policy.words import TimeZone
from scheduler.batch_starts import Start, start
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.memory_store import MemoryStore
from tests.terraform.conftest import applied
from tests.terraform.world import MODULE, ROOT

GLUE_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
}


@pytest.fixture(scope="module")
def definitions(example):
    """Job → (the definition's values, its container's properties)."""
    found = example.all("aws_batch_job_definition")
    return {job: (values, json.loads(values["container_properties"])) for job, values in found.items()}


def test_retry_strategy_is_the_programs(definitions):
    wanted = retry_strategy(5)
    names = {
        "on_exit_code": "onExitCode",
        "on_status_reason": "onStatusReason",
        "on_reason": "onReason",
        "action": "action",
    }
    for values, _ in definitions.values():
        (strategy,) = values["retry_strategy"]
        rules = [
            {names[name]: value for name, value in rule.items() if value is not None}
            for rule in strategy["evaluate_on_exit"]
        ]
        assert strategy["attempts"] == wanted["attempts"]
        assert rules == wanted["evaluateOnExit"]
        assert len(rules) <= 5
        assert rules[-1] == {"onReason": "*", "action": "EXIT"}  # what matches none would be retried
        retried = {int(rule["onExitCode"]) for rule in rules if "onExitCode" in rule}
        assert retried & {code.value for code in ExitCode} == {ExitCode.TRANSIENT}


def test_commands_are_ones_that_the_command_line_knows(definitions):
    known = set(cli.list_commands(Context(cli)))
    for job, (_, container) in definitions.items():
        verb, *rest = container["command"]
        assert verb == job
        result = CliRunner().invoke(cli, [verb, *rest])
        assert result.exit_code == ExitCode.DONE, result.output
        assert result.output.startswith("Usage: ")
    assert len(definitions.keys() & known) >= 5


def test_workers_find_ledger_policy_and_batch(definitions, example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    for job, (values, container) in definitions.items():
        environment = {each["name"]: each["value"] for each in container["environment"]}
        settings = Settings.from_environment(environment)
        assert settings.ledger == policy.ledger.uri
        assert settings.policy == example.output("policy")
        assert settings.executor == "batch"
        assert settings.log_json
        assert settings.batch_queue == example.output("job_queues")["spot"]
        assert settings.batch_queue_on_demand == example.output("job_queues")["on_demand"]
        assert settings.batch_job_definition is not None
        assert settings.batch_job_definition.replace("{job}", job) == values["name"] == f"{policy.name}-{job}"
        assert environment["AWS_REGION"] == policy.ledger.region


def test_functions_find_policy_and_ledger(example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    for name, values in example.all("aws_lambda_function").items():
        assert values["handler"] == f"scheduler.{name}.handler"
        module, _, function = values["handler"].rpartition(".")
        assert callable(getattr(import_module(module), function))
        settings = FunctionSettings.from_environment(values["environment"][0]["variables"])
        assert settings.policy == example.output("policy")
        assert str(settings.ledger).rstrip("/") == policy.ledger.uri
        assert settings.topic == example.output("topic")
        assert settings.batch_queue == example.output("job_queues")["orchestrators"]


class Recorder(Batch):
    """Takes one SubmitJob request."""

    def submit(self, request, *, is_new):
        self.request = request
        return "job-id"


def test_names_are_those_that_functions_guess(example):
    """What jobs, queues and the topic are called without any setting: `batch_starts` and `follow` of the scheduler."""
    policy, recorder, store = read_policy(str(ROOT / "policy.example.yaml")), Recorder(), MemoryStore()
    store.create_bucket(policy.ledger.bucket)
    bare = FunctionSettings(policy="s3://b/policy.yaml", ledger=Location.parse(policy.ledger.uri))
    what = Start("scans", "nightly", "2026-11-25", ("nightly", "--pair", "scans"))
    asyncio.run(start(Runtime(bare, open_region=lambda *_: store), policy, what, recorder))
    assert recorder.request["jobQueue"] == example.output("job_queues")["orchestrators"]
    assert recorder.request["tags"][SYSTEM_TAG] == policy.name == example.output("environment")["SEALIFT_SYSTEM"]
    assert recorder.request["jobDefinition"] == example.output("job_definitions")["nightly"]
    assert example.output("topic").endswith(f":{policy.name}-alarms")


def test_command_lines_environment_is_what_it_reads(example):
    environment = example.output("environment")
    read = set(re.findall(r"SEALIFT_[A-Z_]+", (ROOT / "jobs" / "config.py").read_text()))
    assert {name for name in environment if name.startswith("SEALIFT_")} <= read
    assert Settings.from_environment(environment).executor == "batch"
    assert shlex.split(example.output("shell")) == [f"{name}={value}" for name, value in sorted(environment.items())]


def test_containers_can_do_nothing_but_their_work(definitions):
    dockerfile = (ROOT / "images" / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    (scratch,) = json.loads(re.findall(r"^VOLUME (.+)$", dockerfile, re.MULTILINE)[0])
    roles = set()
    for _, container in definitions.values():
        assert container["readonlyRootFilesystem"] is True
        assert container["user"] == user
        assert [mount["containerPath"] for mount in container["mountPoints"]] == [scratch]
        assert container["networkConfiguration"] == {"assignPublicIp": "DISABLED"}
        assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
        roles.add(container["jobRoleArn"])
    assert len(roles) == len(definitions)  # a role for each


def test_queues_outlast_six_times_their_function(example):
    functions = {values["arn"]: values for values in example.all_values("aws_lambda_function")}
    queues = {values["arn"]: values for values in example.all_values("aws_sqs_queue")}
    mappings = list(example.all_values("aws_lambda_event_source_mapping"))
    assert mappings
    for mapping in mappings:
        function, queue = functions[mapping["function_arn"]], queues[mapping["event_source_arn"]]
        assert queue["visibility_timeout_seconds"] >= 6 * function["timeout"]
        assert mapping["function_response_types"] == ["ReportBatchItemFailures"]
        assert mapping["scaling_config"][0]["maximum_concurrency"] == 20
        assert function["reserved_concurrent_executions"] == -1
        dead = queues[json.loads(queue["redrive_policy"])["deadLetterTargetArn"]]
        assert dead["message_retention_seconds"] > queue["message_retention_seconds"]


def test_tables_have_the_ledgers_columns(example):
    tables = example.all("aws_glue_catalog_table")
    assert set(tables) == {"outcomes", "differences", "catalog", "journal"}
    for name, values in tables.items():
        partitions = {each["name"] for each in values["partition_keys"]}
        found = {each["name"]: each["type"] for each in values["storage_descriptor"][0]["columns"]}
        of_folders = partitions | {"shard"}  # a shard is a folder below the partition
        wanted = {
            column.name: GLUE_TYPES[column.type] for column in TABLES[name].columns if column.name not in of_folders
        }
        if name == "journal":  # JSON: a time is its text
            wanted = {column: "string" if kind == "timestamp" else kind for column, kind in wanted.items()}
        assert found == wanted
        template = values["parameters"]["storage.location.template"]
        assert set(re.findall(r"\$\{(\w+)\}", template)) == partitions


def test_named_queries_name_tables_and_columns_that_there_are(example):
    partitions = {"generation", "dt", "run_id", "shard"}
    for values in example.all_values("aws_athena_named_query"):
        (table,) = re.findall(r"FROM (\w+)", values["query"])
        known = {column.name for column in TABLES[table].columns} | partitions
        without_text = re.sub(r"'[^']*'", "", values["query"])
        aliases = set(re.findall(r"AS (\w+)", without_text)) | {table}
        words = set(re.findall(r"\b[a-z_]+\b(?!\()", without_text)) - aliases
        assert words <= known | {"current_date"}, values["name"]


def test_schedules_are_the_pairs_nights(example):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    schedules = example.all("aws_scheduler_schedule", "nightly")
    assert set(schedules) == {pair.name for pair in policy.pairs}
    for pair in policy.pairs:
        schedule, minutes = schedules[pair.name], pair.nightly.hour.minutes
        assert schedule["schedule_expression"] == f"cron({minutes % 60} {minutes // 60} * * ? *)"
        assert schedule["schedule_expression_timezone"] == pair.nightly.time_zone
        target = schedule["target"][0]
        assert json.loads(target["input"])["pair"] == pair.name
        assert "<aws.scheduler.scheduled-time>" in target["input"]  # Scheduler replaces the text as it stands
        assert target["dead_letter_config"]
        assert target["retry_policy"]


def test_time_zones_are_the_ones_that_python_knows():
    known = (MODULE / "time-zones.txt").read_text().splitlines()
    assert known == sorted(set(known))
    assert len(known) > 500
    assert {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"} <= set(known)
    assert all(re.search(TimeZone.pattern, name) for name in known)
    assert len(zoneinfo.available_timezones() & set(known)) > 0.95 * len(known)


def test_minimum_stays_are_the_programs():
    text = (MODULE / "policy.tf").read_text()
    (stays,) = re.findall(r"minimum_days = \{ (.+) \}", text)
    found = {name: int(days) for name, days in re.findall(r"(\w+) = (\d+)", stays)}
    assert found == {each.value: each.minimum_days for each in StorageClass if each.minimum_days}


def test_reports_leave_older_versions_beside_them_alone(tmp_path_factory):
    """Copies that the policy keeps for ever may share a bucket with inventory reports, whose versions go."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(
        "version: 1\n"
        "name: parcels\n"
        "ledger: {bucket: example-all, region: eu-central-1, prefix: sealift/}\n"
        "inventory: {buckets: {eu-central-1: example-all}}\n"
        "pairs:\n"
        "  - name: scans\n"
        "    source: {bucket: example-scans, region: eu-central-1}\n"
        "    destination: {bucket: example-all, region: eu-central-1, prefix: copies/}\n"
    )
    made = applied(tmp_path_factory, "all-in-one", str(policy))[1].all("aws_s3_bucket_lifecycle_configuration", "this")
    for rule in made["example-all"]["rule"]:
        if rule["noncurrent_version_expiration"] or any(each["days"] for each in rule["expiration"]):
            assert rule["filter"][0]["prefix"].startswith(("inventory/", "sealift/")), rule["id"]
