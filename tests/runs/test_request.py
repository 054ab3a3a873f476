"""Rows of earlier runs, as a request names them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.pricing import PricedWork, far_per_gib, own_prices
from jobs.core.run import OLD_VERSIONS, ROWS_SHA256, Plan, RunSpec, Side
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.runs.request import Request, check_apart, drafting, manifest_rows, new_run_id
from jobs.runs.summaries import SELECTING
from jobs.tables.rows import fill_batch
from tests.doubles.ledgers import make_ledger

FRANKFURT, DUBLIN, IOWA = "eu-central-1", "eu-west-1", "us-east-2"


def request_for(manifest: str | None) -> Request:
    """A replication of a manifest's rows."""
    return Request("replicate", None, Side(Location("destination")), manifest, Selection())


@pytest.mark.parametrize(
    ("source", "destination", "hops"),
    [
        (FRANKFURT, FRANKFURT, 0),
        (DUBLIN, DUBLIN, 0),
        (None, FRANKFURT, 0),  # a side without a region is in the worker's
        (FRANKFURT, DUBLIN, 1),
        (DUBLIN, None, 1),
        (IOWA, DUBLIN, 2),
    ],
)
def test_copies_between_regions_pass_through_workers_behind_endpoints(
    monkeypatch: pytest.MonkeyPatch, source: str | None, destination: str | None, hops: int
) -> None:
    """S3 refuses them there. The plan says what each hop costs."""
    near = Side(Location("a"), region=source)
    request = replace(request_for(None), source=near, destination=Side(Location("b"), region=destination))
    monkeypatch.setenv("AWS_REGION", FRANKFURT)
    ways = {}
    for only in ("", "1"):
        monkeypatch.setenv("SEALIFT_ENDPOINTS_ONLY", only)
        with drafting(request) as draft:
            ways[only] = draft.ways(near)
            shutil.rmtree(draft.scratch)
    assert not ways[""]["streamed"]
    assert ways["1"]["streamed"] == bool(hops)
    if hops:
        prices = own_prices()
        assert far_per_gib(PricedWork(**ways["1"]), prices) == pytest.approx(
            hops * (prices.cross_region_per_gib + 0.01)
        )


async def test_a_run_that_only_compared_has_neither_failed_nor_proven_rows() -> None:
    ledger, sides = make_ledger(), (Side(Location("originals")), Side(Location("copies")))
    run_id = new_run_id("reconcile", 1_700_000_000.0)
    options = {"versions": "current", "destination_manifest": "s3://i/manifest.json"}
    await ledger.create(RunSpec(run_id, "reconcile", 1_700_000_000.0, *sides, "s3://i/manifest.json", options))
    for uri in (f"run:{run_id}", f"proven:{run_id}"):
        with drafting(request_for(uri)) as draft, pytest.raises(UsageError, match=r"it only compared.*runs show"):
            await manifest_rows(draft.request, ledger, draft)
        shutil.rmtree(draft.scratch)


async def noted(*rows: tuple[str, str | None], says_latest: bool = False, is_listed: bool = False) -> dict[str, Any]:
    """The options of a planned run to which these rows (key, version id) were named, each in a batch of its own."""

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for key, version_id in rows:  # a slice has the same bytes as a whole one
            yield fill_batch({"key": ["other", key], "version_id": [None, version_id]}, 2).slice(1)

    with drafting(request_for("m.csv")) as draft:
        if not is_listed:
            async for _ in draft.noting(batches(), says_latest=says_latest):
                pass
        shutil.rmtree(draft.scratch)
        spec = RunSpec("1", "verify", 0.0, Side(Location("a")), Side(Location("b")), "m.csv", {})
        return dict(draft.planned(spec, Plan(1, 1, (), {}, {}, {}, "prices", 1.0)).spec.options)


async def test_a_run_records_which_rows_were_named_to_it() -> None:
    a, b, old = ("a", None), ("b", None), ("a", "1")
    digests = [(await noted(*rows))[ROWS_SHA256] for rows in ([a, b], [a, b], [a], [old], [])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert (await noted(is_listed=True))[ROWS_SHA256] is None
    assert ROWS_SHA256 in SELECTING


@pytest.mark.parametrize(
    ("version_ids", "says_latest", "may_be_old"),
    [
        ([None, None], False, False),
        ([None, "v1"], False, True),
        ([None, "null"], False, True),  # a newer version may be above it
        (["v1", "v2"], True, False),
    ],
)
async def test_a_run_records_whether_its_rows_may_be_old_versions(
    version_ids: list[str | None], says_latest: bool, may_be_old: bool
) -> None:
    options = await noted(*(("k", each) for each in version_ids), says_latest=says_latest)
    assert options[OLD_VERSIONS] is may_be_old


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (Location("a", "x/"), Location("a", "x/")),
        (Location("a"), Location("a", "x/")),
        (Location("a", "x/"), Location("a")),
        (Location("a"), Location("ledger")),
        (Location("ledger", "l/"), Location("b")),
    ],
)
def test_no_run_reads_its_copies_or_its_ledger_or_writes_over_them(source: Location, destination: Location) -> None:
    with pytest.raises(UsageError):
        check_apart(Side(source), Side(destination), Location("ledger", "l/"))
