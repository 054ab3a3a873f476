"""The package of the Lambda functions: the same whenever it is built, and enough for every handler."""

from __future__ import annotations

import hashlib
import io
import os
import runpy
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "images" / "package.py"
HANDLERS = ("backup", "enqueue", "submit", "follow")


@pytest.fixture(scope="module")
def package() -> Any:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def make_wheel(path: Path, year: int) -> Path:
    names = ("lib/__init__.py", "lib/core.so", "lib/core.pyx", "lib/tests/test_it.py", "lib-1.dist-info/RECORD")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in names if year % 2 else reversed(names):
            wheel.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), b"value = {'a', 'b', 'c'}\n")
    return path


def test_a_package_does_not_depend_on_when_and_where_it_is_built(package: Any, tmp_path: Path) -> None:
    """Other times, another order within the wheels, another process with another seed, zone, umask and folder."""
    here = package.build([make_wheel(tmp_path / "lib-1-py3-none-any.whl", 2021)])
    make_wheel(tmp_path / "lib-1-py3-none-any.whl", 2024)
    code = (
        f"import runpy, pathlib, sys, hashlib, os; os.umask(0o077); module = runpy.run_path({str(SCRIPT)!r})\n"
        f"data = module['build']([pathlib.Path({str(tmp_path / 'lib-1-py3-none-any.whl')!r})])\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_every_handler_starts_from_a_read_only_package(package: Any, tmp_path: Path) -> None:
    data = package.build([])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    assert not [name for name in names if "/cli/" in name or name.startswith("tests")]
    assert {Path(name).suffix for name in names} <= {".py", ".pyc", ".json"}
    for handler in HANDLERS:
        assert f"scheduler/__pycache__/{handler}.{sys.implementation.cache_tag}.pyc" in names
    code = "; ".join(f"import scheduler.{handler} as {handler}" for handler in HANDLERS)
    path = os.pathsep.join([str(tmp_path), sysconfig.get_path("purelib")])
    probe = f"{code}; print(backup.__file__, callable(follow.handler), backup.__spec__.cached)"
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-v", "-c", probe],
        env={"PYTHONPATH": path},
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[:2] == [str(tmp_path / "scheduler/backup.py"), "True"]
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line and "code object from" in line]
    assert ours
    assert [line for line in ours if ".pyc" not in line] == []  # nothing is compiled at a cold start


def test_what_only_builds_and_tests_is_left_out_of_wheels(package: Any, tmp_path: Path) -> None:
    data = package.build([make_wheel(tmp_path / "lib-1-py3-none-any.whl", 2021)])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        ours = {name for name in archive.namelist() if name.startswith("lib")}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
    assert ours == {"lib/__init__.py", "lib/core.so", f"lib/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"}


def test_the_libraries_are_locked_by_hash(package: Any, tmp_path: Path) -> None:
    entries = package.locked(ROOT / "requirements" / "image.txt")
    assert len(entries) == len(package.LIBRARIES)
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    (tmp_path / "lock.txt").write_text("httptools==1 --hash=sha256:0\n")
    with pytest.raises(SystemExit, match="does not lock msgspec, tzdata"):
        package.locked(tmp_path / "lock.txt")
