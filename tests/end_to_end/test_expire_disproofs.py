"""Expiry and what other runs have found: a copy that any run found wrong frees no original."""

from __future__ import annotations

import shlex

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import World
from tests.end_to_end.test_expire import DELETE, expire, fill, keys, places, reasons, replicate


def test_a_verify_run_with_swapped_sides_voids_the_proof(world: World) -> None:
    """It found a copy wrong that has the proven ETag again."""
    names = fill(world, 2)
    run_id = replicate(world)
    right = world.client.get_object(Bucket=world.destination, Key=names[0])["Body"].read()
    world.client.put_object(Bucket=world.destination, Key=names[0], Body=b"wrong")
    swapped = world.sealift(
        "verify", "--source", f"s3://{world.destination}", "--destination", f"s3://{world.source}/", "--deep", "--json"
    ).document
    assert swapped["outcomes"] == {"mismatched": 1, "verified": 1}
    world.client.put_object(Bucket=world.destination, Key=names[0], Body=right)
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1, "kept": 1}
    assert keys(world) == names[:1]
    assert f"run {swapped['run_id']} found that it differs from its copy" in reasons(report)


def test_a_proof_of_another_servers_bucket_of_the_same_name_answers_no_finding(world: World) -> None:
    names = fill(world, 2)
    run_id = replicate(world)
    rotten = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    here = world.server.endpoint
    with fault_proxy(here, rotten) as bad, fault_proxy(here, Faults({}, seed=1)) as other:
        found = world.run("verify", "--deep", "--destination-endpoint", bad.endpoint)
        assert found["outcomes"] == {"mismatched": 1, "verified": 1}
        assert world.run("verify", "--deep", "--destination-endpoint", other.endpoint)["code"] == 0
        report = expire(world, run_id, "--copies-endpoint", bad.endpoint, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"expired": 1, "kept": 1}), report
    assert keys(world) == names[:1]
    assert found["run_id"] in reasons(report)


def test_what_the_reason_names_frees_originals_where_a_run_cannot_be_read(world: World) -> None:
    names = fill(world, 3)
    run_id = replicate(world)
    broken = "20250615T150640Z-verify-aaaaaa"
    world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{broken}/spec.json", Body=b"{}")
    report = expire(world, run_id, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"kept": 3})
    assert keys(world) == names
    assert f"run {broken} may have found its copy wrong, and its files cannot be read (s3://" in reasons(report)
    _, _, command = report["reasons"][0]["reason"].partition("prove it by its bytes with  sealift ")
    assert world.sealift(*shlex.split(command), "--json").document["outcomes"] == {"verified": 3}
    freed = expire(world, run_id, *DELETE)
    assert freed["outcomes"] == {"expired": 3}, reasons(freed)
    assert keys(world) == []


def test_the_plan_names_the_runs_that_workers_need_not_read(world: World) -> None:
    fill(world, 1)
    run_id = replicate(world)
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1}
    plan = world.sealift("runs", "show", report["run_id"], "--json").document["plan"]
    assert plan["expiry"]["read_runs"] == [[run_id, None]]
    assert "read_runs" not in report["expiry"]
    assert world.sealift("expire", "--run", run_id, *places(world)).code == 0
