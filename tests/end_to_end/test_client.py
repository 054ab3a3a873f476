"""Whole runs on botocore instead of our client, as the environment says."""

from __future__ import annotations

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.end_to_end.conftest import World


def test_a_run_and_all_its_workers_use_the_client_that_the_environment_names(versioned: World) -> None:
    for number in range(20):
        versioned.put(f"manifests/{number:02d} ü+.pdf", b"x" * number, Metadata={"port": "Oslo"})
    with fault_proxy(versioned.server.endpoint, Faults({"slow_down": 0.05}, seed=5)) as proxy:
        options = {"AWS_ENDPOINT_URL_S3": proxy.endpoint, "SEALIFT_CLIENT": "botocore", "SEALIFT_PROCESSES": "2"}
        copied = versioned.run("replicate", **options)
        verified = versioned.run("verify", "--deep", **options)
    assert (copied["code"], copied["outcomes"]) == (0, {"copied": 20})
    assert (verified["code"], verified["outcomes"]) == (0, {"verified": 20})
    assert proxy.faults.agents == {"Botocore"}
    assert versioned.copy_of("manifests/07 ü+.pdf") == b"x" * 7


def test_the_option_says_the_same_for_a_run_and_its_workers(world: World) -> None:
    world.put("a", b"x")
    with fault_proxy(world.server.endpoint, Faults({}, seed=5)) as proxy:
        result = world.sealift(
            "--client", "botocore", "replicate", "--source", f"s3://{world.source}",
            "--destination", f"s3://{world.destination}", "--yes", AWS_ENDPOINT_URL_S3=proxy.endpoint,
        )  # fmt: skip
    assert result.code == 0, result.stderr
    assert proxy.faults.agents == {"Botocore"}


def test_a_client_that_does_not_exist_ends_a_command_with_advice(world: World) -> None:
    result = world.sealift(
        "replicate",
        "--source", f"s3://{world.source}",
        "--destination", f"s3://{world.destination}",
        SEALIFT_CLIENT="curl",
    )  # fmt: skip
    assert result.code == 10
    assert result.stderr.strip() == "sealift: SEALIFT_CLIENT='curl': expected sealift or botocore"
