"""What a planted bug is, and which promise it breaks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Replacements = list[tuple[Any, str, Any]]
SHOWN = Path(__file__).with_name("shown.json")
"""Of each bug the promise that it breaks, and the seed that showed it last: `python -m tests.simulation --bugs` notes
the seeds again.
"""


@dataclass(frozen=True, slots=True)
class Bug:
    """`seeds`: within so many it must be found, some four times what was needed when it was written.

    `plant` gives the patches (attributes and their values); the real ones are what they wrap. `course`: the kind of
    course that shows it.
    """

    name: str
    what: str
    seeds: int
    plant: Callable[[], Replacements]
    course: str = "commands"

    @property
    def breaks(self) -> str:
        """The promise by which it has to be found: a patch that only crashes breaks others."""
        return str(_shown()[self.name]["breaks"])

    @property
    def seed(self) -> int:
        """A seed that showed it. The schedules change with the product. Its test warns when it shows it no more."""
        return int(_shown()[self.name]["seed"])


def _shown() -> dict[str, dict[str, Any]]:
    return dict(json.loads(SHOWN.read_text()))


def note_seeds(seeds: dict[str, int]) -> None:
    """Write the seeds that showed the bugs. The promises stay."""
    shown = {name: {**known, "seed": seeds.get(name, known["seed"])} for name, known in _shown().items()}
    lines = (f"  {json.dumps(name)}: {json.dumps(known)}" for name, known in shown.items())
    SHOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def misfits(replacements: Replacements) -> list[str]:
    """Patches that cannot be called as what they replace can: such a bug would be found by its own crash."""
    return [
        f"{name}{inspect.signature(patch)} in place of {inspect.signature(real)}"
        for owner, name, value in replacements
        if (real := _function(inspect.getattr_static(owner, name), owner)) and (patch := _function(value, owner))
        if not _takes_the_same(real, patch)
    ]


def _function(value: Any, owner: Any) -> Any:
    if isinstance(value, property | cached_property):
        return value.fget if isinstance(value, property) else value.func
    called = value.__get__(None, owner) if isinstance(value, classmethod | staticmethod) else value
    return called if inspect.isroutine(called) and not inspect.isbuiltin(called) else None


def _takes_the_same(real: Any, patch: Any) -> bool:
    known = inspect.signature(real).parameters.values()
    places = [each for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    named = {each.name: None for each in known if each.kind is each.KEYWORD_ONLY}
    needed = [each for each in places if each.default is each.empty]
    try:
        inspect.signature(patch).bind(*places, **named)
        inspect.signature(patch).bind(*needed, **named)
    except TypeError:
        return False
    return inspect.iscoroutinefunction(real) == inspect.iscoroutinefunction(patch)
