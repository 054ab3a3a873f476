"""S3 Batch Replication: the command that replicates what S3 does not replicate by itself. Pure.

S3 replicates what is written while a rule is there, and tries once. Older objects, and those that
failed, wait for a job of S3 Batch Operations, whose manifest S3 makes from the rules.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-batch.html
"""

from __future__ import annotations

import json
import shlex

from jobs.aws.readings import Reading, Unread

REPLICATION, BATCH_REPLICATION = "-replication", "-batch-replication"
"""The ends of the names of the rules' role and of the jobs' role (replication.tf)."""


def advice(bucket: str, region: str, role: Reading[str | None]) -> str:
    """What to do for a bucket. `role`: the ARN of the role of its rules, None without rules."""
    if role is None or isinstance(role, Unread):
        return f"start S3 Batch Replication of {bucket}, once its rules are there and can be read"
    partition, account = role.split(":")[1], role.split(":")[4]
    generator = {
        "SourceBucket": f"arn:{partition}:s3:::{bucket}",
        "EnableManifestOutput": False,
        "Filter": {"EligibleForReplication": True, "ObjectReplicationStatuses": ["NONE", "FAILED"]},
    }
    options = {
        "account-id": account,
        "region": region,
        "role-arn": role.removesuffix(REPLICATION) + BATCH_REPLICATION,
        "operation": json.dumps({"S3ReplicateObject": {}}),
        "manifest-generator": json.dumps({"S3JobManifestGenerator": generator}),
        "report": json.dumps({"Enabled": False}),
        "priority": "10",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = shlex.join(["aws", "s3control", "create-job", *words, "--no-confirmation-required"])
    return f"start S3 Batch Replication: {command}"
