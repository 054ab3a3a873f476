"""The workers' network: through its endpoints lead ways to this account and to the image's layers, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Settings
from tests.terraform.iam import Answer, decide, listed
from tests.terraform.world import EXAMPLE, SETTINGS, Terraform

ACCOUNT, STRANGER, PARTNER = "123456789012", "999999999999", "111122223333"
NAME, REGION = "parcels", "eu-central-1"
S3 = "arn:aws:s3:::"
OURS = {"aws:PrincipalAccount": ACCOUNT, "aws:ResourceAccount": ACCOUNT}
THEIR_KEY = OURS | {"aws:PrincipalAccount": STRANGER}
THEIR_BUCKET = OURS | {"aws:ResourceAccount": STRANGER}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-job-replicate"

BUCKETS = (
    *("example-scans", "example-customs-us", "example-tracking", "example-hot-fra", "example-hot-dub"),
    *("example-customs-copies", "example-archives-fra", "example-inventory-fra", "example-ledger"),
)
LAYER = f"{S3}prod-{REGION}-starport-layer-bucket/e501-012345678910/04620aac"

DEFAULT = [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]
"""What AWS gives an endpoint that is made without a policy."""

WITHOUT_POLICY = {"ecs", "ecs-agent", "ecs-telemetry"}
"""Of ec2_spot alone: ECS documents no policies for its agents' endpoints. They lead to ECS and nowhere else."""


def endpoints(state) -> dict[str, list[dict[str, Any]]]:
    """Service → the statements of its endpoints. S3 has one in each region."""
    found: dict[str, list[dict[str, Any]]] = {}
    for values in state.all_values("aws_vpc_endpoint"):
        service = values["service_name"].split(".", 3)[3]
        policy = json.loads(values["policy"])["Statement"] if values["policy"] else DEFAULT
        assert found.setdefault(service, policy) == policy
    return found


@pytest.fixture(scope="module")
def s3(example) -> list[dict[str, Any]]:
    return endpoints(example)["s3"]


def ask(policy, action, resource, context) -> Answer:
    return decide(policy, action, resource, context, "*")


def test_every_endpoint_has_a_policy_of_its_own(example):
    found = endpoints(example)
    assert set(found) == {"s3", "ecr.api", "ecr.dkr", "logs", "batch"}
    assert len(list(example.all_values("aws_vpc_endpoint"))) == 7  # S3's in three regions, two of ECR's, logs, Batch
    for policy in found.values():
        for statement in policy:
            assert statement["Principal"] == "*"  # an endpoint takes no other; conditions say who
            conditioned = statement.get("Condition", {}).get("StringEquals", {})
            assert conditioned.get("aws:PrincipalAccount") == ACCOUNT or statement["Sid"] == "ImageLayers"


def test_workers_reach_every_bucket_that_the_policy_names(s3):
    for bucket in BUCKETS:
        for action in ("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObjectVersion"):
            assert ask(s3, action, f"{S3}{bucket}/any/key", OURS) is Answer.ALLOWED
        assert ask(s3, "s3:ListBucketVersions", f"{S3}{bucket}", OURS) is Answer.ALLOWED


def test_names_of_far_s3_lead_to_its_endpoint_inside(example):
    """Beside a gateway endpoint they may be kept for resolvers outside."""
    far = [
        values for values in example.all_values("aws_vpc_endpoint") if values["service_region"] not in (None, REGION)
    ]
    assert len(far) == 2
    for values in far:
        assert values["private_dns_enabled"]
        assert values["dns_options"][0]["private_dns_only_for_inbound_resolver_endpoint"] is False


def test_only_far_endpoints_say_where_their_service_is(terraform: Terraform, tmp_path: Path) -> None:
    """Told a region, EC2 has looked for a service of a customer's, and found none of AWS's of that name.

    https://github.com/hashicorp/terraform-provider-aws/issues/42970
    """
    saved = str(tmp_path / "saved")
    variables = (f"-var-file={SETTINGS}", f"-var=policy_file={EXAMPLE}")
    assert terraform.run("plan", "-input=false", f"-out={saved}", *variables).returncode == 0
    changes = json.loads(terraform.run("show", "-json", saved).stdout)["resource_changes"]
    interfaces = [each["change"] for each in changes if each["address"].startswith("aws_vpc_endpoint.interface[")]
    said = {each["after"]["service_name"]: each["after"].get("service_region") for each in interfaces}
    near = {name for name in said if f".{REGION}." in name}
    assert len(near) == 4
    assert {said[name] for name in near} == {None}
    assert {said[name] for name in said.keys() - near} == {"us-east-1", "eu-west-1"}


def test_workers_run_in_zones_that_take_them(terraform: Terraform, tmp_path: Path) -> None:
    """Fargate runs in no usw1-az2 and apne1-az3, and use1-az3 has no endpoints to other regions.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html
    https://github.com/chanzuckerberg/cztack/pull/865
    """
    saved = str(tmp_path / "saved")
    variables = (f"-var-file={SETTINGS}", f"-var=policy_file={EXAMPLE}")
    assert terraform.run("plan", "-input=false", f"-out={saved}", *variables).returncode == 0
    known = json.loads(terraform.run("show", "-json", saved).stdout)["prior_state"]["values"]["root_module"]
    zones = next(each["values"] for each in known["resources"] if each["type"] == "aws_availability_zones")
    assert set(zones["exclude_zone_ids"] or []) == {"use1-az3", "usw1-az2", "apne1-az3"}

    count = len(zones["names"]) + 1
    assert count <= 4
    refused = terraform.run("plan", "-input=false", f"-var=availability_zones={count}", *variables)
    assert refused.returncode != 0
    assert f"availability_zones: {count} " in " ".join((refused.stdout + refused.stderr).split())


def test_workers_without_a_way_out_stream_between_regions(example):
    """S3 refuses a copy between regions through an endpoint: nobody may plan one."""
    routes = [route for values in example.all_values("aws_route_table") for route in values["route"] or []]
    assert routes == []
    environments = [
        {each["name"]: each["value"] for each in json.loads(values["container_properties"])["environment"]}
        for values in example.all_values("aws_batch_job_definition")
    ]
    for environment in [*environments, example.output("environment")]:
        assert Settings.is_endpoints_only(environment)


def test_no_foreign_bucket_is_reached(s3):
    for action in ("s3:PutObject", "s3:GetObject", "s3:ListBucket"):
        for place in (f"{S3}evil", f"{S3}evil/key", f"{S3}example-hot-fra.evil/key"):
            assert ask(s3, action, place, OURS) is Answer.SILENT
            assert ask(s3, action, place, THEIR_BUCKET) is Answer.SILENT


def test_a_bucket_of_our_name_in_another_account_is_not_reached(s3):
    for bucket in BUCKETS:
        assert ask(s3, "s3:PutObject", f"{S3}{bucket}/key", THEIR_BUCKET) is Answer.SILENT


def test_a_key_of_another_account_is_of_no_use_inside(s3):
    for bucket in BUCKETS:
        assert ask(s3, "s3:GetObject", f"{S3}{bucket}/key", THEIR_KEY) is Answer.SILENT
        assert ask(s3, "s3:GetObject", f"{S3}{bucket}/key", {}) is Answer.SILENT  # nobody's: no signature


def test_the_image_can_be_pulled_and_its_bucket_not_written(s3, example):
    # ECR signs these requests with a key of AWS's own
    of_aws = {"aws:PrincipalAccount": "814000000000", "aws:ResourceAccount": "814000000000"}
    assert ask(s3, "s3:GetObject", LAYER, of_aws) is Answer.ALLOWED
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:PutObjectAcl"):
        assert ask(s3, action, LAYER, of_aws | OURS) is Answer.SILENT
    assert ask(s3, "s3:ListBucket", LAYER.partition("/")[0], of_aws) is Answer.SILENT
    (repository,) = (values["arn"] for values in example.all_values("aws_ecr_repository"))
    for service in ("ecr.api", "ecr.dkr"):
        policy = endpoints(example)[service]
        assert ask(policy, "ecr:GetAuthorizationToken", "*", OURS) is Answer.ALLOWED
        for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"):
            assert ask(policy, action, repository, OURS) is Answer.ALLOWED
            assert ask(policy, action, repository.replace(ACCOUNT, STRANGER), OURS) is Answer.SILENT
        assert ask(policy, "ecr:PutImage", repository, OURS) is Answer.SILENT
        assert ask(policy, "ecr:GetAuthorizationToken", "*", THEIR_KEY) is Answer.SILENT


def test_logs_go_to_the_jobs_own_group(example):
    policy = endpoints(example)["logs"]
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/batch/{NAME}"
    assert ask(policy, "logs:PutLogEvents", f"{group}:log-stream:verify/1", OURS) is Answer.ALLOWED
    assert ask(policy, "logs:PutLogEvents", f"{group}-other:log-stream:x", OURS) is Answer.SILENT
    assert ask(policy, "logs:PutLogEvents", f"{group.replace(ACCOUNT, STRANGER)}:log-stream:x", OURS) is Answer.SILENT
    assert ask(policy, "logs:PutLogEvents", f"{group}:log-stream:x", THEIR_KEY) is Answer.SILENT


def test_jobs_are_submitted_by_this_account_only(example):
    """What a role may ask Batch for passes the endpoint; nothing else does."""
    policy = endpoints(example)["batch"]
    granted = {
        action
        for values in example.all_values("aws_iam_role_policy")
        for statement in json.loads(values["policy"])["Statement"]
        for action in listed(statement["Action"])
        if action.startswith("batch:")
    }
    assert "batch:SubmitJob" in granted
    assert {action for action in granted if ask(policy, action, "*", OURS) is not Answer.ALLOWED} == set()
    assert {action for action in granted if ask(policy, action, "*", THEIR_KEY) is Answer.ALLOWED} == set()
    assert ask(policy, "batch:RegisterJobDefinition", "*", OURS) is Answer.SILENT


def test_accounts_that_are_named_are_reached_and_no_others(hosts):
    """A source of another account, and a place to restore to."""
    policy = json.loads(hosts.output("s3_endpoint_policy"))["Statement"]
    assert endpoints(hosts)["s3"] == policy
    partners = OURS | {"aws:ResourceAccount": PARTNER}
    for bucket in ("example-scans", "partners-bucket"):
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", partners) is Answer.ALLOWED
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", OURS) is Answer.ALLOWED
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", THEIR_BUCKET) is Answer.SILENT
    assert ask(policy, "s3:PutObject", f"{S3}partners-other-bucket/key", partners) is Answer.SILENT


def test_only_endpoints_that_take_no_policy_have_none(hosts):
    found = endpoints(hosts)
    assert set(found) == {"s3", "ecr.api", "ecr.dkr", "logs", "batch", *WITHOUT_POLICY}
    assert {service for service, policy in found.items() if policy == DEFAULT} == WITHOUT_POLICY
