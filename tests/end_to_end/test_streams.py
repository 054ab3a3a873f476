"""Standard streams that nobody reads, that are full, or that are closed: of every verb."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from jobs.cli import cli
from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, discard, make_world
from tests.end_to_end.forked_command import CLOSED, UNREAD, run_command
from tests.end_to_end.pair_policy import write_policy

FULL = "/dev/full"


def all_verbs(command: click.Command = cli, names: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from all_verbs(inner, (*names, name))
    else:
        yield " ".join(names)


class Scene(NamedTuple):
    """A world with a run, an archive and a night, and what each verb is asked there."""

    world: World
    commands: dict[str, list[str]]


@pytest.fixture(scope="module")
def scene(seaweed: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    world = make_world(seaweed, versioned=False)
    folder = tmp_path_factory.mktemp("scene")
    policy = ["--policy", write_policy(world, folder)]
    source, copies = f"s3://{world.source}/docs/", f"s3://{world.destination}/copies/"
    sides = ["--source", source, "--destination", copies]
    for number in range(3):
        world.put(f"docs/{number}")
    run = world.sealift("replicate", *sides, "--json").document["run_id"]
    archives = ["--archives", f"s3://{world.destination}/archives"]
    packed = world.sealift("compact", "--source", source, *archives, "--pack-all", "--json").document["run_id"]
    [archive] = world.sealift("archives", "list", "--json").document["archives"]
    yield Scene(
        world,
        {
            "inventory": [source, "--to", f"s3://{world.ledger}/inventories"],
            "replicate": sides,
            "verify": [*sides, "--dry-run"],
            "reconcile": sides,
            "compact": ["--source", source, *archives, "--pack-all", "--dry-run"],
            "restore": [*archives, "--key", "docs/1", "--destination", f"s3://{world.ledger}/back", "--dry-run"],
            "expire": ["--run", packed],
            "archives find": ["docs/1"],
            "archives list": [archive["location"]],
            "archives reindex": archives,
            "backfill": ["--pair", "docs", *policy, "--dry-run"],
            "nightly": ["--pair", "docs", *policy],
            "status": policy,
            "runs cancel": [run],
            "runs dismiss": [run, "--reason", "it ended well, so this is refused"],
            "runs list": [],
            "runs show": [run],
            "runs retry": [run],
            "query": ["SELECT key FROM outcomes"],
            "catalog rebuild": [],
            "local": ["--help"],
            "events list": policy,
            "events redrive": policy,
            "doctor": policy,
            "policy check": policy[1:],
            "policy explain": [*policy, f"{source}1"],
        },
    )
    discard(world)


def run(scene: Scene, verb: str, *, scratch: Path | None = None, **streams: str | None) -> Any:
    extra = {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9", "SEALIFT_PATIENCE_SECONDS": "0.1"}
    if scratch is not None:
        extra["TMPDIR"] = str(scratch)
    arguments = [*verb.split(), *scene.commands[verb]]
    if verb == "inventory":  # a report is written once
        arguments[-1] += f"/{uuid.uuid4().hex}"
    return run_command(arguments, scene.world.environment(**extra), **streams)


@pytest.mark.slow
@pytest.mark.parametrize("verb", list(all_verbs()))
def test_no_stream_makes_a_verb_fail_with_a_traceback(scene: Scene, verb: str) -> None:
    """The exit code is the verb's own, 75 for a reader that is gone, or 10 for a full disk."""
    own, answer, said = run(scene, verb)
    assert own != 1, said
    for stdout, code in ((UNREAD, 75), (FULL, 10)):
        for stderr in (None, CLOSED):
            ended, _, said = run(scene, verb, stdout=stdout, stderr=stderr)
            assert ended == (code if answer else own), (stdout, stderr, said)
            assert "Traceback" not in said
            assert "bug in Sealift" not in said
            assert "Exception ignored" not in said


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_a_pipe_into_head_ends_quietly(scene: Scene, more: Sequence[str]) -> None:
    """As a shell has it: most of what is printed fits into the pipe before head is gone."""
    for verb in ("runs list", "query", "archives list"):
        options = [] if verb == "query" else more
        command = shlex.join([sys.executable, "-m", "jobs", *verb.split(), *scene.commands[verb], *options])
        script = f"set -o pipefail; {command} | head -1 >/dev/null"
        ended = subprocess.run(
            ["bash", "-c", script], env=scene.world.environment(), capture_output=True, text=True, check=False
        )
        assert ended.returncode in (0, 75), ended.stderr
        assert "Traceback" not in ended.stderr
        assert "Exception ignored" not in ended.stderr


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own that has room for 4 KiB: with none, Python takes another folder."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("NO FULL DISK: only root may mount one")
    try:
        (folder / "file").write_bytes(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_scratch_disk_is_said_by_its_name(scene: Scene, full_disk: Path) -> None:
    named = set()
    for verb in all_verbs():
        own, _, _ = run(scene, verb)
        code, _, said = run(scene, verb, scratch=full_disk)
        assert "Traceback" not in said, verb
        assert "bug in Sealift" not in said, verb
        assert code in (own, 10), (verb, said)
        if "no space is left" in said:
            named.add(verb)
            assert "TMPDIR" in said
    assert "reconcile" in named  # the other verbs have little to write here


INTERRUPTED = """
import atexit, runpy, signal, sys

left, is_begun = int(sys.argv.pop(1)), False

def count(event, arguments):
    global left, is_begun
    is_begun = is_begun or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    left -= is_begun
    if is_begun and left == 0:
        signal.raise_signal(signal.SIGINT)

atexit.register(lambda: print("events", -left, file=sys.stderr))
sys.addaudithook(count)
runpy.run_module("jobs", run_name="__main__", alter_sys=True)
"""
"""The command with Ctrl-C at an event: Python says when it imports, opens, connects and so on.

What happens before the first line of the program is Python's.
"""
MOMENTS = 16


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["runs list", "reconcile"])
def test_ctrl_c_at_any_moment_is_an_interruption(scene: Scene, verb: str) -> None:
    def interrupt(event: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", INTERRUPTED, str(event), *verb.split(), *scene.commands[verb]]
        return subprocess.run(command, env=scene.world.environment(), capture_output=True, text=True, check=False)

    whole = interrupt(0)
    events = int(whole.stderr.rsplit("events ", 1)[1])
    for moment in range(MOMENTS):
        event = 1 + moment * events // MOMENTS
        ended = interrupt(event)
        assert ended.returncode in (75, -signal.SIGINT, whole.returncode), (event, ended.stderr)
        assert "Traceback" not in ended.stderr, (event, ended.stderr)
        assert "bug in Sealift" not in ended.stderr
