"""`sealift replicate` on a real server, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.core.reasons import Reason
from tests.doubles.servers import Server, seaweedfs
from tests.end_to_end.conftest import World
from tests.end_to_end.scenes import settle

MIB = 1024 * 1024


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
    assert (report["code"], report["state"], report["outcomes"]) == (0, "complete", {"done": 2})
    assert report["evidence"] == {"md5_etag": 2}
    assert report["bytes"] == 9
    head = world.client.head_object(Bucket=world.destination, Key="copy/1.json")
    assert (head["ContentType"], head["CacheControl"]) == ("application/json", "max-age=60")
    assert head["ContentDisposition"] == 'attachment; filename="1.json"'
    assert head["Metadata"] == {"shipment": "S1"}
    tags = world.client.get_object_tagging(Bucket=world.destination, Key="copy/1.json")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"retention": "long", "country": "NL"}
    assert world.copy_of("copy/empty") == b""


def test_nothing_overwrites_a_newer_object(world: World) -> None:
    world.put("k", b"old")
    world.client.put_object(Bucket=world.destination, Key="k", Body=b"newer and other")
    report = world.run("replicate")
    assert (report["code"], report["outcomes"]) == (3, {"changed": 1})
    assert report["reasons"][0]["reason"] in (Reason.DESTINATION_NEWER, Reason.ORDER_UNKNOWN)  # within one second
    assert world.copy_of("k") == b"newer and other"
    assert world.run("replicate", "--overwrite", "always")["outcomes"] == {"done": 1}
    assert world.copy_of("k") == b"old"


def test_a_second_run_takes_no_request_for_what_a_look_has_proven(world: World) -> None:
    """Uploads in parts have other ETags than their copies, so that no list shows what is the same."""
    world.put_in_parts("k")
    assert world.run("replicate")["outcomes"] == {"done": 1}
    settle()
    settle()  # a look in the second of a write may be of what was there before, and S3 dates it by whole seconds
    assert world.run("verify", "--deep")["outcomes"] == {"verified": 1}
    again = world.run("replicate")
    assert (again["code"], again["outcomes"], again["excluded"]) == (0, {}, {"proven_before": 1})
    world.put("k", b"changed")
    assert world.run("replicate")["outcomes"] == {"done": 1}


def test_all_versions_are_replayed_in_order_with_delete_markers(versioned: World) -> None:
    for body in (b"1", b"22", b"333"):
        versioned.put("a", body)
    versioned.client.delete_object(Bucket=versioned.source, Key="a")
    versioned.put("b", b"1")
    versioned.client.delete_object(Bucket=versioned.source, Key="b")
    versioned.put("b", b"4444")
    report = versioned.run("replicate", "--versions", "all")
    assert (report["code"], report["outcomes"]) == (0, {"done": 7})
    assert history(versioned, "a") == [1, 2, 3, None]
    assert history(versioned, "b") == [1, None, 4]
    again = versioned.run("replicate", "--versions", "all")
    assert (again["code"], again["outcomes"]) == (0, {"same": 7})
    versioned.put("b", b"55555")
    assert versioned.run("replicate", "--versions", "all")["outcomes"] == {"done": 1, "same": 7}
    assert history(versioned, "b") == [1, None, 4, 5]
    assert versioned.run("verify", "--versions", "all")["outcomes"] == {"verified": 8}


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
        assert (report["code"], report["outcomes"]) == (0, {"done": 3})
        assert report["evidence"] == {"md5_etag": 3}
        assert there.get_object(Bucket="elsewhere", Key="in/large")["Body"].read() == body
        head = there.head_object(Bucket="elsewhere", Key="in/small")
        assert (head["ContentType"], head["Metadata"]) == ("text/x", {"m": "1"})
        assert there.get_object_tagging(Bucket="elsewhere", Key="in/small")["TagSet"] == [{"Key": "t", "Value": "1"}]


def _profile(world: World, other: Server) -> dict[str, str]:
    import tempfile

    file = Path(tempfile.mkdtemp()) / "credentials"
    keys = f"aws_access_key_id={other.access_key}\naws_secret_access_key={other.secret_key}\n"
    file.write_text(f"[other]\n{keys}")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file)}


@pytest.mark.parametrize("job", ["replicate", "verify"])
def test_nothing_to_do_is_no_success_unless_nothing_is_new(world: World, job: str) -> None:
    world.put("docs/k")
    world.run("replicate")
    mistyped = ["--source", f"s3://{world.source}/dosc/", "--destination", f"s3://{world.destination}/dosc/"]
    result = world.sealift(job, *mistyped, "--json")
    assert (result.code, result.document["error"]["exit_code"]) == (10, 10)
    assert f"s3://{world.source}/dosc/" in result.stderr
    filtered = world.sealift(job, *mistyped, "--source", f"s3://{world.source}", "--exclude", "*")
    assert "1 by exclude" in filtered.stderr
    report = world.run(job, "--older-than", "30d")
    assert (report["code"], report["state"], report["rows"]) == (0, "complete", 0)
