"""`--max-rate`, from the command to the workers' requests."""

from __future__ import annotations

import re

from tests.end_to_end.conftest import World


def test_the_requests_of_the_workers_keep_their_distance(world: World) -> None:
    for number in range(24):
        world.put(f"k{number}")
    result = world.sealift("--debug", "verify", *world.sides, "--max-rate", "16")
    assert result.code == 3, result.stderr
    looks = re.findall(r"(\d\d):(\d\d):(\d\d\.\d+)Z HeadObject s3://\S+k\d+: ", result.stderr)
    ends = sorted(int(hours) * 3600 + int(minutes) * 60 + float(seconds) for hours, minutes, seconds in looks)
    assert len(ends) == 48
    assert ends[-1] - ends[15] > 1.5  # only a second's requests, 16, may be sent at once
