"""Steps of the scripted day, and how they are played: one after the other, each compared at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.acceptance.site import NotSeen, NotShown, Site

Facts = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One thing that is tried.

    `act` does it, and returns what was seen. `expected` is what the system on this machine gives: a
    test plays every step there, and holds it to these facts. `minutes`: how long it may take in AWS.
    `waits`: what of it cannot be hurried, for the user who looks at a silent terminal.
    `only_in_aws`: why this machine cannot try it. Then `expected` is what AWS documents.
    """

    name: str
    does: str
    act: Callable[[Site], Facts]
    expected: Mapping[str, Any]
    minutes: float
    waits: str = ""
    only_in_aws: str = ""


def step(
    does: str, expected: Mapping[str, Any], *, minutes: float, waits: str = "", only_in_aws: str = ""
) -> Callable[[Callable[[Site], Facts]], Step]:
    """The function as a step of its name."""

    def made(act: Callable[[Site], Facts]) -> Step:
        return Step(act.__name__.replace("_", " "), does, act, expected, minutes, waits, only_in_aws)

    return made


@dataclass(frozen=True)
class Result:
    """What a step came to. `error`: why it broke off. `not_shown`: why it could not be tried."""

    step: Step
    seen: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    not_shown: str = ""
    seconds: float = 0.0

    @property
    def differences(self) -> list[str]:
        """Where it is not as on this machine, one sentence each."""
        if self.not_shown:
            return []
        if self.error:
            return [self.error]
        names = dict.fromkeys([*self.step.expected, *self.seen])
        return [
            f"{name}: expected {self.step.expected.get(name)!r}, was {self.seen.get(name)!r}"
            for name in names
            if self.step.expected.get(name) != self.seen.get(name)
        ]


def play(site: Site, steps: Iterable[Step], show: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Play the steps. One that breaks off does not keep the others from theirs."""
    results = []
    for step in steps:
        waits = f" {step.waits}" if step.waits and site.limit_seconds is None else ""
        show(f"── {step.name}: {step.does} (at most {step.minutes:g} minutes){waits}")
        results.append(_play_one(site, step))
        show(_line(results[-1]))
    return results


def _play_one(site: Site, step: Step) -> Result:
    began = time.monotonic()
    site.deadline = began + (step.minutes * 60 if site.limit_seconds is None else site.limit_seconds)
    seen: Facts = {}
    error = not_shown = ""
    try:
        if step.only_in_aws and site.limit_seconds is not None:
            raise NotShown(step.only_in_aws)
        seen = step.act(site)
    except NotShown as reason:
        not_shown = str(reason)
    except NotSeen as reason:
        error = str(reason)
    except (ClientError, BotoCoreError) as reason:
        error = f"a request failed: {reason}"
    except (KeyError, ValueError, LookupError) as reason:
        error = f"an answer lacks what the step needs, perhaps from a step before: {reason!r}"
    return Result(step, seen, error, not_shown, time.monotonic() - began)


def _line(result: Result) -> str:
    if result.not_shown:
        return f"   not shown: {result.not_shown}"
    if not result.differences:
        return f"   as expected, after {result.seconds:.0f} s"
    return "\n".join(f"   differs: {each}" for each in result.differences)


def counted(report: Mapping[str, Any]) -> dict[str, int]:
    """The outcomes of a run's report, as far as there are some."""
    return {name: count for name, count in report["outcomes"].items() if count}
