"""What tests of Batch share: children that end when told to, a client, a job definition, waiting for something."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from tests.doubles.batch.runners import Child, Exit
from tests.doubles.batch.server import BatchServer


@dataclass
class Puppet:
    """A child that ends when the test says so, or with 75 when it is told to stop."""

    child: Child
    exit: Exit | None = None

    def poll(self) -> Exit | None:
        return self.exit

    def terminate(self, grace_seconds: float) -> None:
        self.exit = Exit(75)


@dataclass
class Puppets:
    """A runner whose children are puppets; `script` says how one ends at once, if it does."""

    script: Callable[[Child], Exit | None] = lambda child: None
    started: list[Puppet] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, child: Child) -> Puppet:
        puppet = Puppet(child, self.script(child))
        with self.lock:
            self.started.append(puppet)
        return puppet


def await_value(look: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value that `look` returns."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def make_client(server: BatchServer) -> Any:
    return boto3.client(
        "batch",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


def register(client: Any, name: str = "sealift", environment: Sequence[Any] = (), **extra: Any) -> None:
    container = {
        "image": "sealift:1",
        "environment": [{"name": "FROM_DEFINITION", "value": "yes"}, *environment],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
    }
    client.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container, **extra)
