"""Access points: a second name of the ledger's bucket, or of the other side's, is found before anything starts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Plan, RunSpec, Side
from jobs.errors import Denied, UsageError
from jobs.ledger import one_bucket
from jobs.ledger.ledger import Ledger
from jobs.runs.launch import publish
from jobs.runs.request import Planned
from jobs.s3.store import UNGUARDED, Store
from tests.doubles.memory_store import MemoryStore, Request

POINT = "finance-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias"
ARN = "arn:aws:s3:us-east-1:123456789012:accesspoint:finance"
RUN = "20261125T003345Z-replicate-1f3a02"


@dataclass
class AccessPoints:
    """Other names of buckets, and the names that may not be listed."""

    names: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    async def __call__(self, request: Request) -> Any:
        bucket = request.arguments["bucket"]
        if bucket in self.denied:
            raise Denied("ListObjectsV2", f"s3://{bucket}", "AccessDenied", "no", 403)
        request.arguments["bucket"] = self.names.get(bucket, bucket)
        return await request()


@pytest.fixture
def points() -> AccessPoints:
    return AccessPoints()


@pytest.fixture
def store(points: AccessPoints, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Buckets `source`, `copies` and `ledger`, and two names of an access point, which nothing is behind yet."""
    store = MemoryStore(on={"list_objects": points, "list_versions": points})
    for bucket in ("source", "copies", "ledger"):
        store.create_bucket(bucket, versioned=bucket != "ledger")

    def open_side(*_: Side, **__: Any) -> Store:
        return store

    monkeypatch.setattr(one_bucket, "open_side", open_side)
    return store


def start(store: MemoryStore, source: str, destination: str, folder: Path) -> None:
    """Publish a run without rows."""
    sides = [Side(Location.parse(uri), region="us-east-1") for uri in (source, destination)]
    spec = RunSpec(RUN, "replicate", 0.0, sides[0], sides[1], "m", {}, None, "1")
    plan = Plan(0, 0, ())
    asyncio.run(publish(Planned(spec, plan, folder), Ledger(store, Location("ledger", "sealift"))))


def is_started(store: MemoryStore) -> bool:
    page = asyncio.run(store.list_objects("ledger", f"sealift/runs/{RUN}/plan.json"))
    return bool(page.entries)


@pytest.mark.parametrize(
    ("source", "destination", "behind", "is_one"),
    [
        (f"s3://{POINT}/", "s3://copies", "ledger", True),
        ("s3://source", f"s3://{POINT}/sea", "ledger", True),
        ("s3://source", f"s3://{ARN}/sealift/runs/", "ledger", True),
        ("s3://source", f"s3://{POINT}/copies/", "ledger", False),
        ("s3://source", f"s3://{POINT}", "copies", False),
    ],
)
def test_no_run_has_its_ledger_as_a_side_under_another_name(
    store: MemoryStore,
    points: AccessPoints,
    source: str,
    destination: str,
    behind: str,
    *,
    is_one: bool,
    tmp_path: Path,
) -> None:
    points.names |= {POINT: behind, ARN: behind}
    with pytest.raises(UsageError, match="shows s3://ledger/sealift") if is_one else contextlib.nullcontext():
        start(store, source, destination, tmp_path)
    assert is_started(store) is not is_one


def test_what_may_not_be_looked_at_is_refused(store: MemoryStore, points: AccessPoints, tmp_path: Path) -> None:
    points.names[POINT], points.denied = "copies", {POINT}
    with pytest.raises(Denied):
        start(store, "s3://source", f"s3://{POINT}", tmp_path)
    assert not is_started(store)


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_copy_does_not_go_into_its_source_under_another_name(
    store: MemoryStore, points: AccessPoints, is_hidden: bool
) -> None:
    """Also where delete markers hide all objects, and a manifest names their versions."""

    async def check() -> None:
        await store.put(ObjectRef("source", "k"), b"v", Attributes(), guard=UNGUARDED)
        if is_hidden:
            await store.delete(ObjectRef("source", "k"))
        await one_bucket.check_two_places(Side(Location("source")), Side(Location(POINT)))

    points.names[POINT] = "copies"
    asyncio.run(check())
    points.names[POINT] = "source"
    with pytest.raises(UsageError, match="would be one place"):
        asyncio.run(check())


@pytest.mark.parametrize("is_one", [True, False])
def test_a_bucket_under_two_endpoints_is_said_to_be_no_copy_of_itself(
    monkeypatch: pytest.MonkeyPatch, is_one: bool
) -> None:
    one, other = MemoryStore(), MemoryStore()
    for store in (one, other):
        store.create_bucket("docs")
        asyncio.run(store.put(ObjectRef("docs", "a"), b"x", Attributes(), guard=UNGUARDED))
    stores = {"http://here:1": one, "http://there:1": one if is_one else other}
    monkeypatch.setattr(one_bucket, "open_side", lambda side, **_: stores[side.endpoint])
    sides = [Side(Location("docs"), endpoint, "us-east-1") for endpoint in stores]
    assert ("nothing is a copy" in asyncio.run(one_bucket.warning_of_one(sides[0], sides[1]))) == is_one
    assert asyncio.run(one_bucket.warning_of_one(sides[0], sides[0])) == ""
