"""Evaluation as AWS does it: what resource policies and event patterns let through. Pure.

Of policies a Deny that applies wins, else an Allow is needed. What is not known here (another
operator, a condition on a key that the request may or may not bring) makes the answer unknown, and
never good.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Statement = Mapping[str, Any]

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"}


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """What a service of AWS asks of a resource.

    `context`: condition keys in lower case with their values. None: the service does not send it.
    """

    service: str
    action: str
    resource: str
    context: Mapping[str, str | None]


def allows(policy: Mapping[str, Any], request: ServiceRequest) -> bool:
    """Whether the policy lets the request through. Raises ValueError where that is unknown."""
    effects = {each["Effect"] for each in _listed(policy.get("Statement", [])) if _applies(each, request)}
    return effects == {"Allow"}


def _applies(statement: Statement, request: ServiceRequest) -> bool:
    if unknown := set(statement) - _ELEMENTS:
        raise ValueError(f"a policy statement has {', '.join(sorted(unknown))}")
    return (
        _is_named(statement["Principal"], request.service)
        and _is_in(statement, "Action", request.action, str.lower)
        and _is_in(statement, "Resource", request.resource, str)
        and all(
            _holds(operator, name.lower(), _listed(values), request.context)
            for operator, tests in statement.get("Condition", {}).items()
            for name, values in tests.items()
        )
    )


def _is_named(principal: Any, service: str) -> bool:
    if principal == "*":
        return True
    return "*" in _listed(principal.get("AWS", [])) or service in _listed(principal.get("Service", []))


def _is_in(statement: Statement, element: str, value: str, normal: Callable[[str], str]) -> bool:
    is_negated = f"Not{element}" in statement
    patterns = _listed(statement[f"Not{element}"] if is_negated else statement[element])
    return is_negated != any(_matches(normal(pattern), normal(value)) for pattern in patterns)


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringNotEquals": lambda wanted, found: wanted == found,
    "StringLike": lambda wanted, found: _matches(wanted, found),
    "ArnEquals": lambda wanted, found: _matches(wanted, found),
    "ArnLike": lambda wanted, found: _matches(wanted, found),
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}


def _holds(operator: str, name: str, values: list[Any], context: Mapping[str, str | None]) -> bool:
    plain = operator.removesuffix("IfExists")
    if plain not in _TESTS or name not in context:
        raise ValueError(f"a policy statement has the condition {operator} on {name}")
    found, is_negated = context[name], "Not" in plain
    if found is None:
        return is_negated or operator.endswith("IfExists")
    return is_negated != any(_TESTS[plain](str(value), found) for value in values)


def _matches(pattern: str, text: str) -> bool:
    """`*` is any text, `?` any character."""
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "prefix": lambda wanted, found: isinstance(found, str) and found.startswith(wanted),
    "suffix": lambda wanted, found: isinstance(found, str) and found.endswith(wanted),
    "equals-ignore-case": lambda wanted, found: isinstance(found, str) and found.lower() == wanted.lower(),
    "anything-but": lambda wanted, found: found not in (wanted if isinstance(wanted, list) else [wanted]),
}
_NOTHING = object()


def lets_through(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether the event matches. Raises ValueError for an operator that is not known here."""
    return all(_is_matched(wanted, event.get(name, _NOTHING)) for name, wanted in pattern.items())


def _is_matched(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, Mapping):
        inside: Any = found if isinstance(found, Mapping) else {}
        return lets_through(wanted, inside)
    if not isinstance(wanted, list):
        raise ValueError(f"an event pattern has {wanted!r:.60}")
    answers = [_is_one(each, found) for each in wanted]
    return any(answers)


def _is_one(wanted: Any, found: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return bool(wanted == found)
    ((operator, value),) = wanted.items()
    if operator == "exists":
        return bool(value == (found is not _NOTHING))
    if operator not in _OPERATORS or isinstance(value, Mapping):
        raise ValueError(f"an event pattern has the operator {operator}")
    return found is not _NOTHING and _OPERATORS[operator](value, found)
