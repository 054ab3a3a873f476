"""`--max-rate` and `--bandwidth`, from the command to the workers' requests."""

from __future__ import annotations

import re

from tests.end_to_end.conftest import World


def places(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]


def test_a_plan_says_how_long_its_limits_make_it_and_a_retry_keeps_them(world: World) -> None:
    for number in range(20):
        world.put(f"k{number}", bytes(1000))
    limited = ["--max-rate", "0.5", "--bandwidth", "1KiB", "--dry-run", "--json"]
    rate = world.sealift("verify", *places(world), *limited).document
    assert rate["seconds"] == sum(rate["requests"].values()) / 0.5
    bandwidth = world.sealift("verify", *places(world), "--deep", *limited[2:]).document
    assert bandwidth["seconds"] == 2 * 20_000 / 1024
    run = world.run("verify", "--max-rate", "5000", "--bandwidth", "1GiB")
    assert run["outcomes"] == {"missing": 20}
    assert world.sealift("runs", "retry", run["run_id"], "--yes").code == 0
    options = world.sealift("runs", "show", "latest", "--json").document["spec"]["options"]
    assert (options["max_rate"], options["bandwidth_bytes"]) == (5000, 1 << 30)
    for wrong in (["--max-rate", "0"], ["--bandwidth", "1"]):
        assert world.sealift("verify", *places(world), *wrong).code == 2


def test_the_requests_of_the_workers_keep_their_distance(world: World) -> None:
    for number in range(24):
        world.put(f"k{number}")
    result = world.sealift("--debug", "verify", *places(world), "--max-rate", "16")
    assert result.code == 3, result.stderr
    looks = re.findall(r"(\d\d):(\d\d):(\d\d\.\d+)Z HeadObject s3://\S+k\d+: ", result.stderr)
    ends = sorted(int(hours) * 3600 + int(minutes) * 60 + float(seconds) for hours, minutes, seconds in looks)
    assert len(ends) == 48
    assert ends[-1] - ends[15] > 1.5  # only a second's requests, 16, may be sent at once
