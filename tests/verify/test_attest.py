"""Checksums that S3 computed at rest: how they reach their rows, and when they are true of an object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.checksum_reports.evidence import EvidenceRow, evidence_schema
from jobs.core.model import Checksum, Location, ObjectInfo, Repair
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.runs.planning import spool
from jobs.runs.sorting import Sorting
from jobs.tables.rows import manifest_schema
from jobs.verify.attest import join_attestations, read_attested
from jobs.verify.attestation import Attestation, Attested, attested
from tests.doubles.examples import examples

SIDES = Side(Location("src", "in/")), Side(Location("dst", "out/"))
RUN = RunSpec("20261201T000000Z-verify-000000", "verify", 0.0, *SIDES, "listing of s3://src/in/")


def row(key: str, version_id: str | None = None, **more: object) -> dict:
    return {"key": key, "version_id": version_id, "is_latest": True, "is_delete_marker": False} | more


def known(key: str, version_id: str | None, etag: str | None, value: str | None) -> dict:
    return EvidenceRow(key, version_id, etag, value and "SHA1", value, False, 0, None)._asdict()


def said(side: str, value: str, version_id: str | None, etag: str | None) -> Attestation:
    return Attestation(side, "SHA1", value, False, version_id, etag, 0)


def test_what_an_earlier_run_found_is_read_as_well() -> None:
    batch = pa.RecordBatch.from_pylist([row("k", condemned_etag="a", damaged_etag="b", known_checksum="SHA1:c=")])
    [beside] = read_attested(batch)
    assert beside == Attested("a", "b", "SHA1:c=")
    assert isinstance(beside, Repair)


def attest(rows: list[dict], evidence: dict[str, list[dict]], folder: Path) -> list[tuple]:
    """(key, version id, attestations) of each row, as a worker reads them."""

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist(rows, manifest_schema())

    for side, known in evidence.items():
        pq.write_table(pa.Table.from_pylist(known, evidence_schema()), folder / f"{side}.parquet")
    asyncio.run(spool(batches(), Selection(versions="all"), folder / "rows.parquet"))
    sorting = Sorting(folder, 1, 1, "64MB")
    try:
        join_attestations({side: folder / f"{side}.parquet" for side in evidence}, RUN, sorting)
        batch = sorting.connection.sql(f"FROM {sorting.relation} ORDER BY place").to_arrow_table()
        beside = (each.attested for each in read_attested(batch))
        return [*zip(batch["key"].to_pylist(), batch["version_id"].to_pylist(), beside, strict=True)]
    finally:
        sorting.connection.close()


def test_each_side_is_joined_by_its_own_key(tmp_path: Path) -> None:
    source = [known("in/a", None, "e", "s1"), known("in/v", "1", "x", "s2"), known("in/v", "2", "y", "s3")]
    destination = [known("out/a", None, "f", "d1"), known("out/v", "9", None, "d2"), known("in/a", None, "g", "no")]
    rows = [row("in/a"), row("in/v", "2"), row("in/v"), row("in/none"), row("elsewhere")]
    found = attest(rows, {"source": source, "destination": destination}, tmp_path)
    first, second = said("source", "s2", "1", "x"), said("source", "s3", "2", "y")
    copy = said("destination", "d2", "9", None)
    assert found == [
        ("in/a", None, [said("source", "s1", None, "e"), said("destination", "d1", None, "f")]),
        ("in/v", "2", [second, copy]),
        ("in/v", None, [first, second, copy]),
        ("in/none", None, []),
        ("elsewhere", None, []),
    ]


def test_long_keys_and_control_characters_are_joined(tmp_path: Path) -> None:
    strange = ["k" * 1020, "é" * 510, "a\x01b\n\t\x7f'", "\x00", "%41 +"]
    source = [known(f"in/{key}", None, "e", f"s{at}") for at, key in enumerate(strange)]
    destination = [known(f"out/{key}", None, "f", f"d{at}") for at, key in enumerate(strange)]
    found = attest([row(f"in/{key}") for key in strange], {"source": source, "destination": destination}, tmp_path)
    assert found == [
        (f"in/{key}", None, [said("source", f"s{at}", None, "e"), said("destination", f"d{at}", None, "f")])
        for at, key in enumerate(strange)
    ]


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
    found = attest([row(*each) for each in rows], {"source": source}, tmp_path_factory.mktemp("join"))
    usable = {
        (each["key"], each["version_id"]): said("source", each["value"], each["version_id"], each["etag"])
        for each in source
        if each["value"] and (each["version_id"] or each["etag"])
    }
    assert [each[:2] for each in found] == rows
    for key, version_id, attestations in found:
        own = usable.get((key, version_id)) if version_id else None
        of_key = [attestation for (other, _), attestation in usable.items() if key == other]
        assert {*attestations} == ({own} if own else {*of_key})


CRC = Checksum("CRC32", "bS9TOQ==")
AT = 20_000_000


def info(etag: str = "e-2", version: str | None = None, modified: float = 10.0) -> ObjectInfo:
    return ObjectInfo(5, etag, modified, version, "STANDARD")


@pytest.mark.parametrize(
    ("pin", "there", "is_true"),
    [
        ("v1", info(version="v1", modified=99.0), True),
        ("v1", info(version="v2"), False),
        ("v1", info(), False),
        (None, info(etag="e-3"), False),
        (None, info(modified=20.5), False),
        (None, info(modified=20.0), True),
        (None, info(version="v9"), True),
    ],
)
def test_a_checksum_is_true_of_the_object_that_was_read(pin: str | None, there: ObjectInfo, is_true: bool) -> None:
    assert attested(there, "source", Attested(attested=[Attestation("source", *CRC, pin, "e-2", AT)])) == (
        (CRC,) if is_true else ()
    )


def test_all_that_is_said_of_the_side_counts() -> None:
    composite = Checksum("SHA1", "x-2", is_composite=True)
    beside = [
        Attestation("source", *CRC, "v1", None, AT),
        Attestation("source", *composite, None, "e-2", AT),
        Attestation("destination", "SHA256", "z", False, "v1", None, AT),
    ]
    assert attested(info(version="v1"), "source", Attested(attested=beside)) == (CRC, composite)
