"""Mistakes at the command line: the exit code, one line that names the thing, nothing on stdout, nothing written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest

from jobs.cli import cli
from tests.end_to_end.commands import call
from tests.end_to_end.conftest import Result, World

SIDES = "--source s3://aaa --destination s3://bbb"
NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION": "us-east-1",
    "SEALIFT_LEDGER": "s3://ledger/runs",
    "SEALIFT_TUNING": "patience_seconds=0.1",
}


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.stderr
    assert result.has_no_answer
    [line] = result.stderr.splitlines()
    assert line.startswith("sealift: ")
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("replcate", 2, "did you mean replicate?"),
        ("runs lits", 2, "did you mean list?"),
        ("runs retry", 2, "latest"),
        ("nightly", 2, "--pair"),
        ("inventory s3://aaa", 2, "--destination"),
        ("replicate s3://aaa s3://bbb", 2, "--source"),
        ("query --json", 2, "--format json"),
        ("query SELEC", 2, "SELEC"),
        ("verify --destination s3://aaa", 2, "--source"),
        ("verify --source s3://aaa", 2, "destination"),
        (f"verify {SIDES} --sample 4/3", 2, "1/30"),
        ("verify --archives s3://aaa --deep", 2, "--deep"),
        ("replicate --source bucket/prefix --destination s3://bbb", 2, "s3://bucket/prefix"),
        ("replicate --source s3://Bad_Bucket!/x --destination s3://bbb", 2, "Bad_Bucket"),
        (f"replicate {SIDES} --ledger", 2, "--ledger"),
        (f"compact {SIDES} --max-size bananas", 2, "size"),
        (f"replicate {SIDES} --newer-than yesterdayish", 2, "30d"),
        (f"replicate {SIDES} --storage-class STANDARD-IA", 2, "STANDARD_IA"),
        (f"replicate {SIDES} --max-cost 0", 2, "--max-cost"),
        (f"replicate {SIDES} --max-rate 0", 2, "--max-rate"),
        (f"replicate {SIDES}", 75, "s3://ledger"),
        (f"reconcile {SIDES} --margin soon", 2, "age"),
        (f"reconcile {SIDES} --repair-different", 2, "--repair"),
        (f"reconcile {SIDES} --repair", 2, "add --yes"),
        ("compact --source s3://aaa", 2, "--destination"),
        ("restore --destination s3://aaa --key k", 2, "nothing to restore from"),
        ("restore --destination s3://aaa --archives s3://bbb", 2, "restore what?"),
        ("restore --destination s3://aaa --source s3://bbb --as-of 2999-01-01", 2, "future"),
        ("runs list --limit 0", 2, "--limit"),
        ("policy check", 2, "SEALIFT_POLICY"),
        ("expire", 2, "--destination"),
        ("expire --source s3://aaa --destination s3://bbb --max-share half", 2, "percentage"),
        ("expire --source s3://aaa --destination s3://bbb --replace", 2, "--declare"),
        ("expire --source s3://aaa --destination s3://bbb --declare --yes-delete", 2, "commands of their own"),
        ("expire --source s3://aaa --destination s3://bbb --manifest run:latest", 2, "no run's word"),
        ("runs show ../archives", 2, "not the id of a run"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(line: str, code: int, word: str) -> None:
    refused(Result(*call(line.split(), NOWHERE)), code, word)


@pytest.mark.parametrize(
    "line", ["runs retry", "expire --undo", "query SELECT --run", "replicate --manifest", "worker"]
)
def test_an_empty_run_or_manifest_is_a_mistake(line: str) -> None:
    refused(Result(*call([*line.split(), ""], NOWHERE)), 2, "empty")


def test_places_and_settings_that_cannot_be_are_refused_before_anything_is_planned(world: World) -> None:
    world.put("docs/a")
    source, destination, ledger = f"s3://{world.source}", f"s3://{world.destination}", f"s3://{world.ledger}/runs"
    sides = f"--source {source} --destination {destination}"
    for line, word in (
        (f"replicate --source {source} --destination {source}", "two places"),
        (f"verify --source {source} --destination {source} --destination-endpoint LOCALHOST", "two places"),
        (f"replicate --source {source}/docs --destination {source}/docs-copies/", "overlap"),
        (f"replicate {sides} --ledger {source}/runs", "overlap"),
        (f"replicate --source {source} --destination {ledger}/copies", "overlap"),
        (f"compact --source {source} --destination {source}/packed", "overlap"),
        (f"restore --archives {destination} --key docs/a --destination {ledger}/back", "overlap"),
        (f"reconcile {sides} --ledger {destination}/runs", "overlap"),
        (f"reconcile {sides} --map docs/=runs/docs/ --ledger {destination}/runs --repair --yes", "overlap"),
        ("reconcile", "nothing to compare"),
        (f"replicate {sides} --manifest {ledger}/rows.xlsx", ".csv"),
        (f"replicate {sides} --executor batch", "SEALIFT_BATCH_QUEUE"),
    ):
        localhost = world.server.endpoint.replace("127.0.0.1", "LOCALHOST")
        refused(world.sealift(*line.replace("LOCALHOST", localhost).split()), 2, word)
    refused(world.sealift("replicate", *sides.split(), in_flight="many"), 10, "in_flight")
    refused(world.sealift("runs", "list", SEALIFT_LEDGER=""), 2, "--ledger", "SEALIFT_LEDGER")
    assert [each["Key"] for each in world.client.list_objects_v2(Bucket=world.source)["Contents"]] == ["docs/a"]
    for bucket in (world.destination, world.ledger):
        assert "Contents" not in world.client.list_objects_v2(Bucket=bucket)


def verbs(command: click.Command = cli, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Each command that takes --json."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from verbs(inner, (*names, name))
    elif any("--json" in parameter.opts for parameter in command.get_params(click.Context(command))):
        yield " ".join(names)


@pytest.mark.parametrize("verb", list(verbs()))
def test_an_error_of_any_verb_is_one_document(verb: str) -> None:
    code, stdout, _ = call([*verb.split(), "--no-such-option", "--json"], NOWHERE)
    error = json.loads(stdout)["error"]
    assert error.keys() == {"code", "message", "advice", "exit_code"}
    assert (code, error["exit_code"], error["code"]) == (2, 2, "UsageError")


def test_what_is_not_on_the_server_is_named(world: World) -> None:
    world.put("a")
    source, destination = f"s3://{world.source}", f"s3://{world.destination}"
    gone, run_id = "s3://no-such-bucket-here", "20260101T000000Z-verify-000000"
    for words, code, said in (
        (["replicate", "--source", gone, "--destination", destination], 10, "--source"),
        (["replicate", "--source", source, "--destination", gone], 10, "--destination"),
        (["reconcile", "--source", gone, "--destination", destination], 10, "no-such-bucket-here"),
        (["inventory", source, "--destination", f"{gone}/i"], 10, "--destination"),
        (["runs", "list", "--ledger", f"{gone}/x"], 10, "the ledger's bucket"),
        (["compact", "--source", source, "--destination", gone], 10, ""),
        (["restore", "--archives", gone, "--key", "a", "--destination", destination], 2, "archives reindex"),
        (["runs", "show", run_id], 10, run_id),
        (["runs", "retry", run_id], 10, run_id),
        (["worker", run_id, "--shard", "0"], 10, run_id),
        (["query", "SELECT 1", "--run", "nonsense"], 10, "nonsense"),
        (["replicate", "--manifest", f"s3://{world.ledger}/none.csv", "--destination", destination], 10, "none.csv"),
        (["replicate", "--source", source, "--destination", destination, "--versions", "all"], 10, "versions"),
        (["replicate", "--source", source, "--destination", destination, "--source-profile", "nobody"], 10, "nobody"),
    ):
        refused(world.sealift(*words), code, said)
    refused(world.sealift("runs", "list", AWS_SECRET_ACCESS_KEY="wrong"), 10, "SignatureDoesNotMatch")
    for bucket in (world.destination, world.ledger):
        assert "Contents" not in world.client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    "content", ["", "{source}\n", "{source},a\n{source},b,v,x,y\n", "{source},a\nother-bucket,b\n"]
)
def test_a_broken_csv_is_named(world: World, content: str) -> None:
    world.client.put_object(Bucket=world.ledger, Key="in/rows.csv", Body=content.format(source=world.source).encode())
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    refused(world.sealift("replicate", *sides, "--manifest", f"s3://{world.ledger}/in/rows.csv"), 10, "rows.csv")


@pytest.mark.parametrize("is_manifest", [False, True])
def test_an_inventory_that_cannot_be_trusted_is_refused(world: World, is_manifest: bool) -> None:
    world.put("a")
    made = world.sealift("inventory", f"s3://{world.source}", "--destination", f"s3://{world.ledger}/inv", "--json")
    uri = made.document["manifest"]
    key = uri.split("/", 3)[3]
    manifest = world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read()
    [file] = json.loads(manifest)["files"]
    named, body = (key, manifest + b" ") if is_manifest else (file["key"], b"x" * file["size"])
    world.client.put_object(Bucket=world.ledger, Key=named, Body=body)
    refused(world.sealift("replicate", "--manifest", uri, "--destination", f"s3://{world.destination}"), 10, named)
