"""What Batch refuses: botocore's own model of each request, and the rules that only its documentation tells."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

PAYLOAD_BYTES_MAX = 30 * 1024
OVERRIDES_CHARS_MAX = 8192
"""https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html"""


class Refused(Exception):
    """A request that Batch answers with ClientException."""


@functools.cache
def model() -> ServiceModel:
    """botocore's model of Batch."""
    return ServiceModel(Loader().load_service_model("batch", "service-2"), "batch")


@functools.cache
def paths() -> Mapping[str, str]:
    """Request path → operation."""
    return {model().operation_model(name).http["requestUri"]: name for name in model().operation_names}


def check_shape(value: dict[str, Any], shape: Any, what: str) -> None:
    """Raises Refused when the value is not of the model's shape."""
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        raise Refused(f"{what}: {report.generate_report()}")
    unknown = set(value) - set(shape.members)
    if unknown:
        raise Refused(f"{what}: unknown members {sorted(unknown)}")


def check_submission(request: dict[str, Any]) -> None:
    """The documented rules of SubmitJob, for queues without a scheduling policy. Raises Refused."""
    _require(len(json.dumps(request)) <= PAYLOAD_BYTES_MAX, "Job payload must be at most 30 KiB")
    _require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", request["jobName"]) is not None,
        f"Job name {request['jobName']} should match valid pattern",
    )
    size = (request.get("arrayProperties") or {}).get("size")
    if size is not None:
        _require(2 <= size <= 10_000, "Array size should be between 2 and 10000")
    overrides = request.get("containerOverrides") or {}
    _require(len(json.dumps(overrides)) <= OVERRIDES_CHARS_MAX, "Container Overrides length must be at most 8192")
    for variable in overrides.get("environment") or []:
        _require(
            not variable.get("name", "").startswith("AWS_BATCH"), "Environment variables cannot start with AWS_BATCH"
        )
    _check_dependencies(request.get("dependsOn") or [])
    _check_retries(request.get("retryStrategy"))
    timeout = (request.get("timeout") or {}).get("attemptDurationSeconds")
    _require(timeout is None or timeout >= 60, "attemptDurationSeconds must be at least 60")
    # https://docs.aws.amazon.com/batch/latest/userguide/share-identifiers.html
    for name in ("shareIdentifier", "schedulingPriorityOverride"):
        _require(name not in request, f"{name} cannot be specified for a job queue without a scheduling policy")
    _require(len(request.get("tags") or {}) <= 50, "Too many tags")


def _check_dependencies(depends: list[dict[str, Any]]) -> None:
    _require(len(depends) <= 20, "A job can depend on at most 20 jobs")
    for each in depends:
        _require("type" not in each and bool(each.get("jobId")), "A dependency needs a jobId, and no type here")


def _check_retries(strategy: dict[str, Any] | None) -> None:
    if strategy is None:
        return
    rules = strategy.get("evaluateOnExit") or []
    _require(not rules or "attempts" in strategy, "evaluateOnExit needs attempts")
    _require(1 <= strategy.get("attempts", 1) <= 10, "attempts must be between 1 and 10")
    _require(len(rules) <= 5, "evaluateOnExit must have at most 5 rules")
    for rule in rules:
        _require(rule["action"].upper() in ("RETRY", "EXIT"), "action must be RETRY or EXIT")
        _require(any(name in rule for name in ("onExitCode", "onReason", "onStatusReason")), "a rule needs a condition")
        patterns = {"onExitCode": r"[0-9]*\*?", "onReason": r"[\w.:\s]*\*?", "onStatusReason": r"[\w.:\s]*\*?"}
        for name, pattern in patterns.items():
            _require(re.fullmatch(pattern, rule.get(name, "")) is not None, f"{name} {rule.get(name)!r} is no pattern")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)
