"""The table of operations against botocore's model of S3, and against the Store."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any

import botocore.session
import pytest

from jobs.s3.operations import BY_CALL, CONTENT, Operation
from jobs.s3.store import Store

MODEL = botocore.session.Session().get_service_model("s3")


def parameters(operation: Operation) -> Mapping[str, Any]:
    shape = MODEL.operation_model(str(operation)).input_shape
    return shape.members if shape else {}


@pytest.mark.parametrize("operation", Operation)
def test_each_answer_is_read_as_what_botocore_says_it_is(operation: Operation) -> None:
    output = MODEL.operation_model(str(operation)).output_shape
    members = output.members if output else {}
    payload = output.serialization.get("payload") if output else None
    is_content = payload is not None and members[payload].type_name == "blob"
    in_body = [each for each in members.values() if "location" not in each.serialization]
    assert (operation.body is CONTENT) is is_content
    assert is_content or bool(operation.body) is bool(in_body)


@pytest.mark.parametrize("operation", [each for each in Operation if len(each.actions) > 1])
def test_what_has_an_action_for_versions_names_a_version(operation: Operation) -> None:
    assert "VersionId" in parameters(operation)
    assert operation.actions[1] == operation.actions[0].replace("Object", "ObjectVersion", 1)


def test_each_request_of_a_store_has_its_row() -> None:
    requests = {name for name, each in vars(Store).items() if iscoroutinefunction(each)}
    assert requests - {"close"} == BY_CALL.keys()
