"""A server that answers by script, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jobs.core.model import ObjectRef
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, CopySettings, PartDone, Upload
from tests.doubles.answering import Asked, answering
from tests.doubles.answering import Reply as Reply

REF = ObjectRef("bucket", "a key", "v1")
COPIED = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass
class Script:
    """Its every answer is `reply`, once those of `first` are given, and `seen` is what it was asked.

    A version that is asked for is the one that is sent, unless `headers` name another; an empty value: none.
    """

    endpoint: str = ""
    reply: Reply = field(default_factory=Reply)
    first: list[Reply] = field(default_factory=list)
    seen: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        self.seen.append(asked)
        reply = self.first.pop(0) if self.first else self.reply
        version = parse_qs(urlsplit(asked.path).query).get("versionId", [""])[0]
        version = version if version.isascii() and version.isprintable() else ""
        headers = {"x-amz-version-id": version} | reply.headers
        shown = {name: value for name, value in headers.items() if value or name != "x-amz-version-id"}
        return replace(reply, headers=shown)


@contextlib.contextmanager
def scripted(script: Script | None = None) -> Iterator[Script]:
    """A server that answers by a script, for as long as the block lasts."""
    script = script or Script()
    with answering(script.answer) as script.endpoint:
        yield script


def ask(script: Script, request: Callable[[RestStore], Awaitable[Any]], **options: Any) -> Any:
    """Run one request on a store of its own."""

    async def run() -> Any:
        store = open_store(script.endpoint, options.pop("region", None), None, max_in_flight=4, **options)
        try:
            return await request(store)
        finally:
            await store.close()

    return asyncio.run(run())


def copy(store: RestStore) -> Awaitable[Any]:
    return store.copy(REF, "e1", ObjectRef("bucket", "b"), CopySettings(), guard=ABSENT)


def complete(store: RestStore) -> Awaitable[Any]:
    return store.complete_multipart(Upload("bucket", "k", "u"), [PartDone(1, "e")], guard=ABSENT)


def copy_part(store: RestStore) -> Awaitable[Any]:
    return store.copy_part(REF, "e1", 0, 5, Upload("bucket", "k", "u"), 1)


def error_body(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>because</Message>{more}</Error>".encode()
