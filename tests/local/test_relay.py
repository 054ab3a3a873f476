"""A real client, the relay, a real server: bytes pass unchanged, and what was changed is told, in order."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobs.errors import ConfigError
from jobs.local.notifications import Change, Exchange, read_changes
from jobs.local.relay import Relay
from tests.doubles.servers import Server

MIB = 1024 * 1024


@dataclass
class Heard:
    """A relay in front of a server, on a loop in a thread, and what it told."""

    client: Any
    bucket: str
    port: int
    loop: asyncio.AbstractEventLoop
    exchanges: list[Exchange] = field(default_factory=list)

    def changes(self) -> list[Change]:
        """All that was told. A client may have its answer a moment before: the relay's loop finishes its step first."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result()
        return [change for exchange in self.exchanges for change in read_changes(exchange)]


def relaying(upstream: int, tell: Callable[[Exchange], None]) -> Iterator[tuple[int, asyncio.AbstractEventLoop]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    relay = Relay(upstream, tell)
    yield asyncio.run_coroutine_threadsafe(relay.start(), loop).result(), loop
    asyncio.run_coroutine_threadsafe(relay.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def heard(seaweed: Server) -> Iterator[Heard]:
    exchanges: list[Exchange] = []
    upstream = urlsplit(seaweed.endpoint).port
    assert upstream is not None
    for port, loop in relaying(upstream, exchanges.append):
        client = Server(f"http://127.0.0.1:{port}", seaweed.access_key, seaweed.secret_key).client()
        bucket = f"relayed-{uuid.uuid4().hex[:8]}"
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        yield Heard(client, bucket, port, loop, exchanges)


def test_each_kind_of_change_is_told_with_its_version(heard: Heard) -> None:
    client, bucket = heard.client, heard.bucket
    put = client.put_object(Bucket=bucket, Key="a b/ü+%2F", Body=b"12345")
    client.head_object(Bucket=bucket, Key="a b/ü+%2F")  # an answer with a length and no body, then another one
    copy = client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/ü+%2F"})
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = client.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"p" * 5 * MIB)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = client.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    marker = client.delete_object(Bucket=bucket, Key="copy")
    client.delete_object(Bucket=bucket, Key="copy", VersionId=marker["VersionId"])
    several = [{"Key": "copy"}, {"Key": "parts", "VersionId": done["VersionId"]}]
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": several})["Deleted"]
    made = next(each["DeleteMarkerVersionId"] for each in told if each["Key"] == "copy")
    assert heard.changes() == [
        Change("ObjectCreated:Put", bucket, "a b/ü+%2F", put["VersionId"], 5, put["ETag"].strip('"')),
        Change("ObjectCreated:Copy", bucket, "copy", copy["VersionId"]),
        Change("ObjectCreated:CompleteMultipartUpload", bucket, "parts", done["VersionId"]),
        Change("ObjectRemoved:DeleteMarkerCreated", bucket, "copy", marker["VersionId"]),
        Change("ObjectRemoved:Delete", bucket, "copy", marker["VersionId"]),
        Change("ObjectRemoved:DeleteMarkerCreated", bucket, "copy", made),
        Change("ObjectRemoved:Delete", bucket, "parts", done["VersionId"]),
    ]


def test_what_is_refused_changes_nothing_and_is_not_told(heard: Heard) -> None:
    heard.client.put_object(Bucket=heard.bucket, Key="k", Body=b"one")
    with pytest.raises(heard.client.exceptions.ClientError, match=r"412|PreconditionFailed"):
        heard.client.put_object(Bucket=heard.bucket, Key="k", Body=b"two", IfNoneMatch="*")
    assert len(heard.changes()) == 1


def test_large_bodies_pass_unchanged_both_ways(heard: Heard) -> None:
    body = os.urandom(24 * MIB)
    heard.client.put_object(Bucket=heard.bucket, Key="large", Body=body)
    assert heard.client.get_object(Bucket=heard.bucket, Key="large")["Body"].read() == body
    assert heard.changes()[-1].size_bytes == len(body)
    assert all(not each.body and not each.answer_body for each in heard.exchanges)


def test_many_clients_at_once_are_each_told(heard: Heard) -> None:
    def write(thread: int) -> None:
        for number in range(20):
            heard.client.put_object(Bucket=heard.bucket, Key=f"{thread}-{number}", Body=b"x")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.key for each in heard.changes()) == sorted(f"{t}-{n}" for t in range(8) for n in range(20))


def test_an_answer_may_come_after_the_client_has_said_all() -> None:
    """A client that closes its sending half still gets the answer."""
    with socket.create_server(("127.0.0.1", 0)) as upstream:

        def serve() -> None:
            connection, _ = upstream.accept()
            with connection:
                while connection.recv(1024):
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=serve, daemon=True).start()
        exchanges: list[Exchange] = []
        for port, _ in relaying(upstream.getsockname()[1], exchanges.append):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(1024), b""))
        assert answer.endswith(b"ok")
        assert [(each.method, each.status) for each in exchanges] == [("PUT", 200)]


def test_what_is_no_http_passes_too_and_tells_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:

        def serve() -> None:
            connection, _ = upstream.accept()
            with connection:
                connection.sendall(b"<" + connection.recv(1024) + b">")

        threading.Thread(target=serve, daemon=True).start()
        exchanges: list[Exchange] = []
        for port, _ in relaying(upstream.getsockname()[1], exchanges.append):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"\x16\x03\x01 nonsense")
                assert b"".join(iter(lambda: client.recv(1024), b"")) == b"<\x16\x03\x01 nonsense>"
        assert exchanges == []


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            asyncio.run(Relay(1, lambda exchange: None).start(port))
