"""Lambda's Runtime API on loopback, and a function under it as Lambda's own bootstrap starts it.

    with function("scheduler.backup.handler", environment) as backup:
        answer = backup.invoke({"Records": […]})

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.answering import Asked, Reply, answering

ROOT = Path(__file__).resolve().parents[2]
ARN = "arn:aws:lambda:us-east-1:123456789012:function:sealift"
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What an invocation came to: its payload, or the error's type and message."""

    payload: Any = None
    error_type: str = ""
    error_message: str = ""

    @property
    def failed(self) -> list[str]:
        """The messages that come again."""
        assert not self.error_type, self.error_message
        return [each["itemIdentifier"] for each in self.payload["batchItemFailures"]]


@dataclass
class _Api:
    """What the server and the test share."""

    invocations: queue.Queue[tuple[str, bytes, float]] = field(default_factory=queue.Queue)
    answers: queue.Queue[tuple[str, str, Any]] = field(default_factory=queue.Queue)
    has_ended: bool = False

    def answer(self, asked: Asked) -> Reply:
        """Hand out the next invocation, once there is one, or take the answer to one."""
        if asked.method == "POST":
            *_, name, last = asked.path.split("/")
            self.answers.put(("init" if name == "init" else last, name, json.loads(asked.body)))
            return Reply(202)
        while not self.has_ended:
            with contextlib.suppress(queue.Empty):
                request_id, body, deadline = self.invocations.get(timeout=0.2)
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": request_id,
                    "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": ARN,
                    "Content-Type": "application/json",
                }
                return Reply(200, headers, body)
        return Reply(0)


@dataclass
class Function:
    """A running function."""

    api: _Api
    process: subprocess.Popen[bytes]
    log: Path

    def invoke(self, event: Any, remaining_seconds: float = 30.0) -> Answer:
        """Raises AssertionError when the process ends or does not answer in time."""
        request_id = str(uuid.uuid4())
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.api.invocations.put((request_id, body, time.time() + remaining_seconds))
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(queue.Empty):
                what, for_request, document = self.api.answers.get(timeout=0.2)
                assert what == "init" or for_request == request_id
                if what == "response":
                    return Answer(document)
                return Answer(None, document["errorType"], document["errorMessage"])
        raise AssertionError(f"no answer (exit code {self.process.poll()}): {self.log.read_text()[-3000:]}")

    def lines(self) -> list[dict[str, Any]]:
        """The lines of JSON that the function has written."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def function(handler: str, environment: Mapping[str, str]) -> Iterator[Function]:
    """Start a function; it ends with the block."""
    api = _Api()
    with answering(api.answer) as endpoint, tempfile.TemporaryDirectory(prefix="sealift-lambda-") as folder:
        log = Path(folder) / "log"
        values = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "AWS_LAMBDA_RUNTIME_API": endpoint.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": "sealift",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            **environment,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", handler], env=values, cwd=folder, stdout=output, stderr=output
            )
        try:
            yield Function(api, process, log)
        finally:
            process.kill()
            process.wait()
            api.has_ended = True
