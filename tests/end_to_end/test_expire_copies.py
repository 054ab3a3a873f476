"""What counts as a copy, by the command line on a real server: what only looks like one saves its original."""

from __future__ import annotations

from dataclasses import replace

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, expire, fill, keys, reasons, replicate


def test_a_copy_that_nobody_reads_any_more_saves_its_original(versioned: World) -> None:
    world = versioned
    names = fill(world, 4)
    replicate(world)
    hidden, written_over, written_again = names[:3]
    world.client.delete_object(Bucket=world.destination, Key=hidden)
    world.client.put_object(
        Bucket=world.destination, Key=written_over, Body=b"Content" + world.copy_of(written_over)[7:]
    )
    world.client.put_object(Bucket=world.destination, Key=written_again, Body=world.copy_of(written_again))
    report = expire(world, *DELETE)
    assert report["outcomes"] == {"done": 2, "blocked": 1}, report
    assert keys(world) == names[:2]
    assert "checksum_differs" in reasons(report)
    plan = world.sealift("runs", "show", report["run_id"], "--json").document["plan"]
    assert plan["excluded"] == {"no_copy": 1, "sealift_object": 1}


def test_rotten_copy_saves_its_original_though_no_run_has_found_it(world: World) -> None:
    """Its size, ETag and checksums are as they were: only its bytes tell."""
    names = fill(world, 3)
    replicate(world)
    rotten = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    with fault_proxy(world.server.endpoint, rotten) as proxy:
        disk = replace(world, server=replace(world.server, endpoint=proxy.endpoint))
        report = expire(disk, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"done": 2, "blocked": 1}), report
    assert keys(world) == names[:1]
