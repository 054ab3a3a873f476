"""What a person at a terminal meets: questions, Ctrl-C, servers that do not answer, full disks."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs import cli
from jobs.aws import clients
from jobs.cli import runs
from jobs.cli.local import SAMPLE
from jobs.s3 import retries
from tests.doubles.batch.account import await_value
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_resume import FAST_CHECKPOINTS, copied


class Terminal:
    """A command at a pseudo-terminal: what it shows, and the keys that a person presses."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int):
        self.process, self._terminal, self.shown = process, terminal, ""

    def await_text(self, text: str, times: int = 1) -> None:
        while self.shown.count(text) < times:
            assert self._read(30), self.shown

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def await_end(self) -> int:
        while self._read(60):
            pass
        return self.process.wait(60)

    def interrupt(self) -> int:
        """Press Ctrl-C until the command ends: Python loses one in the moment before it begins to read a line."""
        for _ in range(12):
            self.press("\x03")
            while self._read(5):
                pass
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        raise AssertionError(self.shown)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        try:
            data = os.read(self._terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def at_a_terminal(world: World, *arguments: str, then: str = "") -> Iterator[Terminal]:
    """A command at a terminal. `then`: what the shell that has started it does after it."""
    above, below = pty.openpty()
    command = [sys.executable, "-m", "jobs", *arguments]
    if then:
        command = ["sh", "-c", f"trap : INT; {shlex.join(command)}; {then}"]
    process = subprocess.Popen(
        command, env=world.environment(), stdin=below, stdout=below, stderr=below, start_new_session=True,
        preexec_fn=lambda: _control(below),
    )  # fmt: skip
    os.close(below)
    try:
        yield Terminal(process, above)
    finally:
        process.kill()
        process.wait()
        os.close(above)


def _control(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(("says_no", "code", "said"), [(True, 2, "as you said"), (False, 75, "interrupted")])
def test_who_does_not_agree_starts_nothing(world: World, says_no: bool, code: int, said: str) -> None:
    world.put("a")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with at_a_terminal(world, "replicate", *sides) as terminal:
        terminal.await_text("Start?")
        if says_no:
            terminal.press("n\n")
        assert (terminal.await_end() if says_no else terminal.interrupt()) == code
        assert said in terminal.shown
        assert "nothing was started" in terminal.shown
        assert "Traceback" not in terminal.shown
    assert copied(world) == 0
    assert world.sealift("runs", "list", "--json").document["runs"] == []


def test_who_agrees_starts_it(world: World) -> None:
    world.put("a")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    with at_a_terminal(world, "replicate", *sides) as terminal:
        terminal.await_text("Start?")
        terminal.press("y\n")
        assert terminal.await_end() == 0
    assert copied(world) == 1


def test_many_interrupts_end_a_run_without_a_traceback_and_a_retry_completes_it(world: World) -> None:
    for number in range(400):
        world.put(f"k{number}")
    process = world.start(
        "replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}",
        **FAST_CHECKPOINTS,
    )  # fmt: skip
    await_value(lambda: copied(world) > 20)
    while process.poll() is None:  # as often as a person can press
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode in (0, 75), stderr
    assert "Traceback" not in stderr
    assert "bug in Sealift" not in stderr
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    assert world.sealift("runs", "retry", run["run_id"], "--json").code == 0
    assert copied(world) == 400


PLACES = ["--source", "s3://docs", "--destination", "s3://copies"]


@pytest.mark.parametrize(
    ("command", "target"),
    [
        (["runs", "list"], "the ledger s3://ledger/runs"),
        (["runs", "show", "20261125T003345Z-verify-1f3a"], "the ledger s3://ledger/runs"),
        (["replicate", "--dry-run", *PLACES], "the ledger s3://ledger/runs"),
        (["compact", "--dry-run", "--source", "s3://docs", "--archives", "s3://cold"], "the ledger s3://ledger/runs"),
        (["events", "list"], "GetQueueUrl local-objects"),
        (["events", "redrive", "--dry-run"], "GetQueueUrl local-objects"),
    ],
)
def test_a_server_that_never_answers_is_named_soon(
    command: list[str],
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(clients, "PROMPT_SECONDS", 0.3)
    policy = tmp_path / "policy.yaml"
    policy.write_text(SAMPLE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "SEALIFT_LEDGER": "s3://ledger/runs",
            "SEALIFT_POLICY": str(policy),
        }.items():
            monkeypatch.setenv(name, value)
        assert cli.run(command) == 75
    stderr = capsys.readouterr().err
    assert target in stderr
    assert address in stderr
    assert re.search(r"nothing came .*within|Read timeout", stderr)


@pytest.mark.parametrize("silent", ["source", "destination"])
def test_a_side_that_never_answers_is_named_soon(
    world: World, silent: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
        assert cli.run(["replicate", "--dry-run", *places, f"--{silent}-endpoint", address]) == 75
    stderr = capsys.readouterr().err
    assert f"the {silent} s3://" in stderr
    assert f"nothing came from {address} within" in stderr


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/scratch/rows.parquet"),
        duckdb.IOException('Could not write file "/scratch/x": No space left on device'),
        ExceptionGroup("both", [OSError(errno.EDQUOT, "Disk quota exceeded", "/scratch/x")]),
    ],
)
def test_a_full_disk_is_no_bug(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: Any) -> int:
        raise error

    monkeypatch.setattr(runs, "_list", fail)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "k")
    assert cli.run(["runs", "list", "--ledger", "s3://ledger"]) == 10
    stderr = capsys.readouterr().err
    assert "no space is left" in stderr
    assert "TMPDIR" in stderr
    assert "bug" not in stderr


def test_the_ledger_of_the_policy_is_the_ledger_of_every_command(world: World, tmp_path: Any) -> None:
    world.put("docs/a")
    policy = write_policy(world, tmp_path)
    copied_run = world.sealift("backfill", "--pair", "docs", "--json", SEALIFT_POLICY=policy, SEALIFT_LEDGER="")
    listed = world.sealift("runs", "list", "--json", SEALIFT_POLICY=policy, SEALIFT_LEDGER="")
    assert [each["run_id"] for each in listed.document["runs"]] == [copied_run.document["run_id"]]
