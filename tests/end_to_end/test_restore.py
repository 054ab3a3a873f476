"""Restores through the command line on a real server: what was packed comes back, and never over anything."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, discard, make_world
from tests.end_to_end.test_compact import ALL, archive_keys, compact, fill, find
from tests.end_to_end.test_expire import DELETE, places
from tests.end_to_end.test_resume import workers_of

EVERYTHING = ("--include", "*")


@pytest.fixture
def cold(moto_server: Server) -> Iterator[World]:
    """Buckets on a server where GLACIER is more than a name, and thaws at once."""
    made = make_world(moto_server, versioned=False)
    yield made
    for bucket in (made.source, made.destination, made.ledger):
        for key in keys_of(made, bucket):
            made.client.delete_object(Bucket=bucket, Key=key)
    discard(made)


def restore(world: World, *arguments: str, **extra: str) -> dict[str, Any]:
    """A restore out of the packed archives, to `back/`; its report, with the exit code as `code`."""
    given = list(arguments)
    if "--source" not in given and "--archives" not in given:
        given += ["--archives", f"s3://{world.destination}/packed"]
    if "--destination" not in given:
        given += ["--destination", f"s3://{world.destination}/back/"]
    result = world.sealift("restore", *given, "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def keys_of(world: World, bucket: str, prefix: str = "") -> list[str]:
    pages = world.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def restored(world: World) -> dict[str, bytes]:
    """The objects below back/: key → content."""
    return {key.removeprefix("back/"): world.copy_of(key) for key in keys_of(world, world.destination, "back/")}


def manifest(world: World, **columns: list[Any]) -> str:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    world.client.put_object(Bucket=world.ledger, Key="rows.parquet", Body=sink.getvalue())
    return f"s3://{world.ledger}/rows.parquet"


def test_what_was_packed_comes_back_and_is_the_same_the_next_time(world: World) -> None:
    objects = fill(world, 60)
    compact(world, ALL, "--target-size", "32KiB")
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (0, {"restored": 60}), report["reasons"]
    assert report["evidence"] == {"checksum": 60}
    assert restored(world) == objects
    glued = restore(world, *EVERYTHING, "--destination", f"s3://{world.destination}/back")  # the same folder
    assert (glued["code"], glued["outcomes"]) == (0, {"same": 60})
    assert [key for key in keys_of(world, world.destination, "back") if not key.startswith("back/")] == []
    again = restore(world, *EVERYTHING)
    assert (again["code"], again["outcomes"]) == (0, {"same": 60})


def test_an_object_comes_back_with_all_that_it_had(world: World) -> None:
    odd = "é e/+ %41 ..&?x"
    world.put(odd, b"1", Tagging="team=docs&y=1", Metadata={"who": "me"}, CacheControl="no-store", ContentType="a/b")
    world.put("large", os.urandom(9 << 20), ChecksumAlgorithm="CRC64NVME")
    compact(world, ALL)
    report = restore(world, *EVERYTHING)
    assert report["outcomes"] == {"restored": 2}, report["reasons"]
    head = world.client.head_object(Bucket=world.destination, Key=f"back/{odd}")
    assert (head["Metadata"], head["CacheControl"], head["ContentType"]) == ({"who": "me"}, "no-store", "a/b")
    tags = world.client.get_object_tagging(Bucket=world.destination, Key=f"back/{odd}")["TagSet"]
    assert {each["Key"]: each["Value"] for each in tags} == {"team": "docs", "y": "1"}
    assert head["ETag"] == world.client.head_object(Bucket=world.source, Key=odd)["ETag"]
    assert world.copy_of("back/large") == world.client.get_object(Bucket=world.source, Key="large")["Body"].read()


@pytest.mark.slow
def test_only_what_is_asked_for_is_restored(world: World) -> None:
    objects = fill(world, 40)
    compact(world, ALL)
    assert restore(world, "--key", "docs/1/001.json")["outcomes"] == {"restored": 1}
    assert list(restored(world)) == ["docs/1/001.json"]
    report = restore(world, "--prefix", "docs/", "--include", "*3.json", "--exclude", "docs/3/*")
    wanted = {key for key in objects if key.endswith("3.json") and not key.startswith("docs/3/")}
    assert sum(report["outcomes"].values()) == len(wanted)
    rows = manifest(world, key=["docs/0/004.json", "none"], version_id=[None, None])
    report = restore(world, "--manifest", rows)
    assert (report["code"], report["outcomes"]) == (3, {"restored": 1, "unrestorable": 1})
    (failed,) = world.failed_rows(report)
    assert (failed["key"], failed["reason"]) == ("none", "no archive has it")
    wanted |= {"docs/1/001.json", "docs/0/004.json"}
    assert restored(world) == {key: objects[key] for key in wanted}


def test_the_plan_says_what_it_takes_and_writes_nothing(world: World) -> None:
    fill(world, 30)
    compact(world, ALL, "--target-size", "16KiB")
    plan = restore(world, "--prefix", "docs/", "--dry-run")
    archives = len(archive_keys(world))
    assert (plan["rows"], plan["restore"]["archives"], plan["restore"]["members"]) == (30, archives, 30)
    assert (plan["restore"]["cold"], plan["requests"]["put"], plan["requests"]["head"]) == ([], 30, archives)
    places = ["--archives", f"s3://{world.destination}/packed", "--destination", f"s3://{world.destination}/back/"]
    text = world.sealift("restore", *places, "--key", "docs/1/001.json", "--dry-run").stdout
    assert "archives  1, holding 1 of the objects\n" in text
    assert plan["dollars"]["retrieval"] == pytest.approx(plan["size_bytes"] / (1 << 30) * 0.03)
    assert restored(world) == {}


def test_the_plan_has_the_price_of_the_class_that_the_archive_has_today(world: World) -> None:
    fill(world, 3)
    compact(world, ALL)
    (key,) = archive_keys(world)
    place = {"Bucket": world.destination, "Key": key}
    world.client.copy_object(**place, CopySource=place, StorageClass="STANDARD_IA", MetadataDirective="REPLACE")
    plan = restore(world, *EVERYTHING, "--dry-run")
    assert plan["dollars"]["retrieval"] == pytest.approx(plan["size_bytes"] / (1 << 30) * 0.01)


@pytest.mark.slow
def test_the_original_bucket_is_written_to_only_when_asked(world: World) -> None:
    objects = fill(world, 8)
    compact(world, ALL)
    world.client.delete_object(Bucket=world.source, Key="docs/1/001.json")
    world.put("docs/2/002.json", b"rewritten since")
    given = ["--archives", f"s3://{world.destination}/packed", "--destination", f"s3://{world.source}", *EVERYTHING]
    refused = world.sealift("restore", *given)
    assert (refused.code, "--in-place" in refused.stderr) == (2, True)
    report = restore(world, *given, "--in-place")
    assert report["outcomes"] == {"restored": 1, "same": 6, "unrestorable": 1}
    expected = objects | {"docs/2/002.json": b"rewritten since"}
    for key, data in expected.items():
        assert world.client.get_object(Bucket=world.source, Key=key)["Body"].read() == data


def test_damage_is_named_nothing_is_replaced_and_the_rest_comes_back(world: World) -> None:
    objects = fill(world, 20)
    compact(world, ALL, "--format", "tar")
    (key,) = archive_keys(world)
    data = bytearray(world.copy_of(key))
    place = bytes(data).index(objects["docs/1/005.json"])
    data[place] ^= 1
    world.client.put_object(Bucket=world.destination, Key=key, Body=bytes(data))
    world.client.put_object(Bucket=world.destination, Key="back/docs/1/001.json", Body=b"newer")
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (3, {"restored": 18, "unrestorable": 2})
    why = {failed["key"]: failed["reason"] for failed in world.failed_rows(report)}
    assert sorted(why) == ["docs/1/001.json", "docs/1/005.json"]
    assert ("never replaces" in why["docs/1/001.json"], "SHA256" in why["docs/1/005.json"]) == (True, True)
    del objects["docs/1/005.json"]
    assert restored(world) == objects | {"docs/1/001.json": b"newer"}


@pytest.mark.slow
def test_an_archive_that_is_gone_is_accounted_for_and_retried(world: World) -> None:
    objects = fill(world, 20)
    compact(world, ALL)
    (key,) = archive_keys(world)
    body = world.copy_of(key)
    world.client.delete_object(Bucket=world.destination, Key=key)
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (3, {"unrestorable": 20})
    assert "is gone" in report["reasons"][0]["reason"]
    world.client.put_object(Bucket=world.destination, Key=key, Body=body)
    again = world.sealift("runs", "retry", report["run_id"], "--json").document
    assert (again["job"], again["outcomes"]) == ("restore", {"restored": 20})
    assert restored(world) == objects


@pytest.mark.parametrize("now", [None, b"another object"])
def test_of_two_archives_the_one_that_is_as_it_was_written_is_read(world: World, now: bytes | None) -> None:
    """What lost its archive is packed again, and the index still has the first archive."""
    objects = fill(world, 3)
    for place in ("a", "b"):
        packed = ["compact", "--source", f"s3://{world.source}", ALL, "--archives", f"s3://{world.destination}/packed/"]
        assert world.sealift(*packed[:-1], packed[-1] + place).code == 0
    first = {"Bucket": world.destination, "Key": archive_keys(world)[0]}
    world.client.delete_object(**first)
    if now is not None:
        world.client.put_object(**first, Body=now)
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (0, {"restored": 3}), report["reasons"]
    assert restored(world) == objects


def test_the_newest_of_versions_of_one_second_in_different_archives_is_not_guessed(versioned: World) -> None:
    """S3's dates have seconds. The listing had the order of these versions, and no archive has it."""
    versions: list[str] = []
    while len({int(each.last_modified) for each in versioned.history(versioned.source, "k")[-3:]}) != 1:
        time.sleep(1.02 - time.time() % 1)
        versions = [versioned.put("k", data * 20_000)["VersionId"] for data in (b"1", b"2", b"3")]
    versioned.client.delete_object(Bucket=versioned.source, Key="k")
    assert compact(versioned, ALL, "--versions", "all", "--target-size", "16KiB")["outcomes"]["packed"] >= 3
    report = restore(versioned, "--key", "k")
    assert (report["code"], report["outcomes"]) == (3, {"unrestorable": 1})
    assert "nothing says which one that was" in report["reasons"][0]["reason"]
    again = versioned.sealift("runs", "retry", report["run_id"], "--json")
    assert (again.code, again.document["outcomes"]) == (3, {"unrestorable": 1})
    rows = manifest(versioned, key=["k"], version_id=versions[-1:])
    assert restore(versioned, "--manifest", rows)["outcomes"] == {"restored": 1}
    assert restored(versioned) == {"k": b"3" * 20_000}


@pytest.mark.slow
def test_cold_archives_thaw_first_and_the_run_goes_on(cold: World) -> None:
    objects = fill(cold, 12)
    compact(cold, ALL, "--storage-class", "DEEP_ARCHIVE")
    plan = restore(cold, *EVERYTHING, "--tier", "Standard", "--dry-run")
    assert (len(plan["restore"]["cold"]), plan["restore"]["hours"], plan["requests"]["restore"]) == (1, 12.0, 1)
    assert plan["dollars"]["thaw_retrieval"] > 0
    places = ["--archives", f"s3://{cold.destination}/packed", "--destination", f"s3://{cold.destination}/back/"]
    (archive,) = archive_keys(cold)
    text = cold.sealift("restore", *places, *EVERYTHING, "--dry-run").stdout
    assert ("1 archives by Bulk" in text, f"s3://{cold.destination}/{archive}" in text) == (True, True)
    refused = cold.sealift("restore", *places, *EVERYTHING, "--tier", "Expedited")
    assert (refused.code, "use Standard or Bulk" in refused.stderr) == (2, True)
    report = restore(cold, *EVERYTHING, "--tier", "Standard")
    assert (report["code"], report["outcomes"]) == (3, {"thawing": 12})
    assert f"runs/thawing/{cold.destination}/{archive}/{report['run_id']}.json" in keys_of(cold, cold.ledger)
    again = cold.sealift("runs", "retry", report["run_id"], "--json").document
    assert again["outcomes"] == {"restored": 12}
    assert restored(cold) == objects


@pytest.mark.slow
@pytest.mark.parametrize("is_newest_first", [True, False])
def test_a_manifest_of_old_versions_does_not_make_one_of_them_the_newest(
    versioned: World, tmp_path: Path, is_newest_first: bool
) -> None:
    """Batch Operations' CSV does not say which version is its key's latest. S3's dates have seconds."""
    ids = versions_of_one_second(versioned, "k", [b"old", b"mid", b"new"])
    rows = tmp_path / "rows.csv"
    named = ids[::-1] if is_newest_first else ids
    rows.write_text("".join(f"{versioned.source},k,{each}\n" for each in named))
    assert compact(versioned, ALL, "--manifest", str(rows))["outcomes"] == {"packed": 3}
    assert restore(versioned, "--key", "k")["outcomes"] == {"restored": 1}
    assert restored(versioned) == {"k": b"new"}
    for each in ids[:2]:
        versioned.client.delete_object(Bucket=versioned.source, Key="k", VersionId=each)
    time.sleep(1.1)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    there = (
        "--source",
        f"s3://{versioned.source}",
        "--as-of",
        at,
        "--archives",
        f"s3://{versioned.destination}/packed",
    )
    assert restore(versioned, *there, "--destination", f"s3://{versioned.destination}/then/")["code"] == 0
    assert versioned.copy_of("then/k") == b"new"


def versions_of_one_second(world: World, key: str, contents: list[bytes]) -> list[str]:
    """The ids of versions that were all written in one second, oldest first."""
    for _ in range(20):
        time.sleep(1 - time.time() % 1)
        ids = [world.client.put_object(Bucket=world.source, Key=key, Body=each)["VersionId"] for each in contents]
        heads = [world.client.head_object(Bucket=world.source, Key=key, VersionId=each) for each in ids]
        if len({each["LastModified"] for each in heads}) == 1:
            return ids
    raise AssertionError("the server is too slow to write them in one second")


def test_a_manifest_of_another_bucket_restores_nothing_of_this_one(world: World, tmp_path: Path) -> None:
    """A key names another object in another bucket."""
    world.put("k", b"ours")
    world.client.put_object(Bucket=world.ledger, Key="other/k", Body=b"another bucket's")
    compact(world, ALL)
    rows = tmp_path / "rows.csv"
    rows.write_text("another-bucket,k\n")
    asked = ["restore", "--archives", f"s3://{world.destination}/packed", "--manifest", str(rows)]
    asked += ["--destination", f"s3://{world.destination}/back", "--yes"]
    refused = world.sealift(*asked)
    assert (refused.code, "is about bucket another-bucket" in refused.stderr) == (2, True)
    rows.write_text(f"{world.source},k,null\n")  # S3's own name of what has no version id
    assert world.sealift(*asked, "--bucket", "another-bucket").code == 2
    compact(world, ALL, "--source", f"s3://{world.ledger}/other")
    key = find(world, "k")[0].record.location.key
    data = world.client.get_object(Bucket=world.destination, Key=key)
    world.client.delete_object(Bucket=world.destination, Key=key)
    lost = world.sealift(*asked, "--json")
    assert lost.document["outcomes"] == {"unrestorable": 1}
    world.client.put_object(Bucket=world.destination, Key=key, Body=data["Body"].read(), Metadata=data["Metadata"])
    retried = world.sealift("runs", "retry", lost.document["run_id"], "--yes", "--json")  # its rows name no bucket
    assert retried.document["outcomes"] == {"restored": 1}, retried.stderr
    assert restored(world) == {"k": b"ours"}


def test_killed_workers_restore_the_rest(world: World) -> None:
    objects = fill(world, 400)
    compact(world, ALL, "--target-size", "8KiB")
    given = ["--archives", f"s3://{world.destination}/packed", "--destination", f"s3://{world.destination}/back/"]
    slow = {"SEALIFT_IN_FLIGHT": "2", "SEALIFT_PROCESSES": "1"}
    process = world.start("restore", *given, *EVERYTHING, "--json", **slow)
    while process.poll() is None and len(keys_of(world, world.destination, "back/")) < 20:
        time.sleep(0.01)
    for pid in [*workers_of(process), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    (run,) = [run for run in world.sealift("runs", "list", "--json").document["runs"] if run["job"] == "restore"]
    assert run["state"] in ("stopped", "unreported")  # the latter: it was quicker than the kill
    report = world.sealift("runs", "retry", run["run_id"], "--json").document
    assert report["state"] == "complete"
    assert set(report["outcomes"]) <= {"same", "restored"}
    assert restored(world) == objects


def now_of(world: World, bucket: str, key: str) -> float:
    """When S3 says that the key's latest version or delete marker was written."""
    return world.history(bucket, key)[-1].last_modified


@pytest.mark.slow
def test_a_bucket_comes_back_as_it_was(versioned: World) -> None:
    world, source = versioned, versioned.source
    expected: dict[float, dict[str, bytes]] = {}
    state: dict[str, bytes] = {}
    for number in range(3):
        for key, data in ((f"only/{number}", b"n"), ("often", f"{number}".encode() * 50)):
            world.put(key, data)
            state[key] = data
        if number == 1:
            world.client.delete_object(Bucket=source, Key="only/0")
            del state["only/0"]
        at = now_of(world, source, "often" if number != 1 else "only/0")
        expected[at] = dict(state)
        next_second = int(at) + 1.05
        time.sleep(max(0.0, next_second - time.time()))  # S3 dates to the second
    run_id = compact(world, ALL, "--versions", "all", "--format", "tar")["run_id"]
    # Older versions go, current ones are hidden: for the bucket's users nothing of that counts.
    gone = world.sealift("expire", "--run", run_id, *places(world), *DELETE, "--json")
    assert gone.document["outcomes"] == {"expired": 6}, gone.stdout
    assert keys_of(world, source) == []
    expected[time.time() + 1] = dict(state)
    for number, (at, objects) in enumerate(expected.items()):
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at + 0.999))
        back = [
            "--source",
            f"s3://{source}",
            "--as-of",
            when,
            "--destination",
            f"s3://{world.destination}/as-of-{number}/",
        ]
        archives = ["--archives", f"s3://{world.destination}/packed"]
        report = restore(world, *back, *archives)
        assert (report["code"], report["outcomes"]) == (0, {"restored": len(objects)}), report["reasons"]
        found = keys_of(world, world.destination, f"as-of-{number}/")
        assert {key.partition("/")[2]: world.copy_of(key) for key in found} == objects
    first = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(expected) + 0.999))
    here = ["--source", f"s3://{source}", "--as-of", first, "--destination", f"s3://{source}", *archives]
    assert "--in-place" in world.sealift("restore", *here).stderr
    world.put("often", b"newest")
    report = restore(world, *here, "--in-place")
    assert report["outcomes"] == {"restored": 1, "unrestorable": 1}  # what was deleted is back, what is newer stays
    assert world.client.get_object(Bucket=source, Key="only/0")["Body"].read() == b"n"
    assert world.client.get_object(Bucket=source, Key="often")["Body"].read() == b"newest"


def test_what_a_null_version_has_replaced_is_not_guessed(versioned: World) -> None:
    world, source = versioned, versioned.source

    def keep_versions(status: str) -> None:
        world.client.put_bucket_versioning(Bucket=source, VersioningConfiguration={"Status": status})

    for key in ("steady", "replaced"):
        world.put(key, b"first")
    keep_versions("Suspended")
    world.put("replaced", b"lost")
    at = now_of(world, source, "replaced")
    time.sleep(max(0.0, int(at) + 1.05 - time.time()))  # S3 dates to the second
    world.put("replaced", b"last")
    keep_versions("Enabled")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at + 0.999))
    here = ["--source", f"s3://{source}", "--destination", f"s3://{world.destination}"]
    report = restore(world, *here, "--as-of", when)
    assert (report["code"], report["outcomes"]) == (3, {"restored": 1, "unrestorable": 1})
    (reason,) = [each["reason"] for each in report["reasons"] if each["status"] == "unrestorable"]
    assert "suspended" in reason
    assert keys_of(world, world.destination) == ["steady"]
    assert restore(world, *here, "--as-of", "0s")["outcomes"] == {"restored": 1, "same": 1}
    assert world.copy_of("replaced") == b"last"


def test_versions_of_the_bucket_that_are_cold_are_in_the_plan(versioned: World) -> None:
    for name, storage_class in (("a", "GLACIER"), ("b", "STANDARD"), ("c", "GLACIER")):
        versioned.put(name, b"1" * 1000, StorageClass=storage_class)
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    plan = restore(
        versioned, "--source", f"s3://{versioned.source}", "--as-of", soon, "--dry-run", "--tier", "Standard"
    )
    assert (plan["rows"], plan["requests"]["copy"], plan["requests"]["restore"]) == (3, 3, 2)
    assert (plan["restore"]["cold_versions"], plan["restore"]["hours"]) == (2, 5.0)
    assert plan["dollars"]["thaw_requests"] == pytest.approx(2 * 0.05 / 1000)
    versioned.put("d", b"1" * 1000, StorageClass="DEEP_ARCHIVE")
    there = ["--source", f"s3://{versioned.source}", "--as-of", soon, "--destination", f"s3://{versioned.destination}"]
    refused = versioned.sealift("restore", *there, "--dry-run", "--tier", "Expedited")
    assert (refused.code, "--tier Expedited" in refused.stderr, "DEEP_ARCHIVE" in refused.stderr) == (2, True, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--key", "k"], "nothing to restore from"),
        (["--archives", "s3://some"], "restore what?"),
        (["--source", "s3://some"], "--as-of TIME"),
        (["--source", "s3://some", "--as-of", "1d", "--key", "k"], "--as-of goes with"),
        (["--archives", "s3://some", "--key", "k", "--prefix", "p"], "leave out"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(world: World, arguments: list[str], problem: str) -> None:
    result = world.sealift("restore", *arguments, "--destination", "s3://other")
    assert (result.code, problem in result.stderr) == (2, True), result.stderr


def test_archives_that_nobody_indexed_are_told_of(world: World) -> None:
    result = world.sealift(
        "restore", "--archives", f"s3://{world.destination}/none", *EVERYTHING, "--destination", f"s3://{world.source}"
    )
    assert (result.code, "reindex" in result.stderr) == (2, True)
    assert json.loads(world.sealift("runs", "list", "--json").stdout)["runs"] == []
