"""Protected bucket pairs on a real server, and functions over them."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.batch.account import Puppets, make_client, register
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.lambda_invoke import LambdaApi, lambda_api
from tests.doubles.lambda_runtime import Function, function
from tests.doubles.policies import resolved
from tests.doubles.servers import REGION, Server
from tests.scheduler.event_samples import notification, record
from tests.scheduler.scene import Scene


@dataclass
class Place:
    """A source and its hot bucket, a ledger and a policy."""

    server: Server
    client: Any
    folder: Path
    source: str
    hot: str
    ledger: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def policy(self) -> Path:
        return self.folder / "policy.json"

    def write_policy(self, *, thresholds: dict[str, Any] | None = None, **pair: Any) -> None:
        document = {
            "version": 1,
            "name": "sealift",
            "ledger": {"bucket": self.ledger, "region": "us-east-1", "prefix": "l/"},
            "pairs": [
                {
                    "name": "pair",
                    "source": {"bucket": self.source, "region": "us-east-1"},
                    "destination": {"bucket": self.hot, "region": "us-east-1", "prefix": "copies/"},
                    "thresholds": thresholds or {},
                    **pair,
                }
            ],
        }
        self.policy.write_bytes(resolved(document))

    def environment(self) -> dict[str, str]:
        return {
            **self.server.environment(),
            "SEALIFT_POLICY": str(self.policy),
            "SEALIFT_LEDGER": f"s3://{self.ledger}/l",
            "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",  # nobody listens: what failed comes when its queue says
            **self.more,
        }

    @contextlib.contextmanager
    def function(self, name: str) -> Iterator[Function]:
        with function(f"scheduler.{name}.handler", self.environment()) as running:
            yield running

    def put(self, key: str, body: bytes = b"body", **extra: Any) -> dict[str, Any]:
        """Put an object at the source; the record that S3 would send."""
        answer = self.client.put_object(Bucket=self.source, Key=key, Body=body, **extra)
        thing = {"versionId": answer["VersionId"], "eTag": answer["ETag"].strip('"'), "size": len(body)}
        return record(self.source, key, sequencer=f"{uuid.uuid1().time:018X}", **thing)

    def event(self, key: str, body: bytes = b"body", **extra: Any) -> dict[str, Any]:
        return notification(self.put(key, body, **extra))

    def copy_of(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=self.hot, Key=f"copies/{key}")["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def names(self, folder: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.ledger, Prefix=f"l/{folder}").get("Contents", [])
        return [entry["Key"].removeprefix("l/") for entry in found]

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.ledger, Key=f"l/{name}")["Body"].read()
        return body

    def lines(self, folder: str) -> list[dict[str, Any]]:
        """The lines of JSON in all objects of a folder of the ledger, oldest object first."""
        return [json.loads(line) for name in self.names(folder) for line in self.read(name).splitlines()]

    def journal(self) -> list[tuple[str, str]]:
        return [(line["key"], line["status"]) for line in self.lines("journal/")]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def place(seaweed: Server, tmp_path: Path) -> Place:
    name = uuid.uuid4().hex[:10]
    place = Place(seaweed, seaweed.client(), tmp_path, f"src-{name}", f"hot-{name}", f"led-{name}")
    for bucket in (place.source, place.hot, place.ledger):
        place.client.create_bucket(Bucket=bucket)
    for bucket in (place.source, place.hot):
        place.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    place.write_policy()
    return place


@pytest.fixture
def api(place: Place) -> Iterator[LambdaApi]:
    with lambda_api() as running:
        place.more |= {"AWS_ENDPOINT_URL_LAMBDA": running.endpoint, "AWS_LAMBDA_FUNCTION_NAME": "sealift-enqueue"}
        yield running


def command_of(jobs: BatchServer, name: str) -> list[str]:
    command: list[str] = jobs.job(name).request["containerOverrides"]["command"]
    return command


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """Batch as this process finds it."""
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": REGION}
    with batch_server(Puppets(), max_running=1) as server:
        server.add_queue("sealift-orchestrators")
        for name in ("nightly", "drill", "backfill", "replicate", "restore"):
            register(make_client(server), f"sealift-{name}")
        for name, value in (values | {"AWS_ENDPOINT_URL_BATCH": server.endpoint}).items():
            monkeypatch.setenv(name, value)
        yield server
