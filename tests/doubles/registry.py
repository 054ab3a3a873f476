"""An image registry in memory, as far as pulls and pushes ask it.

    with registry() as host:      # localhost:PORT, plain HTTP

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from tests.doubles.answering import Asked, Reply, answering


@contextlib.contextmanager
def registry() -> Iterator[str]:
    blobs: dict[str, bytes] = {}
    types: dict[str, str] = {}
    numbers = itertools.count()

    def answer(asked: Asked) -> Reply:
        where = urlsplit(asked.path)
        path = where.path
        if asked.method == "POST":
            return Reply(202, {"Location": f"{path.rstrip('/')}/upload-{next(numbers)}"})
        if asked.method == "PATCH":
            blobs[path] = blobs.get(path, b"") + asked.body
            return Reply(202, {"Location": path, "Range": f"0-{len(blobs[path]) - 1}"})
        if asked.method == "PUT":
            if "/blobs/uploads/" in path:
                [digest] = parse_qs(where.query)["digest"]
                blobs[digest] = blobs.pop(path, b"") + asked.body
            else:
                digest = f"sha256:{hashlib.sha256(asked.body).hexdigest()}"
                blobs[digest] = blobs[path] = asked.body
                types[digest] = asked.headers["content-type"]
            return Reply(201, {"Location": path, "Docker-Content-Digest": digest})
        name = path.rpartition("/")[2] if "sha256:" in path else path
        if name not in blobs:
            return Reply(200 if path == "/v2/" else 404)
        digest = f"sha256:{hashlib.sha256(blobs[name]).hexdigest()}"
        kind = types.get(digest, "application/octet-stream")
        return Reply(200, {"Content-Type": kind, "Docker-Content-Digest": digest}, blobs[name])

    with answering(answer) as endpoint:
        yield endpoint.replace("http://127.0.0.1", "localhost")
