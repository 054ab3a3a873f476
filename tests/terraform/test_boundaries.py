"""Accounts with rules of their own for roles: a permissions boundary, and a path."""

from __future__ import annotations

import json

import pytest

from tests.terraform.conftest import applied
from tests.terraform.iam import listed

BOUNDARY = "arn:aws:iam::123456789012:policy/platform/boundary"


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    variables = (f"role_permissions_boundary={BOUNDARY}", "role_path=/platform/sealift/")
    return applied(tmp_path_factory, "bounded", "examples/full/policy.yaml", *variables)[1]


def test_every_role_has_the_boundary_and_the_path(bounded):
    roles = list(bounded.all_values("aws_iam_role"))
    assert len(roles) > 15
    for values in roles:
        assert values["permissions_boundary"] == BOUNDARY, values["name"]
        assert values["path"] == "/platform/sealift/", values["name"]
        assert f":role{values['path']}{values['name']}" in values["arn"]
    for values in bounded.all_values("aws_iam_instance_profile"):
        assert values["path"] == "/platform/sealift/"


def test_no_policy_names_a_role_without_its_path(bounded):
    """An ARN that is put together would lack it."""
    texts = [
        str(value)
        for values in bounded.resources
        for value in values["values"].values()
        if isinstance(value, str) and ":role/" in value
    ]
    assert texts
    assert [text for text in texts if ":role/atlantic" in text] == []
    documents = [json.loads(values["policy"]) for values in bounded.all_values("aws_iam_role_policy")]
    assert not [
        resource
        for document in documents
        for statement in document["Statement"]
        for resource in listed(statement.get("Resource", []))
        if ":role/" in resource
    ]


def test_without_them_roles_are_plain(example):
    for values in example.all_values("aws_iam_role"):
        assert values["permissions_boundary"] in (None, "")
        assert values["path"] == "/"
