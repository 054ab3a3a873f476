"""S3 Batch Replication: the command that replicates what S3 does not replicate by itself. Pure.

S3 replicates what is written while a rule is there, and tries once. Older objects, and those that
failed, wait for a job of S3 Batch Operations, whose manifest S3 makes from the rules.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-batch.html
"""

from __future__ import annotations

import json
import shlex


def advice(bucket: str, region: str, account: str, system: str) -> str:
    """What to do for a bucket of an account. The jobs' role is Terraform's (replication.tf)."""
    generator = {
        "SourceBucket": f"arn:aws:s3:::{bucket}",
        "EnableManifestOutput": False,
        "Filter": {"EligibleForReplication": True, "ObjectReplicationStatuses": ["NONE", "FAILED"]},
    }
    options = {
        "account-id": account,
        "region": region,
        "role-arn": f"arn:aws:iam::{account}:role/{system}-batch-replication",
        "operation": json.dumps({"S3ReplicateObject": {}}),
        "manifest-generator": json.dumps({"S3JobManifestGenerator": generator}),
        "report": json.dumps({"Enabled": False}),
        "priority": "10",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = shlex.join(["aws", "s3control", "create-job", *words, "--no-confirmation-required"])
    return f"start S3 Batch Replication: {command}"
