"""A report is found where S3 delivers it: by its manifest, its folder, its day or its Hive location."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import ManifestError
from jobs.inventory.find import find_inventory
from jobs.inventory.report import Inventory
from jobs.s3.store import ABSENT
from tests.doubles.memory_store import MemoryStore
from tests.inventory.samples import deliver

MONDAY = datetime(2026, 11, 23, 1, 5, tzinfo=UTC).timestamp()
TUESDAY, WEDNESDAY = MONDAY + 86_400, MONDAY + 2 * 86_400
ROWS = [{"Key": "a"}]


def folder_with_reports(folder: Path, prefix: str = "inventory/") -> list[Path]:
    made = [deliver(folder, "src", ROWS, created_at=at, prefix=prefix) for at in (MONDAY, WEDNESDAY, TUESDAY)]
    hive = made[0].parent.parent / "hive" / "dt=2026-11-23-01-05"
    hive.mkdir(parents=True)
    (hive / "symlink.txt").write_text("s3://reports/inventory/src/daily/data/x.parquet\n")
    return made


def upload(folder: Path) -> Any:
    """A store with the folder's files in the bucket `reports`, at their own paths: `//` and all."""
    store = MemoryStore(buckets=["reports"])
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = str(path.relative_to(folder))
            asyncio.run(
                store.put(ObjectRef("reports", key.replace("SLASH", "")), path.read_bytes(), Attributes(), guard=ABSENT)
            )
    return store


def find(store: Any, uri: str) -> Inventory:
    return asyncio.run(find_inventory(store, uri))


@pytest.mark.parametrize("place", ["", "inventory", "inventory/", "inventory/src", "inventory/src/daily/"])
@pytest.mark.parametrize("is_local", [True, False], ids=["local", "S3"])
def test_the_latest_report_is_found_beneath_a_folder(tmp_path, place, is_local):
    folder_with_reports(tmp_path)
    uri = str(tmp_path / place) if is_local else f"s3://reports/{place}"
    inventory = find(None if is_local else upload(tmp_path), uri)
    assert inventory.created_at == WEDNESDAY
    assert str(inventory.manifest).endswith("T01-05Z/manifest.json")


def test_a_prefix_that_ends_in_a_slash_makes_keys_with_two(tmp_path):
    folder_with_reports(tmp_path, prefix="inventory/SLASH/")
    store = upload(tmp_path)
    for uri in ("s3://reports/", "s3://reports/inventory/", "s3://reports/inventory//src"):
        inventory = find(store, uri)
        assert inventory.manifest == Location("reports", "inventory//src/daily/2026-11-25T01-05Z/manifest.json")


def test_a_report_without_its_checksum_or_with_a_wrong_one_is_passed_over(tmp_path):
    _, wednesday, tuesday = folder_with_reports(tmp_path)
    wednesday.with_suffix(".checksum").unlink()
    assert find(None, str(tmp_path)).created_at == TUESDAY
    tuesday.with_suffix(".checksum").write_text("0" * 32)
    assert find(None, str(tmp_path)).created_at == MONDAY
    shutil.rmtree(tmp_path / "inventory" / "src" / "daily" / "2026-11-23T01-05Z")
    with pytest.raises(ManifestError, match=r"no complete inventory report .*checksum does not exist"):
        find(None, str(tmp_path))


@pytest.mark.parametrize("is_local", [True, False], ids=["local", "S3"])
def test_a_place_that_is_called_data_is_looked_into(tmp_path, is_local):
    """No night of a bucket of this name found its reports."""
    deliver(tmp_path, "data", ROWS, created_at=MONDAY, prefix="")
    uri = str(tmp_path / "data") if is_local else "s3://reports/data"
    assert find(None if is_local else upload(tmp_path), uri).created_at == MONDAY


def test_a_folder_without_reports_says_so(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ManifestError, match="no complete inventory report below it: give a manifest"):
        find(None, str(tmp_path))


def test_reports_of_two_configurations_are_not_mixed(tmp_path):
    one = deliver(tmp_path, "src", ROWS, created_at=MONDAY)
    deliver(tmp_path, "other", ROWS, created_at=TUESDAY)
    with pytest.raises(ManifestError, match="more than one configuration"):
        find(None, str(tmp_path))
    assert find(None, str(tmp_path / "inventory" / "src")).manifest == one
    assert find(None, str(one.parent)).manifest == one
    shutil.rmtree(tmp_path / "inventory" / "other")
    assert find(None, str(tmp_path)).manifest == one
