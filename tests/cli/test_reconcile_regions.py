"""Inventories of reconcile: S3 delivers within a region, so each is read in the region of its side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli import reconcile
from jobs.errors import UsageError
from jobs.ledger.ledger import Ledger


def test_each_inventory_is_read_in_the_region_of_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    async def find(store: Any, uri: str, *, day: Any) -> Any:
        read.append((store, uri))
        return SimpleNamespace(source_bucket=uri[5:6], manifest=uri)

    async def compare(source: Any, destination: Any, *given: Any) -> Any:
        raise UsageError(f"compared in {(source.store, destination.store)}")

    async def is_there(ledger: Ledger) -> None:
        """The bucket of the ledger, which no server has here."""

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setattr(reconcile, "open_store", lambda endpoint, region, profile: region)
    monkeypatch.setattr("jobs.reconcile.reconcile.reconcile", compare)
    monkeypatch.setattr(Ledger, "check_bucket", is_there)
    monkeypatch.setattr("jobs.inventory.find.find_inventory", find)
    places = ["--source-inventory", "s3://a/m.json", "--destination-inventory", "s3://b/m.json"]
    regions = ["--source-region", "us-east-1", "--destination-region", "eu-west-1"]
    result = CliRunner().invoke(reconcile.reconcile, [*places, *regions, "--ledger", "s3://ledger/"])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "compared in ('us-east-1', 'eu-west-1')"
    assert read == [("us-east-1", "s3://a/m.json"), ("eu-west-1", "s3://b/m.json")]
