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


def test_the_reader_is_short() -> None:
    assert len(READER.read_text().splitlines()) <= 150
