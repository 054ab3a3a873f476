"""Scratch folders of killed commands are swept by the next one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobs.runs import scratch


def test_next_process_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive, left, young = scratch.make_scratch("plan"), tmp_path / "sealift-plan-killed", tmp_path / "sealift-plan-young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "00000.parquet").write_bytes(b"rows")
    for folder in (alive, left):
        os.utime(folder, (0, time.time() - scratch.LEFT_SECONDS - 1))
    with scratch.scratch_folder("plan") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([alive, folder, young])
    scratch.remove_scratch(alive)
    assert [*tmp_path.iterdir()] == [young]
