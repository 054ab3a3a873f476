"""`sealift local`: the event-driven system on this machine, without an account."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs import interrupts
from jobs.cli.console import say
from jobs.cli.options import Options, option, shared
from jobs.errors import ConfigError, ExitCode, UsageError
from jobs.policy.run_options import named_places

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
_WELCOME = """\
Running. What is put into a source is copied within a second:
{pairs}

In another shell:

  unset AWS_PROFILE AWS_SESSION_TOKEN
{exports}

  echo hello | aws s3 cp - {hello}
  sealift nightly --pair {pair} --margin 0s
  sealift status

Other users of this machine can change the data: not all of its ports on 127.0.0.1 ask for credentials.
Logs are in {folder}. Ctrl-C ends it."""


class Local(Options):
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

    data: Path | None = option("A folder that keeps the buckets.", type=click.Path(path_type=Path))
    policy: str | None = shared("policy", "A path. Default: SEALIFT_POLICY, or a sample.")
    as_json: bool = shared("json", "Print one line of JSON a second.")

    def main(self) -> int:
        """Run until a signal comes."""
        out, last = sys.stdout, ""
        if self.policy is not None and self.policy.startswith("s3://"):
            raise UsageError(f"--policy {self.policy}", advice="name a file of this machine: nothing here asks AWS")
        stops: list[int] = []  # signals: each asks to stop, since what was started has to be ended in order
        with interrupts.handled(stops.append), _folder(self.data) as folder:
            from jobs.local.system import running

            say("Starting …")
            policy = Path(self.policy) if self.policy else _sample(folder)
            with running(policy, folder, keeps_data=self.data is not None) as system:
                ready = {"event": "ready", "environment": dict(system.environment), "folder": str(folder.resolve())}
                click.echo(json.dumps(ready) if self.as_json else _welcome(system, folder), file=out)
                while not stops:
                    status = system.status()
                    text = json.dumps(status) if self.as_json else status_text(status)
                    if self.as_json or text != last:
                        click.echo(text, file=out)
                    last = text
                    time.sleep(STATUS_SECONDS)
        say("Stopped." if self.data is None else f"Stopped. Buckets are kept in {self.data} for its next start.")
        return int(ExitCode.DONE)


def _welcome(system: System, folder: Path) -> str:
    pairs, source = system.policy.pairs, system.policy.pairs[0].source
    places = [(pair.name, named_places(system.policy, pair)) for pair in pairs]
    return _WELCOME.format(
        pairs="\n".join(f"  {name}: {place['source']} → {place['destination']}" for name, place in places),
        exports="\n".join(f"  export {name}={shlex.quote(value)}" for name, value in system.environment.items()),
        hello=shlex.quote(f"s3://{source.bucket}/{source.prefixes[0]}hello.txt"),
        pair=pairs[0].name,
        folder=folder,
    )


def status_text(status: Mapping[str, Any]) -> str:
    """One line for people."""
    names = [name for name in ("handled", "unhandled", "given_up", "runs") if status[name] or name == "handled"]
    return " · ".join([*(f"{status[name]:,} {name.replace('_', ' ')}" for name in names), *status["told"][-1:]])


@contextlib.contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        try:
            data.mkdir(parents=True, exist_ok=True)
            lock = (data / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            why = "another `sealift local` works with it" if isinstance(error, BlockingIOError) else error.strerror
            raise ConfigError(f"--data {data}: {why}", advice="name another folder") from error
        with lock:
            yield data.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="sealift-local-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _sample(folder: Path) -> Path:
    policy = folder / "policy.yaml"
    if not policy.exists():
        policy.write_text(SAMPLE)
    return policy
