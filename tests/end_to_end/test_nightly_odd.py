"""Nights over unusual worlds: nothing ends as well that is not, and nothing stops for good."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_nightly import counted, nightly, stage
from tests.end_to_end.test_reconcile import settle

LATER = "2026-11-21"


def copied(world: World, *names: str) -> None:
    """Objects of the pair `docs`, each with its copy."""
    for name in names:
        world.put(f"docs/{name}", name.encode())
        source = {"Bucket": world.source, "Key": f"docs/{name}"}
        world.client.copy_object(Bucket=world.destination, Key=f"copies/docs/{name}", CopySource=source)


def test_a_lost_copy_is_repaired_where_only_the_destinations_report_lists_markers(
    versioned: World, tmp_path: Path
) -> None:
    copied(versioned, "a", "b")
    versioned.client.delete_object(Bucket=versioned.destination, Key="copies/docs/a")
    settle()
    to = f"s3://{versioned.ledger}/reports"
    made = versioned.sealift("inventory", f"s3://{versioned.destination}", "--versions", "all", "--to", to)
    assert made.code == 0, made.stderr
    night = nightly(versioned, write_policy(versioned, tmp_path, inventory=True))
    notes = stage(night, "reconcile")["notes"]
    assert notes["source_inventory"].startswith("listed, ")
    assert notes["destination_inventory"].startswith("S3 Inventory's report")
    assert (night["code"], counted(night, "repair"), counted(night, "verify")) == (0, {"copied": 1}, {"verified": 1})
    assert versioned.copy_of("copies/docs/a") == b"a"
