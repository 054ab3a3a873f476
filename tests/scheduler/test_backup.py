"""The backup function: each event of a batch, and what the function does as Lambda runs it, over a real S3 server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.core.reasons import Reason
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import batch, eventbridge, from_sns, notification, probe, record
from tests.scheduler.scene import Scene

ODD_KEYS = ("plain", "a b+c", "ünïcode/日本", "100%25 sure", "tab\tand\nline", "q?x=1&y#z")
WITHIN = {"bucket": "source", "region": "us-east-1", "prefixes": ["in/"], "exclude": ["in/tmp/"]}


def test_every_shape_of_a_created_object_is_copied(place: Place) -> None:
    def bridged(key: str) -> dict[str, Any]:
        thing = place.put(key)["s3"]["object"]
        about = {"version_id": thing["versionId"], "etag": thing["eTag"], "sequencer": thing["sequencer"]}
        return eventbridge(place.source, key, size=4, reason="PutObject", **about)

    bare = place.put("bare")
    for name in ("versionId", "eTag", "size", "sequencer"):
        del bare["s3"]["object"][name]
    del bare["eventTime"], bare["userIdentity"], bare["responseElements"]
    notified = notification(*(place.put(key) for key in ODD_KEYS), bare)
    with place.function("backup") as backup:
        assert backup.invoke(batch(notified, bridged("bridged a+b%20"), from_sns(bridged("both")))).failed == []
    keys = (*ODD_KEYS, "bridged a+b%20", "both", "bare")
    assert {key: place.copy_of(key) for key in keys} == dict.fromkeys(keys, b"body")
    assert sorted(place.journal()) == sorted((key, "copied") for key in keys)


def test_what_is_no_event_fails_alone_and_what_needs_nothing_is_acknowledged(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    old_major = scene.put("refused")
    old_major["Records"][0]["eventVersion"] = "3.0"
    bridge_major = eventbridge("source", "refused")
    bridge_major["detail"]["version"] = "1"
    half = {"eventVersion": "2.1", "eventName": "ObjectCreated:Put"}
    unreadable = ["{not json", "null", "[]", {"Records": []}, {"hello": "world"}, old_major, bridge_major]
    unreadable.append(notification(*scene.put("half")["Records"], half))
    skipped = [
        probe("source"),
        notification(record("source", "k", "ObjectTagging:Put")),
        eventbridge("source", "k", "Object ACL Updated"),
    ]
    failed = scene.handle(*unreadable, notification(record("a-bucket-of-others", "k")), *skipped, scene.put("good"))
    assert failed == [f"m{number}" for number in range(9)]
    assert scene.copy_of("good") == b"body"
    assert Counter(status for _, status in scene.endings()) == {"failed": 9, "skipped": 3, "copied": 1}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len([line for line in lines if line.get("event") == "unreadable"]) == 8
    (metrics,) = [line for line in lines if line.get("Pair") == "pair"]
    assert (metrics["BackedUp"], metrics["Skipped"], metrics["BytesBackedUp"]) == (1, 3, 4)
    assert "_aws" not in metrics  # nothing waits
    (others,) = [line for line in lines if line.get("Pair") == "none"]
    assert others["Failed"] == 9
    assert others["OldestUnhandledEventAge"] > 0


def test_keys_that_the_pair_leaves_out_and_objects_of_sealift_are_skipped(tmp_path: Path) -> None:
    scene = Scene(tmp_path, source=WITHIN, deletes="mirror")
    own, users = f"in/.sealift/place-{'0a' * 16}.json", "in/.sealift/place-names.txt"
    assert scene.handle(*(scene.put(key) for key in (own, users, "in/k", "in/tmp/k", "out/k"))) == []
    assert scene.handle(scene.delete(own)) == []
    taken, left = [(users, "copied"), ("in/k", "copied")], [(own, "skipped"), (own, "skipped")]
    assert scene.endings() == [*left, *taken, ("in/tmp/k", "skipped"), ("out/k", "skipped")]
    assert [scene.copy_of(key) for key in (own, users, "in/k", "in/tmp/k", "out/k")] == [
        None,
        b"body",
        b"body",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("deletes", "statuses"),
    [("mirror", ["copied", "deleted", "same", "same"]), ("retain", ["copied", "retained", "retained", "same"])],
)
def test_deletes_follow_the_pair(tmp_path: Path, deletes: str, statuses: list[str]) -> None:
    scene = Scene(tmp_path, deletes=deletes)
    created = scene.put("k")
    assert scene.handle(created) == []
    deleted = scene.delete("k")
    for event in (deleted, deleted, created):
        assert scene.handle(event) == []
    assert scene.copies() == [b"body", *[None] * (deletes == "mirror")]
    assert Counter(status for _, status in scene.endings()) == Counter(statuses)


def test_a_version_that_is_gone_was_removed_after_its_event(scene: Scene) -> None:
    """And a version that was removed after its copy stays at the destination."""
    kept, gone = scene.put("kept"), scene.put("gone")
    assert scene.handle(kept) == []
    removals = [scene.delete(key, scene.history("source", key)[0].version_id) for key in ("gone", "kept")]
    assert scene.handle(gone, *removals) == []
    assert scene.copy_of("kept") == b"body"
    assert scene.copy_of("gone") is None
    assert scene.endings() == [("gone", "retained"), ("gone", "superseded"), ("kept", "copied"), ("kept", "retained")]


def test_a_source_without_versions(tmp_path: Path) -> None:
    scene = Scene(tmp_path, versioned=False)
    overwritten, newest = scene.put("k", b"first"), scene.put("k", b"second")
    deleted, vanished = scene.put("deleted"), scene.put("vanished")
    removal = scene.delete("deleted")
    scene.delete("vanished")
    assert scene.handle(overwritten) == []
    assert scene.copy_of("k") == b"second"  # what is there now: the source knows nothing else
    assert scene.handle(newest, deleted, removal) == []
    assert scene.handle(vanished) == []
    assert scene.handle(scene.put("deleted", b"again"), deleted) == []
    assert scene.copy_of("deleted") == b"again"
    assert Counter(scene.endings()) == {
        ("k", "superseded"): 1,
        ("k", "same"): 1,
        ("deleted", "superseded"): 2,
        ("deleted", "retained"): 1,
        ("deleted", "copied"): 1,
        ("vanished", "superseded"): 1,
    }


def test_large_objects_go_to_the_backlog(tmp_path: Path) -> None:
    scene = Scene(tmp_path, thresholds={"lambda_max_size": "10 B"})
    unsaid = scene.put("size unsaid", b"more than ten bytes")
    del unsaid["Records"][0]["s3"]["object"]["size"]
    assert scene.handle(scene.put("large, it is", b"more than ten bytes"), unsaid, scene.put("small", b"s")) == []
    assert dict(scene.endings()) == {"large, it is": "handed_over", "size unsaid": "handed_over", "small": "copied"}
    rows = scene.lines("backlog/pair=pair/")
    assert {row["key"] for row in rows} == {"large, it is", "size unsaid"}
    assert all(row["version_id"] and row["reason"] == Reason.TOO_LARGE for row in rows)


def test_versions_whose_copies_are_not_found_by_a_few_comparisons_go_to_the_backlog(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    events = [scene.put("k", b"same", metadata={"number": str(number)}) for number in range(12)]
    assert scene.handle(events[-1]) == []
    assert [failed for event in events * 2 for failed in scene.handle(event)] == []
    rows = scene.lines("backlog/pair=pair/")
    assert {row["reason"] for row in rows} == {Reason.TOO_SLOW}
    left, versions = {row["version_id"] for row in rows}, scene.store.stored("source", "k")
    assert left < {each.version_id for each in versions}
    copied = [each.attributes.metadata for each in scene.store.stored("hotter", "k")]
    assert all(each.attributes.metadata in copied for each in versions if each.version_id not in left)


def test_a_policy_that_does_not_parse_refuses_everything_until_it_does(place: Place) -> None:
    event = batch(place.event("k"))
    good = place.policy.read_text()
    place.policy.write_text(good.replace("us-east-1", "nowhere"))
    with place.function("backup") as backup:
        answer = backup.invoke(event)
        assert answer.error_type == "PolicyError"
        assert "$.policy.ledger.region" in answer.error_message
        assert [line["event"] for line in backup.lines() if line.get("level") == "error"] == ["refused"]
        place.policy.write_text(good)
        assert backup.invoke(event).failed == []
    assert place.copy_of("k") == b"body"


def test_a_policy_may_lie_in_s3_and_settings_that_lack_are_named(place: Place) -> None:
    place.client.put_object(Bucket=place.ledger, Key="policy.json", Body=place.policy.read_bytes())
    place.more = {"SEALIFT_POLICY": f"s3://{place.ledger}/policy.json", "SEALIFT_LEDGER": ""}
    with place.function("backup") as backup:
        answer = backup.invoke(batch(place.event("k")))
    assert (answer.error_type, "SEALIFT_LEDGER" in answer.error_message) == ("ConfigError", True)
    del place.more["SEALIFT_LEDGER"]
    with place.function("backup") as backup:
        assert backup.invoke(batch(place.event("k"))).failed == []


def test_a_hot_bucket_without_versions_is_refused(tmp_path: Path) -> None:
    scene = Scene(tmp_path, hot_versioned=False)
    assert scene.handle(scene.put("k")) == ["m0"]
    assert "keeps no versions" in scene.lines("journal/")[0]["detail"]


@pytest.mark.slow
def test_a_hundred_objects_in_one_batch_fit_a_small_function(place: Place) -> None:
    """256 MB; how long it takes is measured by hand (DESIGN.md), since it depends on the machine."""
    events = [place.event(f"k{number:03d}", b"x" * 4096) for number in range(100)]
    with place.function("backup") as backup:
        assert backup.invoke(batch(*events)).failed == []
        status = Path(f"/proc/{backup.process.pid}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < 256 * 1024
    assert [status for _, status in place.journal()] == ["copied"] * 100
    assert len(place.names("journal/")) == 1
