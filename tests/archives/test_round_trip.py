"""Archives: whatever goes in comes out, by stock tools and by ranged reads; damage is found and named."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.archives.files import extract_member, read_own_index
from jobs.archives.index_tables import from_batch
from jobs.archives.member_attributes import MEMBER_HEADERS
from jobs.archives.model import FRAME_BYTES, LOCATOR_BYTES, Locator, Member
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Checksum
from jobs.errors import DamagedArchive
from jobs.s3.byte_ranges import ByteBudget
from tests.archives.samples import TAR, ZST, Packed, altered, member, pack, packed, read_member, reader_of
from tests.doubles.examples import examples
from tests.doubles.programs import need

MIB = 1 << 20
GOLDEN = Path(__file__).parent / "golden"

texts = st.text(st.characters(codec="utf-8"), max_size=20)
maps = st.dictionaries(texts, texts, max_size=3)
values = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=20)
headers = st.dictionaries(st.sampled_from(sorted(MEMBER_HEADERS)), values, max_size=3)
metadata = st.dictionaries(st.text("abc-_.09", min_size=1, max_size=9), values, max_size=3)
contents = st.lists(
    st.tuples(
        st.builds(
            member,
            st.text(st.sampled_from(list("ab/.%\n é日")), min_size=1, max_size=30) | texts.filter(bool),
            version_id=st.none() | st.sampled_from(["v1", "v2"]),
            is_latest=st.booleans(),
            headers=headers,
            metadata=metadata,
            tags=maps,
            storage_class=st.sampled_from(["STANDARD", "GLACIER_IR"]),
            checksums=st.just(()) | st.just((Checksum("CRC64NVME", "AAAA"), Checksum("SHA256", "abc-2", True))),
            last_modified=st.integers(0, 2**33).map(float),
        ),
        st.binary(max_size=2000) | st.sampled_from([b"", b"x" * 512, b"y" * (FRAME_BYTES + 1)]),
    ),
    max_size=12,
    unique_by=lambda each: (each[0].key, each[0].version_id),
).map(lambda found: [(sized(each, data), data) for each, data in found])


def sized(each: Member, data: bytes) -> Member:
    return each._replace(size_bytes=len(data), sha256=member("k", data).sha256)


def untarred(made: Packed) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Name → (entry, content) by Python's tarfile, without the index."""
    data = made.data
    if made.record.format is ZST:
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name] = entry, file.read()
    assert list(found)[-1] == "%index/sealift.parquet"
    del found["%index/sealift.parquet"]
    return found


def unplaced(each: Member) -> Member:
    return each._replace(offset=0, frame_start=None, frame_offset=None, frame_length=None)


@pytest.mark.parametrize("kind", [TAR, ZST])
@given(given_contents=contents)
@settings(max_examples=examples(25), deadline=None)
def test_any_members_round_trip_and_any_of_them_can_be_cut_out(
    kind: ArchiveFormat, given_contents: list[tuple[Member, bytes]]
) -> None:
    made = packed(given_contents, kind)
    assert [unplaced(each) for each in made.members] == [each for each, _ in given_contents]
    assert made.record.members == len(given_contents)
    assert packed(given_contents, kind).data == made.data, "the same members make the same bytes"
    found = untarred(made)
    assert [data for _, data in found.values()] == [data for _, data in given_contents]

    async def read_all() -> None:
        for each, (_, data) in zip(made.members, given_contents, strict=True):
            assert await read_member(made.store, made.record, each) == data
            start, end = each.byte_range
            assert end - start <= len(data) + FRAME_BYTES
            assert extract_member(made.record.location, each, made.data, 0) == data

    asyncio.run(read_all())


HOSTILE = [
    "../../escape",
    "/etc/absolute",
    "a",
    "a/b",
    "a//b",
    "a/",
    "./a",
    "new\nline",
    "tab\tand\\backslash",
    "C:\\windows",
    "long/" + "n" * 300,
    "deep/" * 60 + "end",
    "-rf",
    "na\u00efve/日本.txt",
    "nai\u0308ve/日本.txt",
    "100%/%2F",
    "%index/sealift.parquet",
    "%2F",
]


@pytest.mark.parametrize("kind", [TAR, ZST])
@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
def test_stock_tar_unpacks_hostile_names_inside_the_folder(kind: ArchiveFormat, tool: str, tmp_path: Path) -> None:
    need(tool, *(["zstd"] if kind is ZST and tool == "tar" else []))
    given_contents = [(member(key, key.encode()), key.encode()) for key in HOSTILE]
    given_contents.append((member("a", b"older", version_id="v0", is_latest=False), b"older"))
    made = packed(given_contents, kind)
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / f"archive.{kind.value}").write_bytes(made.data)
    command = [tool, "-xf", f"../../archive.{kind.value}"]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files.pop("%index/sealift.parquet")
    assert files == {name: data for name, (_, data) in untarred(made).items()}
    assert sorted(files.values()) == sorted(data for _, data in given_contents)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents} == {
        f"archive.{kind.value}"
    }


@pytest.mark.parametrize("kind", [TAR, ZST])
def test_tar_reads_several_archives_in_one_stream(kind: ArchiveFormat, tmp_path: Path) -> None:
    """`cat a.tar b.tar | tar -it`."""
    need("tar", *(["zstd"] if kind is ZST else []))
    made = [packed([(member(key, key.encode()), key.encode())], kind).data for key in ("first", "second")]
    (tmp_path / f"all.{kind.value}").write_bytes(b"".join(made))
    ended = subprocess.run(["tar", "-itf", f"all.{kind.value}"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    index = "%index/sealift.parquet"
    assert ended.stdout.splitlines() == ["first", index, "second", index]


def test_tar_brings_metadata_back_as_extended_attributes(tmp_path: Path) -> None:
    need("tar")
    try:
        os.setxattr(tmp_path, "user.probe", b"1")
    except OSError:
        pytest.skip("the file system of the temporary folder has no extended attributes")
    made = packed([(member("a", b"x", version_id="v", metadata={"owner": "é"}), b"x")], TAR)
    (tmp_path / "one.tar").write_bytes(made.data)
    ended = subprocess.run(["tar", "--xattrs", "-xf", "one.tar"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    named = {name: os.getxattr(tmp_path / "a", name).decode() for name in os.listxattr(tmp_path / "a")}
    assert named["user.sealift.version-id"] == "v"
    assert json.loads(named["user.sealift.metadata"]) == {"owner": "é"}


@pytest.mark.parametrize("kind", [TAR, ZST])
async def test_large_members_are_streamed_in_parts(kind: ArchiveFormat) -> None:
    rng = random.Random(7)
    sizes = [10, 6 * MIB + 7, 100, 5 * MIB, 0, 3]
    given_contents = [(member(f"k{n}", data), data) for n, data in enumerate(map(rng.randbytes, sizes))]
    made = await pack(given_contents, kind, streamed_from=5 * MIB)
    assert [unplaced(each) for each in made.members] == [each for each, _ in given_contents]
    assert [data for _, data in untarred(made).values()] == [data for _, data in given_contents]
    assert made.store.uploads("cold") == []
    reader = reader_of(made.store, made.record, ByteBudget(16 * MIB))
    for each, (_, data) in zip(made.members, given_contents, strict=True):
        assert b"".join([part async for part in reader.stream(each)]) == data


async def test_a_member_of_zeros_is_decoded_in_bounded_memory() -> None:
    data = bytes(128 * MIB)
    made = await pack([(member("zeros", data), data)], ZST, streamed_from=MIB)
    tracemalloc.start()
    try:
        reads = reader_of(made.store, made.record, ByteBudget(16 * MIB)).stream(made.members[0])
        sizes = [len(part) async for part in reads]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (sum(sizes), max(sizes) <= 17 * MIB, peak < 64 * MIB) == (len(data), True, True)


def located(data: bytes, kind: ArchiveFormat, **changed: int) -> bytes:
    """The archive with another locator of its index."""
    return data[:-LOCATOR_BYTES] + replace(Locator.decode(data), **changed).encode(kind)[-LOCATOR_BYTES:]


@pytest.mark.parametrize("kind", [TAR, ZST])
async def test_an_archive_that_was_cut_short_or_names_an_impossible_index_does_not_pass_for_one(
    kind: ArchiveFormat,
) -> None:
    made = await pack([(member(f"k{n}", bytes(100)), bytes(100)) for n in range(3)], kind)
    sizes = 0, 100, LOCATOR_BYTES, len(made.data) - 1, len(made.data) - LOCATOR_BYTES
    forged = [located(made.data, kind, **{name: 1 << 62}) for name in ("size_bytes", "offset")]
    for data in (*(made.data[:size_bytes] for size_bytes in sizes), *forged):
        await altered(made, data)
        with pytest.raises(DamagedArchive, match="packed/one"):
            await read_own_index(made.store, made.record.location)


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("form", ["earlier", "1"])
async def test_archives_of_all_forms_stay_readable(form: str, kind: ArchiveFormat) -> None:
    """`earlier`: written before members' records were extended attributes."""
    made = await pack([], kind)
    record = await altered(made, (GOLDEN / f"{form}.{kind.value}").read_bytes())
    _, own_index = await read_own_index(made.store, record.location)
    own = list(from_batch(pq.read_table(io.BytesIO(own_index))))
    contents = {each.key: await read_member(made.store, record, each) for each in own}
    assert contents == {"2024/a.json": b'{"a":1}', "../../b": b"b" * 600, "c": b"", "a/old": b"older"}
    assert (own[0].version_id, own[0].metadata, own[0].tags) == ("v1", {"owner": "é"}, {"team": "blue"})
    assert own[0].headers == {"content-type": "application/json"}
