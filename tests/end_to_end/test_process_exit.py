"""How the command's process ends."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.forked_command import run_command

PROGRAM = """
import atexit
from jobs.cli import main

class Noisy:
    def __del__(self):
        print("taken apart")

kept = Noisy()
atexit.register(print, "registered")
main(["runs", "--help"] if {good} else ["runs", "--no-such-option"])
"""


def end(*, good: bool) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", PROGRAM.format(good=good)]
    return subprocess.run(program, check=False, capture_output=True, text=True)


def test_the_interpreter_is_not_taken_apart_while_threads_of_others_may_still_hold_on_to_it():
    ended = end(good=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: sealift runs")
    assert ended.stdout.endswith("\nregistered\n")
    assert end(good=False).returncode == 2


def test_a_reader_that_went_away_is_an_interruption_and_no_bug():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "jobs", "runs", "--help"]
    try:
        ended = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (75, "")


def shell(world: World, redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it, with streams closed or redirected."""
    command = f"exec {shlex.join([sys.executable, '-m', 'jobs', *arguments])} {redirections}"
    return subprocess.run(
        ["sh", "-c", command], check=False, env=world.environment(), capture_output=True, text=True, timeout=120
    )


def replicate(world: World, redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    world.put("a", b"content")
    places = ("--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
    return shell(world, redirections, "replicate", *places, *arguments)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_whose_streams_are_closed_works(world: World, closed: str) -> None:
    ended = replicate(world, closed)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert world.copy_of("a") == b"content"
    if ">&-" not in closed.replace("2>&-", ""):
        assert "copied" in ended.stdout


def test_a_closed_stderr_leaves_exactly_one_document_on_stdout(world: World) -> None:
    ended = replicate(world, "<&- 2>&-", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["outcomes"]) == (0, {"copied": 1})


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_a_full_disk_behind_stdout_is_a_mistake_of_the_place_and_no_bug(world: World, arguments: tuple[str]) -> None:
    ended = replicate(world, "</dev/null >/dev/full", *arguments)
    assert ended.returncode == 10
    assert ended.stderr.endswith(
        "sealift: cannot write to stdout: No space left on device; free space, or send the output elsewhere\n"
    )
    assert "Traceback" not in ended.stderr
    assert world.copy_of("a") == b"content"


def test_lines_for_people_that_cannot_be_written_do_not_keep_a_run_from_its_work(world: World) -> None:
    ended = replicate(world, "</dev/null 2>/dev/full", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["outcomes"]) == (0, {"copied": 1})


@pytest.mark.parametrize("arguments", [("runs", "--no-such-option"), ("runs", "show", "nothing"), ("query",)])
def test_an_error_that_nobody_can_read_keeps_its_exit_code(world: World, arguments: tuple[str, ...]) -> None:
    code = shell(world, "", *arguments).returncode
    assert code in (2, 10)
    assert shell(world, "<&- >&- 2>&-", *arguments).returncode == code
    assert shell(world, "2>/dev/full", *arguments).returncode == code


def test_help_on_a_full_disk_is_no_bug(world: World) -> None:
    ended = shell(world, ">/dev/full", "runs", "--help")
    assert (ended.returncode, "Traceback" in ended.stderr) == (10, False)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["runs", "list", "--json"], ["runs", "show", "none"], ["runs", "--no-such-option"]]
)
def test_a_fork_ends_and_says_what_a_command_of_its_own_does(world: World, arguments: list[str]):
    """Most tests here run the command in a fork."""
    started = world.start(*arguments)
    stdout, stderr = started.communicate(timeout=120)
    assert run_command(arguments, world.environment()) == (started.returncode, stdout, stderr)
