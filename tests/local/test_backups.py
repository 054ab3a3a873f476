"""Events on their way to the function: they settle, come again, and are given up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from jobs.backup.events import parse_message
from jobs.cli.local import SAMPLE
from jobs.errors import ConfigError
from jobs.local.backups import BATCH_MESSAGES, RETRY_SECONDS, SETTLE_SECONDS, TRIES, Backups
from jobs.policy.reader import parse_policy


class Function:
    """Takes batches, and fails as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fails: set[str] = set()
        self.error: Exception | None = None

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        keys = {each["messageId"]: parse_message(each["body"])[0].key for each in event["Records"]}
        self.batches.append(list(keys.values()))
        assert context.get_remaining_time_in_millis() > 0
        if self.error:
            raise self.error
        return {"batchItemFailures": [{"itemIdentifier": name} for name, key in keys.items() if key in self.fails]}


class Bench:
    """The events, the function, and a clock."""

    def __init__(self) -> None:
        self.now, self.function = 1000.0, Function()
        policy = parse_policy(SAMPLE.encode(), "sample")
        self.backups = Backups(policy, self.function, clock=lambda: self.now)

    def put(self, key: str, bucket: str = "freight-in") -> None:
        name = f"v_67131b2482d7eda5{0:016x}"
        made = {"name": name, "attributes": {"file_size": 1}}
        message = {"new_entry": made, "new_parent_path": f"/buckets/{bucket}/{key}.versions"}
        self.backups.add({"event_type": "create", "key": "", "message": message})

    def touch(self, key: str) -> None:
        parent, _, name = f"/buckets/freight-in/{key}.versions".rpartition("/")
        folder = {"name": name, "is_directory": True}
        message = {"old_entry": folder, "new_entry": folder, "new_parent_path": parent}
        self.backups.add({"event_type": "update", "key": "", "message": message})

    def step(self, seconds: float = SETTLE_SECONDS) -> list[str]:
        """What the function gets after so long."""
        self.now += seconds
        count = len(self.function.batches)
        self.backups.step()
        return [key for batch in self.function.batches[count:] for key in batch]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_event_waits_until_its_key_has_settled(bench: Bench) -> None:
    bench.put("a")
    assert bench.step(SETTLE_SECONDS / 2) == []
    bench.touch("a")  # only now it is the current version
    bench.touch("b")
    assert bench.step(SETTLE_SECONDS / 2) == []
    assert len(bench.backups.messages) == 1
    assert bench.step() == ["a"]
    assert len(bench.backups.messages) == 0


def test_only_what_a_pair_protects_counts(bench: Bench) -> None:
    bench.put("a", bucket="freight-hot")
    bench.put("a", bucket="elsewhere")
    assert bench.step() == []


def test_what_fails_comes_again_alone_and_is_given_up_at_last(bench: Bench) -> None:
    bench.function.fails = {"bad"}
    bench.put("bad")
    bench.put("good")
    assert bench.step() == ["bad", "good"]
    assert bench.step(RETRY_SECONDS / 2) == []
    for _ in range(TRIES - 1):
        assert bench.step(RETRY_SECONDS) == ["bad"]
    assert bench.step(RETRY_SECONDS) == []
    assert (len(bench.backups.messages), bench.backups.given_up) == (0, 1)


@pytest.mark.parametrize("error", [ConfigError("no ledger"), RuntimeError("a bug")])
def test_a_function_that_raises_has_failed_with_all(bench: Bench, error: Exception, capsys: Any) -> None:
    bench.function.error = error
    bench.put("a")
    bench.put("b")
    assert bench.step() == ["a", "b"]
    assert json.loads(capsys.readouterr().out)["messages"] == 2
    bench.function.error = None
    assert bench.step(RETRY_SECONDS) == ["a", "b"]
    assert len(bench.backups.messages) == 0


def test_a_burst_comes_in_batches(bench: Bench) -> None:
    for number in range(BATCH_MESSAGES + 1):
        bench.put(f"k{number}")
    assert len(bench.step()) == BATCH_MESSAGES
    assert len(bench.step(0)) == 1
