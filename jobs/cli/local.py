"""`sealift local`: the event-driven system on this machine, without an account."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.console import say
from jobs.cli.options import Command, command_options, option, shared, takes
from jobs.config import Settings
from jobs.errors import ConfigError, StoreError, UsageError
from jobs.policy.coverage import example_key
from jobs.policy.model import Pair, Policy
from jobs.reports.figures import human_bytes, human_seconds

if TYPE_CHECKING:
    from jobs.local.system import System

STATUS_SECONDS = 1.0
SAMPLE = """\
# A pair to play with: what is put into s3://freight-in is copied to s3://freight-hot.
version: 1
name: local
ledger: {bucket: freight-ledger, region: us-east-1, prefix: sealift/}
pairs:
  - name: freight
    source: {bucket: freight-in, region: us-east-1}
    destination: {bucket: freight-hot, region: us-east-1}
    deletes: mirror
    thresholds: {lambda_max_size: 8 MiB, backlog_rows: 1000, backlog_age: 2s}
    verify: {rota: 1/1, deep: 1/7}
"""


@command_options
class LocalCommand:
    """`sealift local`, as it was typed."""

    data: Path | None = option("A folder that keeps the buckets.", type=click.Path(file_okay=False, path_type=Path))
    policy: str | None = shared("policy", "A path. Default: SEALIFT_POLICY, or a pair of two sample buckets.")
    as_json: bool = shared("json", "Print one line of JSON a second.")


@click.command(cls=Command)
@takes(LocalCommand)
def local(options: LocalCommand) -> int:
    """Run the event-driven system on this machine, without an AWS account.

    SeaweedFS is its S3, and calls the functions when something is written. Prints the variables
    that point a shell at it. `aws s3 cp` and `sealift nightly` work with them as they do with AWS.
    Everything listens on 127.0.0.1. Credentials are new at each start. Ctrl-C ends it all. It
    needs: pip install 'sealift[local]'

    Other users of this machine can delete the data. S3 and the servers behind it ask for
    credentials, but the master and gRPC ports of SeaweedFS do not. Use it where you trust everybody
    who can log in.

    \b
    sealift local
    sealift local --policy policy.yaml --data ./playground
    """
    out = sys.stdout
    named = options.policy or Settings.from_environment().policy
    if named is not None and named.startswith("s3://"):
        raise UsageError(f"--policy {named}", advice="name a file of this machine, because nothing here asks AWS")
    with interruption() as stop, _folder(options.data) as folder:
        from jobs.local.system import running

        policy = Path(named) if named is not None else _sample(folder)
        if not options.as_json:
            say("Starting …")
        keeps_data = options.data is not None
        with running(policy, folder, keeps_data=keeps_data) as system:
            if options.as_json:
                ready = {"event": "ready", "environment": dict(system.environment), "folder": str(folder.resolve())}
                click.echo(json.dumps(ready), file=out)
                _report(system, stop, lambda status: click.echo(json.dumps(status), file=out))
            else:
                click.echo(_welcome(system, folder), file=out)
                with _line() as show:
                    _report(system, stop, show)
            events, runs = system.backups.waiting().events, system.runs.unfinished
    if not options.as_json:
        say(_farewell(events, runs, options.data))
    return 0


def _report(system: System, stop: Interruption, show: Callable[[dict[str, Any]], object]) -> None:
    """Show the status each second until somebody stops it, and once more at the end."""
    while not stop.wait(STATUS_SECONDS):
        show(system.status())
    with contextlib.suppress(StoreError):
        show(system.status())


def _welcome(system: System, folder: Path) -> str:
    exports = [f"  export {name}={shlex.quote(value)}" for name, value in system.environment.items()]
    return "\n".join(
        [
            "Running. What is put into a source is copied within a second:",
            *map(_pair_line, system.policy.pairs),
            "",
            "In another shell:",
            "",
            "  unset AWS_PROFILE AWS_SESSION_TOKEN",
            *exports,
            "",
            *(f"  {each}" for each in first_commands(system.policy)),
            "",
            "Other users of this machine can change the data: not all of its ports on 127.0.0.1 ask for credentials.",
            f"Logs are in {folder}. Ctrl-C ends it.",
        ]
    )


def _pair_line(pair: Pair) -> str:
    """Which keys of a pair go where."""
    sources = ", ".join(f"s3://{pair.source.bucket}/{prefix}" for prefix in pair.source.prefixes)
    without = f" (without {', '.join(pair.source.exclude)})" if pair.source.exclude else ""
    return f"  {pair.name}: {sources}{without} → s3://{pair.destination.bucket}/{pair.destination.prefix}"


def first_commands(policy: Policy) -> list[str]:
    """Commands to try first: put an object, run the night of its pair, look at the state."""
    keys = ((pair, example_key(policy, pair)) for pair in policy.pairs)
    pair, key = next(((pair, key) for pair, key in keys if key is not None), (policy.pairs[0], None))
    copy = [] if key is None else [f"echo hello | aws s3 cp - {shlex.quote(f's3://{pair.source.bucket}/{key}')}"]
    return [
        *copy,
        f"sealift nightly --pair {pair.name} --margin 0s",
        "sealift status",
    ]


def _farewell(events: int, runs: int, data: Path | None) -> str:
    """What ended in the middle, and what is kept."""
    left = [
        f"{count:,} {singular if count == 1 else plural}"
        for count, singular, plural in (
            (events, "event not handled", "events not handled"),
            (runs, "run cut short", "runs cut short"),
        )
        if count
    ]
    kept = (
        "Buckets were thrown away: --data keeps them."
        if data is None
        else f"Buckets are kept in {data} for its next start."
    )
    if (events or runs) and data is not None:
        kept += " What was cut short is not started again: the next night finds its objects."
    return f"Stopped{'; ' if left else ''}{', '.join(left)}. {kept}"


def status_text(status: Mapping[str, Any]) -> str:
    """One line for people."""
    oldest = status["oldest_unhandled_seconds"]
    parts = [
        "all handled" if oldest is None else f"{status['unhandled']:,} unhandled, {human_seconds(oldest)} old at most",
        f"{status['backed_up']:,} backed up ({human_bytes(status['backed_up_bytes'])})",
        f"{status['superseded']:,} superseded",
        f"{status['handed_over']:,} handed over",
        f"{status['failed']:,} failed",
    ]
    parts += [f"{status[name]:,} {label}" for name, label in _SOMETIMES.items() if status[name]]
    return " · ".join([*parts, *status["told"][-1:]])


_SOMETIMES = {"given_up": "given up", "backlog_rows": "in the backlog", "runs": "runs under way"}


@contextlib.contextmanager
def _line() -> Iterator[Callable[[dict[str, Any]], object]]:
    """A line that is overwritten on a terminal. Elsewhere a new line for each change."""
    if not sys.stderr.isatty():
        last = ""

        def show(status: dict[str, Any]) -> None:
            nonlocal last
            if (text := status_text(status)) != last:
                say(text)
            last = text

        yield show
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text("…"), console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False) as live:
        yield lambda status: live.update(Text(status_text(status)))


@contextlib.contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        try:
            data.mkdir(parents=True, exist_ok=True)
            lock = (data / "lock").open("w")
        except OSError as error:
            raise ConfigError(
                f"--data {data}: {error.strerror}", advice="name a folder that can be written to"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"--data {data}: another `sealift local` works with it", advice="name another one"
                ) from error
            yield data.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="sealift-local-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _sample(folder: Path) -> Path:
    policy = folder / "policy.yaml"
    if not policy.exists():
        policy.write_text(SAMPLE)
    return policy


class Interruption:
    """Whether Ctrl-C or SIGTERM came.

    A pipe says so. The lock of a `threading.Event` would not do: a handler that runs amid the
    event's own `wait` would ask for it for ever.
    """

    def __init__(self, told: int) -> None:
        self._told = told

    def wait(self, seconds: float) -> bool:
        """Wait so long at most. Returns True if a signal came, now or before."""
        return bool(select.select([self._told], [], [], seconds)[0])


@contextlib.contextmanager
def interruption() -> Iterator[Interruption]:
    """Turn Ctrl-C and SIGTERM into a request to stop, however often they come.

    What was started has to be ended in order.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def take(number: int, frame: object) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe says it as well
            os.write(tell, b"!")

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Interruption(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(tell)
        os.close(told)
