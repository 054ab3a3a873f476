"""Mistakes about places and documents of a server: the exit code, one line that names the thing, nothing written."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.conftest import Result, World


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.stderr
    assert result.has_no_answer
    [line] = result.stderr.splitlines()
    assert line.startswith("sealift: ")
    assert [word for word in words if word not in line] == []


def test_places_and_settings_that_cannot_be_are_refused_before_anything_is_planned(world: World) -> None:
    world.put("docs/a")
    source, destination, ledger = f"s3://{world.source}", f"s3://{world.destination}", f"s3://{world.ledger}/runs"
    sides = f"--source {source} --destination {destination}"
    for line, word in (
        (f"replicate --source {source} --destination {source}", "overlap"),
        (f"replicate {sides} --ledger {source}/runs", "overlap"),
        (f"compact --source {source} --destination {source}/packed", "overlap"),
        (f"restore --archives {destination} --key docs/a --destination {ledger}/back", "overlap"),
        (f"expire --source {source} --destination {destination} --ledger {source}/runs", "overlap"),
        (f"reconcile {sides} --map docs/=runs/docs/ --ledger {destination}/runs --repair --yes", "overlap"),
        ("reconcile", "nothing to compare"),
        (f"replicate {sides} --manifest {ledger}/rows.xlsx", ".csv"),
        (f"replicate {sides} --executor batch", "SEALIFT_BATCH_QUEUE"),
    ):
        refused(world.sealift(*line.split()), 2, word)
    refused(world.sealift("replicate", *sides.split(), in_flight="many"), 10, "in_flight")
    refused(world.sealift("runs", "list", SEALIFT_LEDGER=""), 2, "--ledger", "SEALIFT_LEDGER")
    assert world.keys(world.source) == ["docs/a"]
    for bucket in (world.destination, world.ledger):
        assert world.keys(bucket) == []


def test_what_is_not_on_the_server_is_named(world: World) -> None:
    world.put("a")
    source, destination = f"s3://{world.source}", f"s3://{world.destination}"
    gone, run_id = "s3://no-such-bucket-here", "20260101T000000Z-verify-000000"
    for line, code, said in (
        (f"replicate --source {gone} --destination {destination}", 10, "--source"),
        (f"replicate --source {source} --destination {gone}", 10, "--destination"),
        (f"reconcile --source {gone} --destination {destination}", 10, "no-such-bucket-here"),
        (f"inventory {source} --destination {gone}/i", 10, "no-such-bucket-here"),
        (f"runs list --ledger {gone}/x", 10, "the ledger's bucket"),
        (f"restore --archives {gone} --key a --destination {destination}", 2, "archives reindex"),
        (f"runs show {run_id}", 10, run_id),
        (f"worker {run_id} --shard 0", 10, run_id),
        (f"replicate --manifest s3://{world.ledger}/none.csv --destination {destination}", 10, "none.csv"),
        (f"replicate --source {source} --destination {destination} --versions all", 10, "versions"),
    ):
        refused(world.sealift(*line.split()), code, said)
    refused(world.sealift("runs", "list", AWS_SECRET_ACCESS_KEY="wrong"), 10, "SignatureDoesNotMatch")
    for bucket in (world.destination, world.ledger):
        assert world.keys(bucket) == []


@pytest.mark.parametrize("is_manifest", [False, True])
def test_an_inventory_that_cannot_be_trusted_is_refused(world: World, is_manifest: bool) -> None:
    world.put("a")
    made = world.sealift("inventory", f"s3://{world.source}", "--destination", f"s3://{world.ledger}/inv", "--json")
    uri = made.document["manifest"]
    key = uri.split("/", 3)[3]
    manifest = world.read(world.ledger, key)
    [file] = json.loads(manifest)["files"]
    named, body = (key, manifest + b" ") if is_manifest else (file["key"], b"x" * file["size"])
    world.client.put_object(Bucket=world.ledger, Key=named, Body=body)
    refused(world.sealift("replicate", "--manifest", uri, "--destination", f"s3://{world.destination}"), 10, named)
