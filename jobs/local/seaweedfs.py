"""SeaweedFS, the S3 behind `sealift local`, on loopback only.

S3 takes one pair of credentials. The filer and the volume server behind it would serve every object
to anybody on the machine, so they require tokens, signed with keys of this start that only this
process has. The master's HTTP and all gRPC ports have no such lock short of certificates:
`sealift local` says so.

It keeps versions and checks conditions as S3 does, but sends no notifications: the relay does. It
runs in a session of its own, so that Ctrl-C reaches only the process that stops all parts in order.
It ends with that process, however that ends (Linux: PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jobs.errors import ConfigError, Unavailable
from jobs.local.stray_servers import STOP_SECONDS, data_folder

START_SECONDS = 30.0
TRIES = 3
OPEN_FILES = 8192
"""A night opens over 400 connections, and the relay two files for each. Many shells allow 1,024."""
_INSTALL = "it comes with: pip install 'sealift[local]'"
_OFF = ("webdav", "admin.ui", "master.telemetry")
_TOKEN_KEYS = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
"""What the volume server and the filer ask for, to write and to read:
`weed scaffold -config=security`.
"""
# Every listener of `weed mini` that takes a port. A default port would collide.
_LISTENERS = ("s3", "master", "filer", "volume", "admin")
_MORE_LISTENERS = ("s3.port.iceberg", "s3.port.lance")

_TIE = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""What becomes the server: the kernel ends it when the thread that starts it does, which is the
main one. A server reads no stdin, so the pipe of `jobs.core.parentage` would need a process more.
"""


class RunningServer(NamedTuple):
    """A process of ours, and the port that it listens on."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Unavailable if it has ended by itself."""
        if (code := self.process.poll()) is not None:
            raise Unavailable("Serve", self.name, "Ended", f"exit code {code}; {_end_of(self.log)}")


@contextlib.contextmanager
def s3_server(folder: Path, credentials: Mapping[str, str], *, keeps_data: bool) -> Iterator[RunningServer]:
    """Run SeaweedFS over a folder. The port of the result is S3's.

    `credentials`: AWS's variables, the only ones that it accepts. `keeps_data`: let it end in its
    own time, so that everything is on disk. Raises ConfigError if it is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise ConfigError(f"there is no `weed` (SeaweedFS) here: {_INSTALL}")
    data = data_folder(folder)
    data.mkdir(exist_ok=True)
    data.chmod(0o700)
    sockets = tempfile.TemporaryDirectory(prefix="sealift-")  # a socket's path may have 107 bytes only

    def command(ports: Sequence[int]) -> list[str]:
        names = [f"{name}.port" for name in _LISTENERS] + [f"{name}.port.grpc" for name in _LISTENERS]
        return [
            weed,
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-volume.max=100000",  # the default, what fits on the disk, runs out after 80 buckets
            "-volume.preStopSeconds=0",  # no announcement before it leaves
            f"-filer.localSocket={sockets.name}/filer",
            f"-s3.localSocket={sockets.name}/s3",
            *(f"-{name}=false" for name in _OFF),
            *(f"-{name}={port}" for name, port in zip([*names, *_MORE_LISTENERS], ports, strict=True)),
        ]

    count = 2 * len(_LISTENERS) + len(_MORE_LISTENERS)
    # _LISTENERS begins with s3: the first port is the one that is asked
    keys = {f"WEED_JWT_{name}_KEY": secrets.token_hex(32) for name in _TOKEN_KEYS}
    running = _running("SeaweedFS", command, count, folder / "weed.log", {**credentials, **keys}, keeps_data=keeps_data)
    with sockets, running as server:
        yield server


@contextlib.contextmanager
def _running(
    name: str,
    command: Callable[[Sequence[int]], list[str]],
    ports_count: int,
    log: Path,
    environment: Mapping[str, str],
    *,
    keeps_data: bool,
) -> Iterator[RunningServer]:
    """Run a server on free ports. Retries if a port was taken meanwhile."""
    for attempt in range(1, TRIES + 1):
        ports = _free_ports(ports_count)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-P", "-c", _TIE, str(os.getpid()), *command(ports)],
                cwd=log.parent,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if _answers(process, ports[0]):
                yield RunningServer(name, ports[0], process, log)
                return
            if attempt == TRIES:
                raise Unavailable("Start", name, "NoAnswer", f"exit code {process.poll()}; {_end_of(log)}")
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
        process.send_signal(signal.SIGTERM)
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
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return True
        except urllib.error.HTTPError as answer:
            if answer.code < 500:
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _free_ports(count: int) -> list[int]:
    """Unused ports, below the range of outgoing connections."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = random.SystemRandom().randrange(10_000, 32_000)
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports
