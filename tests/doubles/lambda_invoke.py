"""Lambda's Invoke on loopback: what a function hands to another one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.answering import Asked, Reply, answering


@dataclass
class LambdaApi:
    """`calls` are (function, payload); the next `refuse` calls are refused."""

    endpoint: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    refuse: int = 0


@contextlib.contextmanager
def lambda_api() -> Iterator[LambdaApi]:
    api = LambdaApi()

    def answer(asked: Asked) -> Reply:
        assert asked.headers["x-amz-invocation-type"] == "Event"
        if api.refuse:
            api.refuse -= 1
            return Reply(403)
        api.calls.append((asked.path.split("/")[3], json.loads(asked.body)))
        return Reply(202)

    with answering(answer) as api.endpoint:
        yield api
