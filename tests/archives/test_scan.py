"""The scan of an archive without an index finds what is whole, and nothing that lies inside a member."""

from __future__ import annotations

import asyncio
import io
import random
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.files import describe_archive, read_own_index
from jobs.archives.index_tables import from_batch
from jobs.archives.model import Member
from jobs.archives.scan import Scan, scan_archive
from jobs.core.enums import ArchiveFormat
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.checksums import full_object
from tests.archives.samples import TAR, ZST, Packed, altered, member, packed, reader_of
from tests.doubles.examples import examples

MIB = 1 << 20
GOLDEN = Path(__file__).parent / "golden"
rng = random.Random(11)
CONTENTS = {
    f"d{n}/k{n:02}": rng.randbytes(size) for n, size in enumerate((0, 1, 900, 70_000, 512, 5_000, 66_000, 3, 3))
}
MADE = {
    kind: packed([(member(key, data, metadata={"of": key}), data) for key, data in CONTENTS.items()], kind)
    for kind in ArchiveFormat
}


def scanned(made: Packed, data: bytes) -> tuple[Scan, dict[str, bytes | None]]:
    """The scan of other bytes in the archive's place, and what its members' places hold."""
    altered(made, data)

    async def run() -> tuple[Scan, dict[str, bytes | None]]:
        record = await describe_archive(made.store, made.record.location)
        scan = await scan_archive(made.store, record)
        reads = reader_of(made.store, record, ByteBudget(MIB)).read(members_of(scan))
        return scan, {read.member.key: read.data async for batch in reads for read in batch}

    return asyncio.run(run())


def unplaced(each: Member) -> Member:
    return each._replace(frame_length=None)  # the index counts the padding's frame


def members_of(scan: Scan) -> list[Member]:
    return list(from_batch(pq.read_table(io.BytesIO(scan.parquet))))


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_the_scan_of_a_whole_archive_is_its_own_index(kind: ArchiveFormat) -> None:
    scan, contents = scanned(MADE[kind], MADE[kind].data)
    assert members_of(scan) == MADE[kind].members
    assert contents == CONTENTS
    assert scan[1:] == (len(CONTENTS), 0, 0, "")


@pytest.mark.parametrize("kind", ArchiveFormat)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_no_damage_brings_a_wrong_byte_or_a_traceback(kind: ArchiveFormat, data: st.DataObject) -> None:
    broken = bytearray(MADE[kind].data)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(broken) - 1, 0)))
        end = place + data.draw(st.sampled_from([1, 100, 512, 5_000]))
        size_bytes = len(broken[place:end])
        how = data.draw(st.sampled_from(["flip", "cut", "remove", "zero", "noise"]))
        if how == "flip" and broken:
            broken[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut" and place >= 512:
            del broken[place:]
        elif how == "remove" and place >= 512:
            del broken[place:end]
        else:
            broken[place:end] = bytes(size_bytes) if how == "zero" else random.Random(place).randbytes(size_bytes)
    _, contents = scanned(MADE[kind], bytes(broken))
    assert contents.items() <= CONTENTS.items()


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_a_cut_archive_gives_what_comes_before_the_cut(kind: ArchiveFormat) -> None:
    last = MADE[kind].members[-1]
    scan, contents = scanned(MADE[kind], MADE[kind].data[: last.byte_range[0] - 512])
    assert list(contents) == list(CONTENTS)[: scan.members]
    assert scan.members >= 6
    assert scan.reason


@pytest.mark.parametrize("victim", [2, 3, 5])
def test_damaged_content_loses_its_member_only(victim: int) -> None:
    broken = bytearray(MADE[TAR].data)
    broken[MADE[TAR].members[victim].offset + 7] ^= 1
    scan, contents = scanned(MADE[TAR], bytes(broken))
    assert CONTENTS.keys() - contents.keys() == {list(CONTENTS)[victim]}
    assert scan[1:] == (len(CONTENTS) - 1, 1, 0, "")


def test_a_damaged_frame_of_a_large_member_loses_this_member_only() -> None:
    large = random.Random(2).randbytes(3 * MIB)
    given = {"a": b"a", "b": large, "c": b"c"}
    made = packed([(member(key, data), data) for key, data in given.items()], ZST, streamed_from=MIB)
    broken = bytearray(made.data)
    broken[made.members[1].byte_range[0] + 2 * MIB] ^= 1
    scan, contents = scanned(made, bytes(broken))
    assert contents == {"a": b"a", "c": b"c"}
    assert scan.damaged == 1


@pytest.mark.parametrize("place", range(512, 1536, 64))
def test_nothing_behind_a_damaged_header_is_a_member(place: int) -> None:
    """PAX itself proves the first block only: a flipped bit is another key, or another size."""
    made = nested(TAR)
    start = made.members[0].offset
    broken = bytearray(made.data)
    broken[start - place % start] ^= 1
    _, contents = scanned(made, bytes(broken))
    assert contents.items() <= {"docs/a": NEW, "backup/2019.tar": INNER}.items()


OLD, NEW, PLANTED = b"OLD content of 2019", b"NEW content, the one that was packed", b"planted"
INNER = packed([(member("docs/a", OLD), OLD), (member("docs/secret", PLANTED), PLANTED)], TAR).data


def nested(kind: ArchiveFormat) -> Packed:
    """An archive with a member that is itself a tar, whose owner planted the keys of others."""
    return packed([(member("backup/2019.tar", INNER), INNER), (member("docs/a", NEW), NEW)], kind)


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("victim", ["header", "content", "zeros"])
def test_what_lies_inside_a_member_is_none(kind: ArchiveFormat, victim: str) -> None:
    made = nested(kind)
    data = bytearray(made.data)
    place = {"header": 600, "content": len(INNER), "zeros": 0}[victim] if kind is TAR else 100
    data[place : place + 512] = (
        bytes(512) if victim == "zeros" else bytes(each ^ 0x5A for each in data[place : place + 512])
    )
    _, contents = scanned(made, bytes(data))
    assert contents.items() <= {"docs/a": NEW}.items()


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("form", ["earlier", "1"])
def test_archives_of_all_forms_stay_readable(form: str, kind: ArchiveFormat) -> None:
    """`earlier`: written before members' records were extended attributes."""
    made, data = packed([], kind), (GOLDEN / f"{form}.{kind.value}").read_bytes()
    scan, contents = scanned(made, data)
    assert contents == {"2024/a.json": b'{"a":1}', "../../b": b"b" * 600, "c": b"", "a/old": b"older"}
    _, own_index = asyncio.run(read_own_index(made.store, made.record.location))
    own = from_batch(pq.read_table(io.BytesIO(own_index)))
    assert [unplaced(each) for each in own] == [unplaced(each) for each in members_of(scan)]
    first = members_of(scan)[0]
    assert (first.version_id, first.metadata, first.tags) == ("v1", {"owner": "é"}, {"team": "blue"})
    assert first.headers == {"content-type": "application/json"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("kind", ArchiveFormat)
def test_a_foreign_tar_has_no_members(format: int, kind: ArchiveFormat) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name in ("a", "n" * 90 + "/" + "m" * 90):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    data = buffer.getvalue() if kind is TAR else zstandard.ZstdCompressor().compress(buffer.getvalue()) * 40
    scan, _ = scanned(packed([], kind), data)
    assert scan.members == 0
    assert scan.reason


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_a_large_member_is_proven_by_s3s_checksum_in_bounded_memory(kind: ArchiveFormat) -> None:
    data = bytes(48 * MIB)
    streamed = member("zeros", data, sha256=None, checksums=(full_object("CRC64NVME", data),))
    made = packed([(streamed, data), (member("after", b"x"), b"x")], kind, streamed_from=MIB)
    tracemalloc.start()
    try:
        scan = asyncio.run(scan_archive(made.store, made.record))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(each.key, each.sha256) for each in members_of(scan)] == [(m.key, m.sha256) for m in made.members]
    assert peak < 40 * MIB


def test_a_member_that_nothing_proves_is_left_out() -> None:
    made = packed([(member("k", b"data", sha256=None, etag="0" * 31 + "-2"), b"data"), (member("l", b"l"), b"l")], TAR)
    scan, contents = scanned(made, made.data)
    assert contents == {"l": b"l"}
    assert scan[1:] == (1, 0, 1, "")


@pytest.mark.parametrize("size_bytes", [1 << 40, -1])
def test_records_of_an_impossible_size_end_the_scan(size_bytes: int) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, size_bytes
    scan, _ = scanned(MADE[TAR], header.tobuf(tarfile.GNU_FORMAT) + MADE[TAR].data)
    assert scan.members == 0
