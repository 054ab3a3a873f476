"""The bill of materials without a container: what is not locked ends it."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABELS = {"org.opencontainers.image.version": "0.1.0"}


@pytest.fixture(scope="module")
def sbom() -> Any:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "images" / "sbom.py")))


def contents(*python: tuple[str, str]) -> dict[str, Any]:
    release = {"ID": "debian", "VERSION_ID": "13"}
    debian = [["libstdc++6", "1:14.2.0-19+b1", "amd64"]]
    return {"python": [[*each, "0" * 64] for each in python], "debian": debian, "os": release, "interpreter": "3.13.5"}


def test_every_entry_of_the_lock_is_read_with_its_hashes(sbom: Any) -> None:
    text = (ROOT / "requirements" / "image.txt").read_text()
    entries = sbom.locked(text)
    assert len(entries) == text.count("==") > 15
    assert sum(len(hashes) for _, hashes in entries.values()) == text.count("--hash=sha256:")
    assert all(hashes for _, hashes in entries.values())


def test_names_are_compared_as_the_index_compares_them(sbom: Any) -> None:
    version, hashes = sbom.locked((ROOT / "requirements" / "image.txt").read_text())["markupsafe"]
    document = sbom.bill(
        contents(("MarkupSafe", version), ("sealift", "0.1.0")), {"markupsafe": (version, hashes)}, LABELS
    )
    purls = [each["purl"] for each in document["components"]]
    assert f"pkg:pypi/markupsafe@{version}" in purls
    assert "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1?arch=amd64&distro=debian-13" in purls


@pytest.mark.parametrize("lock", [{}, {"evil": ("1.1", ["0" * 64])}, {"evil": ("1.0", [])}])
def test_a_distribution_that_is_not_locked_ends_it(sbom: Any, lock: dict[str, tuple[str, list[str]]]) -> None:
    with pytest.raises(SystemExit, match=r"the image has evil 1\.0, which image\.txt does not lock"):
        sbom.bill(contents(("evil", "1.0")), lock, LABELS)
