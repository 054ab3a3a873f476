"""The join of rows with evidence at rest: the same rows in the same order, each with what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.checksum_reports.evidence import evidence_schema
from jobs.core.model import Location, Route
from jobs.tables.rows import manifest_schema
from jobs.verify.attest import attest_rows
from tests.doubles.examples import examples

ROUTE = Route(Location("src", "in/"), Location("dst", "out/"))


def row(key: str, version_id: str | None = None, **more: object) -> dict:
    return {"key": key, "version_id": version_id, "is_latest": True, "is_delete_marker": False} | more


def known(key: str, version_id: str | None, etag: str | None, value: str | None) -> dict:
    return {
        "key": key,
        "version_id": version_id,
        "etag": etag,
        "algorithm": value and "SHA1",
        "value": value,
        "is_composite": None if value is None else False,
        "computed_at": 0,
        "reason": None if value else "no evidence, because it failed",
    }


def spelled(value: str, version_id: str | None, etag: str | None) -> str:
    return f"SHA1:FULL_OBJECT:{value}:{f'version={version_id}' if version_id else f'etag={etag}'}"


def attest(rows: list[dict], source: list[dict], destination: list[dict] | None, folder: Path) -> list[dict]:
    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for start in range(0, len(rows), 3):
            yield pa.RecordBatch.from_pylist(rows[start : start + 3], manifest_schema())

    async def joined() -> list[dict]:
        found = []
        async for batch in attest_rows(batches(), ROUTE, folder):
            assert batch.schema.equals(manifest_schema())
            found += batch.to_pylist()
        return found

    for side, evidence in (("source", source), ("destination", destination)):
        if evidence is not None:
            table = pa.Table.from_pylist(evidence, evidence_schema())
            pq.write_table(table, folder / f"{side}-evidence.parquet")
    return asyncio.run(joined())


def test_each_side_is_joined_by_its_own_key(tmp_path: Path) -> None:
    source = [known("in/a", None, "e", "s1"), known("in/v", "1", "x", "s2"), known("in/v", "2", "y", "s3")]
    destination = [known("out/a", None, "f", "d1"), known("out/v", "9", None, "d2"), known("in/a", None, "g", "no")]
    rows = [row("in/a"), row("in/v", "2"), row("in/v"), row("in/none"), row("elsewhere")]
    found = attest(rows, source, destination, tmp_path)
    assert [(each["key"], each["version_id"]) for each in found] == [(each["key"], each["version_id"]) for each in rows]
    one, two, three, four, five = found
    assert one["source_attested"] == spelled("s1", None, "e")
    assert one["destination_attested"] == spelled("d1", None, "f")
    assert two["source_attested"] == spelled("s3", "2", "y")
    assert three["source_attested"] == f"{spelled('s2', '1', 'x')} {spelled('s3', '2', 'y')}"
    assert three["destination_attested"] == spelled("d2", "9", None)
    assert [each["source_attested"] or each["destination_attested"] for each in (four, five)] == [None, None]


keys = st.sampled_from(["in/a", "in/b\n'", "in/ü%", "c"])
pins = st.tuples(keys, st.sampled_from([None, "1", "2"]))


@given(
    st.lists(pins, max_size=12),
    st.lists(
        st.tuples(pins, st.sampled_from(["e", None]), st.sampled_from(["c1", "c2", None])),
        max_size=8,
        unique_by=lambda each: each[0],
    ),
)
@settings(max_examples=examples(30), deadline=None)
def test_a_row_gets_exactly_what_is_said_of_its_key_and_can_be_pinned(tmp_path_factory, rows, evidence) -> None:
    source = [known(key, version, etag, value) for (key, version), etag, value in evidence]
    found = attest([row(*each) for each in rows], source, None, tmp_path_factory.mktemp("join"))
    usable = {
        (each["key"], each["version_id"]): spelled(each["value"], each["version_id"], each["etag"])
        for each in source
        if each["value"] and (each["version_id"] or each["etag"])
    }
    assert [(each["key"], each["version_id"]) for each in found] == rows
    for each in found:
        own = usable.get((each["key"], each["version_id"])) if each["version_id"] else None
        of_key = [attestation for (key, _), attestation in usable.items() if key == each["key"]]
        assert {*(each["source_attested"] or "").split()} == ({own} if own else {*of_key})
