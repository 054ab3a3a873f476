"""The evaluation itself: AWS's documented rules, as a table."""

from __future__ import annotations

import pytest

from tests.terraform.iam import Answer, decide, matches

KEY = "arn:aws:s3:::b/k"


def allow(**changes):
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": KEY, **changes}


def without(statement, name, **changes):
    return {key: value for key, value in statement.items() if key != name} | changes


@pytest.mark.parametrize(
    ("statements", "context", "answer"),
    [
        ([], {}, "silent"),
        ([allow()], {}, "allowed"),
        ([allow(Action="S3:getobject")], {}, "allowed"),
        ([allow(Action=["s3:Get*"])], {}, "allowed"),
        ([allow(Action="s3:Put*")], {}, "silent"),
        ([allow(Resource="arn:aws:s3:::b/?")], {}, "allowed"),
        ([allow(Resource="arn:aws:s3:::B/k")], {}, "silent"),
        ([allow(), allow(Effect="Deny", Action="s3:*", Resource="*")], {}, "denied"),
        ([without(allow(), "Action", NotAction="s3:PutObject")], {}, "allowed"),
        ([without(allow(), "Action", NotAction="s3:Get*")], {}, "silent"),
        ([allow(), without(allow(Effect="Deny"), "Resource", NotResource="arn:aws:s3:::b/k*")], {}, "allowed"),
        ([allow(), without(allow(Effect="Deny"), "Resource", NotResource="arn:aws:s3:::c/*")], {}, "denied"),
        ([allow(Condition={"StringLike": {"s3:prefix": ["a/*", "b/*"]}})], {"s3:prefix": "b/c"}, "allowed"),
        ([allow(Condition={"StringLike": {"s3:prefix": "a/*"}})], {}, "silent"),
        ([allow(Condition={"StringLikeIfExists": {"s3:prefix": "a/*"}})], {}, "allowed"),
        ([allow(Condition={"StringLikeIfExists": {"s3:prefix": "a/*"}})], {"s3:prefix": "b/"}, "silent"),
        ([allow(Condition={"StringNotEquals": {"aws:SourceAccount": "1"}})], {}, "allowed"),
        (
            [allow(Condition={"StringNotEquals": {"aws:SourceAccount": ["1", "2"]}})],
            {"aws:sourceaccount": "2"},
            "silent",
        ),
        ([allow(Condition={"Null": {"s3:if-none-match": "true"}})], {}, "allowed"),
        ([allow(Condition={"Null": {"s3:if-none-match": "true"}})], {"s3:if-none-match": "*"}, "silent"),
        ([allow(Condition={"Bool": {"aws:SecureTransport": "false"}})], {"aws:SecureTransport": "false"}, "allowed"),
        (
            [allow(Condition={"StringEquals": {"x": "1"}, "Bool": {"y": "true"}})],  # both must hold
            {"x": "1", "y": "false"},
            "silent",
        ),
    ],
)
def test_rules(statements, context, answer):
    assert decide(statements, "s3:GetObject", KEY, context) == answer


def test_a_principal_that_is_not_named_is_not_meant():
    statement = allow(Principal={"Service": ["s3.amazonaws.com"]})
    assert decide([statement], "s3:GetObject", KEY, None, "s3.amazonaws.com") is Answer.ALLOWED
    assert decide([statement], "s3:GetObject", KEY, None, "events.amazonaws.com") is Answer.SILENT


def test_what_is_not_known_is_not_taken_for_granted():
    with pytest.raises(KeyError):
        decide(
            [allow(Condition={"DateLessThan": {"aws:CurrentTime": "2026"}})],
            "s3:GetObject",
            KEY,
            {"aws:CurrentTime": "x"},
        )


def test_patterns_are_no_regular_expressions():
    assert matches("a.b/*", "a.b/\n")
    assert not matches("a.b", "axb")
    assert not matches("[a]", "a")
