"""Reconciliations of random worlds, against an oracle that sees only what the buckets hold.

Reports of the two sides differ in columns, format, and whether they list versions. What they do not
say may make an answer less certain, and never wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobs.core.prefix_map import PrefixMap
from tests.doubles import one_duckdb
from tests.doubles.examples import examples
from tests.inventory.samples import CURRENT, FORMATS, VERSIONS, deliver
from tests.reconcile.scene import MADE, OLD, Reconciliation, md5, read, run

MARGIN = 900.0
HIVE = PrefixMap((("dt=1/", "copies/dt=1/"), ("b/", "b=/")))
OPTIONAL = ["Size", "ETag", "LastModifiedDate", "StorageClass", "IsMultipartUploaded", "ReplicationStatus"]
OPTIONAL += ["EncryptionStatus"]
NAMES = ["dt=1/a", "dt=1/é", "b/c", "b/=", "outside"]
keys = st.sampled_from(NAMES)
contents = st.sampled_from(["", "x", "y", "xy"])


@dataclass
class Version:
    """`content`: None for a delete marker. `parts`: how many parts it was uploaded in."""

    content: str | None
    modified: float
    parts: int = 1

    def row(self, key: str, version_id: str, *, is_latest: bool, empty: Any) -> dict[str, Any]:
        """As a report lists it. `empty`: how it writes what a delete marker does not have."""
        listed: dict[str, Any] = {"Key": key, "VersionId": version_id, "IsLatest": is_latest}
        listed |= {"LastModifiedDate": self.modified, "IsDeleteMarker": self.content is None}
        if self.content is None:
            return listed | {"ETag": empty, "StorageClass": empty, "EncryptionStatus": empty}
        etag = md5(self.content) if self.parts == 1 else f"{md5(self.content + 'parts')}-{self.parts}"
        listed |= {"Size": len(self.content), "ETag": etag, "StorageClass": "STANDARD"}
        return listed | {"IsMultipartUploaded": self.parts > 1, "EncryptionStatus": "SSE-S3"}


@dataclass
class Bucket:
    """A key's versions, the oldest first."""

    versions: dict[str, list[Version]] = field(default_factory=dict)

    def put(self, key: str, version: Version) -> None:
        self.versions.setdefault(key, []).append(version)

    def current(self, key: str) -> Version | None:
        there = self.versions.get(key)
        return there[-1] if there and there[-1].content is not None else None

    def rows(self, *, versions: bool, empty: Any) -> Iterator[dict[str, Any]]:
        for key, there in self.versions.items():
            for number, version in enumerate(there):
                is_latest = number == len(there) - 1
                if versions or (is_latest and version.content is not None):
                    yield version.row(key, f"v{number}", is_latest=is_latest, empty=empty)


class World(RuleBasedStateMachine):
    """Writes, copies, losses and damage, and at any moment a reconciliation."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.destination = Bucket(), Bucket()
        self.clock = OLD

    def tick(self, is_young: bool) -> float:
        self.clock += 1
        return self.clock + (MADE - MARGIN + 60 - OLD if is_young else 0)

    @initialize(first=st.lists(st.tuples(keys, contents), min_size=2, max_size=5))
    def begin(self, first: list[tuple[str, str]]) -> None:
        for key, content in first:
            self.source.put(key, Version(content, self.tick(False)))
            if target := HIVE.destination_of(key):
                self.destination.put(target, Version(content, self.tick(False)))
        self.source.put("outside", Version("x", self.tick(False)))
        self.destination.put("copies/dt=1/kept", Version("kept", self.tick(False)))

    @rule(
        key=keys, content=contents, parts=st.sampled_from([1, 1, 1, 2]), is_young=st.sampled_from([False] * 5 + [True])
    )
    def write(self, key: str, content: str, parts: int, is_young: bool) -> None:
        self.source.put(key, Version(content, self.tick(is_young), parts))

    @rule(key=keys)
    def copy(self, key: str) -> None:
        """S3 makes a single part of a copy."""
        version, target = self.source.current(key), HIVE.destination_of(key)
        if version and target:
            self.destination.put(target, Version(version.content, self.tick(False)))

    @rule(key=keys, content=contents)
    def damage(self, key: str, content: str) -> None:
        target = HIVE.destination_of(key)
        if target and self.destination.current(target):
            self.destination.put(target, Version(content, self.tick(False)))

    @rule(key=keys, at_source=st.sampled_from([False, False, True]), for_good=st.sampled_from([False, False, True]))
    def delete(self, key: str, at_source: bool, for_good: bool) -> None:
        bucket, name = (self.source, key) if at_source else (self.destination, HIVE.destination_of(key) or key)
        if for_good:
            bucket.versions.pop(name, None)
        elif bucket.current(name):
            bucket.put(name, Version(None, self.tick(False)))

    @rule(data=st.data())
    def reconcile(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            reports = []
            known: list[set[str]] = []
            for name, bucket in (("src", self.source), ("dst", self.destination)):
                versions = data.draw(st.booleans(), label=f"{name} lists versions")
                absent = data.draw(st.sets(st.sampled_from(OPTIONAL)) | st.just(set()), label=f"{name} lacks")
                fields = [each for each in (VERSIONS if versions else CURRENT) if each not in absent]
                rows = list(bucket.rows(versions=versions, empty=data.draw(st.sampled_from([None, ""]))))
                if not rows:  # an empty report of S3 is refused, which other tests show
                    return
                file_format = data.draw(st.sampled_from(FORMATS))
                known.append(set(fields))
                reports.append(
                    deliver(Path(folder), name, rows, fields=fields, file_format=file_format, created_at=MADE)
                )
            with patch("duckdb.connect", one_duckdb.connect_unlocked):
                answer = run(Path(folder), *reports, maps=HIVE)
            self.check(answer, known[0], known[1])
            self.repair(answer)

    def check(self, answer: Reconciliation, ours: set[str], theirs: set[str]) -> None:
        """What the answer says of each key is what the buckets hold."""
        told = {one["key"]: one for one in read(answer, "differences")}
        listed = [key for key in self.source.versions if HIVE.destination_of(key)]
        extra = [key for key in self.destination.versions if (HIVE.source_of(key) or "") not in self.source.versions]
        names = listed + [source for source in map(HIVE.source_of, extra) if source]
        horizon = MADE - MARGIN
        for key in names:
            one, other = self.source.current(key), self.destination.current(HIVE.destination_of(key) or "")
            category = told[key]["category"] if key in told else "same"
            young = [each for each in (one, other) if each and each.modified > horizon]
            if young and category == "in flight":
                continue
            if one and not other:
                assert category == "missing", (key, category)
            elif other and not one:
                assert category == "extra", (key, category)
            elif one and other and one.content != other.content:
                assert category in ("different", "stale", "unverifiable"), (key, category)
                has_sizes = "Size" in ours & theirs and len(one.content or "") != len(other.content or "")
                has_etags = one.parts == other.parts == 1 and "ETag" in ours & theirs
                assert category != "unverifiable" or not (has_sizes or has_etags), key
            elif one and other:
                is_certain = one.parts == 1 and other.parts == 1 and "ETag" in ours & theirs
                assert category == "same" if is_certain else category in ("same", "unverifiable"), (key, category)
        counted = sum(rows for rows, _ in answer.categories.values())
        assert counted >= len(told)
        assert answer.findings == sum(one["is_finding"] for one in told.values())

    def repair(self, answer: Reconciliation) -> None:
        """The manifest is what a repair has to copy: each row an object that is there, as it is."""
        rows = read(answer, "repair")
        assert len(rows) == len({row["key"] for row in rows}) == answer.repairable_rows
        for row in rows:
            version = self.source.current(row["key"])
            assert version is not None
            assert (row["is_delete_marker"], row["is_latest"]) == (False, True)
            assert row["size_bytes"] in (None, len(version.content or ""))
            assert row["etag"] in (None, version.row("", "", is_latest=True, empty=None)["ETag"])

    @invariant()
    def times_move_on(self) -> None:
        assert self.clock < MADE - MARGIN


def play(count: int) -> None:
    how = settings(max_examples=count, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(World, settings=how)


def test_what_a_reconciliation_says_is_what_the_buckets_hold() -> None:
    play(3)


@pytest.mark.slow
@pytest.mark.hypothesis
def test_what_a_reconciliation_says_is_what_the_buckets_hold_at_length() -> None:
    play(examples(100))
