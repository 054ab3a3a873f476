"""Salvage: of any damaged archive, what comes back is what was packed, and no more is lost than was hit."""

from __future__ import annotations

import asyncio
import io
import random
import re
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archives.salvage import FED_BYTES, TRIES, Salvaged, SalvageWriter, salvage
from jobs.archives.tar_layout import ATTRIBUTE
from jobs.archives.tar_scan import Condition
from jobs.archives.zstd_frames import MAGIC, FrameCutter
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, Location, ObjectRef
from jobs.s3.checksums import full_object
from jobs.s3.store import UNGUARDED
from tests.archives.samples import Packed, member, packed
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

MIB = 1 << 20
TAR, ZST = ArchiveFormat.TAR, ArchiveFormat.TAR_ZST
EARLIER = Path(__file__).parent / "earlier"
INSIDE = re.compile("^out/(found-inside/)?")
rng = random.Random(11)
CONTENTS = {
    f"d{n}/k{n:02}": rng.randbytes(size) for n, size in enumerate((0, 1, 900, 70_000, 512, 5_000, 66_000, 3, 3))
}
MADE = {
    kind: packed([(member(key, data, metadata={"of": key}), data) for key, data in CONTENTS.items()], kind)
    for kind in ArchiveFormat
}


def salvaged(data: bytes, name: str, *, write: bool = False) -> tuple[list[Salvaged], MemoryStore]:
    store = MemoryStore(clock=lambda: 1_750_000_000.0)
    for bucket in ("cold", "back"):
        store.create_bucket(bucket)

    async def run() -> list[Salvaged]:
        await store.put("cold", name, data, Attributes(), guard=UNGUARDED)
        writer = SalvageWriter(store, Location("back", "out")) if write else None
        return [each async for each in salvage(store, Location("cold", name), writer)]

    return asyncio.run(run()), store


def written(store: MemoryStore) -> dict[str, bytes]:
    """What is in the bucket, whatever the product says."""

    async def run() -> dict[str, bytes]:
        entries = (await store.list_objects("back", "")).entries
        return {each.key: (await store.get(ObjectRef("back", each.key))).data for each in entries}

    return asyncio.run(run())


def whole(found: list[Salvaged]) -> list[str]:
    return [each.found.member.key for each in found if each.found.condition is Condition.WHOLE and each.found.member]


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_an_archive_that_is_whole_comes_back_whole(kind: ArchiveFormat) -> None:
    found, store = salvaged(MADE[kind].data, f"one.{kind.value}", write=True)
    assert [each.found.condition for each in found] == [Condition.WHOLE] * len(CONTENTS)
    assert written(store) == {f"out/{key}": data for key, data in CONTENTS.items()}

    async def metadata() -> object:
        return (await store.head(ObjectRef("back", "out/d3/k03"))).attributes.metadata

    assert asyncio.run(metadata()) == {"of": "d3/k03"}


@pytest.mark.parametrize("kind", ArchiveFormat)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_no_damage_brings_a_wrong_byte_or_a_traceback(kind: ArchiveFormat, data: st.DataObject) -> None:
    broken = bytearray(MADE[kind].data)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(broken) - 1, 0)))
        end = place + data.draw(st.sampled_from([1, 100, 512, 5_000]))
        how = data.draw(st.sampled_from(["flip", "cut", "remove", "zero", "noise", "insert"]))
        if how == "flip" and broken:
            broken[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del broken[place:]
        elif how == "remove":
            del broken[place:end]
        elif how == "insert":
            broken[place:place] = random.Random(place).randbytes(end - place)
        else:
            size_bytes = len(broken[place:end])
            broken[place:end] = bytes(size_bytes) if how == "zero" else random.Random(place).randbytes(size_bytes)
    found, store = salvaged(bytes(broken), f"one.{kind.value}", write=True)
    there = written(store)
    assert {INSIDE.sub("", key): value for key, value in there.items()}.items() <= CONTENTS.items()
    assert set(whole(found)) == {INSIDE.sub("", key) for key in there}
    assert {INSIDE.sub("", key) for key in there if "found-inside" in key} == {
        each.found.name for each in found if each.found.is_in_doubt and each.target
    }


@pytest.mark.parametrize("victim", range(len(CONTENTS)))
def test_one_bad_byte_of_a_plain_tar_loses_one_member(victim: int) -> None:
    made, keys = MADE[TAR], list(CONTENTS)
    hit = made.members[victim]
    places = [hit.offset - 512, hit.offset - 600, *([hit.offset + hit.size_bytes // 2] if hit.size_bytes else [])]
    for place in places:
        broken = bytearray(made.data)
        broken[place] ^= 0x41
        found, _ = salvaged(bytes(broken), "one.tar")
        assert set(keys) - {keys[victim]} <= set(whole(found))
        is_named = [each for each in found if each.found.condition is not Condition.WHOLE]
        assert bool(is_named) == (keys[victim] not in whole(found))


def test_a_damaged_frame_loses_its_members_only() -> None:
    made, keys = MADE[ZST], list(CONTENTS)
    frames = sorted({each.frame_offset for each in made.members if each.frame_offset is not None})
    for frame in frames:
        sharing = [each.key for each in made.members if each.frame_offset == frame]
        broken = bytearray(made.data)
        broken[frame + 20] ^= 0x41
        found, _ = salvaged(bytes(broken), "one.tar.zst")
        assert set(keys) - set(sharing) <= set(whole(found))
        assert [each for each in found if each.found.condition is Condition.LOST]


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_a_cut_archive_says_that_it_is_cut(kind: ArchiveFormat) -> None:
    last = MADE[kind].members[-1]
    found, _ = salvaged(MADE[kind].data[: last.byte_range[1] + 512], f"one.{kind.value}")
    assert whole(found)[:7] == list(CONTENTS)[:7]
    assert found[-1].found.condition is Condition.LOST


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_an_archive_of_the_earlier_form_is_read(kind: ArchiveFormat) -> None:
    """Written before members' records were extended attributes."""
    data = (EARLIER / f"one.{kind.value}").read_bytes()
    found, store = salvaged(data, f"one.{kind.value}", write=True)
    assert whole(found) == ["2024/a.json", "../../b", "c", "a/old"]
    assert len(found) == 4
    assert written(store) == {
        "out/2024/a.json": b'{"a":1}',
        "out/../../b": b"b" * 600,
        "out/c": b"",
        "out/a/old%40v0": b"older",
    }
    first = found[0].found.member
    assert first is not None
    assert (first.version_id, first.metadata, first.tags) == ("v1", {"owner": "é"}, {"team": "blue"})
    assert first.headers == {"content-type": "application/json"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_foreign_tar_is_listed_and_nothing_of_it_is_called_proven(format: int, compressed: bool) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, size in (("a", 10), ("n" * 90 + "/" + "m" * 90, 700), ("folder", -1)):
            entry = tarfile.TarInfo(name)
            entry.size = max(size, 0)
            entry.type = tarfile.DIRTYPE if size < 0 else tarfile.REGTYPE
            tar.addfile(entry, io.BytesIO(bytes(max(size, 0))))
    data = buffer.getvalue()
    data = zstandard.ZstdCompressor().compress(data) if compressed else data
    found, store = salvaged(data, "other.tar.zst" if compressed else "other.tar", write=True)
    assert [(each.found.name[:3], each.found.size_bytes) for each in found] == [("a", 10), ("nnn", 700), ("fol", 0)]
    assert {each.found.condition for each in found} == {Condition.UNPROVEN}
    assert written(store) == {}


def nested(kind: ArchiveFormat) -> Packed:
    """An archive with a member that is itself a tar, whose owner planted the keys of others."""
    old, new, planted = b"OLD content of 2019", b"NEW content, the one that was packed", b"planted"
    fill = random.Random(3).randbytes(300_000)
    inner = packed(
        [(member("docs/0", fill), fill), (member("docs/a", old), old), (member("docs/secret", planted), planted)], TAR
    ).data
    return packed([(member("backup/2019.tar", inner), inner), (member("docs/a", new), new)], kind)


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("place", [0, 600, 100_000])
@pytest.mark.parametrize("is_cut", [False, True])
def test_what_lies_inside_a_member_gets_no_key_beside_it(kind: ArchiveFormat, place: int, is_cut: bool) -> None:
    made = nested(kind)
    data = bytearray(made.data)
    data[place + 5 : place + 9] = bytes(each ^ 0x5A for each in data[place + 5 : place + 9])
    if is_cut:  # its index is lost
        del data[made.members[1].byte_range[1] + 512 :]
    found, store = salvaged(bytes(data), f"one.{kind.value}", write=True)
    there = written(store)
    assert set(there) <= {f"out/{key}" for key in ("backup/2019.tar", "docs/a")} | {
        f"out/found-inside/docs/{key}" for key in ("0", "a", "secret")
    }
    assert there.get("out/docs/a", b"NEW").startswith(b"NEW")
    if not is_cut:
        assert "out/docs/a" in there
    assert all(each.found.is_in_doubt == ("found-inside" in str(each.target)) for each in found if each.target)


PLANTED = ("0", "a", "secret")


def salvaged_keys(data: bytes, name: str = "one.tar") -> set[str]:
    """The keys that were written, after a check that what is planted has none beside the others."""
    found, store = salvaged(data, name, write=True)
    there = written(store)
    assert not {f"out/docs/{key}" for key in ("0", "secret")} & set(there)
    assert there.get("out/docs/a", b"NEW").startswith(b"NEW")
    assert all(each.found.is_in_doubt == ("found-inside" in str(each.target)) for each in found if each.target)
    return set(there)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_header_that_was_overwritten_with_zeros_is_not_the_end_of_the_archive(is_cut: bool) -> None:
    """Behind zeros comes what was a member's content."""
    made = nested(TAR)
    data = bytearray(made.data[: made.members[1].byte_range[1] + 512] if is_cut else made.data)
    data[: made.members[0].offset] = bytes(made.members[0].offset)
    found = {f"out/found-inside/docs/{key}" for key in PLANTED}
    own = "out/found-inside/docs/a" if is_cut else "out/docs/a"
    assert salvaged_keys(bytes(data)) == found | {own}


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("is_proven", [False, True])
def test_where_bytes_are_missing_the_next_header_may_be_a_planted_one(is_cut: bool, is_proven: bool) -> None:
    """As many as the next header has: the place where it should be has its content."""
    first, inner = rng.randbytes(8_192), nested(TAR).members[0]
    content = nested(TAR).data[inner.offset : inner.offset + inner.size_bytes]
    new = b"NEW content, the one that was packed"
    proof = {} if is_proven else {"sha256": None, "etag": "0" * 31 + "-2"}
    members = [
        (member("first", first, **proof), first),
        (member("backup/2019.tar", content), content),
        (member("docs/a", new), new),
    ]
    made = packed(members, TAR)
    start = made.members[0].offset
    header_bytes = made.members[1].offset - (start + len(first))
    data = bytearray(made.data[: made.members[2].byte_range[1] + 512] if is_cut else made.data)
    del data[start : start + header_bytes]
    assert {f"out/found-inside/docs/{key}" for key in PLANTED} <= salvaged_keys(bytes(data))


def headless(made: Packed, victim: int) -> bytes:
    """The plain archive without the header blocks of one member, and nothing else is missing."""
    before = made.members[victim - 1] if victim else None
    start = before.offset + before.size_bytes + -before.size_bytes % 512 if before else 0
    return made.data[:start] + made.data[made.members[victim].offset :]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_member_without_its_header_gives_what_lies_inside_no_key(order: tuple[int, ...], is_cut: bool) -> None:
    """The headers inside it come where the archive's own would, so the scan sees no damage."""
    inner = packed([(member("docs/a", b"planted"), b"planted")], TAR).data
    contents = [("docs/backup.tar", inner), ("docs/a", b"the true one"), ("docs/z", b"z")]
    made = packed([(member(contents[each][0], contents[each][1]), contents[each][1]) for each in order], TAR)
    data = headless(made, order.index(0))
    found, store = salvaged(data[: len(data) - 512] if is_cut else data, "one.tar", write=True)
    there = written(store)
    own = {"out/docs/a": b"the true one", "out/docs/z": b"z"}
    assert {key: value for key, value in there.items() if "found-inside" not in key} == ({} if is_cut else own)
    assert [each.target for each in found if each.found.is_in_doubt and each.target]
    lost = {each.found.name for each in found if each.found.condition is Condition.LOST}
    assert lost == ({""} if is_cut else {"docs/backup.tar"})


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("victim", range(3))
@pytest.mark.parametrize("is_zeroed", [False, True])
def test_a_member_that_left_no_trace_is_lost_by_name(kind: ArchiveFormat, victim: int, is_zeroed: bool) -> None:
    """All of its bytes are zeros, or missing. The archive's own index is whole and has it."""
    contents = {f"docs/{name}": random.Random(name).randbytes(70_000) for name in "abc"}
    made = packed([(member(key, data), data) for key, data in contents.items()], kind)
    ends = [0, *(each.byte_range[1] + (-each.size_bytes % 512 if kind is TAR else 0) for each in made.members)]
    hole = bytes(ends[victim + 1] - ends[victim]) if is_zeroed else b""
    data = made.data[: ends[victim]] + hole + made.data[ends[victim + 1] :]
    found, store = salvaged(data, f"one.{kind.value}", write=True)
    key = list(contents)[victim]
    assert [
        each.found.member.key for each in found if each.found.member and each.found.condition is Condition.LOST
    ] == [key]
    assert written(store) == {f"out/{each}": content for each, content in contents.items() if each != key}


def test_a_member_that_is_there_twice_gets_its_key_once() -> None:
    made = packed([(member("a", b"a"), b"a"), (member("b", b"b"), b"b")], TAR)
    end = made.members[0].offset + 512
    found, store = salvaged(made.data[:end] + made.data, "one.tar", write=True)
    assert written(store) == {"out/a": b"a", "out/b": b"b", "out/found-inside/a": b"a"}
    assert not [each for each in found if each.found.condition is Condition.LOST]


def test_the_index_of_another_archive_proves_nothing() -> None:
    """The archive was cut where an archive inside its first member ends."""
    inner = packed([(member("docs/a", b"planted"), b"planted")], TAR).data
    made = packed([(member("docs/0", b"0"), b"0"), (member("docs/b.tar", inner), inner)], TAR)
    found, store = salvaged(made.data[: made.members[1].offset + len(inner)], "one.tar", write=True)
    assert "out/docs/a" not in written(store)
    assert "docs/a" not in {each.found.name for each in found}


def test_a_size_that_was_lost_with_its_records_is_not_taken_for_none() -> None:
    """Above 8 GiB the records alone have the size, and the header itself says 0."""
    entry = tarfile.TarInfo("backup/huge.tar")
    entry.size, entry.pax_headers = 9 << 30, {f"{ATTRIBUTE}etag": "e"}
    header = bytearray(entry.tobuf(tarfile.PAX_FORMAT))
    header[512] = ord("x")
    inner = nested(TAR).members[0]
    content = nested(TAR).data[inner.offset : inner.offset + inner.size_bytes]
    assert salvaged_keys(bytes(header) + content) == {f"out/found-inside/docs/{key}" for key in PLANTED}


def hostile_header(kind: bytes, size_bytes: int) -> bytes:
    """A header within a member, whose owner wants it to hide what follows in the archive."""
    header = tarfile.TarInfo("docs/hostile")
    header.type, header.size = kind, size_bytes
    return header.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", ArchiveFormat)
@pytest.mark.parametrize("entry", [tarfile.REGTYPE, b"Z", tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size_bytes", [250_000, 1_000_000, 1 << 50])
def test_a_header_inside_a_member_hides_nothing_that_follows(
    kind: ArchiveFormat, entry: bytes, size_bytes: int
) -> None:
    """A damage has the search find it. It may claim any size, and so may those behind it."""
    content = rng.randbytes(200_000) + hostile_header(entry, size_bytes) * 3
    after = {f"docs/{name}": name.encode() * 40_000 for name in ("a", "b", "c")}
    made = packed(
        [(member("docs/0", content), content), *((member(key, data), data) for key, data in after.items())], kind
    )
    data = bytearray(made.data)
    place = made.members[0].offset - 400 if kind is TAR else 100_000
    data[place : place + 4] = bytes(each ^ 0x5A for each in data[place : place + 4])
    found, store = salvaged(bytes(data), f"one.{kind.value}", write=True)
    assert written(store) == {f"out/{key}": each for key, each in after.items()}
    assert whole(found) == list(after)


def test_bytes_full_of_frames_beginnings_cost_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[FrameCutter] = []

    class Counted(FrameCutter):
        def __init__(self) -> None:
            super().__init__()
            tried.append(self)

    monkeypatch.setattr("jobs.archives.salvage.FrameCutter", Counted)
    pieces = 16
    found, _ = salvaged(MAGIC + b"\xff" + MAGIC * (pieces * FED_BYTES // 4), "one.tar.zst")
    assert [each.found.condition for each in found] == [Condition.LOST]
    assert len(tried) <= TRIES + 2 * pieces


def test_frames_of_the_index_are_found_among_false_ones() -> None:
    """Bytes full of frames' beginnings use up the tries. The archive's own frames are found."""
    lost = random.Random(5).randbytes(300_000)
    made = packed([(member("lost", lost), lost), (member("after", b"x"), b"x")], ZST)
    end = made.members[1].frame_offset
    assert end is not None
    broken = bytearray(made.data)
    broken[9:end] = (MAGIC * end)[: end - 9]
    found, store = salvaged(bytes(broken), "one.tar.zst", write=True)
    assert whole(found) == ["after"]
    assert written(store) == {"out/after": b"x"}


def test_several_archives_in_one_file_are_read_one_after_the_other() -> None:
    found, _ = salvaged(MADE[TAR].data + (EARLIER / "one.tar").read_bytes() + MADE[TAR].data, "all.tar")
    assert len(whole(found)) == len(found) == 2 * len(CONTENTS) + 4


def test_an_object_that_is_there_stays_and_a_second_salvage_changes_nothing() -> None:
    _, store = salvaged(MADE[TAR].data, "one.tar", write=True)
    before = written(store)

    async def again() -> list[Salvaged]:
        writer = SalvageWriter(store, Location("back", "out"))
        return [each async for each in salvage(store, Location("cold", "one.tar"), writer)]

    assert all("already" in each.problem for each in asyncio.run(again()))
    assert written(store) == before


def large(kind: ArchiveFormat) -> Packed:
    data = bytes(48 * MIB)
    streamed = member("zeros", data, sha256=None, checksums=(full_object("CRC64NVME", data),))
    return packed([(streamed, data), (member("after", b"x"), b"x")], kind, streamed_from=MIB)


@pytest.mark.parametrize("kind", ArchiveFormat)
def test_a_large_member_is_proven_by_s3s_checksum_in_bounded_memory(kind: ArchiveFormat) -> None:
    made = large(kind)

    async def run() -> list[Salvaged]:
        return [each async for each in salvage(made.store, made.record.location)]

    tracemalloc.start()
    try:
        found = asyncio.run(run())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert whole(found) == ["zeros", "after"]
    assert peak < 48 * MIB  # four ranges of 8 MiB are read ahead


def test_a_member_that_nothing_proves_is_not_written() -> None:
    made = packed([(member("k", b"data", sha256=None, etag="0" * 31 + "-2"), b"data")], TAR)
    found, store = salvaged(made.data, "one.tar", write=True)
    assert [each.found.condition for each in found] == [Condition.UNPROVEN]
    assert written(store) == {}


def test_a_damaged_header_is_never_believed() -> None:
    """PAX itself has no checksum over records: a flipped bit is another key, class or metadata."""
    made = packed([(member("../k", b"data", checksums=(Checksum("CRC32", "AAAAAA=="),)), b"data")], TAR)
    start = made.members[0].offset
    for place in range(512, start - 512):
        broken = bytearray(made.data)
        broken[place] ^= 1
        found, _ = salvaged(bytes(broken), "one.tar")
        assert whole(found) in ([], ["../k"])


def test_records_of_an_impossible_size_are_skipped() -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    found, _ = salvaged(header.tobuf(tarfile.GNU_FORMAT) + MADE[TAR].data, "one.tar")
    assert whole(found) == list(CONTENTS)
    assert found[0].found.condition is Condition.LOST
