"""Another server, which somebody else runs: whatever bucket is named, it answers out of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from jobs.core.model import ObjectRef
from tests.simulation.copies.schedule import DESTINATION, SOURCE
from tests.simulation.engine.processes import Connection
from tests.simulation.last_copies.books import ROGUE


class Elsewhere(Connection):
    """A connection to it."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        ask = super().__getattr__(name)

        def elsewhere(*arguments: Any, **named: Any) -> Coroutine[Any, Any, Any]:
            return ask(*(_rogue(each) for each in arguments), **named)

        return elsewhere


def _rogue(argument: Any) -> Any:
    if isinstance(argument, ObjectRef):
        return argument._replace(bucket=ROGUE)
    return ROGUE if argument in (SOURCE, DESTINATION) else argument
