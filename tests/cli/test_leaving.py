"""How the command's process ends."""

import os
import subprocess
import sys

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
