"""`sealift replicate` on a real server, through the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.doubles.servers import Server, seaweedfs
from tests.end_to_end.conftest import SMALL_PARTS, World

MIB = 1024 * 1024
ODD = ["a b", "a+b", "100%", "a%20b", "ü", "u\u0308", "日本/送り状", "q?x=1&y#z", "a'b\"c<d>&e", "tab\tkey"]


def test_every_object_is_copied_with_what_it_carries(world: World) -> None:
    world.put(
        "orders/1.json",
        b'{"id": 1}',
        ContentType="application/json",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="1.json"',
        Metadata={"shipment": "S1"},
        Tagging="retention=long&country=NL",
    )
    world.put("orders/empty", b"")
    report = world.run(
        "replicate", "--source", f"s3://{world.source}/orders/", "--destination", f"s3://{world.destination}/copy/"
    )
    assert (report["code"], report["state"], report["outcomes"]) == (0, "complete", {"copied": 2})
    assert report["evidence"] == {"md5_etag": 2}
    assert report["bytes"] == 9
    head = world.client.head_object(Bucket=world.destination, Key="copy/1.json")
    assert (head["ContentType"], head["CacheControl"]) == ("application/json", "max-age=60")
    assert head["ContentDisposition"] == 'attachment; filename="1.json"'
    assert head["Metadata"] == {"shipment": "S1"}
    tags = world.client.get_object_tagging(Bucket=world.destination, Key="copy/1.json")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"retention": "long", "country": "NL"}
    assert world.copy_of("copy/empty") == b""


def test_what_is_there_already_is_proven_and_skipped(world: World) -> None:
    for number in range(20):
        world.put(f"k{number}", str(number).encode())
    assert world.run("replicate")["outcomes"] == {"copied": 20}
    before = world.client.head_object(Bucket=world.destination, Key="k3")["LastModified"]
    again = world.run("replicate")
    assert (again["code"], again["outcomes"], again["evidence"]) == (0, {"same": 20}, {"checksum": 20})
    assert world.client.head_object(Bucket=world.destination, Key="k3")["LastModified"] == before


def test_odd_keys_arrive_as_they_are(world: World) -> None:
    for key in ODD:
        world.put(key, key.encode())
    assert world.run("replicate")["outcomes"] == {"copied": len(ODD)}
    for key in ODD:
        assert world.copy_of(key) == key.encode()


def test_a_large_object_goes_in_parts_with_all_it_carries(world: World) -> None:
    body = bytes(range(256)) * (12 * MIB // 256)
    world.put("big", body, ContentType="image/tiff", Metadata={"scanner": "7"}, Tagging="a=b")
    report = world.run("replicate", **SMALL_PARTS)
    assert report["outcomes"] == {"copied": 1}
    head = world.client.head_object(Bucket=world.destination, Key="big")
    assert head["ETag"].endswith('-3"')
    assert (head["ContentType"], head["Metadata"]) == ("image/tiff", {"scanner": "7"})
    assert world.client.get_object_tagging(Bucket=world.destination, Key="big")["TagSet"] == [
        {"Key": "a", "Value": "b"}
    ]
    assert world.copy_of("big") == body
    assert not world.client.list_multipart_uploads(Bucket=world.destination).get("Uploads")
    assert world.run("replicate")["outcomes"] == {"same": 1}


def test_a_source_that_moved_on_is_changed_not_copied(world: World) -> None:
    world.put("stays", b"1")
    world.put("moves", b"1")
    manifest = world.sealift("inventory", f"s3://{world.source}", "--to", f"s3://{world.ledger}/inv", "--json").document
    world.put("moves", b"22")
    report = world.run("replicate", "--manifest", manifest["manifest"])
    assert (report["code"], report["outcomes"]) == (3, {"changed": 1, "copied": 1})
    [row] = world.failed_rows(report)
    assert (row["key"], row["status"]) == ("moves", "changed")
    assert "Contents" not in world.client.list_objects_v2(Bucket=world.destination, Prefix="moves")


def test_a_source_that_went_away_is_missing(world: World) -> None:
    world.put("a")
    world.put("b")
    manifest = world.sealift("inventory", f"s3://{world.source}", "--to", f"s3://{world.ledger}/inv", "--json").document
    world.client.delete_object(Bucket=world.source, Key="a")
    report = world.run("replicate", "--manifest", manifest["manifest"])
    assert (report["code"], report["outcomes"]) == (3, {"copied": 1, "missing": 1})


def test_nothing_overwrites_a_newer_object(world: World) -> None:
    world.put("k", b"old")
    world.client.put_object(Bucket=world.destination, Key="k", Body=b"newer and other")
    report = world.run("replicate")
    assert (report["code"], report["outcomes"]) == (3, {"changed": 1})
    assert "newer" in report["reasons"][0]["reason"]
    assert world.copy_of("k") == b"newer and other"
    assert world.run("replicate", "--overwrite", "always")["outcomes"] == {"copied": 1}
    assert world.copy_of("k") == b"old"


def test_all_versions_are_replayed_in_order_with_delete_markers(versioned: World) -> None:
    for body in (b"1", b"22", b"333"):
        versioned.put("a", body)
    versioned.client.delete_object(Bucket=versioned.source, Key="a")
    versioned.put("b", b"1")
    versioned.client.delete_object(Bucket=versioned.source, Key="b")
    versioned.put("b", b"4444")
    report = versioned.run("replicate", "--versions", "all")
    assert (report["code"], report["outcomes"]) == (0, {"copied": 5, "deleted": 2})
    assert history(versioned, "a") == [1, 2, 3, None]
    assert history(versioned, "b") == [1, None, 4]
    again = versioned.run("replicate", "--versions", "all")
    assert (again["code"], again["outcomes"]) == (0, {"same": 7})
    versioned.put("b", b"55555")
    assert versioned.run("replicate", "--versions", "all")["outcomes"] == {"copied": 1, "same": 7}
    assert history(versioned, "b") == [1, None, 4, 5]
    assert versioned.run("verify", "--versions", "all")["outcomes"] == {"verified": 8}


def test_a_manifest_of_versions_in_any_order_ends_with_the_current_one_on_top(versioned: World, tmp_path: Path) -> None:
    """The form of S3 Batch Operations has no dates and no delete markers."""
    versions = [versioned.put("k", body)["VersionId"] for body in (b"1", b"22")]
    versions.append(versioned.client.delete_object(Bucket=versioned.source, Key="k")["VersionId"])
    versions.append(versioned.put("k", b"333")["VersionId"])
    manifest = tmp_path / "oldest-first.csv"
    manifest.write_text("".join(f"{versioned.source},k,{version_id}\n" for version_id in versions))
    both = ["--manifest", str(manifest), "--versions", "all"]
    report = versioned.run("replicate", *both)
    assert (report["code"], report["outcomes"]) == (0, {"copied": 3, "deleted": 1})
    assert history(versioned, "k") == [1, 2, None, 3]
    assert versioned.run("verify", *both)["outcomes"] == {"verified": 4}


def test_a_data_file_of_an_inventory_names_the_null_version(versioned: World) -> None:
    """S3 leaves its id empty, and the newer version was copied in its place."""
    client = versioned.client
    for state, body in (("Suspended", b"older"), ("Enabled", b"newer")):
        client.put_bucket_versioning(Bucket=versioned.source, VersioningConfiguration={"Status": state})
        versioned.put("k", body)
    made = ["inventory", f"s3://{versioned.source}", "--to", f"s3://{versioned.ledger}/inv", "--versions", "all"]
    assert versioned.sealift(*made).code == 0
    [data] = client.list_objects_v2(Bucket=versioned.ledger, Prefix=f"inv/{versioned.source}/sealift/data/")["Contents"]
    report = versioned.run("replicate", "--manifest", f"s3://{versioned.ledger}/{data['Key']}", "--versions", "all")
    assert (report["code"], report["outcomes"]) == (0, {"copied": 2})
    copies = versioned.history(versioned.destination, "k")
    bodies = [
        client.get_object(Bucket=versioned.destination, Key="k", VersionId=each.version_id)["Body"].read()
        for each in copies
    ]
    assert bodies == [b"older", b"newer"]


def test_a_delete_marker_that_is_gone_from_the_source_is_not_made(versioned: World) -> None:
    versioned.put("k", b"1")
    marker = versioned.client.delete_object(Bucket=versioned.source, Key="k")["VersionId"]
    listing = ["inventory", f"s3://{versioned.source}", "--to", f"s3://{versioned.ledger}/inv", "--versions", "all"]
    manifest = versioned.sealift(*listing, "--json").document["manifest"]
    versioned.client.delete_object(Bucket=versioned.source, Key="k", VersionId=marker)
    report = versioned.run("replicate", "--manifest", manifest, "--versions", "all")
    assert (report["code"], report["outcomes"]) == (3, {"copied": 1, "missing": 1})
    assert history(versioned, "k") == [1]


def test_copies_that_a_lifecycle_rule_hides_are_not_copied_for_ever(versioned: World) -> None:
    """The rule's work is done by hand: S3 does it once a day."""
    versioned.put("a", b"1")
    versioned.put("b", b"22")
    both = ["replicate", "--versions", "all"]
    assert versioned.run(*both)["outcomes"] == {"copied": 2}
    versioned.client.delete_object(Bucket=versioned.destination, Key="a")
    assert versioned.run(*both)["outcomes"] == {"copied": 1, "same": 1}
    versioned.client.delete_object(Bucket=versioned.destination, Key="a")
    for _ in range(2):
        left = versioned.run(*both)
        assert (left["code"], left["outcomes"]) == (3, {"changed": 1, "same": 1})
        assert "lifecycle rule" in left["reasons"][0]["reason"]
    assert history(versioned, "a") == [1, None, 1, None]
    report = versioned.sealift("runs", "show", left["run_id"])
    [line] = [line for line in report.stdout.splitlines() if "--overwrite always" in line and "sealift" in line]
    command = shlex.split(line[line.index("sealift ") :])
    assert versioned.sealift(*command[1:], "--yes").code == 0
    assert versioned.copy_of("a") == b"1"
    assert versioned.run(*both)["outcomes"] == {"same": 2}


def history(world: World, key: str) -> list[int | None]:
    """The sizes of the destination's versions, oldest first; None is a delete marker."""
    found = world.history(world.destination, key)
    assert [entry.is_latest for entry in found] == [False] * (len(found) - 1) + [True]
    return [entry.size_bytes for entry in found]


@pytest.mark.slow
def test_streams_between_two_services(world: World) -> None:
    body = bytes(range(256)) * (20 * MIB // 256)
    world.put("small", b"x" * 1000, ContentType="text/x", Metadata={"m": "1"}, Tagging="t=1")
    world.put("empty", b"")
    world.put("large", body)
    with seaweedfs() as other:
        there = other.client()
        there.create_bucket(Bucket="elsewhere")
        profile = _profile(world, other)
        report = world.run(
            "replicate", "--destination", "s3://elsewhere/in/", "--destination-endpoint", other.endpoint,
            "--destination-profile", "other", **profile,
        )  # fmt: skip
        assert (report["code"], report["outcomes"]) == (0, {"copied": 3})
        assert report["evidence"] == {"md5_etag": 3}
        assert there.get_object(Bucket="elsewhere", Key="in/large")["Body"].read() == body
        head = there.head_object(Bucket="elsewhere", Key="in/small")
        assert (head["ContentType"], head["Metadata"]) == ("text/x", {"m": "1"})
        assert there.get_object_tagging(Bucket="elsewhere", Key="in/small")["TagSet"] == [{"Key": "t", "Value": "1"}]
        deep = world.run(
            "verify", "--destination", "s3://elsewhere/in/", "--destination-endpoint", other.endpoint,
            "--destination-profile", "other", "--deep", **profile,
        )  # fmt: skip
        assert deep["outcomes"] == {"verified": 3}


def _profile(world: World, other: Server) -> dict[str, str]:
    import tempfile
    from pathlib import Path

    file = Path(tempfile.mkdtemp()) / "credentials"
    keys = f"aws_access_key_id={other.access_key}\naws_secret_access_key={other.secret_key}\n"
    file.write_text(f"[other]\n{keys}")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file)}


def test_a_streamed_copy_replaces_another_version(versioned: World) -> None:
    versioned.client.put_object(Bucket=versioned.destination, Key="k", Body=b"other")
    versioned.put("k")
    report = versioned.run("replicate", "--stream", "--overwrite", "always")
    assert report["outcomes"] == {"copied": 1}
    assert versioned.copy_of("k") == b"content"
    assert len(versioned.history(versioned.destination, "k")) == 2


def test_bytes_are_streamed_within_a_service_when_asked(world: World) -> None:
    world.put("a", b"x" * 1000, ContentType="text/x", Metadata={"port": "Oslo"}, Tagging="t=1")
    report = world.run("replicate", "--stream")
    assert (report["code"], report["outcomes"], report["evidence"]) == (0, {"copied": 1}, {"md5_etag": 1})
    head = world.client.head_object(Bucket=world.destination, Key="a")
    assert (head["ContentType"], head["Metadata"]) == ("text/x", {"port": "Oslo"})
    assert world.copy_of("a") == b"x" * 1000


def test_filters_choose_and_the_plan_says_what_they_left_out(world: World) -> None:
    for key, size in (("a.json", 10), ("b.json", 2000), ("c.xml", 10), ("tmp/d.json", 10)):
        world.put(key, b"x" * size)
    chosen = ["--include", "*.json", "--exclude", "tmp/*", "--max-size", "1KiB"]
    plan = world.run("replicate", *chosen, "--dry-run")
    assert (plan["code"], plan["state"], plan["rows"]) == (0, "planned", 1)
    assert sum(plan["excluded"].values()) == 3
    assert plan["requests"]["copy"] == 1
    assert not world.client.list_objects_v2(Bucket=world.ledger).get("Contents")
    assert world.run("replicate", *chosen)["outcomes"] == {"copied": 1}


def test_a_plan_beyond_the_limits_is_refused(world: World) -> None:
    for number in range(3):
        world.put(f"k{number}")
    arguments = ["replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    for limit in (["--max-objects", "2"], ["--max-cost", "0.000001"]):
        result = world.sealift(*arguments, *limit)
        assert result.code == 2
        assert limit[0] in result.stderr
        assert "Traceback" not in result.stderr
    assert not world.client.list_objects_v2(Bucket=world.destination).get("Contents")
    assert not world.client.list_objects_v2(Bucket=world.ledger).get("Contents")


@pytest.mark.parametrize("job", ["replicate", "verify"])
def test_nothing_to_do_is_no_success_unless_that_is_allowed(world: World, job: str) -> None:
    world.put("docs/k")
    world.run("replicate")
    mistyped = ["--source", f"s3://{world.source}/dosc/", "--destination", f"s3://{world.destination}/dosc/"]
    result = world.sealift(job, *mistyped, "--json")
    assert (result.code, result.document["error"]["exit_code"]) == (10, 10)
    assert f"s3://{world.source}/dosc/" in result.stderr
    assert "--allow-empty" in result.stderr
    filtered = world.sealift(job, *mistyped, "--source", f"s3://{world.source}", "--exclude", "*")
    assert "1 by --exclude" in filtered.stderr
    report = world.run(job, *mistyped, "--allow-empty")
    assert (report["code"], report["state"], report["rows"]) == (0, "complete", 0)


def test_a_sample_may_have_no_rows(world: World) -> None:
    world.put("k")
    world.run("replicate")
    assert {world.run("verify", "--sample", "1/64", "--rotate")["code"] for _ in range(2)} == {0}


def test_the_plan_says_that_it_did_not_look_at_the_destination(world: World) -> None:
    world.put("k")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    assert "destination, which was not looked at" in world.sealift("replicate", *sides, "--dry-run").stdout
    assert "not looked at" in world.sealift("replicate", *sides, "--dry-run", "--json").document["assumes"][0]


def test_a_plan_says_which_sizes_it_does_not_know(world: World, tmp_path: Path) -> None:
    """A CSV has none, and the plan said that ten terabytes were `0 B`."""
    for name in ("a", "b"):
        world.put(name)
    manifest, places = tmp_path / "rows.csv", ["--destination", f"s3://{world.destination}", "--dry-run"]
    manifest.write_text(f"{world.source},a\n{world.source},b\n")
    named = world.sealift("replicate", "--manifest", str(manifest), *places)
    assert "  objects   2 (size unknown) in 1 shard" in named.stdout
    assert "  assumes   2 objects without a size in the manifest: their bytes are in no figure" in named.stdout
    listed = world.sealift("replicate", "--source", f"s3://{world.source}", *places)
    assert "  objects   2 (14 B) in 1 shard" in listed.stdout
    assert "without a size" not in listed.stdout
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"bucket": [world.source] * 2, "key": ["a", "b"], "size": [7, None]}), rows)
    part = world.sealift("replicate", "--manifest", str(rows), *places)
    assert "  objects   2 (7 B, and 1 of unknown size) in 1 shard" in part.stdout


def test_a_limit_of_cost_without_a_plan_to_see_says_what_it_does_not_bound(world: World, tmp_path: Path) -> None:
    world.put("a")
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"{world.source},a\n")
    command = ["--manifest", str(manifest), "--destination", f"s3://{world.destination}", "--json"]
    why = "1 row of unknown size is not in this price, and no limit of cost bounds their bytes"
    said = f"{why}: take a manifest with sizes\n"
    assert world.sealift("replicate", *command, "--max-cost", "1").stderr == said
    assert world.sealift("verify", *command, "--max-cost", "1", "--deep").stderr == said
    assert world.sealift("verify", *command, "--max-cost", "1").stderr == ""  # moves no bytes
    assert world.sealift("replicate", *command).stderr == ""


def test_json_is_exactly_one_document_with_what_scripts_rely_on(world: World) -> None:
    world.put("k")
    result = world.sealift(
        "replicate", "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--json"
    )
    document = json.loads(result.stdout)
    assert {"run_id", "job", "state", "rows", "outcomes", "bytes", "seconds", "report"} <= set(document)
    bucket, _, key = document["report"][5:].partition("/")
    stored = json.loads(world.client.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert stored == document


def test_locks_and_storage_class_come_along_when_asked(world: World) -> None:
    from datetime import UTC, datetime

    until = datetime(2031, 1, 1, tzinfo=UTC)
    locked = f"{world.source}-locked", f"{world.destination}-locked"
    for bucket in locked:
        world.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    world.client.put_object(
        Bucket=locked[0],
        Key="k",
        Body=b"1",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=until,
        ObjectLockLegalHoldStatus="ON",
        StorageClass="STANDARD_IA",
    )
    report = world.run(
        "replicate", "--source", f"s3://{locked[0]}", "--destination", f"s3://{locked[1]}", "--object-lock"
    )
    assert (report["code"], report["outcomes"]) == (0, {"copied": 1})
    head = world.client.head_object(Bucket=locked[1], Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    assert head["ObjectLockLegalHoldStatus"] == "ON"
    assert head["StorageClass"] == "STANDARD_IA"


def test_an_object_whose_key_is_the_prefix_has_no_key_for_its_copy(world: World) -> None:
    """The address without a key is the bucket's own: no request goes there, and the row says why."""
    world.put("2026")
    world.put("2026a")
    places = ["--source", f"s3://{world.source}/2026", "--destination", f"s3://{world.destination}"]
    for job, ended in (("replicate", "copied"), ("verify", "verified")):
        report = world.run(job, *places)
        assert (report["code"], report["outcomes"]) == (3, {ended: 1, "failed": 1})
        assert sum("an object needs a key" in each["reason"] for each in report["reasons"]) == 1
    repair = world.sealift("reconcile", *places, "--margin", "0s", "--repair", "--yes", "--json")
    assert (repair.code, repair.document["repaired"]["left"]) == (3, 1)
