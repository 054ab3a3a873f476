"""The reader beside docs/archive-format.md: an archive can be read without Sealift, for ever."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.archives.samples import TAR, ZST, member, packed

ROOT = Path(__file__).parents[2]
READER = ROOT / "docs" / "read_archive.py"
GOLDEN = sorted((ROOT / "tests" / "archives" / "golden").iterdir())
CONTENTS = {"2024/a.json": b'{"a":1}', "../../b": b"b" * 600, "c": b"", "a/old": b"older"}


def read(*arguments: object, code: int = 0) -> bytes:
    """What the reader prints. For a tar it gets Python's standard library and nothing else."""
    flags = ["-I", "-S"] if str(arguments[1]).endswith(".tar") else ["-I"]
    done = subprocess.run([sys.executable, *flags, READER, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def everything(archive: Path, folder: Path) -> dict[str, bytes]:
    """All members by their keys, restored by the reader."""
    read("all", archive, folder)
    listed: list[dict[str, Any]] = [json.loads(line) for line in (folder / "%members.jsonl").read_text().splitlines()]
    return {each["key"]: (folder / each["name"]).read_bytes() for each in listed}


@pytest.mark.parametrize("archive", GOLDEN, ids=lambda path: path.name)
def test_golden_archives_are_read_one_member_and_all(archive: Path, tmp_path: Path) -> None:
    assert everything(archive, tmp_path) == CONTENTS
    assert read("one", archive, "../../b") == CONTENTS["../../b"]
    assert read("one", archive, "a/old", "v0") == b"older"
    assert read("one", archive, "a/old", code=1) == b""
    first = json.loads(read("list", archive).splitlines()[0])
    assert (first["version_id"], first["metadata"], first["tags"]) == ("v1", {"owner": "é"}, {"team": "blue"})
    assert first["headers"] == {"content-type": "application/json"}


@pytest.mark.parametrize("kind", [TAR, ZST])
def test_archives_of_now_are_read_and_damage_is_noticed(kind: Any, tmp_path: Path) -> None:
    rng = random.Random(3)
    contents = {f"d{n}/k": rng.randbytes(size) for n, size in enumerate((0, 1, 70_000, 512, 9_000_000))}
    made = packed([(member(key, data), data) for key, data in contents.items()], kind, streamed_from=5_000_000)
    archive = tmp_path / f"a.{kind.value}"
    archive.write_bytes(made.data)
    assert everything(archive, tmp_path / "all") == contents
    for place in (1024 + 20, len(made.data) // 2):  # in a header, in the largest content
        altered = bytearray(made.data)
        altered[place] ^= 1
        archive.write_bytes(altered)
        read("all", archive, tmp_path / str(place), code=1)
    archive.write_bytes(made.data[: len(made.data) // 2])
    read("all", archive, tmp_path / "cut", code=1)


def test_a_damaged_member_is_left_out_and_named_and_the_rest_is_restored(tmp_path: Path) -> None:
    contents = {f"k{n}": bytes([n]) * 600 for n in range(5)}
    made = packed([(member(key, data), data) for key, data in contents.items()], TAR)
    data = made.data.replace(contents.pop("k1"), b"x" * 600)
    header = data.index(b"SCHILY.xattr.user.sealift.sha256=", data.index(b"x" * 600) + 600)
    del contents["k2"]
    data = data[: header + 33] + bytes([data[header + 33] ^ 1]) + data[header + 34 :]
    archive, folder = tmp_path / "a.tar", tmp_path / "all"
    archive.write_bytes(data)
    done = subprocess.run([sys.executable, READER, "all", archive, folder], capture_output=True, check=False)
    assert (done.returncode, [line.split()[-3] for line in done.stderr.decode().splitlines()]) == (1, ["k1", "k2"])
    assert {each.name: each.read_bytes() for each in folder.iterdir() if each.name != "%members.jsonl"} == contents
    listed = [json.loads(line)["key"] for line in (folder / "%members.jsonl").read_text().splitlines()]
    assert listed == [*contents]
    assert read("one", archive, "k1", code=1) == b"x" * 600
    assert read("one", archive, "k4") == contents["k4"]


@pytest.mark.parametrize("kind", [TAR, ZST])
def test_of_a_member_that_is_cut_short_nothing_is_left(kind: Any, tmp_path: Path) -> None:
    contents = {"a": b"a", "b": random.Random(3).randbytes(9_000_000)}
    made = packed([(member(key, data), data) for key, data in contents.items()], kind, streamed_from=5_000_000)
    archive = tmp_path / f"a.{kind.value}"
    archive.write_bytes(made.data[: len(made.data) - 1_000_000])
    read("all", archive, tmp_path / "all", code=1)
    assert sorted(each.name for each in (tmp_path / "all").iterdir()) == ["%members.jsonl", "a"]


def test_the_reader_is_short() -> None:
    assert len(READER.read_text().splitlines()) <= 150
