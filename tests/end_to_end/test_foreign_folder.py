"""A command called in a folder that has a `jobs` of its own: the folder's code is not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import World


@pytest.mark.parametrize("folder", ["jobs", "httptools"])
def test_workers_run_sealift_and_not_the_folders_packages(world: World, tmp_path: Path, folder: str) -> None:
    world.put("k")
    marker = tmp_path / "ran"
    (tmp_path / folder).mkdir()
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / folder / name).write_text(
            f"open({str(marker)!r}, 'w').write('foreign code')\nraise SystemExit(0)\n"
        )
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    done = subprocess.run(
        [Path(sys.executable).with_name("sealift"), "replicate", *sides, "--json"],
        cwd=tmp_path,
        env=world.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0, done.stderr
    assert world.copy_of("k") == b"content"
