"""What a planted bug is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Replacements = list[tuple[Any, str, Any]]


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
