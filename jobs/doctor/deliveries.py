"""Deliveries to the queue of events: what S3 and EventBridge ask of its policy and its key. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
"""

from __future__ import annotations

from jobs.aws.account import Identity
from jobs.doctor.evaluation import ServiceRequest
from jobs.doctor.expected import rule_plans, source_plans
from jobs.policy.model import Policy


def _senders(policy: Policy, identity: Identity) -> list[tuple[str, str, str | None]]:
    """(service, ARN, account) of who sends to the queue of events. EventBridge tells no account."""
    partition, account, home = identity.partition, identity.account, policy.ledger.region
    buckets = [source.bucket for source in source_plans(policy) if source.is_direct]
    rules = [rule.name for rule in rule_plans(policy) if rule.goal == f"{policy.name}-objects" and rule.region == home]
    arn = f"arn:{partition}:events:{home}:{account}:rule"
    return [
        *(("s3.amazonaws.com", f"arn:{partition}:s3:::{bucket}", account) for bucket in buckets),
        *(("events.amazonaws.com", f"{arn}/{rule}", None) for rule in rules),
    ]


def sends(policy: Policy, identity: Identity) -> tuple[ServiceRequest, ...]:
    """What the queue's policy has to allow."""
    queue = _queue_arn(policy, identity)
    return tuple(
        ServiceRequest(
            service,
            "sqs:SendMessage",
            queue,
            {"aws:sourcearn": arn, "aws:sourceaccount": account, "aws:securetransport": "true"},
        )
        for service, arn, account in _senders(policy, identity)
    )


def encrypts(policy: Policy, identity: Identity) -> tuple[ServiceRequest, ...]:
    """What the policy of the queue's key has to allow. EventBridge tells KMS no source."""
    contexts = {
        service: {
            "aws:sourcearn": arn if account else None,
            "aws:sourceaccount": account,
            "kms:encryptioncontext:aws:sqs:arn": _queue_arn(policy, identity),
            "kms:encryptioncontext:aws:sns:topicarn": None,
            "kms:encryptioncontext:aws:logs:arn": None,
        }
        for service, arn, account in _senders(policy, identity)
    }
    return tuple(
        ServiceRequest(service, f"kms:{action}", "*", context)
        for service, context in contexts.items()
        for action in ("GenerateDataKey", "Decrypt")
    )


def _queue_arn(policy: Policy, identity: Identity) -> str:
    return f"arn:{identity.partition}:sqs:{policy.ledger.region}:{identity.account}:{policy.name}-objects"
