"""SeaweedFS, the S3 behind `sealift local`, on loopback only.

S3 takes one pair of credentials. The filer and the volume server behind it would serve every object
to anybody on the machine, so they require tokens, signed with keys of this start that only this
process has. The master's HTTP and all gRPC ports have no such lock short of certificates:
`sealift local` says so.

It keeps versions and checks conditions as S3 does, and posts what changes to a server of ours. That stands for all
services but S3 as well, which are not here: no request leaves this machine. It runs in a
session of its own, so that Ctrl-C reaches only the process that stops all parts in order. It ends
with that process, however that ends (Linux: PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from jobs.errors import ConfigError, Unavailable

START_SECONDS, STOP_SECONDS = 30.0, 15.0
OPEN_FILES = 8192
"""A night opens over 400 connections. Many shells allow 1,024 files."""
_INSTALL = "it comes with: pip install 'sealift[local]'"
_OFF = ("webdav", "admin.ui", "master.telemetry")
_TOKEN_KEYS = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
"""What the volume server and the filer ask for, to write and to read:
`weed scaffold -config=security`.
"""
# Every listener of `weed mini` that takes a port. A default port would collide. S3's is the first.
_SERVERS = ("s3", "master", "filer", "volume", "admin")
_PORTS = (
    *(f"{name}.port" for name in _SERVERS),
    *(f"{name}.port.grpc" for name in _SERVERS),
    *("s3.port.iceberg", "s3.port.lance"),
)
_TIE = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""What becomes the server: the kernel ends it when the thread that starts it does, which is the
main one. A server reads no stdin, so the pipe of `jobs.core.parentage` would need a process more.
"""


def notifications(url: str, token: str, buckets: Iterable[str]) -> dict[str, str]:
    """Variables of a server whose filer posts what changes in these buckets to `url`, and brings the token."""
    prefixes = " ".join(f"/buckets/{bucket}/" for bucket in buckets)  # no bucket's name has a space
    settings = {"ENABLED": "true", "ENDPOINT": url, "BEARER_TOKEN": token, "PATH_PREFIXES": prefixes}
    settings |= {"MAX_RETRIES": "10", "BACKOFF_SECONDS": "1", "BUFFER_SIZE": "1000000"}
    return {f"WEED_NOTIFICATION_WEBHOOK_{name}": value for name, value in settings.items()}


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


class RunningServer(NamedTuple):
    """A process of ours, and the port of its S3."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Unavailable if it has ended by itself."""
        if (code := self.process.poll()) is not None:
            raise Unavailable("Serve", "SeaweedFS", "Ended", f"exit code {code}; {_end_of(self.log)}")


@contextlib.contextmanager
def s3_server(folder: Path, variables: Mapping[str, str], *, keeps_data: bool) -> Iterator[RunningServer]:
    """Run SeaweedFS over a folder.

    `variables`: its settings, with AWS's variables for the only credentials that it accepts.
    `keeps_data`: let it end in its own time, so that everything is on disk. Raises ConfigError if it
    is not installed, and Unavailable if it does not start.
    """
    weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
    if weed is None:
        raise ConfigError("there is no `weed` (SeaweedFS) here", advice=_INSTALL)
    data, log = folder.resolve() / "s3", folder / "weed.log"
    data.mkdir(mode=0o700, exist_ok=True)
    keys = {f"WEED_JWT_{name}_KEY": secrets.token_hex(32) for name in _TOKEN_KEYS}
    with tempfile.TemporaryDirectory(prefix="sealift-") as sockets:  # a socket's path may have 107 bytes only
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        command = [
            *(weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            "-volume.max=100000",  # the default, what fits on the disk, runs out after 80 buckets
            "-volume.preStopSeconds=0",  # no announcement before it leaves
            *(f"-{name}.localSocket={sockets}/{name}" for name in ("filer", "s3")),
            *(f"-{name}=false" for name in _OFF),
            *(f"-{name}={number}" for name, number in ports.items()),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-P", "-c", _TIE, str(os.getpid()), *command],
                cwd=folder,
                env={**os.environ, **variables, **keys},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if not _answers(process, ports["s3.port"]):
                raise Unavailable("Start", "SeaweedFS", "NoAnswer", f"exit code {process.poll()}; {_end_of(log)}")
            yield RunningServer(ports["s3.port"], process, log)
        finally:
            stop(process, is_patient=keeps_data)


def allow_open_files() -> None:
    """Allow `OPEN_FILES` in this process and those that it starts, if the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop(process: subprocess.Popen[bytes], *, is_patient: bool) -> None:
    """End a process. `is_patient`: ask it first, and wait `STOP_SECONDS`. Then kill it."""
    if is_patient and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    process.kill()
    process.wait()


def _end_of(log: Path) -> str:
    return f"{log} ends: {log.read_bytes()[-500:].decode(errors='replace')}"


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the port answers a request, with whatever status below 500."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
        ):
            connection.request("GET", "/")
            if connection.getresponse().status < 500:
                return True
        time.sleep(0.05)
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
