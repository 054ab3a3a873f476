"""Drills on a real server: a sample is restored, compared, checked and removed. What others write there stays."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ExitCode
from jobs.reports.document import iso_time
from tests.doubles.servers import REGION
from tests.end_to_end.conftest import Result, World, discard_buckets
from tests.end_to_end.pair_policy import runs, write_policy
from tests.end_to_end.scenes import kill

KEYS = [f"docs/k{number:02d}" for number in range(12)] + ["drafts/a b+é%2F"]


@pytest.fixture
def copied(world: World, tmp_path: Path) -> Iterator[tuple[World, str, str]]:
    """Objects with metadata and tags, and their copies; the policy; a bucket for drills."""
    policy, place = write_policy(world, tmp_path), f"{world.source}-drill"
    world.client.create_bucket(Bucket=place)
    world.client.put_bucket_versioning(Bucket=place, VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        world.put(key, key.encode() * 50, Metadata={"who": "me"}, Tagging="class=scan", ContentType="text/plain")
    for _ in range(2):  # an older version of each copy, too
        for key in KEYS:
            source = {"Bucket": world.source, "Key": key}
            world.client.copy_object(Bucket=world.destination, Key=f"copies/{key}", CopySource=source)
    yield world, policy, place
    discard_buckets(world.client, [place])


def start(world: World, policy: str, place: str, *arguments: str) -> Result:
    to = () if "--to" in arguments else ("--to", f"s3://{place}/try/")
    return world.sealift("drill", "--pair", "docs", "--policy", policy, *to, *arguments, "--yes", "--json")


def drill(world: World, policy: str, place: str, *arguments: str) -> dict[str, Any]:
    result = start(world, policy, place, *arguments)
    assert not result.has_no_answer, result.stderr
    return result.document | {"code": result.code}


def left(world: World, place: str) -> list[str]:
    answer = world.client.list_object_versions(Bucket=place)
    return [each["Key"] for kind in ("Versions", "DeleteMarkers") for each in answer.get(kind, ())]


def test_a_sample_comes_back_as_the_source_is_and_nothing_of_it_stays(copied: tuple[World, str, str]) -> None:
    world, policy, place = copied
    plan = drill(world, policy, place, "--dry-run")
    assert (plan["code"], plan["legs"][0]["population"]) == (0, len(KEYS))
    assert not any(key.startswith("runs/drills/") for key in world.keys(world.ledger))
    count = f"{sys.executable} -c 'import sys; sys.exit(not sys.argv[1].startswith(\"s3://\"))'"
    first = drill(world, policy, place, "--name", "one", "--check", count)
    assert (first["code"], first["exit_code"], first["next_steps"], first["left"]) == (0, 0, [], [])
    (hot,) = first["legs"]
    assert (hot["leg"], hot["sample"]["random"], hot["findings"]) == ("hot", len(KEYS), [])
    assert hot["by"]["source"] == len(KEYS)
    assert (first["check"]["code"], left(world, place)) == (0, [])
    assert f"are right; {len(KEYS)} by the source".encode() in world.fetch(first["report_html"])
    again = drill(world, policy, place, "--name", "one")
    assert again == first


def test_a_copy_with_other_bytes_is_found_and_the_state_knows_it(copied: tuple[World, str, str]) -> None:
    world, policy, place = copied
    world.client.put_object(Bucket=world.destination, Key=f"copies/{KEYS[3]}", Body=b"rotten")
    found = drill(world, policy, place)
    assert (found["code"], left(world, place)) == (ExitCode.FINDINGS, [])
    assert [each["key"] for each in found["legs"][0]["findings"]] == [f"copies/{KEYS[3]}"]
    status = world.sealift("status", "--json").document
    assert [each["first_key"] for each in status["findings"]] == [KEYS[3]]


def test_a_manifest_names_what_is_restored_and_a_key_that_is_not_there_is_found(
    copied: tuple[World, str, str], tmp_path: Path
) -> None:
    world, policy, place = copied
    with Path(policy).open("a") as file:
        file.write(f"drill: {{bucket: {place}, region: {REGION}, max_size: 1B}}\n")  # it bounds a sample, not this
    named = tmp_path / "keys.csv"
    named.write_text("".join(f"{world.source},{key}\n" for key in KEYS[:4]))
    found = drill(world, policy, place, "--manifest", str(named))
    assert (found["code"], found["legs"][0]["sample"]["rows"], found["next_steps"]) == (0, 4, [])
    world.client.delete_object(Bucket=world.destination, Key=f"copies/{KEYS[0]}")
    found = drill(world, policy, place, "--name", "later", "--manifest", str(named))
    assert (found["code"], found["legs"][0]["sample"]["absent"]) == (ExitCode.FINDINGS, 1)
    assert left(world, place) == []


def test_older_versions_and_the_replica_come_back_and_an_emptied_bucket_is_found(
    copied: tuple[World, str, str], tmp_path: Path
) -> None:
    world, _, place = copied
    twin = f"{world.source}-twin"
    policy = write_policy(world, tmp_path, docs={"replica": {"bucket": twin, "region": REGION}})
    world.client.create_bucket(Bucket=twin)
    world.client.put_bucket_versioning(Bucket=twin, VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        source = {"Bucket": world.source, "Key": key}
        world.client.copy_object(Bucket=twin, Key=f"copies/{key}", CopySource=source)
    time.sleep(1.1)
    at = iso_time(time.time())
    time.sleep(1.1)
    for key in KEYS:
        world.client.put_object(Bucket=world.source, Key=key, Body=b"encrypted")
        world.client.put_object(Bucket=world.destination, Key=f"copies/{key}", Body=b"encrypted")
        world.client.delete_object(Bucket=twin, Key=f"copies/{key}")
    then = drill(world, policy, place, "--as-of", at)
    assert {each["leg"]: each["by"]["version"] for each in then["legs"]} == {"hot": len(KEYS), "replica": len(KEYS)}
    size_bytes = 2 * sum(len(key.encode()) * 50 for key in KEYS)
    assert (then["code"], sum(each["size_bytes"] for each in then["legs"])) == (0, size_bytes)
    now = drill(world, policy, place, "--prefix", "docs/k0")
    hot, replica = now["legs"]
    assert (now["code"], hot["findings"]) == (ExitCode.FINDINGS, [])
    compare = ["Compare the pair: sealift nightly --pair docs --again"]
    assert (replica["sample"]["population"], now["next_steps"]) == (0, compare)
    assert left(world, place) == []
    discard_buckets(world.client, [twin])


@pytest.mark.parametrize("does", ["writes", "fails", "hangs"])
def test_a_check_that_does_harm_is_a_finding_and_keeps_what_is_not_ours(
    copied: tuple[World, str, str], tmp_path: Path, does: str
) -> None:
    world, policy, place = copied
    script = tmp_path / "check.py"
    script.write_text(
        "import sys, time, boto3\n"
        "bucket, _, key = sys.argv[1].removeprefix('s3://').partition('/')\n"
        f"if {does!r} == 'writes': boto3.client('s3').put_object(Bucket=bucket, Key=key + 'hot/docs/k01', Body=b'x')\n"
        f"if {does!r} == 'hangs': time.sleep(600)\n"
        f"sys.exit({int(does == 'fails')})\n"
    )
    check = ("--check", f"{sys.executable} {script}", "--check-seconds", "2" if does == "hangs" else "60")
    found = drill(world, policy, place, "--name", "two", *check)
    assert found["code"] == ExitCode.FINDINGS
    assert found["check"]["code"] == {"writes": 0, "fails": 1, "hangs": None}[does]
    stays = ["try/docs/two/hot/docs/k01"] if does == "writes" else []
    assert (found["left"], left(world, place)) == (stays, stays)


def test_what_may_not_be_drilled_is_refused_before_anything_is_written(copied: tuple[World, str, str]) -> None:
    world, policy, place = copied

    def refused(*arguments: str) -> int:
        return start(world, policy, place, *arguments).code

    assert refused("--to", f"s3://{world.destination}/drills/") == ExitCode.USAGE
    assert refused("--to", f"s3://{world.ledger}/drills/") == ExitCode.USAGE
    assert refused("--as-of", "2999-01-01") == ExitCode.USAGE
    assert refused("--check", "no-such-program-anywhere") == ExitCode.USAGE
    world.client.put_object(Bucket=place, Key="try/docs/three/hot/x", Body=b"somebody's")
    assert refused("--name", "three") == ExitCode.CONFIG
    assert left(world, place) == ["try/docs/three/hot/x"]
    world.client.put_bucket_versioning(Bucket=place, VersioningConfiguration={"Status": "Suspended"})
    assert refused("--name", "four") == ExitCode.CONFIG
    assert not any(key.startswith("runs/drills/") for key in world.keys(world.ledger))


def test_a_killed_drill_goes_on_under_its_name_and_leaves_nothing(copied: tuple[World, str, str]) -> None:
    world, policy, place = copied
    process = world.start(
        "drill", "--pair", "docs", "--policy", policy, "--to", f"s3://{place}/try/", "--name", "five", "--yes", "--json"
    )
    while process.poll() is None and not any("/hot/d" in key for key in left(world, place)):
        time.sleep(0.005)
    kill(process)
    found = drill(world, policy, place, "--name", "five")
    assert (found["code"], found["legs"][0]["findings"], left(world, place)) == (0, [], [])
    assert len(runs(world)) == 1


def test_an_old_good_drill_is_a_line_in_status_doctor_and_on_the_nights_page(copied: tuple[World, str, str]) -> None:
    world, policy, place = copied
    with Path(policy).open("a") as file:
        file.write(f"drill: {{bucket: {place}, region: {REGION}, days: 3}}\n")
    asks = {"status": (), "doctor": (), "nightly": ("--pair", "docs", "--margin", "0s", "--again")}

    def said() -> list[bool]:
        """Of each command and the page, whether it names the drill."""
        answers = {name: world.sealift(name, "--policy", policy, *words, "--json") for name, words in asks.items()}
        page = world.fetch(answers["nightly"].document["report_html"])
        return [b"sealift drill --pair docs" in each for each in (*(a.stdout.encode() for a in answers.values()), page)]

    assert said() == [True] * 4
    good = drill(world, policy, place, "--name", "one")
    assert said() == [False] * 4
    old = {name: each for name, each in good.items() if name != "code"} | {"good_at": time.time() - 7 * 86_400}
    world.client.put_object(Bucket=world.ledger, Key="runs/drills/docs/one.json", Body=json.dumps(old).encode())
    assert said() == [True] * 4


def test_archives_that_no_index_knows_are_refused(copied: tuple[World, str, str], tmp_path: Path) -> None:
    world, _, place = copied
    cold = {"bucket": world.destination, "region": REGION, "prefix": "cold/"}
    policy = write_policy(world, tmp_path, docs={"archive": cold | {"rules": [{"name": "all", "older_than": "90d"}]}})
    archives = f"s3://{world.destination}/cold"
    packed = ("--source", f"s3://{world.source}", "--destination", archives, "--pack-all")
    assert world.sealift("compact", *packed).code == 0
    world.client.delete_bucket(Bucket=world.ledger)
    world.client.create_bucket(Bucket=world.ledger)
    unknown = start(world, policy, place)
    assert (unknown.code, "sealift archives reindex" in unknown.stderr) == (ExitCode.CONFIG, True)
    assert world.sealift("archives", "reindex", "--source", archives).code == 0
    assert [each["sample"]["population"] for each in drill(world, policy, place)["legs"]] == [len(KEYS)] * 2
