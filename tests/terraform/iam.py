"""What IAM answers: statements, a request, and the answer, by the rules of AWS's policy evaluation.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. Kept libraries either ask
AWS, or know neither conditions nor NotResource. What is not known here raises, so that nothing is taken for granted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

Statement = Mapping[str, Any]
Context = Mapping[str, str]


class Answer(StrEnum):
    """Explicitly denied, allowed, or nobody says."""

    DENIED = "denied"
    ALLOWED = "allowed"
    SILENT = "silent"


def decide(
    statements: Iterable[Statement],
    action: str,
    resource: str,
    context: Context | None = None,
    principal: str | None = None,
) -> Answer:
    """A Deny that applies wins, else an Allow that does. `principal`: for resource policies, who asks."""
    known = {name.lower(): value for name, value in (context or {}).items()}
    effects = {each["Effect"] for each in statements if applies(each, action, resource, known, principal)}
    assert effects <= {"Allow", "Deny"}, effects
    return Answer.DENIED if "Deny" in effects else Answer.ALLOWED if "Allow" in effects else Answer.SILENT


def applies(statement: Statement, action: str, resource: str, context: Context, principal: str | None = None) -> bool:
    """Whether the statement is about this request."""
    known = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"}
    assert set(statement) <= known, statement
    return (
        _element(statement, "Action", action.lower(), str.lower)
        and _element(statement, "Resource", resource, str)
        and (principal is None or _names(statement["Principal"], principal))
        and all(
            _holds(operator, name, values, context)
            for operator, tests in statement.get("Condition", {}).items()
            for name, values in tests.items()
        )
    )


def listed(value: Any) -> list[Any]:
    """One or many, as a list."""
    return value if isinstance(value, list) else [value]


def matches(pattern: str, text: str) -> bool:
    """`*` is any text, `?` any character."""
    return _expression(pattern).fullmatch(text) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _element(statement: Statement, name: str, value: str, normal: Callable[[str], str]) -> bool:
    if f"Not{name}" in statement:
        return not any(matches(normal(pattern), value) for pattern in listed(statement[f"Not{name}"]))
    return any(matches(normal(pattern), value) for pattern in listed(statement[name]))


def _names(principals: Any, principal: str) -> bool:
    return principals == "*" or any(principal in listed(each) for each in principals.values())


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringNotEquals": lambda wanted, found: wanted != found,
    "StringLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}
_NEGATED = {"StringNotEquals"}


def _holds(operator: str, name: str, values: Any, context: Context) -> bool:
    found = context.get(name.lower())
    if operator == "Null":
        return (found is None) == (str(listed(values)[0]).lower() == "true")
    plain = operator.removesuffix("IfExists")
    test = _TESTS[plain]  # an operator that is not known here is a KeyError
    if found is None:
        return operator.endswith("IfExists") or plain in _NEGATED
    combine = all if plain in _NEGATED else any
    return combine(test(str(value), found) for value in listed(values))
