"""How the command's process ends."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.end_to_end.conftest import World


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
    return shell(world, redirections, "replicate", *world.sides, *arguments)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_run_whose_streams_are_closed_works(world: World, closed: str) -> None:
    ended = replicate(world, closed)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert world.copy_of("a") == b"content"
    if ">&-" not in closed.replace("2>&-", ""):
        assert "copied" in ended.stdout


def test_a_full_disk_behind_stdout_is_a_mistake_of_the_place_and_no_bug(world: World) -> None:
    ended = replicate(world, "</dev/null >/dev/full", "--json")
    assert ended.returncode == 10
    assert "no space is left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert world.copy_of("a") == b"content"


@pytest.mark.parametrize("verb", ["runs list", "query 'SELECT key FROM outcomes'"])
def test_a_pipe_into_head_ends_quietly(world: World, verb: str) -> None:
    """Most of what is printed fits into the pipe before head is gone."""
    script = f"set -o pipefail; {sys.executable} -m jobs {verb} | head -1 >/dev/null"
    ended = subprocess.run(["bash", "-c", script], env=world.environment(), capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 75), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
