"""An image registry in memory, as far as pulls and pushes ask it.

    with registry() as host:      # localhost:PORT, plain HTTP

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    blobs: dict[str, bytes]
    types: dict[str, str]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        name = path.rpartition("/")[2] if "sha256:" in path else path
        if path == "/v2/":
            self._answer(200)
        elif name in self.blobs:
            body = self.blobs[name]
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            kind = self.types.get(digest, "application/octet-stream")
            self._answer(200, body, **{"Content-Type": kind, "Docker-Content-Digest": digest})
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._body()
        self._answer(202, Location=f"{urlsplit(self.path).path.rstrip('/')}/upload-{threading.get_ident()}")

    def do_PATCH(self) -> None:
        path = urlsplit(self.path).path
        self.blobs[path] = self.blobs.get(path, b"") + self._body()
        self._answer(202, Location=path, Range=f"0-{len(self.blobs[path]) - 1}")

    def do_PUT(self) -> None:
        where, body = urlsplit(self.path), self._body()
        if "/blobs/uploads/" in where.path:
            [digest] = parse_qs(where.query)["digest"]
            self.blobs[digest] = self.blobs.pop(where.path, b"") + body
        else:
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.blobs[digest] = self.blobs[where.path] = body
            self.types[digest] = self.headers["Content-Type"]
        self._answer(201, b"", Location=where.path, **{"Docker-Content-Digest": digest})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def registry() -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"blobs": {}, "types": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
