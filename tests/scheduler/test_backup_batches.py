"""Batches of events against a store in memory: what a real server cannot be made to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import ObjectRef
from jobs.errors import Denied, StoreError, Throttled, Unavailable, store_error
from tests.doubles.examples import examples
from tests.doubles.hooks import refuse
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import Request
from tests.scheduler.event_samples import batch, message, notification
from tests.scheduler.scene import Scene, at, slow

DENIED = Denied("CopyObject", "b", "AccessDenied", "no", 403)


def test_no_permission_on_one_key_fails_its_message_alone(scene: Scene) -> None:
    scene.store.hook(copy=refuse(DENIED, at("b")))
    assert scene.handle(scene.put("a"), scene.put("b"), scene.put("c")) == ["m1"]
    assert scene.endings() == [("a", "copied"), ("b", "denied"), ("c", "copied")]


def test_an_event_of_a_size_that_no_object_has_fails_its_message_alone(scene: Scene) -> None:
    """What S3 says of a size counts, not what an event says."""
    forged, large = scene.put("a"), scene.put("b")
    forged["Records"][0]["s3"]["object"]["size"] = 5 * 10**18
    large["Records"][0]["s3"]["object"]["size"] = 5 * 10**12
    assert scene.handle(forged, large) == ["m0"]
    assert scene.endings() == [("", "failed"), ("b", "copied")]


def test_a_message_of_several_records_comes_again_as_a_whole(scene: Scene) -> None:
    scene.store.hook(copy=refuse(DENIED, at("b")))
    both = notification(*scene.put("a")["Records"], *scene.put("b")["Records"])
    assert scene.handle(both) == ["m0"]
    scene.store.hook(copy=None)
    assert scene.handle(both) == []
    assert scene.endings() == [("a", "copied"), ("a", "same"), ("b", "copied"), ("b", "denied")]


def test_a_disabled_kms_key_is_told_by_name(scene: Scene) -> None:
    error = store_error("CopyObject", "a", "KMS.DisabledException", "arn:aws:kms:… is disabled.", 400)
    scene.store.hook(copy=refuse(error))
    assert scene.handle(scene.put("a")) == ["m0"]
    assert scene.lines("journal/")[0]["detail"] == "CopyObject: KMS.DisabledException"


def test_what_may_pass_is_tried_again_at_once(scene: Scene) -> None:
    left = [Throttled("CopyObject", "a", "SlowDown", "", 503)] * 2 + [Unavailable("CopyObject", "a", "Reset", "", 0)]

    async def fail(request: Request) -> Any:
        if left:
            raise left.pop()
        return await request()

    scene.store.hook(copy=fail)
    assert scene.handle(scene.put("a")) == []
    assert scene.endings() == [("a", "copied")]


def test_what_does_not_pass_comes_again(scene: Scene) -> None:
    scene.store.hook(copy=refuse(Unavailable("CopyObject", "a", "InternalError", "", 500), at("a")))
    assert scene.invoke(batch(scene.put("a"), scene.put("b")), remaining_seconds=600) == ["m0"]
    assert scene.endings() == [("a", "failed"), ("b", "copied")]


def test_a_copy_slower_than_the_time_left_becomes_backlog(scene: Scene) -> None:
    scene.store.hook(copy=slow(lambda request: 60.0 * (request.place.key == "slow")))
    assert scene.invoke(batch(scene.put("slow"), scene.put("quick")), remaining_seconds=1.0) == []
    assert scene.endings() == [("quick", "copied"), ("slow", "handed_over")]
    assert [row["key"] for row in scene.lines("backlog/pair=pair/")] == ["slow"]


def test_what_was_not_begun_in_time_becomes_backlog(scene: Scene) -> None:
    scene.store.hook(copy=slow(lambda request: 60.0))
    assert scene.invoke(batch(*(scene.put(f"k{number:02d}") for number in range(40))), remaining_seconds=1.0) == []
    assert len(scene.lines("backlog/pair=pair/")) == 40


def test_an_older_version_on_top_is_not_acknowledged_while_the_newest_is_refused(scene: Scene) -> None:
    old, new = scene.put("k", b"old"), scene.put("k", b"new")
    assert scene.handle(new) == []
    copies = iter([False, True])  # the append; the return

    async def refuse_the_return(request: Request) -> Any:
        if next(copies):
            raise DENIED
        return await request()

    scene.store.hook(copy=refuse_the_return, head=refuse(DENIED, lambda request: request.place.bucket != "source"))
    assert scene.handle(old) == ["m0"]
    assert scene.copy_of("k") == b"old"
    scene.store.hook(copy=None, head=None)
    assert scene.handle(old) == []
    assert scene.copy_of("k") == b"new"


def test_an_archived_object_waits_in_the_backlog_until_it_is_restored(scene: Scene) -> None:
    event = scene.put("cold", storage_class="GLACIER")
    assert scene.handle(event) == []
    assert "archived" in scene.lines("backlog/pair=pair/")[0]["reason"]
    version = event["Records"][0]["s3"]["object"]["versionId"]
    scene.store.restore(ObjectRef("source", "cold", version))
    assert scene.handle(scene.event("cold", "ObjectRestore:Completed", versionId=version)) == []
    assert scene.endings() == [("cold", "copied"), ("cold", "handed_over")]


def test_a_backlog_that_cannot_be_written_fails_its_messages(scene: Scene) -> None:
    scene.store.hook(put=refuse(DENIED, lambda request: "/backlog/" in request.place.key))
    assert scene.handle(scene.put("cold", storage_class="GLACIER"), scene.put("k")) == ["m0"]
    assert scene.endings() == [("cold", "failed"), ("k", "copied")]


def test_a_ledger_that_cannot_be_written_fails_every_message(scene: Scene) -> None:
    """The work is done, yet not accounted for: it comes again and is found done."""
    event = scene.put("k")
    scene.store.hook(put=refuse(DENIED))
    with pytest.raises(Denied):
        scene.handle(event)
    scene.store.hook(put=None)
    assert scene.handle(event) == []
    assert scene.endings() == [("k", "same")]


def test_a_journal_whose_answer_is_lost_is_written_once(scene: Scene) -> None:
    scene.store.hook(put=LostAnswers())
    assert scene.handle(scene.put("k")) == []
    assert scene.endings() == [("k", "copied")]


def test_the_policy_is_read_again_after_a_minute(scene: Scene, tmp_path: Path) -> None:
    now = 0.0
    scene.runtime.clock = lambda: now
    assert scene.handle(scene.put("a")) == []
    (tmp_path / "policy.json").write_text("{}")
    assert scene.handle(scene.put("b")) == []
    now = 61.0
    with pytest.raises(Exception, match="policy check"):
        scene.handle(scene.put("c"))


def by_chance(chance: random.Random) -> Callable[[Request], Any]:
    async def fail(request: Request) -> Any:
        if chance.random() < 0.05:
            raise Denied(request.operation, "", "AccessDenied", "", 403)
        if chance.random() < 0.02:
            raise Unavailable(request.operation, "", "Reset", "", 0)
        return await request()

    return fail


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["mirror", "retain"]))
def test_messages_that_come_again_until_they_are_done_account_for_every_event(
    tmp_path_factory: pytest.TempPathFactory, seed: int, deletes: str
) -> None:
    """As the event source mapping does it: any batches, duplicates, failures of any request, messages returned."""
    chance = random.Random(seed)
    scene = Scene(tmp_path_factory.mktemp("policy"), deletes=deletes)
    events: list[dict[str, Any]] = []
    newest: dict[str, bytes | None] = {}
    for number in range(chance.randrange(1, 15)):
        key = chance.choice("ab")
        if chance.random() < 0.7:
            newest[key] = b"%d" % number
            events.append(scene.put(key, newest[key] or b""))
        else:
            events.append(scene.delete(key))
            if deletes == "mirror":
                newest[key] = None
    waiting = [message(event, str(number)) for number, event in enumerate(events)]
    waiting += [message(event, f"{number} again") for number, event in enumerate(events) if chance.random() < 0.3]
    scene.store.hook(every=by_chance(chance))
    received = 0
    with pytest.MonkeyPatch.context() as patch:
        # Nobody has to wait for a store in memory.
        patch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
        while waiting:
            chance.shuffle(waiting)
            some = waiting[: chance.randrange(1, 11)]
            waiting = [each for each in waiting if each not in some]
            received += 1
            if received > 200:
                scene.store.hook(every=None)
            try:
                failed = scene.invoke({"Records": some})
            except StoreError:
                failed = [each["messageId"] for each in some]
            waiting += [each for each in some if each["messageId"] in failed]
    for key, expected in newest.items():
        assert scene.copy_of(key) == expected
    done = {line["sequencer"] for line in scene.lines("journal/") if line["status"] not in ("failed", "denied")}
    assert done == {event["Records"][0]["s3"]["object"]["sequencer"] for event in events}
