"""Files among tombstones that Sealift did not write: undo goes on with the rest, and nothing is a traceback."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end import forged_ledger
from tests.end_to_end.conftest import World
from tests.end_to_end.test_expire import DELETE, keys, places, replicate
from tests.end_to_end.test_expire_undo import done, hidden, undo

OTHER_RUN = "20260101T000000Z-expire-aaaaaa"


def altered(honest: bytes, bucket: str, run_id: str, values: Mapping[str, Any]) -> bytes:
    """An honest file with other values, whose types and nulls the file's schema allows."""
    table = pq.read_table(io.BytesIO(honest))
    changed: dict[str, Any] = {"row": 7, "run_id": run_id, "source_bucket": bucket} | dict(values)
    rows = [row | changed for row in table.to_pylist()]
    fields: list[pa.Field[Any]] = [
        pa.field(each.name, _type_of(changed[each.name]) if changed.get(each.name) is not None else each.type)
        if each.name in changed
        else each
        for each in table.schema
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), sink)
    return sink.getvalue()


def _type_of(value: Any) -> Any:
    return pa.array([value]).type


JUNK: dict[str, tuple[str, Mapping[str, Any] | None]] = {
    "a bad name": ("junk-intent.parquet", {}),
    "no dash": ("0-intent.parquet", {}),
    "no Parquet": ("7-7-x-done.parquet", None),
    "an unknown step": ("7-7-x-done.parquet", {"step": "bogus"}),
    "no step": ("7-7-x-done.parquet", {"step": None}),
    "no key": ("7-7-x-intent.parquet", {"key": None}),
    "a list as key": ("7-7-x-done.parquet", {"key": ["k"]}),
    "a word as row": ("7-7-x-done.parquet", {"row": "seven"}),
    "no etag": ("7-7-x-done.parquet", {"etag": None}),
}


def test_undo_reports_junk_files_and_goes_on_with_the_rest(versioned: World) -> None:
    world = versioned
    run_id = hidden(world)
    honest = forged_ledger.read(world, done(world, run_id))
    names = set()
    for number, (name, values) in enumerate(JUNK.values()):
        data = b"junk" if values is None else altered(honest, world.source, run_id, values)
        names.add(name.replace("-x-", f"-{number}-"))
        forged_ledger.write(world, f"tombstones/{world.source}/{run_id}/{name.replace('-x-', f'-{number}-')}", data)
    report = undo(world, run_id)
    assert (report["code"], report["undone"], len(keys(world))) == (3, 2, 2)
    assert {each["key"] for each in report["problems"]} == names
    assert all("cannot be read" in each["problem"] for each in report["problems"])


@pytest.mark.parametrize("what", [each for each in JUNK if each not in ("a bad name", "no dash")])
def test_junk_among_what_others_announced_ends_a_run_without_a_traceback(versioned: World, what: str) -> None:
    world = versioned
    honest = forged_ledger.read(world, done(world, hidden(world)))
    world.put("another", b"content")
    proving = replicate(world)
    name, values = JUNK[what]
    data = b"junk" if values is None else altered(honest, world.destination, OTHER_RUN, values)
    forged_ledger.write(world, f"tombstones/{world.destination}/{OTHER_RUN}/{name}", data)
    result = world.sealift("expire", "--run", proving, *places(world), *DELETE)
    assert (result.code, "Traceback" in result.stderr, keys(world)) == (10, False, ["another"]), result.stderr
    assert f"{OTHER_RUN}/{name}" in result.stderr
    assert "altered" in result.stderr


@pytest.mark.parametrize("what", ["a list as key", "no Parquet"])
def test_junk_among_a_buckets_tombstones_ends_a_plan_without_a_traceback(versioned: World, what: str) -> None:
    world = versioned
    honest = forged_ledger.read(world, done(world, hidden(world)))
    version_id = world.put("another", b"content")["VersionId"]
    proving = replicate(world)
    world.client.delete_object(Bucket=world.source, Key="another", VersionId=version_id)
    name, values = JUNK[what]
    data = b"junk" if values is None else altered(honest, world.source, OTHER_RUN, values)
    forged_ledger.write(world, f"tombstones/{world.source}/{OTHER_RUN}/{name}", data)
    result = world.sealift("expire", "--run", proving, *places(world), *DELETE)
    assert "Traceback" not in result.stderr
    assert result.code == 10, result.stderr
