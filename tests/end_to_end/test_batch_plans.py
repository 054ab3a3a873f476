"""Rate limits in AWS Batch: `--max-rate` and `--bandwidth`."""

from __future__ import annotations

import re

import pytest

from tests.end_to_end.batch_workers import Fleet

SHARDS = 2
ROWS = 24


def fill(yard: Fleet, size_bytes: int = 1) -> None:
    for number in range(ROWS):
        yard.world.put(f"k{number:02d}", bytes(size_bytes))


def sides(yard: Fleet) -> list[str]:
    return ["--source", f"s3://{yard.world.source}", "--destination", f"s3://{yard.world.destination}"]


def sealift(yard: Fleet, *arguments: str, code: int = 0) -> dict:
    result = yard.sealift(*arguments, "--json", SEALIFT_ROWS_PER_SHARD=str(ROWS // SHARDS))
    assert result.code == code, result.stderr
    return result.document


def ends(yard: Fleet, operation: str) -> list[list[float]]:
    """When the requests of an operation on the objects ended, in the order of time: a list of each worker's log."""
    pattern = re.compile(rf"(\d\d):(\d\d):(\d\d\.\d+)Z {operation} s3://\S+k\d\d: ")
    logs = [pattern.findall(file.read_text()) for file in sorted(yard.logs.iterdir()) if file.is_file()]
    return [sorted(int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in found) for found in logs if found]


@pytest.mark.parametrize(
    ("operation", "arguments", "first"),
    [
        ("HeadObject", ["--max-rate", "8"], 4),  # 4 a second for each worker, of which 4 may be sent at once
        ("GetObject", ["--deep", "--bandwidth", "256KiB"], 4),  # 4 objects of 32 KiB a second, of which 4
    ],
)
def test_the_workers_of_an_array_share_the_limits(
    yard: Fleet, operation: str, arguments: list[str], first: int
) -> None:
    """A worker gets the id of its run and nothing else. It takes its equal share of the limits in the run's spec."""
    size_bytes = 32 << 10
    fill(yard, size_bytes)
    assert sealift(yard, "replicate", *sides(yard))["outcomes"] == {"copied": ROWS}
    for file in yard.logs.iterdir():
        file.unlink() if file.is_file() else None
    yard.runner.environment = {**yard.runner.environment, "SEALIFT_REQUEST_LOG": "all"}
    assert sealift(yard, "verify", *sides(yard), *arguments)["outcomes"] == {"verified": ROWS}
    logs = ends(yard, operation)
    assert (len(logs), sum(map(len, logs))) == (SHARDS, 2 * ROWS)  # a request to either side for each row
    for each in logs:  # the hash of the keys says how many rows a worker has
        assert len(each) > 2 * first, each
        assert each[-1] - each[first] > 0.9 * (len(each) - first - 1) / 4, each
