"""Prompt ledger: for commands that a person waits for, no request to it takes long.

A worker outlasts a server that does not answer for minutes. A person wants to hear of it.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, cast

from jobs.core.model import Location
from jobs.core.run import Side
from jobs.ledger.ledger import Ledger
from jobs.runs.request import open_ledger
from jobs.s3.retries import promptly
from jobs.s3.sessions import address_of
from jobs.s3.store import Store


def open_prompt_ledger(location: Location) -> Ledger:
    """The ledger at a location.

    Each of its requests raises Unavailable if it has no answer after `PATIENCE_SECONDS`.
    """
    return Ledger(cast(Store, _PromptStore(open_ledger(location).store, location)), location)


class _PromptStore:
    """The Store protocol, request by request."""

    def __init__(self, store: Store, location: Location):
        self._store, self._location = store, location

    def __getattr__(self, name: str) -> Any:
        send = getattr(self._store, name)
        if not inspect.iscoroutinefunction(send):
            return send

        async def request(*arguments: Any, **named: Any) -> Any:
            work, where = partial(send, *arguments, **named), partial(address_of, Side(self._location))
            return await promptly(work, f"the ledger {self._location}", where)

        return request
