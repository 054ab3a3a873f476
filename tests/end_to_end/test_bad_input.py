"""Bad input: one line that names the thing and what to do, the documented exit code, nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import write_policy


def refused(result: Result, code: int, *words: str) -> None:
    """One line on stderr with these words, the exit code, nothing on stdout, no traceback."""
    assert result.code == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("sealift: "), result.stderr
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""


@pytest.fixture
def replicate(world: World) -> Callable[..., Result]:
    """`sealift replicate` with a source, a destination and what a test changes."""
    world.put("a")

    def run(*arguments: str, **extra: str) -> Result:
        given = list(arguments)
        if "--destination" not in given:
            given += ["--destination", f"s3://{world.destination}"]
        if "--source" not in given and "--manifest" not in given:
            given += ["--source", f"s3://{world.source}"]
        return world.sealift("replicate", *given, **extra)

    return run


def empty_ledger(world: World) -> bool:
    return "Contents" not in world.client.list_objects_v2(Bucket=world.ledger, Prefix="runs/")


@pytest.mark.parametrize("uri", ["bucket/prefix", "http://x/y", "s3://", "s3://Bad_Bucket!/x", "s3://a/x"])
def test_a_malformed_uri(replicate: Callable[..., Result], uri: str) -> None:
    refused(replicate("--source", uri), 2, uri, "s3://bucket/prefix")


def test_an_error_is_one_document_with_json(replicate: Callable[..., Result], world: World) -> None:
    missing = replicate("--source", "s3://no-such-bucket-here", "--json")
    assert missing.document["error"] == {
        "code": "ConfigError",
        "message": missing.stderr.removeprefix("sealift: ").rstrip("\n"),
        "advice": "check its name and region, in --source or the policy",
        "exit_code": 10,
    }
    unknown = world.sealift("runs", "lits", "--json")
    assert (unknown.code, unknown.document["error"]["exit_code"]) == (2, 2)
    assert world.sealift("runs", "show", "--json").document["error"]["code"] == "UsageError"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("replcate", "replicate"), ("runs lits", "list"), ("policy chek", "check"), ("verfy", "verify")],
)
def test_a_verb_that_is_almost_right(world: World, typed: str, meant: str) -> None:
    refused(world.sealift(*typed.split()), 2, f"did you mean {meant}?", "--help")


def test_nothing_to_work_on(world: World) -> None:
    refused(world.sealift("verify", "--destination", f"s3://{world.destination}"), 2, "--source", "--manifest")


def test_no_ledger(replicate: Callable[..., Result]) -> None:
    refused(replicate(SEALIFT_LEDGER=""), 2, "--ledger", "SEALIFT_LEDGER")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_missing_bucket(replicate: Callable[..., Result], world: World, side: str) -> None:
    refused(replicate(f"--{side}", "s3://no-such-bucket-here"), 10, "no-such-bucket-here", side)
    assert empty_ledger(world)


def test_wrong_credentials(replicate: Callable[..., Result]) -> None:
    refused(replicate(AWS_SECRET_ACCESS_KEY="wrong"), 10, "SignatureDoesNotMatch")


def test_no_credentials(replicate: Callable[..., Result], tmp_path: Path) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    nothing |= {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    refused(replicate(**nothing), 10, "credentials")


def test_an_unknown_profile(replicate: Callable[..., Result]) -> None:
    refused(replicate("--source-profile", "nobody"), 10, "nobody")


def test_source_and_destination_the_same(replicate: Callable[..., Result], world: World) -> None:
    refused(replicate("--destination", f"s3://{world.source}"), 2, "two places")


@pytest.mark.parametrize(
    ("source", "destination", "ledger"),
    [
        ("{source}", "{source}/copies/", "{ledger}"),
        ("{source}/docs/2026/", "{source}/docs/", "{ledger}"),
        ("{source}/docs", "{source}/docs-copies/", "{ledger}"),
        ("{source}", "{destination}", "{source}/runs"),
        ("{source}", "{destination}", "{destination}/copies"),
        ("{source}", "{destination}/runs/copies/", "{destination}/runs"),
    ],
)
@pytest.mark.parametrize("manifest", ["", "s3://{ledger}/no-such-manifest.csv"])
@pytest.mark.parametrize("verb", ["replicate", "verify", "compact"])
def test_places_that_overlap(
    world: World, verb: str, manifest: str, source: str, destination: str, ledger: str
) -> None:
    """They are refused before a listing or a manifest is read."""
    world.put("docs/2026/a")
    names = {"source": world.source, "destination": world.destination, "ledger": world.ledger}
    places = [f"s3://{each.format(**names)}" for each in (source, destination, ledger)]
    to = "--archives" if verb == "compact" else "--destination"
    given = ["--source", places[0], to, places[1], "--ledger", places[2]]
    given += ["--manifest", manifest.format(**names)] if manifest else []
    refused(world.sealift(verb, *given), 2, "overlap", "places")
    untouched(world, "docs/2026/a")


def untouched(world: World, key: str) -> None:
    """The source has this key, and nothing was written anywhere."""
    assert [each["Key"] for each in world.client.list_objects_v2(Bucket=world.source)["Contents"]] == [key]
    for bucket in (world.destination, world.ledger):
        assert "Contents" not in world.client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("repair", [[], ["--repair", "--yes"]])
@pytest.mark.parametrize(
    ("maps", "ledger"),
    [
        ([], "{source}/runs"),
        ([], "{destination}/runs"),
        (["--map", "docs/=runs/docs/"], "{destination}/runs"),
        (["--map", "docs/=copies/", "--map", "runs/=logs/"], "{source}/runs"),
    ],
)
def test_a_ledger_inside_what_is_compared(world: World, maps: list[str], ledger: str, repair: list[str]) -> None:
    world.put("docs/2026/a")
    place = ledger.format(source=world.source, destination=world.destination)
    given = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", *maps, *repair]
    refused(world.sealift("reconcile", *given, "--ledger", f"s3://{place}"), 2, "the ledger", "overlap", "places")
    untouched(world, "docs/2026/a")


@pytest.mark.parametrize("repair", [[], ["--repair", "--yes"]])
def test_inventories_of_what_holds_the_ledger(world: World, repair: list[str]) -> None:
    """Only the reports say which buckets they are of: nothing is compared or published."""
    world.put("docs/a")
    reports = []
    for bucket in (world.source, world.destination):
        listed = world.sealift("inventory", f"s3://{bucket}", "--to", f"s3://{world.ledger}/reports", "--json")
        reports.append(listed.document["manifest"])
    given = ["--source-inventory", reports[0], "--destination-inventory", reports[1], *repair]
    result = world.sealift("reconcile", *given, "--ledger", f"s3://{world.destination}/runs")
    refused(result, 2, "the destination", "the ledger", "overlap", "places of their own")
    assert "Contents" not in world.client.list_objects_v2(Bucket=world.destination)


@pytest.mark.parametrize("verb", ["nightly", "backfill"])
@pytest.mark.parametrize("ledger", ["{source}/runs", "{destination}/copies/runs"])
def test_another_ledger_than_the_policys_inside_the_pair(world: World, tmp_path: Path, verb: str, ledger: str) -> None:
    world.put("docs/a")
    place = f"s3://{ledger.format(source=world.source, destination=world.destination)}"
    policy = write_policy(world, tmp_path)
    refused(world.sealift(verb, "--pair", "docs", "--policy", policy, "--ledger", place), 2, "the ledger", "overlap")
    untouched(world, "docs/a")


def test_a_restore_into_the_ledger(world: World) -> None:
    world.put("docs/a")
    given = ["--archives", f"s3://{world.destination}", "--key", "docs/a", "--ledger", f"s3://{world.ledger}/runs"]
    back = ["--destination", f"s3://{world.ledger}/runs/back/"]
    refused(world.sealift("restore", *given, *back), 2, "the ledger", "overlap")
    untouched(world, "docs/a")


def test_places_beside_each_other(replicate: Callable[..., Result], world: World) -> None:
    world.put("docs/a")
    beside = ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.source}/docs-copies/"]
    assert replicate(*beside, "--ledger", f"s3://{world.source}/ledger").code == 0


def test_all_versions_into_a_bucket_that_keeps_none(replicate: Callable[..., Result], world: World) -> None:
    refused(replicate("--versions", "all"), 10, world.destination, "versions")


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--min-size", "5 bananas", "size"),
        ("--newer-than", "yesterdayish", "30d"),
        ("--storage-class", "STANDARD-IA", "Did you mean STANDARD_IA?"),
        ("--storage-class", "", "--storage-class"),
        ("--kms-key-id", "arn:aws:kms:eu-central-1:1:key/k", "--sse aws:kms"),
        ("--max-objects", "0", "--max-objects"),
        ("--max-cost", "0", "--max-cost"),
        ("--source-profile", "", "--source-profile is empty"),
        ("--include", "", "--include is empty"),
        ("--ledger", "", "--ledger is empty"),
    ],
)
def test_a_value_that_is_none(replicate: Callable[..., Result], option: str, value: str, word: str) -> None:
    refused(replicate(option, value), 2, word)


@pytest.mark.parametrize("fraction", ["1/0", "2/3", "half"])
def test_a_fraction_that_is_none(world: World, fraction: str) -> None:
    arguments = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    refused(world.sealift("verify", *arguments, "--sample", fraction), 2, "1/30")


def test_a_setting_that_is_no_number(replicate: Callable[..., Result]) -> None:
    refused(replicate(SEALIFT_IN_FLIGHT="many"), 10, "SEALIFT_IN_FLIGHT")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["has no rows"]),
        ("{source}\n", ["1"]),
        ("{source},a\n{source},b,v,x,y\n", ["2"]),
        ("{source},a\nother-bucket,b\n", ["other-bucket"]),
        ("other-bucket,b\n", ["other-bucket"]),
    ],
)
def test_a_broken_csv(replicate: Callable[..., Result], world: World, content: str, words: list[str]) -> None:
    world.client.put_object(Bucket=world.ledger, Key="in/rows.csv", Body=content.format(source=world.source).encode())
    uri = f"s3://{world.ledger}/in/rows.csv"
    refused(replicate("--manifest", uri, "--source", f"s3://{world.source}"), 10, "rows.csv", *words)
    assert empty_ledger(world)


def test_a_manifest_that_is_not_there(replicate: Callable[..., Result], world: World) -> None:
    refused(replicate("--manifest", f"s3://{world.ledger}/none.csv"), 10, "none.csv")
    refused(replicate("--manifest", f"s3://{world.ledger}/manifest.json"), 10, "manifest.json")


def test_a_manifest_of_unknown_kind(replicate: Callable[..., Result], world: World) -> None:
    refused(replicate("--manifest", f"s3://{world.ledger}/rows.xlsx"), 2, "rows.xlsx", ".csv")


@pytest.mark.parametrize("how", ["tampered", "truncated", "removed", "manifest altered"])
def test_an_inventory_that_cannot_be_trusted(replicate: Callable[..., Result], world: World, how: str) -> None:
    uri = world.sealift("inventory", f"s3://{world.source}", "--to", f"s3://{world.ledger}/inv", "--json").document[
        "manifest"
    ]
    key = uri.split("/", 3)[3]
    manifest = world.client.get_object(Bucket=world.ledger, Key=key)["Body"].read()
    [file] = json.loads(manifest)["files"]
    data = world.client.get_object(Bucket=world.ledger, Key=file["key"])["Body"].read()
    if how == "tampered":
        world.client.put_object(Bucket=world.ledger, Key=file["key"], Body=data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "truncated":
        world.client.put_object(Bucket=world.ledger, Key=file["key"], Body=data[:-10])
    elif how == "removed":
        world.client.delete_object(Bucket=world.ledger, Key=file["key"])
    else:
        world.client.put_object(Bucket=world.ledger, Key=key, Body=manifest + b" ")
    refused(replicate("--manifest", uri), 10, key if how == "manifest altered" else file["key"])
    assert empty_ledger(world)


def test_a_run_that_is_not_there(world: World) -> None:
    for command in ("show", "retry"):
        refused(world.sealift("runs", command, "20260101T000000Z-verify-000000"), 10, "no run", "runs list")
    refused(world.sealift("worker", "20260101T000000Z-verify-000000", "--shard", "0"), 10, "no run")


def test_a_shard_that_is_not_in_the_plan(world: World) -> None:
    world.put("a")
    report = world.run("replicate")
    refused(world.sealift("worker", report["run_id"], "--shard", "7"), 2, "1 shards", "7")


def test_a_ledger_that_was_altered(world: World) -> None:
    world.put("a")
    report = world.run("replicate")
    world.client.put_object(Bucket=world.ledger, Key=f"runs/runs/{report['run_id']}/plan.json", Body=b"{")
    refused(world.sealift("runs", "show", report["run_id"]), 10, "plan.json")


def test_a_server_that_is_not_there(replicate: Callable[..., Result]) -> None:
    refused(replicate(AWS_ENDPOINT_URL_S3="http://127.0.0.1:9"), 75)


def test_the_batch_executor_needs_a_queue_and_a_job_definition(replicate: Callable[..., Result]) -> None:
    refused(replicate("--executor", "batch"), 2, "--queue", "SEALIFT_BATCH_QUEUE")
    refused(replicate("--executor", "batch", "--queue", "spot"), 2, "SEALIFT_BATCH_JOB_DEFINITION")
    refused(replicate(SEALIFT_EXECUTOR="magic"), 2, "magic", "local or batch")


def test_a_ledger_without_a_bucket_is_said_first_and_with_what_to_do(world: World) -> None:
    nowhere = ["--ledger", "s3://no-such-ledger-here/x"]
    places = ["--source", "s3://no-such-source-here", "--destination", f"s3://{world.destination}"]
    for command in (["runs", "list"], ["status"], ["replicate", *places], ["reconcile", *places]):
        result = world.sealift(*command, *nowhere)
        refused(result, 10, "the ledger's bucket no-such-ledger-here does not exist: create it, or name another one")


def test_a_missing_bucket_of_archives_is_named_by_its_option(world: World) -> None:
    places = ["--source", f"s3://{world.source}", "--archives", "s3://no-such-archives-here/x"]
    result = world.sealift("compact", *places, "--dry-run")
    refused(result, 10, "the archives bucket no-such-archives-here does not exist", "in --archives or the policy")


def test_what_is_no_number_or_in_the_future_is_said_plainly(world: World) -> None:
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    refused(world.sealift("verify", *places, "--max-cost", "abc"), 2, "'abc' is not a number")
    refused(world.sealift("runs", "list", "--limit", "x"), 2, "'x' is not a whole number")
    refused(world.sealift("restore", *places, "--as-of", "2999-01-01"), 2, "--as-of is in the future")


def test_an_empty_catalog_says_how_it_is_made(world: World) -> None:
    asked = world.sealift("query", "SELECT count(*) AS n FROM catalog", "--format", "json")
    assert (asked.code, "sealift catalog rebuild" in asked.stderr) == (0, True)
    assert "rebuild" not in world.sealift("query", "SELECT 'catalog' AS n", "--format", "json").stderr
