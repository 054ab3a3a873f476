"""`--acl`, behind a bucket policy that denies objects over which the bucket's owner would have no control."""

from __future__ import annotations

import pytest

from jobs.errors import ExitCode
from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import World

ACL = ("--acl", "bucket-owner-full-control")
LARGE = b"x" * (6 << 20)
IN_PARTS = ("--multipart-threshold", "5MiB", "--part-size", "5MiB")


@pytest.mark.parametrize("client", ["sealift", "botocore"])
@pytest.mark.parametrize("way", [(), ("--stream",)])
def test_copies_leave_the_buckets_owner_full_control(world: World, client: str, way: tuple[str, ...]) -> None:
    world.put("small")
    world.put("large", LARGE)
    with fault_proxy(world.server.endpoint, Faults({}, 1, full_control=f"/{world.destination}/")) as proxy:
        options = {"AWS_ENDPOINT_URL_S3": proxy.endpoint, "SEALIFT_CLIENT": client}
        denied = world.run("replicate", *IN_PARTS, *way, "--max-failures", "100", **options)
        report = world.run("replicate", *IN_PARTS, *way, *ACL, **options)
    assert (denied["code"], denied["outcomes"]) == (ExitCode.FINDINGS, {"denied": 2})
    assert (report["code"], report["outcomes"]) == (ExitCode.DONE, {"copied": 2})
    assert world.copy_of("large") == LARGE


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


def test_other_acls_are_no_choice(world: World) -> None:
    result = world.sealift(
        "replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}",
        "--acl", "public-read",
    )  # fmt: skip
    assert result.code == ExitCode.USAGE
    assert "bucket-owner-full-control" in result.stderr
