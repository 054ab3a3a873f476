"""Where an expire run finds originals and copies: its operator says so, and nothing in the ledger does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.model import ObjectVersion
from jobs.core.run import Plan, RunSpec, run_digest
from jobs.tables.rows import version_batch, write_parquet
from tests.doubles.batch.account import make_client, register
from tests.doubles.servers import REGION
from tests.end_to_end import forged_ledger
from tests.end_to_end.batch_workers import Fleet
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_expire import DELETE, NOW, compact, expire, fill, keys, places, reasons, replicate

ALL = ("--grace", "0s", "--max-share", "100%", "--json")


def manifest(world: World, names: list[str]) -> str:
    """A manifest of these keys of the source."""
    rows = "".join(f"{world.source},{name}\n" for name in names)
    world.client.put_object(Bucket=world.ledger, Key="rows.csv", Body=rows.encode())
    return f"s3://{world.ledger}/rows.csv"


def proposed(result: Result) -> list[str]:
    """The command that an error proposes."""
    return result.stderr[result.stderr.rindex("sealift expire") :].split()[1:]


def test_a_forged_run_does_not_decide_where_the_copies_are(world: World) -> None:
    names = fill(world, 3)
    run_id = replicate(world)
    alias = world.server.endpoint.replace("127.0.0.1", "localhost")

    def elsewhere(spec: dict[str, Any]) -> None:
        spec["source"]["endpoint"] = spec["destination"]["endpoint"] = alias
        spec["destination"]["uri"] = f"s3://{world.ledger}/forged/"

    forged_ledger.copy_run(world, run_id, "29990101T000000Z-replicate-ffffff", elsewhere)
    for name in names:  # where the forged run says that copies are
        world.client.put_object(Bucket=world.ledger, Key=f"forged/{name}", Body=world.copy_of(name))
        world.client.delete_object(Bucket=world.destination, Key=name)
    rows = manifest(world, names)
    refused = world.sealift("expire", "--manifest", rows, *DELETE, "--json")
    assert (refused.code, keys(world)) == (2, names), refused.stderr
    assert f"--copies s3://{world.ledger}/forged/" in refused.stderr
    assert f"--copies-endpoint {alias}" in refused.stderr
    dry = world.sealift("expire", "--manifest", rows, *NOW)
    assert "only the ledger says" in dry.stderr
    assert f"copies in    s3://{world.ledger}/forged/, reached by endpoint {alias}" in dry.stderr
    assert "--yes-delete" in proposed(dry)
    report = world.sealift("expire", "--manifest", rows, *places(world), *DELETE, "--json")
    assert report.document["outcomes"] == {"kept": 3}, report.stderr
    assert "nothing is at" in reasons(report.document)
    assert keys(world) == names


def test_the_command_that_a_refusal_proposes_is_complete(world: World) -> None:
    names = fill(world, 3)
    run_id = replicate(world)
    refused = world.sealift("expire", "--run", run_id, *DELETE)
    assert (refused.code, keys(world)) == (2, names)
    command = proposed(refused)
    assert command.count("--yes-delete") == 1
    done = world.sealift(*command)
    assert (done.code, keys(world)) == (0, []), done.stderr
    assert f"originals in s3://{world.source}/, reached as boto3 finds it" in done.stderr
    assert f"copies in    s3://{world.destination}/, reached as boto3 finds it" in done.stderr
    assert "share     3 of 3 current objects, 3 of 3 versions" in done.stderr


def test_rows_and_copies_elsewhere_than_the_operator_says_are_left_out(world: World) -> None:
    for name in ("docs/a", "docs/b", "logs/c"):
        world.put(name)
    run_id = replicate(world)
    narrow = ["--source", f"s3://{world.source}/docs/", "--copies", f"s3://{world.destination}/docs/a"]
    done = world.sealift("expire", "--run", run_id, *narrow, *DELETE, "--json")
    assert done.document["outcomes"] == {"expired": 1}, done.stderr
    assert keys(world) == ["docs/b", "logs/c"]
    plan = world.sealift("runs", "show", done.document["run_id"], "--json").document
    assert plan["plan"]["excluded"] == {"source": 1, "copies": 1}
    assert plan["spec"]["options"]["copies"] == [f"s3://{world.destination}/docs/a"]
    nothing = world.sealift("expire", "--run", run_id, *places(world)[:2], "--copies", f"s3://{world.ledger}", *DELETE)
    assert (nothing.code, "nothing to expire" in nothing.stderr) == (10, True)
    other = world.sealift("expire", "--run", run_id, "--source", f"s3://{world.ledger}", *places(world)[2:], *DELETE)
    assert (other.code, "name one bucket" in other.stderr) == (2, True)
    assert keys(world) == ["docs/b", "logs/c"]


def test_places_whose_copies_are_removed_later_are_refused(world: World, tmp_path: Path) -> None:
    names = fill(world, 2)
    run_id = replicate(world)
    given = ["expire", "--run", run_id, *places(world), *DELETE]
    file = write_policy(world, tmp_path, docs={"deletes": "mirror"}, keeps_versions=False)
    named = world.sealift(*given, "--policy", file)
    world.client.put_object(Bucket=world.ledger, Key="runs/policy.yaml", Body=Path(file).read_bytes())
    found = world.sealift(*given)
    world.client.delete_object(Bucket=world.ledger, Key="runs/policy.yaml")
    assert [(each.code, "has deletes: mirror" in each.stderr) for each in (named, found)] == [(2, True)] * 2
    rule = {"ID": "clean", "Status": "Enabled", "Filter": {"Prefix": "docs/"}, "Expiration": {"Days": 1}}
    configuration: Any = {"Rules": [rule]}
    world.client.put_bucket_lifecycle_configuration(Bucket=world.destination, LifecycleConfiguration=configuration)
    removing = world.sealift(*given)
    assert (removing.code, "'clean'" in removing.stderr, keys(world)) == (10, True, names), removing.stderr
    world.client.delete_bucket_lifecycle(Bucket=world.destination)
    assert (world.sealift(*given).code, keys(world)) == (0, [])


def test_the_policy_names_the_places_of_a_pair(world: World, tmp_path: Path) -> None:
    fill(world, 2)
    world.put("drafts/kept")
    run_id = compact(world, "--include", "docs/*")
    rule = {"name": "all", "older_than": "30d"}
    archive = {"bucket": world.destination, "region": REGION, "prefix": "packed/", "rules": [rule]}
    file = write_policy(world, tmp_path, docs={"archive": archive})
    given = ["expire", "--run", run_id, "--pair", "docs", "--policy", file, "--json"]
    refused = world.sealift(*given)
    assert (refused.code, "lets nothing of it expire" in refused.stderr) == (2, True)
    file = write_policy(world, tmp_path, docs={"archive": archive | {"expire": {"grace": "30d", "max_share": "90%"}}})
    doubled = world.sealift(*given, "--grace", "0s")
    assert (doubled.code, "--grace: with --pair the policy says it" in doubled.stderr) == (2, True)
    report = world.sealift(*given).document
    assert report["outcomes"] == {"waiting": 2}
    assert "less than 30 days" in reasons(report)
    reached = {name: report["expiry"]["source"][name] for name in ("endpoint", "region", "profile")}
    assert (reached, report["expiry"]["claimed"]) == ({"endpoint": None, "region": REGION, "profile": None}, False)
    assert report["expiry"]["current"] == {"eligible": 0, "listed": 3}
    assert report["expiry"]["copies"] == [f"s3://{world.destination}/packed/"]


def forged_expiry(world: World, new_id: str) -> list[str]:
    """A run that says it deletes all originals, and has not ended. The originals."""
    originals = fill(world, 3)
    dry = expire(world, replicate(world), *NOW)
    assert dry["outcomes"] == {"skipped": 3}
    forged_ledger.copy_run(world, dry["run_id"], new_id, lambda spec: spec["options"].update(delete=True))
    for name in forged_ledger.names(world, f"runs/{new_id}/"):
        if "/outcomes/" in name or name.endswith("report.json"):
            world.client.delete_object(Bucket=world.ledger, Key=f"runs/{name}")
    return originals


@pytest.mark.parametrize("job", ["verify", "expire"])
def test_a_retry_starts_nothing_that_deletes_whatever_the_run_is_called(world: World, job: str) -> None:
    run_id = f"29990101T000000Z-{job}-ffffff"
    names = forged_expiry(world, run_id)
    result = world.sealift("runs", "retry", run_id, "--yes")
    assert result.code in (2, 10), result.stderr
    assert keys(world) == names


def test_a_worker_deletes_only_what_its_launcher_has_pinned(world: World) -> None:
    run_id = "29990101T000000Z-expire-ffffff"
    names = forged_expiry(world, run_id)
    worker = ["worker", run_id, "--shard", "0"]
    bare = world.sealift(*worker)
    assert (bare.code, "starts its workers" in bare.stderr, keys(world)) == (2, True, names)
    documents = [json.loads(forged_ledger.read(world, f"runs/{run_id}/{name}.json")) for name in ("spec", "plan")]
    digest = run_digest(RunSpec.from_dict(documents[0]), Plan.from_dict(documents[1]))
    (shard,) = forged_ledger.names(world, f"runs/{run_id}/shards/")
    honest = forged_ledger.read(world, shard)
    forged_ledger.edit_rows(world, shard, size_bytes=None)
    other_shard = world.sealift(*worker, "--run-sha256", digest)
    assert (other_shard.code, "shard 0 is not the one" in other_shard.stderr, keys(world)) == (10, True, names)
    forged_ledger.write(world, shard, honest)
    changes: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
        ("spec", lambda spec: spec["destination"].update(endpoint="http://127.0.0.1:1")),
        ("plan", lambda plan: plan["shards"][0].update(sha256="")),
    ]
    for name, change in changes:
        document = f"runs/{run_id}/{name}.json"
        before = forged_ledger.read(world, document)
        forged_ledger.edit_json(world, document, change)
        altered = world.sealift(*worker, "--run-sha256", digest)
        assert (altered.code, "was altered" in altered.stderr, keys(world)) == (10, True, names)
        forged_ledger.write(world, document, before)
    done = world.sealift(*worker, "--run-sha256", digest)
    assert (done.code, keys(world)) == (0, []), done.stderr


def test_batch_workers_get_the_digest_with_their_command(yard: Fleet) -> None:
    world = yard.world
    register(make_client(yard.batch), "sealift-expire")
    fill(world, 3)
    run_id = replicate(world)
    result = yard.sealift("expire", "--run", run_id, *places(world), *DELETE, "--json")
    assert result.document["outcomes"] == {"expired": 3}, result.stderr
    command = yard.batch.job(f"{result.document['run_id']}-000-work").request["containerOverrides"]["command"]
    assert len(command[command.index("--run-sha256") + 1]) == 64
    assert keys(world) == []


@pytest.mark.parametrize("folders", ["xy", "xyz"])
def test_copies_that_prove_each_other_keep_each_other(world: World, folders: str) -> None:
    names = [f"{folder}/{n}" for folder in folders for n in range(2)]
    for name in names:
        world.put(name, name[-1].encode())
    for folder, other in zip(folders, folders[1:] + folders[0], strict=True):
        sides = ["--source", f"s3://{world.source}/{folder}/", "--destination", f"s3://{world.source}/{other}/"]
        assert world.sealift("verify", *sides, "--json").document["outcomes"] == {"verified": 2}
    wide = ["--source", f"s3://{world.source}", "--copies", f"s3://{world.source}"]
    result = world.sealift("expire", "--manifest", manifest(world, names), *wide, *ALL, "--yes-delete")
    assert result.document["outcomes"] == {"kept": len(names)}, result.stderr
    assert "its copy lies where this run deletes" in reasons(result.document)
    assert keys(world) == names
    narrow = ["--source", f"s3://{world.source}/x/", "--copies", f"s3://{world.source}/y/"]
    result = world.sealift("expire", "--manifest", manifest(world, names), *narrow, *ALL, "--yes-delete")
    assert result.document["outcomes"] == {"expired": 2}, result.stderr
    assert keys(world) == names[2:]


def test_a_copy_outside_counts_although_another_one_lies_where_the_run_deletes(world: World) -> None:
    world.put("x/0", b"same")
    world.put("y/0", b"same")
    inside = ["--source", f"s3://{world.source}/x/", "--destination", f"s3://{world.source}/y/"]
    replicate(world)
    assert world.sealift("verify", *inside, "--json").document["outcomes"] == {"verified": 1}
    wide = [*places(world), "--copies", f"s3://{world.source}/y/"]
    result = world.sealift("expire", "--manifest", manifest(world, ["x/0", "y/0"]), *wide, *ALL, "--yes-delete")
    assert result.document["outcomes"] == {"expired": 2}, result.stderr
    assert keys(world, world.destination) == ["x/0", "y/0"]


def test_many_old_versions_do_not_hide_that_every_current_object_goes(versioned: World) -> None:
    world = versioned
    names = fill(world, 2)
    for _ in range(3):
        for name in names:
            world.put(name, b"the same")
    run_id = replicate(world)
    refused = world.sealift("expire", "--run", run_id, *places(world), "--grace", "0s", "--yes-delete")
    assert (refused.code, "2 of the 2 current objects" in refused.stderr) == (2, True), refused.stderr
    assert keys(world) == names
    dry = expire(world, run_id, "--grace", "0s")
    assert dry["expiry"]["current"] == {"eligible": 2, "listed": 2}
    assert dry["expiry"]["versions"] == {"eligible": 2, "listed": 8}


def test_a_share_goes_by_the_times_that_s3_lists(world: World) -> None:
    names = fill(world, 2)
    replicate(world)
    future = [ObjectVersion(0, name, last_modified=4e9) for name in names]
    data = write_parquet(version_batch(future).append_column("bucket", pa.array([world.source] * 2)))
    world.client.put_object(Bucket=world.ledger, Key="rows.parquet", Body=data)
    given = ["--manifest", f"s3://{world.ledger}/rows.parquet", *places(world), "--grace", "0s", "--yes-delete"]
    refused = world.sealift("expire", *given)
    assert (refused.code, "2 of the 2 current objects" in refused.stderr) == (2, True), refused.stderr
    assert keys(world) == names


RUN_TAKERS = [
    ["expire", "--run"],
    ["expire", "--undo"],
    ["expire", "--manifest"],
    ["replicate", "--destination", "s3://there", "--manifest"],
    ["verify", "--destination", "s3://there", "--manifest"],
    ["verify", "--destination", "s3://there", "--manifest=proven:"],
    ["compact", "--archives", "s3://there", "--manifest=run:"],
    ["restore", "--destination", "s3://there", "--prefix"],
    ["restore", "--destination", "s3://there", "--key"],
    ["reconcile", "--source", "s3://here", "--destination", "s3://there", "--source-inventory"],
    ["reconcile", "--source", "s3://here", "--destination", "s3://there", "--version-map"],
    ["archives", "list", "s3://there/a", "--prefix"],
    ["replicate", "--pair", "docs", "--prefix"],
    ["query", "FROM runs", "--run"],
    ["runs", "show"],
    ["runs", "cancel"],
    ["runs", "retry"],
    ["worker", "--shard", "0"],
]


@pytest.mark.parametrize("command", RUN_TAKERS, ids=" ".join)
def test_an_empty_run_prefix_or_manifest_is_a_usage_error_everywhere(world: World, command: list[str]) -> None:
    result = world.sealift(*command, *([] if command[-1].endswith(":") else [""]))
    assert (result.code, "empty" in result.stderr) == (2, True), result.stderr


def test_a_run_id_cannot_leave_the_folder_of_runs(world: World) -> None:
    result = world.sealift("runs", "show", "../archives")
    assert (result.code, "is not the id of a run" in result.stderr) == (2, True)


FORMULAS = ("+1", "-2", "=HYPERLINK(A1)", "@sum")


def test_what_is_deleted_is_listed_without_formulas_and_control_characters(world: World) -> None:
    names = [*FORMULAS, "bell\x07\x1b[2J", "plain"]
    for name in names:
        world.put(name, b"content")
    report = expire(world, replicate(world), *NOW)
    bucket, _, key = report["deletions"]["csv"][5:].partition("/")
    text = world.client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert all(character.isprintable() or character in "\r\n" for character in text)
    assert [line["key"] for line in lines if line["key"][:1] in "=+-@\t\r"] == []
    shown = [line["key"] for line in lines]
    assert sorted(shown) == sorted([*(f"'{name}" for name in FORMULAS), "bell\\u0007\\u001b[2J", "plain"])
    assert {line["escaped"] for line in lines if line["key"] != "plain"} == {"true"}
    bucket, _, key = report["deletions"]["parquet"][5:].partition("/")
    rows = pq.read_table(io.BytesIO(world.client.get_object(Bucket=bucket, Key=key)["Body"].read())).to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(names)


def test_answers_in_csv_and_json_are_harmless_too(world: World) -> None:
    sql = "SELECT '=1+1' AS a, chr(27) || '[2J' || chr(155) || chr(8238) AS b, ['-2'] AS c, -2 AS n, NULL AS x"
    lines = list(csv.DictReader(io.StringIO(world.sealift("query", sql, "--format", "csv").stdout)))
    assert lines == [{"a": "'=1+1", "b": "\\u001b[2J\\u009b\\u202e", "c": "[-2]", "n": "-2", "x": ""}]
    answer = world.sealift("query", sql, "--format", "json")
    assert all(character.isprintable() or character == "\n" for character in answer.stdout)
    document: Any = answer.document
    assert document == [{"a": "=1+1", "b": "\x1b[2J\x9b\u202e", "c": ["-2"], "n": -2, "x": None}]


def test_originals_that_prove_each_other_under_another_spelling_both_stay(world: World) -> None:
    """SeaweedFS takes `/x/k` for `x/k`: so both lie where the run deletes."""
    names = ["x/a/k", "x/b/k"]
    for name in names:
        world.put(name)
    for one, other in (("a", "b"), ("b", "a")):
        sides = ["--source", f"s3://{world.source}/x/{one}/", "--destination", f"s3://{world.source}//x/{other}/"]
        world.run("verify", *sides)
    given = ["--source", f"s3://{world.source}/x/", "--copies", f"s3://{world.source}//x/"]
    done = world.sealift("expire", "--manifest", manifest(world, names), *given, *DELETE, "--json")
    assert done.document["outcomes"] == {"kept": 2}, done.stderr
    assert keys(world) == names
