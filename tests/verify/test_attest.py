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

from jobs.checksum_reports.evidence import evidence_schema
from jobs.core.model import Checksum, Location, ObjectInfo
from jobs.core.run import RunSpec, Side
from jobs.core.selection import Selection
from jobs.runs.planning import spool
from jobs.runs.sorting import Sorting
from jobs.tables.rows import manifest_schema
from jobs.verify.attest import join_attestations
from jobs.verify.attestation import attested
from tests.doubles.examples import examples

SIDES = Side(Location("src", "in/")), Side(Location("dst", "out/"))
RUN = RunSpec("20261201T000000Z-verify-000000", "verify", 0.0, *SIDES, "listing of s3://src/in/")


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


def attest(rows: list[dict], evidence: dict[str, list[dict]], folder: Path) -> list[dict]:
    async def batches() -> AsyncIterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist(rows, manifest_schema())

    for side, known in evidence.items():
        pq.write_table(pa.Table.from_pylist(known, evidence_schema()), folder / f"{side}.parquet")
    asyncio.run(spool(batches(), Selection(versions="all"), folder / "rows.parquet"))
    sorting = Sorting(folder, 1, 1, "64MB")
    try:
        join_attestations({side: folder / f"{side}.parquet" for side in evidence}, RUN, sorting)
        return sorting.connection.sql(f"FROM {sorting.relation} ORDER BY place").to_arrow_table().to_pylist()
    finally:
        sorting.connection.close()


def test_each_side_is_joined_by_its_own_key(tmp_path: Path) -> None:
    source = [known("in/a", None, "e", "s1"), known("in/v", "1", "x", "s2"), known("in/v", "2", "y", "s3")]
    destination = [known("out/a", None, "f", "d1"), known("out/v", "9", None, "d2"), known("in/a", None, "g", "no")]
    rows = [row("in/a"), row("in/v", "2"), row("in/v"), row("in/none"), row("elsewhere")]
    found = attest(rows, {"source": source, "destination": destination}, tmp_path)
    assert [(each["key"], each["version_id"]) for each in found] == [(each["key"], each["version_id"]) for each in rows]
    one, two, three, four, five = found
    assert one["source_attested"] == spelled("s1", None, "e")
    assert one["destination_attested"] == spelled("d1", None, "f")
    assert two["source_attested"] == spelled("s3", "2", "y")
    assert three["source_attested"] == f"{spelled('s2', '1', 'x')} {spelled('s3', '2', 'y')}"
    assert three["destination_attested"] == spelled("d2", "9", None)
    assert [each["source_attested"] or each["destination_attested"] for each in (four, five)] == [None, None]


def test_long_keys_and_control_characters_are_joined(tmp_path: Path) -> None:
    strange = ["k" * 1020, "é" * 510, "a\x01b\n\t\x7f'", "\x00", "%41 +"]
    source = [known(f"in/{key}", None, "e", f"s{at}") for at, key in enumerate(strange)]
    destination = [known(f"out/{key}", None, "f", f"d{at}") for at, key in enumerate(strange)]
    found = attest([row(f"in/{key}") for key in strange], {"source": source, "destination": destination}, tmp_path)
    assert [(each["key"], each["source_attested"], each["destination_attested"]) for each in found] == [
        (f"in/{key}", spelled(f"s{at}", None, "e"), spelled(f"d{at}", None, "f")) for at, key in enumerate(strange)
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
        (each["key"], each["version_id"]): spelled(each["value"], each["version_id"], each["etag"])
        for each in source
        if each["value"] and (each["version_id"] or each["etag"])
    }
    assert [(each["key"], each["version_id"]) for each in found] == rows
    for each in found:
        own = usable.get((each["key"], each["version_id"])) if each["version_id"] else None
        of_key = [attestation for (key, _), attestation in usable.items() if key == each["key"]]
        assert {*(each["source_attested"] or "").split()} == ({own} if own else {*of_key})


CRC = Checksum("CRC32", "bS9TOQ==")
REPORT = {"computed_at": 20.0}
TEXT = "CRC32:FULL_OBJECT:bS9TOQ==:"


def info(etag: str = "e-2", version: str | None = None, modified: float = 10.0) -> ObjectInfo:
    return ObjectInfo(5, etag, modified, version, "STANDARD")


@pytest.mark.parametrize(
    ("pin", "there", "is_true"),
    [
        ("version=v1", info(version="v1", modified=99.0), True),
        ("version=v1", info(version="v2"), False),
        ("version=v1", info(), False),
        ("etag=e-2", info(etag="e-3"), False),
        ("etag=e-2", info(modified=20.5), False),
        ("etag=e-2", info(modified=20.0), True),
        ("etag=e-2", info(version="v9"), True),
    ],
)
def test_a_checksum_is_true_of_the_object_that_was_read(pin: str, there: ObjectInfo, is_true: bool) -> None:
    assert attested(there, TEXT + pin, REPORT) == ((CRC,) if is_true else ())


def test_all_that_a_text_says_counts() -> None:
    text = f"{TEXT}version=v1 SHA1:COMPOSITE:x-2:etag=e-2 SHA256:FULL_OBJECT:y:version=v2"
    assert attested(info(version="v1"), text, REPORT) == (CRC, Checksum("SHA1", "x-2", is_composite=True))


@given(st.text() | st.none())
def test_what_is_no_attestation_attests_nothing_and_breaks_nothing(text: str | None) -> None:
    assert attested(info(), text, REPORT) == ()
