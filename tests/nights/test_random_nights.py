"""Random nights of a pair, through `sealift nightly`, against what the buckets hold.

What must hold: a night says that all is well only if the copies are there and equal, for what it
judged. Nights in a row cover every key, and nothing is deleted or overwritten for good.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.doubles.examples import examples
from tests.inventory.samples import FORMATS
from tests.nights.night_world import SLICES, World

keys = st.sampled_from(["a", "b", "c/d e", "dt=1/é", "z+"])
contents = st.sampled_from([b"", b"one", b"two", b"three"])
OPTIONAL = ["Size", "ETag", "LastModifiedDate", "StorageClass", "IsMultipartUploaded", "EncryptionStatus"]
DAYS = 40 * 86_400.0
freezes = st.tuples(st.integers(1, 150), st.booleans(), st.sampled_from([0.0, 0.0, -DAYS, DAYS]), st.booleans())


class Nights(RuleBasedStateMachine):
    """Growth, losses, damage behind the back, reports, and nights that die on the way."""

    @initialize(
        deletes=st.sampled_from(["mirror", "retain"]),
        is_versioned=st.booleans(),
        has_inventory=st.booleans(),
        skew=st.sampled_from([0.0, 0.0, -120.0, 120.0]),
        first=st.dictionaries(keys, contents, min_size=1),
    )
    def begin(self, first: dict[str, bytes], **world: Any) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), **world)
        for key, data in first.items():
            self.world.put("source", key, data)
            self.world.copy(key)

    @rule(key=keys, data=contents, is_copied=st.booleans())
    def write(self, key: str, data: bytes, is_copied: bool) -> None:
        self.world.put("source", key, data)
        if is_copied:
            self.world.copy(key)

    @rule(key=keys, bucket=st.sampled_from(["source", "hot"]))
    def delete(self, key: str, bucket: str) -> None:
        self.world.delete(bucket, key if bucket == "source" else f"copies/{key}")

    @rule(key=keys, data=contents)
    def overwrite_a_copy(self, key: str, data: bytes) -> None:
        self.world.put("hot", f"copies/{key}", data)

    @rule(key=keys)
    def rot(self, key: str) -> None:
        self.world.rot(key)

    @rule(key=keys)
    def refuse(self, key: str) -> None:
        self.world.refuse(key)

    @precondition(lambda self: self.world.refused)
    @rule()
    def allow_all(self) -> None:
        self.world.allow()

    @precondition(lambda self: not self.world.is_stale and (self.world.quiet or not self.world.has_inventory))
    @rule()
    def accept_what_is_known(self) -> None:
        self.world.accept()

    @rule()
    def empty_the_source(self) -> None:
        for key in self.world._keys():
            self.world.delete("source", key)

    @precondition(lambda self: self.world.has_inventory)
    @rule(
        absent=st.sets(st.sampled_from(OPTIONAL), max_size=2) | st.just(set()),
        file_format=st.sampled_from(FORMATS),
        versions=st.booleans(),
    )
    def deliver_reports(self, absent: set[str], file_format: str, versions: bool) -> None:
        for bucket in ("source", "hot"):
            self.world.deliver(bucket, absent, file_format, versions)

    @rule(
        nights=st.integers(1, 3),
        skipped=st.integers(0, 2),
        deaths=st.lists(freezes, max_size=2) | st.just([]),
    )
    def pass_nights(self, nights: int, skipped: int, deaths: list[tuple[int, bool, float, bool]]) -> None:
        for number in range(nights):
            self.world.night += timedelta(days=skipped)
            self.world.pass_night(deaths if number == 0 else ())

    @precondition(lambda self: self.world.frozen)
    @rule()
    def wake_a_machine(self) -> None:
        self.world.wake()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            with self.world.installed(), self.world.loop.running():
                self.world.loop.bury()
            self.folder.cleanup()


def play(count: int, steps: int) -> None:
    how = settings(
        max_examples=count, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Nights, settings=how)


def test_a_night_that_says_all_is_well_is_right() -> None:
    play(2, 5)


def test_nights_on_some_days_only_take_every_slice_and_a_second_check_takes_its_own_again(tmp_path: Path) -> None:
    """Two sevenths of the keys never had a turn where no night was at weekends: the date chose the slice."""
    world = World(tmp_path, "retain", is_versioned=False, has_inventory=False)
    for key in "abcdefgh":
        world.put("source", key, b"one")
        world.copy(key)
    taken = []
    for _ in range(SLICES):
        world.night += timedelta(days=1)
        world.pass_night(())
        taken += [summary["stages"] for summary in (world.quiet[-1], world.start("--again"))]
    first, again, second, _ = [[stage["slice"] for stage in stages[2:]] for stages in taken]
    assert first == again != second


def test_a_source_that_keeps_versions_is_emptied_when_all_of_its_objects_are_deleted(tmp_path: Path) -> None:
    """A HEAD found the delete markers, which counted as objects: the night compared nothing, and was well."""
    world = World(tmp_path, "retain", is_versioned=True, has_inventory=False)
    world.put("source", "a", b"one")
    world.copy("a")
    world.pass_night(())
    world.delete("source", "a")
    for _ in range(2):
        world.pass_night(())
    assert (world.quiet[-1]["ending"], world.quiet[-1]["emptied"]["night"]) == ("emptied", "2026-01-06")


def test_what_only_bytes_can_prove_is_well_in_the_night_that_reads_it(tmp_path: Path) -> None:
    """An upload in parts without a stored checksum made every night end with code 3."""
    world = World(tmp_path, "retain", is_versioned=True, has_inventory=False)
    world.put("source", "a", b"one")
    world.copy("a")
    for bucket, key, parts in (("source", "a", 2), ("hot", "copies/a", 3)):
        version = world.current(bucket, key)
        assert version is not None
        version.etag, version.checksums = f"{'0' * 32}-{parts}", ()
    for _ in range(SLICES):
        world.pass_night(())
    stages = [(each["stage"], each["counts"]) for summary in world.quiet for each in summary["stages"]]
    assert [counts["unknown"] for name, counts in stages if name == "slice" and counts] == [1]
    assert [counts["verified"] for name, counts in stages if name == "deep"] == [1, 1]
    assert [(each["exit_code"], each["known"]["read"]) for each in world.quiet] == [(0, 1), (0, 1)]


@pytest.mark.slow
@pytest.mark.hypothesis
def test_a_night_that_says_all_is_well_is_right_at_length() -> None:
    play(examples(12), 10)
