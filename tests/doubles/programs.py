"""Programs of the machine that some tests run: where one is missing, the test is left out and says so."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {"bsdtar": "libarchive-tools", "zstd": "zstd", "tar": "tar"}
"""Which of Debian's packages has the program."""


def need(*programs: str) -> None:
    """Skip the test where a program is missing. With SEALIFT_REQUIRE_PROGRAMS=1 the test runs, and fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("SEALIFT_REQUIRE_PROGRAMS") != "1":
        packages = " ".join(PACKAGES[program] for program in missing)
        pytest.skip(f"NOT ON THIS MACHINE: {', '.join(missing)} (apt-get install {packages})")
