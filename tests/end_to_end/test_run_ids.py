"""`latest` and unique beginnings in place of a run's id, at every option and argument that takes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from jobs.cli.options import ManifestType, RunType
from tests.cli.test_options import COMMANDS
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_reconcile import settle

Sides = Callable[[World], list[str]]


def takers() -> Iterator[tuple[str, str]]:
    """Each command with its parameter that takes a run's id."""
    for path, command in COMMANDS.items():
        for parameter in command.params:
            if isinstance(parameter.type, RunType | ManifestType):
                yield path, "RUN" if isinstance(parameter, click.Argument) else parameter.opts[0]


INTERNAL = {("worker", "RUN")}
"""A run's own worker, which its command starts by the whole id."""


def sides(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]


def there(world: World) -> list[str]:
    return ["--destination", f"s3://{world.destination}"]


def archives(world: World) -> list[str]:
    return ["--archives", f"s3://{world.ledger}/a"]


ARGUMENTS: dict[tuple[str, str], tuple[str, Sides]] = {
    ("runs show", "RUN"): ("{}", lambda _: []),
    ("runs retry", "RUN"): ("{}", lambda _: ["--yes"]),
    ("runs cancel", "RUN"): ("{}", lambda _: []),
    ("runs dismiss", "RUN"): ("{}", lambda _: ["--reason", "mistyped"]),
    ("query", "--run"): ("{}", lambda _: ["SELECT run_id FROM runs", "--format", "json"]),
    ("reconcile", "--version-map"): ("{}", lambda world: [*sides(world), "--versions", "all", "--margin", "0s"]),
    ("expire", "--run"): ("{}", lambda _: ["--grace", "0s", "--max-share", "100%"]),
    ("expire", "--undo"): ("{}", lambda _: []),
    ("replicate", "--manifest"): ("proven:{}", lambda world: [*there(world), "--dry-run"]),
    ("verify", "--manifest"): ("proven:{}", there),
    ("compact", "--manifest"): ("proven:{}", lambda world: [*archives(world), "--pack-all"]),
    ("restore", "--manifest"): ("run:{}", lambda world: [*there(world), *archives(world)]),
    ("backfill", "--manifest"): ("proven:{}", lambda _: ["--pair", "docs"]),
}
NAMES_NO_RUN = {("expire", "--manifest"): "a manifest of rows alone: what deletes has --run for runs"}


def test_every_parameter_that_takes_a_run_is_here() -> None:
    assert set(takers()) == ARGUMENTS.keys() | NAMES_NO_RUN.keys() | INTERNAL


def latest(world: World) -> str:
    return str(world.sealift("runs", "list", "--limit", "1", "--json").document["runs"][0]["run_id"])


@pytest.mark.parametrize(("path", "option"), ARGUMENTS, ids=lambda value: str(value))
def test_latest_and_a_unique_beginning_name_a_run(world: World, tmp_path: Path, path: str, option: str) -> None:
    world.put("docs/a")
    world.run("replicate")
    if path == "restore":
        assert world.sealift("compact", "--source", f"s3://{world.source}", *archives(world), "--pack-all").code == 0
    settle()
    policy = write_policy(world, tmp_path)
    form, more = ARGUMENTS[path, option]
    for short in (lambda _: "latest", lambda run_id: run_id[:-1]):
        run_id = latest(world)
        named = form.format(short(run_id))
        words = [named] if option == "RUN" else [option, named]
        result = world.sealift(*path.split(), *words, *more(world), SEALIFT_POLICY=policy)
        assert result.code in (0, 2, 3, 10), result.stderr
        said = result.stdout + result.stderr
        if path == "reconcile":  # whose report says nothing of it
            said = str(world.sealift("runs", "show", "latest", "--json").document["spec"]["options"]["version_map"])
        assert run_id in said, said
        settle()
    unknown = form.format("20010101")
    words = [unknown] if option == "RUN" else [option, unknown]
    refused = world.sealift(*path.split(), *words, *more(world), SEALIFT_POLICY=policy)
    assert (refused.code, "has no run 20010101" in refused.stderr) == (10, True), refused.stderr


@pytest.mark.parametrize("option", ["--run", "--undo"])
def test_what_deletes_or_puts_back_wants_the_whole_id(world: World, option: str) -> None:
    world.put("docs/a")
    world.run("replicate")
    run_id = latest(world)
    places = ["--source", f"s3://{world.source}", "--copies", f"s3://{world.destination}", "--grace", "0s"]
    refused = world.sealift("expire", option, "latest", *places, "--max-share", "100%", "--yes-delete")
    assert (refused.code, f"give its whole id, {option} {run_id}" in refused.stderr) == (2, True), refused.stderr
    assert [each["Key"] for each in world.client.list_objects_v2(Bucket=world.source)["Contents"]] == ["docs/a"]


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(world: World, tmp_path: Path) -> None:
    nearly = world.sealift("runs", "show", "lates")
    assert (nearly.code, "did you mean latest?" in nearly.stderr) == (10, True), nearly.stderr
    other = world.sealift("runs", "show", "nonsense")
    assert (other.code, "did you mean" in other.stderr) == (10, False), other.stderr
    policy = write_policy(world, tmp_path)
    for command in (["nightly"], ["backfill"], ["doctor"]):
        pair = world.sealift(*command, "--pair", "dosc", "--policy", policy)
        assert (pair.code, "only docs, logs; did you mean docs?" in pair.stderr) == (2, True), pair.stderr


@pytest.mark.parametrize("scheme", ["run", "proven"])
def test_a_manifest_of_expire_names_no_run_and_says_which_option_does(world: World, scheme: str) -> None:
    refused = world.sealift("expire", "--manifest", f"{scheme}:latest")
    assert (refused.code, "may go with --run latest" in refused.stderr) == (2, True), refused.stderr
