"""Both clients before one server that answers by script, and what came of a call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from jobs.errors import StoreError
from jobs.s3.sessions import open_store
from jobs.s3.store import Store
from tests.doubles.scripted_server import CREDENTIALS, Reply, Script, Seen

Call = Callable[[Store], Awaitable[Any]]
NAMES = ("sealift", "botocore")
BUCKET = "bucket"


class Course(NamedTuple):
    """What one client sent, and what it made of the answer: a value, or an error's class and code."""

    seen: list[Seen]
    result: Any


class Pair:
    """Our client and botocore, each with connections that last, before a scripted server."""

    def __init__(self, script: Script, stores: dict[str, Store], runner: asyncio.Runner):
        self._script, self._stores, self._runner = script, stores, runner

    def play(self, call: Call, reply: Reply) -> tuple[Course, Course]:
        """What ours and botocore do with this call and this answer."""
        ours, theirs = (self._play(self._stores[name], call, reply) for name in NAMES)
        return ours, theirs

    def _play(self, store: Store, call: Call, reply: Reply) -> Course:
        self._script.seen.clear()
        self._script.reply = reply
        return Course(self._script.seen, self._runner.run(_result(store, call)))._replace(seen=[*self._script.seen])


async def _result(store: Store, call: Call) -> Any:
    try:
        return await call(store)
    except StoreError as error:
        return type(error).__name__, error.code


@contextmanager
def pair_of_clients() -> Iterator[Pair]:
    """Each request is sent once: what is retried, and how often, is each client's own affair."""
    script = Script()
    stores: dict[str, Store] = {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": os.devnull + "/none", "AWS_SHARED_CREDENTIALS_FILE": os.devnull + "/none"}
    with asyncio.Runner() as runner, mock.patch.dict(os.environ, kept | files | CREDENTIALS, clear=True):
        for name in NAMES:
            os.environ["SEALIFT_CLIENT"] = name
            with mock.patch("jobs.s3.http.transport.TRIES_PACED", 1):
                stores[name] = open_store(script.endpoint, None, None, max_in_flight=2, is_paced=True)
        yield Pair(script, stores, runner)
        for store in stores.values():
            runner.run(store.close())
    script.server.shutdown()
    script.server.server_close()
