"""The server that SeaweedFS sends its notifications to.

It stands for all services but S3 as well, which are not here: no request leaves this machine.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def receiving(token: str, take: Callable[[dict[str, Any]], object]) -> Iterator[int]:
    """Hand each notification that bears the token to `take`, from threads. Yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            is_ours = hmac.compare_digest(self.headers.get("authorization", "").encode(), f"Bearer {token}".encode())
            if is_ours:
                take(json.loads(body))
            self.send_response(200 if is_ours else 501)  # without a body: clients expect XML or JSON
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the functions have a log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:  # other methods get 501 from it
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
