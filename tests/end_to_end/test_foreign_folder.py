"""A command called in a folder that has a `jobs` of its own: the folder's code is not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import World


def test_workers_run_sealift_and_not_the_folders_packages(world: World, tmp_path: Path) -> None:
    world.put("k")
    world.put("l")
    marker = tmp_path / "ran"
    for folder in ("jobs", "httptools"):
        (tmp_path / folder).mkdir()
        for name in ("__init__.py", "__main__.py"):
            (tmp_path / folder / name).write_text(f"open({str(marker)!r}, 'w').write('foreign')\nraise SystemExit(0)\n")
    command = [str(Path(sys.executable).with_name("sealift")), "replicate", *world.sides, "--json"]
    environment = world.environment(rows_per_shard="1")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0, done.stderr
    assert world.copy_of("k") == b"content"
