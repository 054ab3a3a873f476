"""Undelivered events: what they announce, and AWS's reasons. Any text may be in a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.aws.queues import Message
from jobs.backup.letters import NO_REASON, TEXT_MAX, describe_undelivered


def message(body: Any, **attributes: str) -> Message:
    text = body if isinstance(body, str) else json.dumps(body)
    return Message("m1", "receipt", text, 2, 1.5e9, attributes)


def event(source: str, kind: str, **detail: Any) -> dict[str, Any]:
    return {"source": source, "detail-type": kind, "detail": detail}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            event("aws.s3", "Object Deleted", bucket={"name": "b"}, object={"key": "k/ü"}),
            "Object Deleted: s3://b/k/ü",
        ),
        (
            event("aws.batch", "Batch Job State Change", jobName="night", status="FAILED"),
            "Batch Job State Change: night FAILED",
        ),
        (event("aws.batch", "Batch Job Queue Blocked", jobQueue="spot"), "Batch Job Queue Blocked: spot"),
        (event("aws.cloudwatch", "CloudWatch Alarm State Change", alarmName="a"), "CloudWatch Alarm State Change: a"),
        ({"action": "nightly", "pair": "scans"}, "a call of nightly scans"),
        ({"action": "backlog"}, "a call of backlog"),
        *((odd, "message m1") for odd in ("{", "null", "[]", "3", '"text"', {"detail-type": 1})),
        (event("aws.s3", "Object Created", bucket=[], object=None), "message m1"),
        ("[" * 100_000, "message m1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_says_what_it_announces(body: Any, what: str) -> None:
    found = describe_undelivered(message(body))
    assert (found["what"], found["reason"]) == (what, NO_REASON)
    assert (found["message_id"], found["sent_at"], found["received_count"]) == ("m1", 1.5e9, 2)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "why"}, "NO_PERMISSIONS: why"),
        ({"ErrorCode": "200", "ErrorMessage": "it failed"}, "200: it failed"),
        ({"ERROR_CODE": "THROTTLING"}, "THROTTLING"),
    ],
)
def test_reasons_are_those_of_each_service(attributes: dict[str, str], reason: str) -> None:
    assert describe_undelivered(message("{}", **attributes))["reason"] == reason


def test_long_texts_are_cut() -> None:
    body = event("aws.s3", "Object Created", bucket={"name": "b"}, object={"key": "k" * 5000})
    found = describe_undelivered(message(body, ERROR_MESSAGE="x" * 5000))
    assert (len(found["what"]), len(found["reason"])) == (TEXT_MAX, TEXT_MAX)
