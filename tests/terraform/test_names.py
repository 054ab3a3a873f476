"""Names: two systems side by side by one `for_each`, and a prefix that an account asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.terraform.conftest import _terraform
from tests.terraform.world import MODULE, State, module_call

PREFIX = "acme-"
SYSTEMS = {"north": "", "south": PREFIX}


def policy_of(system: str) -> dict:
    """The full example with buckets of its own. Both systems have pairs of the same names."""
    text = (MODULE / "examples" / "full" / "policy.yaml").read_text().replace("bucket: example-", f"bucket: {system}-")
    document: dict = yaml.safe_load(text.replace(": example-inventory", f": {system}-inventory"))
    return document | {"name": "atlantic"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> State:
    folder: Path = tmp_path_factory.mktemp("both")
    for system in SYSTEMS:
        (folder / f"{system}.yaml").write_text(yaml.safe_dump(policy_of(system)))
    prefixes = "\n".join(f'{system} = "{prefix}"' for system, prefix in SYSTEMS.items())
    (folder / "main.tf").write_text(f"""
      provider "aws" {{
        region = "eu-central-1"
      }}
      module "sealift" {{
        for_each    = {{
          {prefixes}
        }}
        {module_call(folder)}
        policy_file = "${{path.module}}/${{each.key}}.yaml"
        name_prefix = each.value
        fair_share  = true
      }}
      output "environment" {{
        value = {{ for name, system in module.sealift : name => system.environment }}
      }}
    """)
    return _terraform(tmp_path_factory, root=folder).apply_root()


def test_no_name_is_given_twice(both: State) -> None:
    made = [each for each in both.resources if each["mode"] == "managed" and each["type"].startswith("aws_")]
    assert len(made) > 300
    others = ("aws_cloudwatch_event_target", "aws_sns_topic_policy")  # their ARN is another's
    own = [each for each in made if each["type"] not in others]
    arns = Counter(each["values"]["arn"] for each in own if each["values"].get("arn"))
    assert len(arns) > 150
    assert [arn for arn, count in arns.items() if count > 1] == []
    named = Counter(
        (each["type"], each["values"].get("region"), each["values"].get("group_name"), each["values"][name])
        for each in made
        for name in ("name", "alarm_name", "function_name", "bucket", "dashboard_name", "name_prefix")
        if name in each["values"] and each["values"][name] and each["type"] in NAMED
    )
    assert len(named) > 100
    assert [name for name, count in named.items() if count > 1] == []


NAMED = {
    *("aws_athena_workgroup", "aws_batch_compute_environment", "aws_batch_job_definition", "aws_batch_job_queue"),
    *("aws_batch_scheduling_policy", "aws_budgets_budget", "aws_cloudwatch_dashboard", "aws_cloudwatch_event_rule"),
    *("aws_cloudwatch_log_group", "aws_cloudwatch_metric_alarm", "aws_ecr_repository", "aws_glue_catalog_database"),
    *("aws_iam_instance_profile", "aws_iam_role", "aws_kms_alias", "aws_lambda_function", "aws_launch_template"),
    *("aws_s3_bucket", "aws_scheduler_schedule", "aws_scheduler_schedule_group", "aws_sns_topic", "aws_sqs_queue"),
}
"""Kinds whose names AWS wants unique in an account or a region."""


def test_the_prefix_stands_before_every_name(both: State) -> None:
    ours = [each for each in both.resources if each.get("address", "").startswith('module.sealift["south"]')]
    kinds = ("aws_iam_role", "aws_sqs_queue", "aws_sns_topic")
    names = [each["values"]["name"] for each in ours if each["type"] in kinds]
    assert len(names) > 20
    assert [name for name in names if not name.startswith("acme-atlantic")] == []
    assert both.output("environment")["south"]["SEALIFT_SYSTEM"] == "acme-atlantic"
    assert both.output("environment")["north"]["SEALIFT_SYSTEM"] == "atlantic"
