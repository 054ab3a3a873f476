"""Error documents of S3, as the product's own REST client reads them.

The store in memory answers in Python. An error that comes as a document has to be recognised first, and a 200 may
hold one: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from __future__ import annotations

from typing import Any

from jobs.errors import StoreError
from jobs.s3.http.answers import Response
from jobs.s3.http.endpoints import Endpoint
from jobs.s3.http.signing import Credentials
from jobs.s3.http.transport import Transport
from jobs.s3.rest_store import RestStore
from tests.simulation.engine.loop import run_at_once
from tests.simulation.engine.processes import Request


class OneAnswer(Transport):
    """A transport to a server that answers each request alike."""

    def __init__(self, status: int, code: str, message: str):
        credentials = Credentials("key", "secret", None)
        super().__init__(Endpoint("127.0.0.1:9", False), "us-east-1", lambda: credentials, max_in_flight=1, tries=1)
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        self._answer = Response(status, {}, text.encode())

    async def _exchange(self, *arguments: Any) -> Response:
        return self._answer


IN_200 = RestStore(OneAnswer(200, "InternalError", "We encountered an internal error. Please try again."))
EXPIRED = RestStore(OneAnswer(400, "ExpiredToken", "The provided token has expired."))


def read(store: RestStore, request: Request) -> Any:
    """What the client makes of this server's answer to the request: a result, or the error to raise."""
    try:
        return run_at_once(getattr(store, request.name)(*request.arguments, **request.named))
    except StoreError as error:
        return error
