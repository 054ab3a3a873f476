"""The workers' network: through its endpoints lead ways to this account and to the image's layers, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.config import Settings
from tests.terraform.iam import Answer, decide

pytestmark = pytest.mark.slow

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
    repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/sealift"
    for service in ("ecr.api", "ecr.dkr"):
        policy = endpoints(example)[service]
        assert ask(policy, "ecr:GetAuthorizationToken", "*", OURS) is Answer.ALLOWED
        for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"):
            assert ask(policy, action, repository, OURS) is Answer.ALLOWED
            assert ask(policy, action, repository.replace(ACCOUNT, STRANGER), OURS) is Answer.SILENT
        assert ask(policy, "ecr:PutImage", repository, OURS) is Answer.SILENT
        assert ask(policy, "ecr:GetAuthorizationToken", "*", THEIR_KEY) is Answer.SILENT


def test_accounts_that_are_named_are_reached_and_no_others(elsewhere):
    """A source of another account, and a place to restore to."""
    policy = json.loads(elsewhere.output("s3_endpoint_policy"))["Statement"]
    partners = OURS | {"aws:ResourceAccount": PARTNER}
    for bucket in ("example-scans", "partners-bucket"):
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", partners) is Answer.ALLOWED
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", OURS) is Answer.ALLOWED
        assert ask(policy, "s3:PutObject", f"{S3}{bucket}/key", THEIR_BUCKET) is Answer.SILENT
    assert ask(policy, "s3:PutObject", f"{S3}partners-other-bucket/key", partners) is Answer.SILENT
