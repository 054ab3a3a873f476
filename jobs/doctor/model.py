"""The doctor's nouns: facts that are known or not, checks, and the lines that they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, NoReturn, TypeVar

from jobs.aws.readings import Unread
from jobs.errors import ExitCode

T = TypeVar("T")
F = TypeVar("F")


NOT_CHECKED = "not checked: "
"""Begins what is said where a service is not there, as on a local system."""


class Status(StrEnum):
    """How a line ends, from good to bad. `unchecked`: only AWS answers, and this is another server."""

    OK = "ok"
    UNCHECKED = "unchecked"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(NamedTuple):
    """What a check says of its facts. `advice`: what to do about it."""

    status: Status
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer. `check` and `subject` together name it."""

    check: str
    status: Status
    subject: str
    says: str
    advice: str = ""


class NotKnown(Exception):
    """A check needs a fact that nobody could read."""

    def __init__(self, unread: Unread):
        super().__init__(unread.why)
        self.unread = unread


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """A name, and a pure function from facts to a finding. None: the check does not apply."""

    name: str
    judge: Callable[[F], Finding | None]


def known(reading: T | Unread) -> T:
    """The value of a reading. Raises NotKnown, so that no check can call the unknown good."""
    if isinstance(reading, Unread):
        raise NotKnown(reading)
    return reading


def ok(says: str) -> Finding:
    """All is as it should be."""
    return Finding(Status.OK, says)


def warning(says: str, advice: str) -> Finding:
    """It works, but costs, hides something, or may stop to work."""
    return Finding(Status.WARNING, says, advice)


def failure(says: str, advice: str) -> Finding:
    """It does not work, or does harm."""
    return Finding(Status.FAILURE, says, advice)


def cannot_say(unread: Unread) -> NoReturn:
    """Raise NotKnown from within a check."""
    raise NotKnown(unread)


def run_checks(checks: Iterable[Check[F]], facts: F, subject: str) -> list[Line]:
    """One line for each check that applies.

    A check whose facts are not known gives a warning with the permission that it lacks.
    """
    lines = []
    for check in checks:
        try:
            found = check.judge(facts)
        except NotKnown as error:
            found = _unknown(error.unread)
        if found is not None:
            lines.append(Line(check.name, found.status, subject, found.says, found.advice))
    return lines


def _unknown(unread: Unread) -> Finding:
    if not unread.is_offered:
        return Finding(Status.WARNING, f"{NOT_CHECKED}{unread.permission} is not offered here")
    advice = f"allow {unread.permission} to who runs the doctor" if unread.is_denied else "run the doctor again"
    return Finding(Status.WARNING, f"not known: {unread.why}", advice)


def exit_code(lines: Sequence[Line]) -> ExitCode:
    """0 if every line is ok or unchecked, 3 with warnings, 10 with a failure or without an ok line."""
    worst = {line.status for line in lines}
    if Status.FAILURE in worst or not worst & {Status.OK, Status.WARNING}:
        return ExitCode.CONFIG
    return ExitCode.FINDINGS if Status.WARNING in worst else ExitCode.DONE
