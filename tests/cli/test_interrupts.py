"""Ctrl-C and SIGTERM end a command wherever they arrive: as programs of their own, since a signal is a process's."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAD = """
import asyncio, os, signal, sys, time
from jobs import interrupts

def send(number=None):
    os.kill(os.getpid(), number or signal.SIGTERM)

def say(text):
    os.write(1, (text + "\\n").encode())

def end():
    say("ended late")
    os._exit(75)

interrupts.END_SECONDS = 0.2
interrupts.install(end)
"""


def play(body: str) -> list[str]:
    """What a program prints, one line each, until it is interrupted."""
    tail = "\ntry:\n    work()\nexcept KeyboardInterrupt:\n    say('interrupted')\n"
    ended = subprocess.run(
        [sys.executable, "-c", HEAD + body + tail], check=False, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout.split("\n")[:-1]


@pytest.mark.parametrize("number", ["signal.SIGTERM", "signal.SIGINT"])
def test_the_first_signal_cancels_the_work_which_ends_what_it_began(number: str) -> None:
    body = (
        "async def wait():\n"
        f"    try:\n        send({number})\n        await asyncio.sleep(600)\n"
        "    finally:\n        say('cleaned')\n"
        "def work():\n    interrupts.run(wait())\n"
    )
    assert play(body) == ["cleaned", "interrupted"]


@pytest.mark.parametrize("hangs", ["await asyncio.sleep(600)", "await asyncio.to_thread(time.sleep, 600)"])
def test_the_second_signal_bounds_what_a_silent_server_may_hold_up(hangs: str) -> None:
    """Cleaning that waits for an answer, and a thread that nobody can stop."""
    body = (
        f"async def clean():\n    {hangs}\n"
        "async def wait():\n"
        "    asyncio.get_running_loop().call_soon(send)\n"
        "    try:\n        await asyncio.sleep(600)\n"
        "    finally:\n"
        "        say('cleaning')\n"
        "        asyncio.get_running_loop().call_soon(send, signal.SIGINT)\n"
        "        while True:\n"
        "            try:\n                await clean()\n"
        "            except asyncio.CancelledError:\n                pass\n"
        "def work():\n    interrupts.run(wait())\n"
    )
    assert play(body) == ["cleaning", "ended late"]


def test_a_command_that_ends_ignores_signals_for_a_while() -> None:
    body = "def work():\n    interrupts.ignore()\n    send(signal.SIGINT)\n    send()\n    time.sleep(600)\n"
    assert play(body) == ["ended late"]


def test_a_query_that_a_signal_ends_is_no_bug() -> None:
    """DuckDB looks for signals while it works, and raises an error of its own if one raises."""
    body = (
        "from jobs import cli\n"
        "def query(**_):\n"
        "    try:\n        send()\n        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n        raise RuntimeError('Query interrupted') from None\n"
        "def work():\n    cli.cli.main = query\n    say(str(cli.run([])))\n"
    )
    assert play(body) == ["75"]
