"""What counts as a copy, by the command line on a real server: what only looks like one saves its original."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.expiry import DELETE, expire, fill, keys, reasons, replicate


def test_a_copy_that_nobody_reads_any_more_saves_its_original(versioned: World) -> None:
    world = versioned
    names = fill(world, 4)
    run_id = replicate(world)
    hidden, written_over, written_again = names[:3]
    world.client.delete_object(Bucket=world.destination, Key=hidden)
    world.client.put_object(Bucket=world.destination, Key=written_over, Body=b"something else")
    world.client.put_object(Bucket=world.destination, Key=written_again, Body=world.copy_of(written_again))
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1, "kept": 3}, report
    assert keys(world) == names[:3]
    for reason in ("nothing is at", "another object now", "not the version now that was proven"):
        assert reason in reasons(report)


def test_rotten_copy_saves_its_original_though_no_run_has_found_it(world: World) -> None:
    """Its size, ETag and checksums are as they were: only its bytes tell."""
    names = fill(world, 3)
    run_id = replicate(world)
    rotten = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    with fault_proxy(world.server.endpoint, rotten) as proxy:
        disk = replace(world, server=replace(world.server, endpoint=proxy.endpoint))
        report = expire(disk, run_id, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"expired": 2, "kept": 1}), report
    assert keys(world) == names[:1]


def both_ways(world: World, count: int) -> tuple[list[str], list[str]]:
    """The same objects beneath x/ and y/, and the verify runs that prove each by the other."""
    names = [f"{number:02}.json" for number in range(count)]
    for name in names:
        for folder in ("x", "y"):
            world.put(f"{folder}/{name}", f"content of {name}".encode())
    x, y = (f"s3://{world.source}/{folder}/" for folder in ("x", "y"))
    runs = [
        world.run("verify", "--source", x, "--destination", y),
        world.run("verify", "--source", y, "--destination", x),
    ]
    assert [run["outcomes"] for run in runs] == [{"verified": count}] * 2
    return names, [run["run_id"] for run in runs]


@pytest.mark.slow
def test_originals_that_prove_each_other_do_not_both_go_in_two_runs(versioned: World) -> None:
    world = versioned
    names, runs = both_ways(world, 3)

    def between(number: int, originals: str, copies: str) -> Result:
        folders = ["--source", f"s3://{world.source}/{originals}/", "--copies", f"s3://{world.source}/{copies}/"]
        return world.sealift("expire", "--run", runs[number], *folders, *DELETE, "--json")

    assert between(0, "x", "y").document["outcomes"] == {"expired": 3}
    assert between(1, "y", "x").document["outcomes"] == {"kept": 3}
    again = between(0, "x", "y").document  # what lies behind the markers may go, for y/ is still there
    assert again["outcomes"] == {"expired": 3}, again
    assert keys(world) == [f"y/{name}" for name in names]
