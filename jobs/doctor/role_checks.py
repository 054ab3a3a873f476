"""Checks of roles: IAM's own simulation of what each has to be allowed, and must not be."""

from __future__ import annotations

from jobs.aws.account import Decision
from jobs.aws.readings import Unread
from jobs.doctor.facts import RoleFacts
from jobs.doctor.model import Check, Finding, cannot_say, failure, known, ok, warning

APPLY = "run terraform apply"
SIMULATION = "iam:SimulatePrincipalPolicy"


def _role(facts: RoleFacts) -> Finding:
    """A failure is found before what is not known."""
    arn = known(facts.arn)
    if arn is None:
        return failure("it has no role: it may do nothing", APPLY)
    unread = None if facts.decisions else Unread(SIMULATION, "nothing was asked")
    for must_not, decisions in facts.decisions:
        if decisions is None:
            return failure(f"its role {arn} does not exist", APPLY)
        if isinstance(decisions, Unread):
            unread = unread or decisions
            continue
        for decision in decisions:
            judged = _judge(must_not, decision, _name(arn))
            if isinstance(judged, Finding):
                return judged
            unread = unread or judged
    if unread is not None:
        cannot_say(unread)
    if _name(arn) != facts.expected_name:
        return warning(f"it uses the role {_name(arn)}, Terraform makes {facts.expected_name}", APPLY)
    return ok(f"{_name(arn)} may do what it has to")


def _judge(must_not: bool, decision: Decision, role: str) -> Finding | Unread | None:
    """What is wrong with a decision, or why nobody can tell."""
    is_allowed, what = decision.answer == "allowed", f"{decision.action} on {decision.resource}"
    if is_allowed != must_not:
        return None
    if is_allowed:
        return failure(f"{role} may {what}, which no such role should", APPLY)
    if decision.missing_context:
        return Unread(SIMULATION, f"a policy asks for {', '.join(decision.missing_context)}")
    return failure(f"{role} may not {what} ({decision.answer})", APPLY)


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


ROLE_CHECKS = (Check("role", _role),)
