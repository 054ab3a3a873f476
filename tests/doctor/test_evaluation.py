"""What policies and patterns let through, by AWS's documentation and by a second evaluator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.doctor.evaluation import ServiceRequest, allows, lets_through
from tests.terraform.iam import Answer, decide

QUEUE = "arn:aws:sqs:eu-central-1:123456789012:q"
BUCKET = "arn:aws:s3:::b"
CONTEXT: dict[str, str | None] = {"aws:sourcearn": BUCKET, "aws:sourceaccount": None, "aws:securetransport": "true"}
REQUEST = ServiceRequest("s3.amazonaws.com", "sqs:SendMessage", QUEUE, CONTEXT)

conditions = st.dictionaries(
    st.sampled_from(["StringEquals", "StringLike", "ArnLike", "ArnEquals", "StringEqualsIfExists", "StringNotEquals"]),
    st.dictionaries(
        st.sampled_from(["aws:SourceArn", "aws:SourceAccount", "AWS:SourceArn"]),
        st.sampled_from([BUCKET, "arn:aws:s3:::*", "123456789012", ["x", BUCKET]]),
        min_size=1,
    ),
    max_size=2,
)
parts: list[st.SearchStrategy[dict[str, Any]]] = [
    st.sampled_from([{"Effect": "Allow"}, {"Effect": "Allow"}, {"Effect": "Deny"}]),
    st.sampled_from(
        [
            {"Principal": "*"},
            {"Principal": {"Service": "s3.amazonaws.com"}},
            {"Principal": {"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]}},
            {"Principal": {"AWS": "1"}},
        ]
    ),
    st.sampled_from([{"Action": "sqs:SendMessage"}, {"Action": ["SQS:*"]}, {"NotAction": "sqs:Send*"}]),
    st.sampled_from([{"Resource": "*"}, {"Resource": [QUEUE]}, {"NotResource": QUEUE}, {"Resource": f"{QUEUE}-dead"}]),
    conditions.map(lambda condition: {"Condition": condition}),
]
statements = st.tuples(*parts).map(lambda chosen: {name: value for part in chosen for name, value in part.items()})


@given(st.lists(statements, max_size=4))
def test_policies_are_read_as_a_second_evaluator_reads_them(policy: list[dict[str, Any]]):
    context = {name: value for name, value in CONTEXT.items() if value is not None}
    expected = decide(policy, "sqs:SendMessage", QUEUE, context, "s3.amazonaws.com")
    assert allows({"Statement": policy}, REQUEST) == (expected == Answer.ALLOWED)


@pytest.mark.parametrize(
    "statement",
    [
        {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}},
        {"NotPrincipal": {"AWS": "1"}},
    ],
)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_what_is_not_understood_is_never_an_answer(statement: dict[str, Any], effect: str):
    base = {"Effect": effect, "Principal": "*", "Action": "*", "Resource": "*"}
    with pytest.raises((ValueError, KeyError)):
        allows({"Statement": [base | statement]}, REQUEST)


EVENT = {"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": "scans/1"}, "size": 5}}


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        ({}, True),
        ({"source": ["aws.s3", "aws.batch"]}, True),
        ({"source": ["aws.batch"]}, False),
        ({"detail": {"object": {"key": [{"prefix": "scans/"}]}}}, True),
        ({"detail": {"object": {"key": [{"prefix": "old/"}, {"suffix": "/1"}]}}}, True),
        ({"detail": {"object": {"key": [{"prefix": "old/"}]}}}, False),
        ({"detail": {"object": {"key": [{"anything-but": "scans/1"}]}}}, False),
        ({"detail": {"object": {"key": [{"equals-ignore-case": "SCANS/1"}]}}}, True),
        ({"detail": {"nothing": [{"exists": False}]}}, True),
        ({"detail": {"array": {"index": [{"exists": False}]}}}, True),
        ({"detail": {"bucket": {"name": [{"exists": False}]}}}, False),
        ({"detail": {"size": [5]}}, True),
        ({"detail": {"missing": ["x"]}}, False),
        ({"region": ["eu-central-1"]}, False),
    ],
)
def test_patterns_let_through_what_eventbridge_does(pattern: dict[str, Any], passes: bool):
    assert lets_through(pattern, EVENT) == passes


@pytest.mark.parametrize(
    "pattern",
    [
        {"detail": {"size": [{"numeric": [">", 1]}]}},
        {"detail": {"object": {"key": [{"anything-but": {"prefix": "old/"}}]}}},
        {"$or": [{"source": ["aws.s3"]}, {"source": ["aws.batch"]}]},
        {"source": "aws.s3"},
    ],
)
def test_a_pattern_that_is_not_understood_is_never_an_answer(pattern: dict[str, Any]):
    with pytest.raises((ValueError, AttributeError)):
        lets_through(pattern, EVENT)
