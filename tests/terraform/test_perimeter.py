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

BUCKETS = (
    *("example-scans", "example-customs-us", "example-tracking", "example-hot-fra", "example-hot-dub"),
    *("example-customs-copies", "example-archives-fra", "example-inventory-fra", "example-ledger"),
)
LAYER = f"{S3}prod-{REGION}-starport-layer-bucket/e501-012345678910/04620aac"

REPOSITORY = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/sealift"
OF_AWS = {"aws:PrincipalAccount": "814000000000", "aws:ResourceAccount": "814000000000"}
"""ECR signs requests for layers with a key of AWS's own."""


def endpoints(state) -> dict[str, list[dict[str, Any]]]:
    """Service → the statements of its endpoints. S3 has one in each region."""
    found: dict[str, list[dict[str, Any]]] = {}
    for values, policy in state.policies("aws_vpc_endpoint"):
        assert found.setdefault(values["service_name"].split(".", 3)[3], policy) == policy
    # To an endpoint without a policy AWS gives one that allows all.
    assert all(values["policy"] for values in state.all_values("aws_vpc_endpoint"))
    return found


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
        assert Settings.from_environment(environment).endpoints_only


ECR = ("ecr.api", "ecr.dkr")
REACHED = [
    *((service, "ecr:GetAuthorizationToken", "*", OURS) for service in ECR),
    *((service, f"ecr:{action}", REPOSITORY, OURS) for service in ECR for action in (
        "BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability")),
    ("s3", "s3:GetObject", LAYER, OF_AWS),
]  # fmt: skip
NOT_REACHED = [
    # foreign buckets, and ones of our name in another account
    *(("s3", action, f"{S3}{place}", context) for context in (OURS, THEIR_BUCKET)
      for action in ("s3:PutObject", "s3:GetObject", "s3:ListBucket")
      for place in ("evil", "evil/key", "example-hot-fra.evil/key")),
    *(("s3", "s3:PutObject", f"{S3}{bucket}/key", THEIR_BUCKET) for bucket in BUCKETS),
    # ours, by a key of another account or without a signature
    *(("s3", "s3:GetObject", f"{S3}{bucket}/key", context) for bucket in BUCKETS for context in (THEIR_KEY, {})),
    # the image's layers are not written
    *(("s3", action, LAYER, OF_AWS | OURS) for action in ("s3:PutObject", "s3:DeleteObject", "s3:PutObjectAcl")),
    ("s3", "s3:ListBucket", LAYER.partition("/")[0], OF_AWS),
    *((service, "ecr:BatchGetImage", REPOSITORY.replace(ACCOUNT, STRANGER), OURS) for service in ECR),
    *((service, "ecr:PutImage", REPOSITORY, OURS) for service in ECR),
    *((service, "ecr:GetAuthorizationToken", "*", THEIR_KEY) for service in ECR),
]  # fmt: skip


def test_what_is_reached_and_what_is_not(example):
    policies = endpoints(example)
    for table, answer in ((REACHED, Answer.ALLOWED), (NOT_REACHED, Answer.SILENT)):
        for service, action, resource, context in table:
            assert decide(policies[service], action, resource, context, "*") is answer, (service, action, resource)


def test_accounts_that_are_named_are_reached_and_no_others(elsewhere):
    """A source of another account, and a place to restore to."""
    policy = json.loads(elsewhere.output("s3_endpoint_policy"))["Statement"]

    def ask(place: str, context: dict[str, str]) -> Answer:
        return decide(policy, "s3:PutObject", f"{S3}{place}/key", context, "*")

    partners = OURS | {"aws:ResourceAccount": PARTNER}
    for bucket in ("example-scans", "partners-bucket"):
        assert ask(bucket, partners) is Answer.ALLOWED
        assert ask(bucket, OURS) is Answer.ALLOWED
        assert ask(bucket, THEIR_BUCKET) is Answer.SILENT
    assert ask("partners-other-bucket", partners) is Answer.SILENT
