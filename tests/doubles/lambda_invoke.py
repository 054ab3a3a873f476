"""Lambda's Invoke on loopback: what a function hands to another one."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class LambdaApi:
    """`calls` are (function, payload); the next `refuse` calls are answered 500."""

    endpoint: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    refuse: int = 0


@contextlib.contextmanager
def lambda_api() -> Iterator[LambdaApi]:
    api = LambdaApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Invocation-Type"] == "Event"
            status = 202
            if api.refuse:
                api.refuse, status = api.refuse - 1, 403
            else:
                api.calls.append((self.path.split("/")[3], payload))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
