"""`--acl`, behind a bucket policy that denies objects over which the bucket's owner would have no control."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ExitCode
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.servers import REGION
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_reconcile import settle

ACL = ("--acl", "bucket-owner-full-control")
LARGE = b"x" * (6 << 20)
IN_PARTS = ("--multipart-threshold", "5MiB", "--part-size", "5MiB")


@pytest.mark.parametrize("way", [(), ("--stream",)])
def test_copies_leave_the_buckets_owner_full_control(world: World, way: tuple[str, ...]) -> None:
    world.put("small")
    world.put("large", LARGE)
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:
        options = {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        denied = world.run("replicate", *IN_PARTS, *way, "--max-failures", "100%", **options)
        report = world.run("replicate", *IN_PARTS, *way, *ACL, **options)
    assert (denied["code"], denied["outcomes"]) == (ExitCode.FINDINGS, {"denied": 2})
    assert (report["code"], report["outcomes"]) == (ExitCode.DONE, {"copied": 2})
    assert world.copy_of("large") == LARGE


@pytest.mark.parametrize(("limit", "ends"), [("80%", False), ("10", False), ("6", True)])
@pytest.mark.parametrize("is_variable", [False, True])
def test_a_run_ends_early_by_a_count_of_failed_rows(world: World, limit: str, ends: bool, is_variable: bool) -> None:
    for number in range(3):
        world.put(f"k{number}")
    world.run("replicate")
    for number in range(3, 10):
        world.put(f"k{number}")
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:
        given = () if is_variable else ("--max-failures", limit)
        variables = {"SEALIFT_MAX_FAILURES": limit} if is_variable else {}
        places = ("--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
        result = world.sealift(
            "replicate", *places, *given, SEALIFT_IN_FLIGHT="1", AWS_ENDPOINT_URL_S3=proxy.endpoint, **variables
        )
    if ends:
        assert result.code == ExitCode.CONFIG
        assert re.search(r"ended early: 7 of \d+ rows failed, more than 6;", result.stderr)
    else:
        assert result.code == ExitCode.FINDINGS, result.stderr


def test_archives_and_what_is_restored_from_them_do_so_as_well(world: World) -> None:
    world.put("a", b"one")
    archives, back = f"s3://{world.destination}/archives/", f"s3://{world.destination}/back/"
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:
        options = {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        source = ("--source", f"s3://{world.source}", "--pack-all")
        packed = world.sealift("compact", *source, "--archives", archives, *ACL, "--yes", **options)
        asked = ("--archives", archives, "--key", "a", "--destination", back)
        restored = world.sealift("restore", *asked, *ACL, "--yes", **options)
    assert (packed.code, restored.code) == (ExitCode.DONE, ExitCode.DONE), packed.stderr + restored.stderr
    assert world.copy_of("back/a") == b"one"


def test_a_pair_of_the_policy_says_it_for_backfills_nights_and_archives(world: World, tmp_path: Path) -> None:
    for key in ("docs/a", "docs/large"):
        world.put(key, LARGE if key == "docs/large" else b"one")
    hot = {"bucket": world.destination, "region": REGION, "prefix": "copies/"}
    rule = {"name": "all", "older_than": "0s", "format": "tar", "storage_class": "STANDARD"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    acl = {"acl": "bucket-owner-full-control"}
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:

        def outcomes(pair: dict[str, Any], command: str, *arguments: str) -> Any:
            given = ("--pair", "docs", "--policy", write_policy(world, tmp_path, docs=pair), "--json")
            result = world.sealift(command, *arguments, *given, AWS_ENDPOINT_URL_S3=proxy.endpoint)
            return result.document.get("outcomes", result.document)

        without = {"destination": hot, "archive": archive}
        given = {"destination": hot | acl, "archive": archive | acl}
        assert outcomes(without, "backfill") == {"denied": 2}
        assert outcomes(given, "backfill") == {"copied": 2}
        world.client.delete_object(Bucket=world.destination, Key="copies/docs/a")
        stages = outcomes(given, "nightly", "--margin", "0s")["stages"]
        assert [each["counts"] for each in stages if each["stage"] == "repair"] == [{"copied": 1}]
        packing = ("--rule", "all", "--pack-all", "--yes")
        assert "packed" not in outcomes(without, "compact", *packing)
        assert outcomes(given, "compact", *packing) == {"packed": 1}
    assert world.copy_of("copies/docs/large") == LARGE


def test_a_repair_says_it_for_its_copies(world: World) -> None:
    world.put("a", b"one")
    places = ("--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}")
    command = ("reconcile", *places, "--margin", "0s", "--repair", "--json")
    settle()
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:
        denied, repaired = (
            world.sealift(*command, *acl, AWS_ENDPOINT_URL_S3=proxy.endpoint).document for acl in ((), ACL)
        )
    assert [each["outcomes"] for each in denied["repair"]] == [{"denied": 1}]
    assert [each["outcomes"] for each in repaired["repair"]] == [{"copied": 1}]
    shown = world.sealift("runs", "retry", repaired["run_id"])
    assert "--acl bucket-owner-full-control" in shown.stderr
    nothing_to_write = world.sealift("reconcile", *places, *ACL)
    assert (nothing_to_write.code, "--repair" in nothing_to_write.stderr) == (ExitCode.USAGE, True)


def test_other_acls_are_no_choice(world: World) -> None:
    result = world.sealift(
        "replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}",
        "--acl", "public-read",
    )  # fmt: skip
    assert result.code == ExitCode.USAGE
    assert "bucket-owner-full-control" in result.stderr
