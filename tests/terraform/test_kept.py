"""What must stay: keys under existing copies, and versions of the ledger."""

from __future__ import annotations

import math
import re

import pytest
import yaml

from jobs.ledger.files import REPLACED_ALWAYS
from tests.doubles.ledgers import LEDGER_FILES
from tests.terraform.conftest import _terraform
from tests.terraform.iam import Answer, decide
from tests.terraform.world import SETTINGS, written
from tests.terraform.world import example as example_policy

pytestmark = pytest.mark.slow

KEPT_DAYS = {"runs/*": 730}
"""Files of the ledger that nobody needs for ever: what runs said of objects is in the state."""
FREED = {"backlog/*", "state/*"}
"""Files of the ledger that a run, a manifest or a generation has taken over long before they expire."""


def rules(state, bucket: str) -> list[dict]:
    (found,) = [
        values["rule"]
        for values in state.all_values("aws_s3_bucket_lifecycle_configuration")
        if values["bucket"] == bucket
    ]
    return [rule for rule in found if rule["status"] == "Enabled"]


def prefix_of(rule) -> str:
    return str((rule["filter"] or [{}])[0].get("prefix") or "")


def test_no_version_of_the_ledger_goes_that_a_decision_rests_on(example):
    """Who deletes in the ledger hides an announcement or a cancel: the version below stays to be brought back."""
    for pattern in {*LEDGER_FILES} - {*REPLACED_ALWAYS} - FREED:
        name = f"sealift/{pattern.partition('*')[0]}"
        for rule in rules(example, "example-ledger"):
            is_about = prefix_of(rule).startswith(name) or name.startswith(prefix_of(rule))
            days = [each["noncurrent_days"] for each in rule["noncurrent_version_expiration"]]
            days += [each["days"] for each in rule["expiration"]]
            assert not is_about or min(days, default=math.inf) >= KEPT_DAYS.get(pattern, math.inf), (name, rule["id"])


def test_of_the_state_only_what_was_deleted_goes(example):
    [rule] = [rule for rule in rules(example, "example-ledger") if prefix_of(rule) == "sealift/state/"]
    assert [each["noncurrent_days"] for each in rule["noncurrent_version_expiration"]] == [30]
    assert [(each["days"], each["expired_object_delete_marker"]) for each in rule["expiration"]] == [(None, True)]


@pytest.fixture(scope="module")
def narrower(applied_example, tmp_path_factory):
    """(Terraform with the example's state, a policy file that no longer names Virginia)."""
    content = yaml.safe_load(example_policy())
    content["pairs"] = [pair for pair in content["pairs"] if pair["name"] != "customs"]
    del content["inventory"]["buckets"]["us-east-1"]
    return applied_example, written(tmp_path_factory.mktemp("policy"), content)


def plan(terraform, policy: str, *variables: str):
    chosen = [
        f"-var-file={SETTINGS}",
        f"-var=policy_file={policy}",
        "-var=closed_network=true",
        *(f"-var={each}" for each in variables),
    ]
    return terraform.run("plan", "-no-color", "-input=false", *chosen)


def test_a_region_that_is_dropped_keeps_its_key(narrower):
    """Copies under it would be lost with it."""
    terraform, policy = narrower
    refused = plan(terraform, policy)
    assert refused.returncode == 1
    assert "Instance cannot be destroyed" in refused.stderr
    assert 'aws_kms_key.this["us-east-1"]' in refused.stderr
    kept = plan(terraform, policy, 'kept_key_regions=["us-east-1"]')
    assert kept.returncode == 0, kept.stderr
    assert not re.search(r"aws_kms_key\.\S+ will be destroyed", kept.stdout)


def test_copies_under_a_kept_key_can_still_be_read(tmp_path_factory):
    given = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"
    policy = written(tmp_path_factory.mktemp("policy"), example_policy())
    state = _terraform(tmp_path_factory).apply(
        policy, f'kms_key_arns={{"eu-central-1"="{given}"}}', 'kept_key_regions=["eu-central-1"]'
    )
    kept = state.all("aws_kms_key")["eu-central-1"]["arn"]
    by_s3 = {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}
    for role in ("verify", "restore", "replicate"):
        statements = state.statements(f"parcels-job-{role}")
        assert decide(statements, "kms:Decrypt", kept, by_s3) is Answer.ALLOWED
        assert decide(statements, "kms:GenerateDataKey", kept, by_s3) is Answer.SILENT
        assert decide(statements, "kms:GenerateDataKey", given, by_s3) is Answer.ALLOWED
