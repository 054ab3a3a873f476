"""A server that answers by script, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jobs.core.model import ObjectRef
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from jobs.s3.store import ABSENT, CopySettings, PartDone, Upload

REF = ObjectRef("bucket", "a key", "v1")
COPIED = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass
class Reply:
    """What the server answers; `length`: a Content-Length that may lie. Status 0: it hangs up without a word.

    A version that is asked for is the one that is sent, unless `headers` name another; an empty value: none.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


@dataclass
class Seen:
    """What the server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Script:
    """A server whose every answer is `reply`, once those of `first` are given, and that remembers what it saw."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.first: list[Reply] = []
        self.seen: list[Seen] = []
        self.hold: threading.Event | None = None
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.seen.append(Seen(self.command, self.path, headers, body))
                reply = script.first.pop(0) if script.first else script.reply
                if script.hold is not None:
                    script.hold.wait(20)
                if not reply.status:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                asked = parse_qs(urlsplit(self.path).query).get("versionId", [""])[0]
                asked = asked if asked.isascii() and asked.isprintable() else ""
                for name, value in ({"x-amz-version-id": asked} | reply.headers).items():
                    if value or name != "x-amz-version-id":
                        self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                if reply.length is not None:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 (http.server's names)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()


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
