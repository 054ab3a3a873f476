"""S3's events in every shape that a queue delivers them in, as AWS documents them."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote_plus

TIME = "2026-11-25T00:00:00.000Z"


def record(bucket: str, key: str, name: str = "ObjectCreated:Put", time: str = TIME, **thing: Any) -> dict[str, Any]:
    """A record of an S3 event notification; `thing`: what is known of the object (versionId, eTag, size, sequencer)."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": time,
        "eventName": name,
        "userIdentity": {"principalId": "AWS:EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.3"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "sealift",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "EXAMPLE"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/"), **thing},
        },
    }


def notification(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def eventbridge(bucket: str, key: str, kind: str = "Object Created", time: str = TIME, **thing: Any) -> dict[str, Any]:
    """EventBridge's shape; in `thing`, deletion_type and reason belong to the detail, the rest to the object."""
    detail = {
        "version": "0",
        "bucket": {"name": bucket},
        "object": {
            "key": key,
            **{name.replace("_", "-"): value for name, value in thing.items() if name not in _DETAIL},
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "192.0.2.3",
        **{name.replace("_", "-"): value for name, value in thing.items() if name in _DETAIL},
    }
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.s3",
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": detail,
    }


_DETAIL = ("reason", "deletion_type", "restore_expiry_time", "source_storage_class")


def probe(bucket: str) -> dict[str, Any]:
    """What S3 sends when notifications are configured."""
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": TIME,
        "Bucket": bucket,
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
    }


def from_sns(message: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:uploads",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "Timestamp": TIME,
    }


def message(body: Any, message_id: str | None = None) -> dict[str, Any]:
    """One SQS message as Lambda's event source mapping hands it over."""
    return {
        "messageId": message_id or str(uuid.uuid4()),
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:sealift-events",
        "awsRegion": "us-east-1",
    }


def batch(*bodies: Any) -> dict[str, Any]:
    """A batch of messages m0, m1, …"""
    return {"Records": [message(body, f"m{number}") for number, body in enumerate(bodies)]}
