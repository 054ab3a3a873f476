"""A hook for MemoryStore: requests are done, and their first answers do not arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.errors import Unavailable
from tests.doubles.memory_store import Request


@dataclass
class LostAnswers:
    """Loses the first `losses` answers, and counts all requests."""

    losses: int = 1
    requests: int = 0

    async def __call__(self, request: Request) -> Any:
        self.requests += 1
        answer = await request()
        if self.requests <= self.losses:
            raise Unavailable(request.operation, request.place.key, "ConnectionReset")
        return answer
