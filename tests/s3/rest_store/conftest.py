"""The server, and an environment with no configuration but the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.doubles.scripted_server import CREDENTIALS, Script, scripted


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as script:
        yield script


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    """No configuration but the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    with mock.patch.dict(os.environ, kept | files | CREDENTIALS, clear=True):
        yield
