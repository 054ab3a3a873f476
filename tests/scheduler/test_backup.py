"""The backup function, run as Lambda runs it, over a real S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.servers import Server
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import batch, eventbridge, from_sns, notification, probe, record

ODD_KEYS = ("plain", "a b+c", "ünïcode/日本", "100%25 sure", "tab\tand\nline", "q?x=1&y#z")


def test_every_shape_of_a_created_object_is_copied(place: Place) -> None:
    keys = iter(f"k{number}" for number in range(20))

    def bridged(key: str) -> dict[str, object]:
        told = place.put(key)["s3"]["object"]
        return eventbridge(
            place.source,
            key,
            version_id=told["versionId"],
            etag=told["eTag"],
            size=4,
            sequencer=told["sequencer"],
            reason="PutObject",
        )

    bare = place.put("bare")
    for name in ("versionId", "eTag", "size", "sequencer"):
        del bare["s3"]["object"][name]
    del bare["eventTime"], bare["userIdentity"], bare["responseElements"]
    new = place.put("new")
    new["eventVersion"], new["eventName"], new["novelty"] = "2.9", "ObjectCreated:SomethingNew", {"a": [1]}
    new["s3"]["object"]["colour"] = "blue"
    bodies = [
        notification(*(place.put(key) for key in ODD_KEYS)),
        place.event(next(keys)),
        bridged("bridged a+b%20"),
        from_sns(place.event("through sns")),
        from_sns(bridged("both")),
        notification(bare),
        notification(new),
    ]
    with place.function("backup") as backup:
        assert backup.invoke(batch(*bodies)).failed == []
    for key in (*ODD_KEYS, "k0", "bridged a+b%20", "through sns", "both", "bare", "new"):
        assert place.copy_of(key) == b"body", key
    assert sorted(place.journal()) == sorted(
        (key, "copied") for key in (*ODD_KEYS, "k0", "bridged a+b%20", "through sns", "both", "bare", "new")
    )


def test_headers_metadata_and_tags_come_along(place: Place) -> None:
    told = place.event(
        "k", ContentType="text/x-log", CacheControl="no-store", Metadata={"colour": "blue"}, Tagging="team=a%20b"
    )
    with place.function("backup") as backup:
        assert backup.invoke(batch(told)).failed == []
    head = place.client.head_object(Bucket=place.hot, Key="copies/k")
    assert (head["ContentType"], head["CacheControl"], head["Metadata"]) == (
        "text/x-log",
        "no-store",
        {"colour": "blue"},
    )
    tags = place.client.get_object_tagging(Bucket=place.hot, Key="copies/k")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a b"}]


def test_what_is_no_event_fails_alone_and_what_needs_nothing_is_acknowledged(place: Place) -> None:
    old_major = place.put("refused")
    old_major["eventVersion"] = "3.0"
    bridge_major = eventbridge(place.source, "refused")
    bridge_major["detail"]["version"] = "1"
    bodies = [
        "{not json",
        "null",
        "[]",
        {"Records": []},
        {"hello": "world"},
        notification(old_major),
        bridge_major,
        notification(place.put("half"), {"eventVersion": "2.1", "eventName": "ObjectCreated:Put"}),
        notification(record("a-bucket-of-others", "k")),
        probe(place.source),
        notification(record(place.source, "k", "ObjectTagging:Put")),
        eventbridge(place.source, "k", "Object ACL Updated"),
        place.event("good"),
    ]
    with place.function("backup") as backup:
        assert backup.invoke(batch(*bodies)).failed == [f"m{number}" for number in range(9)]
        lines = backup.lines()
    assert place.copy_of("good") == b"body"
    statuses = [line["status"] for line in place.lines("journal/")]
    assert (statuses.count("failed"), statuses.count("skipped"), statuses.count("copied")) == (9, 3, 1)
    assert len([line for line in lines if line.get("event") == "unreadable"]) == 8
    (metrics,) = [line for line in lines if line.get("Pair") == "pair"]
    assert (metrics["BackedUp"], metrics["Skipped"], metrics["BytesBackedUp"]) == (1, 3, 4)
    assert metrics["OldestEventAge"] >= metrics["NewestEventAge"] >= 0
    (others,) = [line for line in lines if line.get("Pair") == "none"]
    assert others["Failed"] == 9
    assert others["OldestUnhandledEventAge"] > 0


def test_keys_that_the_pair_leaves_out_are_skipped(place: Place) -> None:
    place.write_policy(
        source={"bucket": place.source, "region": "us-east-1", "prefixes": ["in/"], "exclude": ["in/tmp/"]}
    )
    with place.function("backup") as backup:
        told = [place.event(key) for key in ("in/k", "in/tmp/k", "out/k")]
        assert backup.invoke(batch(*told)).failed == []
    assert sorted(place.journal()) == [("in/k", "copied"), ("in/tmp/k", "skipped"), ("out/k", "skipped")]
    assert [place.copy_of(key) for key in ("in/k", "in/tmp/k", "out/k")] == [b"body", None, None]


def test_late_and_doubled_events_leave_the_newest_on_top_and_everything_stored(place: Place) -> None:
    told = [place.event("k", body) for body in (b"first", b"second", b"third")]
    with place.function("backup") as backup:
        for number in (1, 2, 0, 1, 0):
            assert backup.invoke(batch(told[number])).failed == []
        assert backup.invoke(batch(*told, *told)).failed == []
    assert place.copy_of("k") == b"third"
    versions = place.client.list_object_versions(Bucket=place.hot)["Versions"]
    bodies = [
        place.client.get_object(Bucket=place.hot, Key="copies/k", VersionId=version["VersionId"])["Body"].read()
        for version in versions
    ]
    assert set(bodies) == {b"first", b"second", b"third"}
    assert len(bodies) <= 4  # the newest once more, above the first, which came late
    assert [status for _, status in place.journal()][2:] == ["copied", *["same"] * 8]


@pytest.mark.parametrize("deletes", ["mirror", "retain"])
def test_deletes_follow_the_pair(place: Place, deletes: str) -> None:
    place.write_policy(deletes=deletes)
    created = place.event("k")
    with place.function("backup") as backup:
        assert backup.invoke(batch(created)).failed == []
        answer = place.client.delete_object(Bucket=place.source, Key="k")
        deleted = notification(place.told("k", answer, "ObjectRemoved:DeleteMarkerCreated"))
        for _ in range(2):
            assert backup.invoke(batch(deleted)).failed == []
        assert backup.invoke(batch(created)).failed == []
    history = place.client.list_object_versions(Bucket=place.hot)
    assert len(history["Versions"]) == 1
    assert len(history.get("DeleteMarkers", [])) == (1 if deletes == "mirror" else 0)
    statuses = [status for _, status in place.journal()]
    assert (
        statuses
        == {
            "mirror": ["copied", "deleted", "same", "same"],
            "retain": ["copied", "retained", "retained", "same"],
        }[deletes]
    )


def test_a_lifecycle_rule_deletes_as_a_user_does(place: Place) -> None:
    place.write_policy(deletes="mirror")
    with place.function("backup") as backup:
        assert backup.invoke(batch(place.event("direct"), place.event("bridged"))).failed == []
        for key in ("direct", "bridged"):
            place.client.delete_object(Bucket=place.source, Key=key)
        bodies = (
            notification(record(place.source, "direct", "LifecycleExpiration:DeleteMarkerCreated", sequencer="FF")),
            eventbridge(
                place.source,
                "bridged",
                "Object Deleted",
                sequencer="FF",
                reason="Lifecycle Expiration",
                deletion_type="Delete Marker Created",
            ),
        )
        assert backup.invoke(batch(*bodies)).failed == []
    assert [place.copy_of(key) for key in ("direct", "bridged")] == [None, None]
    assert sorted(place.journal())[1::2] == [("bridged", "deleted"), ("direct", "deleted")]


def test_a_version_that_is_gone_is_missing_until_its_removal_is_known(place: Place) -> None:
    """And a version that was removed after its copy stays at the destination."""
    kept, gone = place.put("kept"), place.put("gone")
    version = gone["s3"]["object"]["versionId"]
    with place.function("backup") as backup:
        assert backup.invoke(batch(notification(kept))).failed == []
        for key, told in (("kept", kept), ("gone", gone)):
            place.client.delete_object(Bucket=place.source, Key=key, VersionId=told["s3"]["object"]["versionId"])
        assert backup.invoke(batch(notification(gone))).failed == ["m0"]
        other = record(place.source, "gone", "ObjectRemoved:Delete", versionId="another", sequencer="FF")
        assert backup.invoke(batch(notification(other))).failed == []
        assert backup.invoke(batch(notification(gone))).failed == ["m0"]
        removals = [
            notification(record(place.source, key, "ObjectRemoved:Delete", versionId=told, sequencer="FF"))
            for key, told in (("gone", version), ("kept", kept["s3"]["object"]["versionId"]))
        ]
        assert backup.invoke(batch(*removals)).failed == []
        assert backup.invoke(batch(notification(gone))).failed == []
    assert place.copy_of("kept") == b"body"
    assert [status for key, status in place.journal() if key == "gone"] == [
        "missing",
        "retained",
        "missing",
        "retained",
        "superseded",
    ]


def test_a_source_without_versions(unversioned: Place) -> None:
    place = unversioned
    overwritten, newest, deleted, vanished = (
        place.put("k", b"first"),
        place.put("k", b"second"),
        place.put("deleted"),
        place.put("vanished"),
    )
    for key in ("deleted", "vanished"):
        place.client.delete_object(Bucket=place.source, Key=key)
    removal = place.told("deleted", {}, "ObjectRemoved:Delete")
    with place.function("backup") as backup:
        assert backup.invoke(batch(notification(overwritten))).failed == []
        assert place.copy_of("k") == b"second"  # what is there now: the source knows nothing else
        assert backup.invoke(batch(notification(newest), notification(deleted, removal))).failed == []
        assert backup.invoke(batch(notification(vanished))).failed == ["m0"]
        again = place.put("deleted", b"again")
        assert backup.invoke(batch(notification(again), notification(deleted))).failed == []
        unexplained = place.put("deleted", b"once more")  # the removal that is known came before it
        place.client.delete_object(Bucket=place.source, Key="deleted")
        assert backup.invoke(batch(notification(unexplained))).failed == ["m0"]
    assert place.copy_of("deleted") == b"again"
    assert sorted(place.journal()) == sorted(
        [
            ("k", "superseded"),
            ("k", "same"),
            ("deleted", "superseded"),
            ("deleted", "retained"),
            ("vanished", "missing"),
            ("deleted", "copied"),
            ("deleted", "superseded"),
            ("deleted", "missing"),
        ]
    )


def test_large_objects_go_to_the_backlog(place: Place) -> None:
    place.write_policy(thresholds={"lambda_max_size": "10 B"})
    unsaid = place.put("size unsaid", b"more than ten bytes")
    del unsaid["s3"]["object"]["size"]
    with place.function("backup") as backup:
        bodies = [place.event("large, it is", b"more than ten bytes"), notification(unsaid), place.event("small", b"s")]
        assert backup.invoke(batch(*bodies)).failed == []
    assert dict(place.journal()) == {"large, it is": "handed_over", "size unsaid": "handed_over", "small": "copied"}
    (name,) = place.names("backlog/pair=pair/")
    assert name.split("-")[1] == "2"
    rows = place.lines("backlog/")
    assert {row["key"] for row in rows} == {"large, it is", "size unsaid"}
    assert all(row["version_id"] and "larger than 10 B" in row["reason"] for row in rows)


def test_a_policy_that_does_not_parse_refuses_everything_until_it_does(place: Place) -> None:
    told = batch(place.event("k"))
    good = place.policy.read_text()
    place.policy.write_text(good.replace("us-east-1", "nowhere"))
    with place.function("backup") as backup:
        answer = backup.invoke(told)
        assert answer.error_type == "PolicyError"
        assert "pairs[0].source.region" in answer.error_message
        assert [line["event"] for line in backup.lines() if line.get("level") == "error"] == ["refused"]
        place.policy.write_text(good)
        assert backup.invoke(told).failed == []
    assert place.copy_of("k") == b"body"


def test_a_destination_that_is_watched_is_a_loop_and_refused(place: Place) -> None:
    place.write_policy(destination={"bucket": place.source, "region": "us-east-1", "prefix": "copies/"})
    with place.function("backup") as backup:
        answer = backup.invoke(batch(place.event("k")))
        assert answer.error_type == "PolicyError"
        assert "a copy would be copied again" in answer.error_message
    assert place.names("") == []


def test_without_its_settings_the_function_says_which(place: Place) -> None:
    place.more = {"SEALIFT_LEDGER": ""}
    with place.function("backup") as backup:
        answer = backup.invoke(batch(place.event("k")))
    assert (answer.error_type, "SEALIFT_LEDGER" in answer.error_message) == ("ConfigError", True)


@pytest.mark.parametrize("event", [{}, {"Records": "many"}, {"Records": [{"s3": {}}]}])
def test_an_invocation_without_a_queue_is_refused(place: Place, event: dict[str, object]) -> None:
    with place.function("backup") as backup:
        answer = backup.invoke(event)
    assert (answer.error_type, "no batch of SQS messages" in answer.error_message) == ("UsageError", True)


def test_the_policy_may_lie_in_s3(place: Place) -> None:
    place.client.put_object(Bucket=place.ledger, Key="policy.yaml", Body=place.policy.read_bytes())
    place.more = {"SEALIFT_POLICY": f"s3://{place.ledger}/policy.yaml"}
    with place.function("backup") as backup:
        assert backup.invoke(batch(place.event("k"))).failed == []


def test_a_hot_bucket_without_versions_is_refused(seaweed: Server, place: Place) -> None:
    name = f"{place.hot}-plain"
    place.client.create_bucket(Bucket=name)
    place.write_policy(destination={"bucket": name, "region": "us-east-1"})
    with place.function("backup") as backup:
        assert backup.invoke(batch(place.event("k"))).failed == ["m0"]
    assert "keeps no versions" in place.lines("journal/")[0]["reason"]


def test_the_journal_can_be_queried(place: Place) -> None:
    with place.function("backup") as backup:
        assert backup.invoke(batch(place.event("a"), place.event("b"), "{")).failed == ["m2"]
    columns = "key, version_id, status, evidence, size_bytes, destination_key, destination_version_id, checksum"
    command = [sys.executable, "-m", "jobs", "query", "--format", "json", f"SELECT {columns} FROM journal ORDER BY key"]
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, cwd=".", check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["key"], row["status"]) for row in rows] == [("", "failed"), ("a", "copied"), ("b", "copied")]
    assert rows[1]["destination_key"] == "copies/a"
    assert rows[1]["destination_version_id"]
    assert rows[1]["evidence"] in ("checksum", "md5_etag")


def test_a_hundred_objects_in_one_batch_fit_a_small_function(place: Place) -> None:
    """256 MB; how long it takes is measured by hand (DESIGN.md), since it depends on the machine."""
    told = [place.event(f"k{number:03d}", b"x" * 4096) for number in range(100)]
    with place.function("backup") as backup:
        assert backup.invoke(batch(*told)).failed == []
        status = Path(f"/proc/{backup.process.pid}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < 256 * 1024
    assert [status for _, status in place.journal()] == ["copied"] * 100
    assert len(place.names("journal/")) == 1
