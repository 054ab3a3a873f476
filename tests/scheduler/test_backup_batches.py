"""Batches of events against a store in memory: what a real server cannot be made to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.errors import Denied, Throttled, Unavailable
from tests.doubles.hooks import refuse
from tests.doubles.lost_answers import LostAnswers
from tests.doubles.memory_store import Request
from tests.scheduler.event_samples import batch, notification
from tests.scheduler.scene import Scene, at, slow

DENIED = Denied("CopyObject", "b", "AccessDenied", "no", 403)


@pytest.mark.parametrize(
    ("error", "ending", "detail"),
    [
        (DENIED, "denied", "AccessDenied"),
        (Unavailable("CopyObject", "b", "InternalError", "", 500), "failed", "InternalError"),
        (ZeroDivisionError("a bug"), "failed", "ZeroDivisionError"),
    ],
)
def test_an_error_fails_its_key_alone(scene: Scene, error: Exception, ending: str, detail: str) -> None:
    scene.store.hook(copy=refuse(error, at("b")))
    assert scene.invoke(batch(*map(scene.put, "abc")), remaining_seconds=600) == ["m1"]
    assert scene.endings() == [("a", "copied"), ("b", ending), ("c", "copied")]
    assert [detail in line["detail"] for line in scene.lines("journal/") if line["key"] == "b"] == [True]


def test_a_message_of_several_records_comes_again_as_a_whole(scene: Scene) -> None:
    scene.store.hook(copy=refuse(DENIED, at("b")))
    both = notification(*scene.put("a")["Records"], *scene.put("b")["Records"])
    assert scene.handle(both) == ["m0"]
    scene.store.hook(copy=None)
    assert scene.handle(both) == []
    assert scene.endings() == [("a", "copied"), ("a", "same"), ("b", "copied"), ("b", "denied")]


def test_what_may_pass_is_tried_again_at_once(scene: Scene) -> None:
    left = [Throttled("CopyObject", "a", "SlowDown", "", 503)] * 2 + [Unavailable("CopyObject", "a", "Reset", "", 0)]

    async def fail(request: Request) -> Any:
        if left:
            raise left.pop()
        return await request()

    scene.store.hook(copy=fail)
    assert scene.handle(scene.put("a")) == []
    assert scene.endings() == [("a", "copied")]


def test_a_copy_slower_than_the_time_left_becomes_backlog(scene: Scene) -> None:
    scene.store.hook(copy=slow(lambda request: 60.0 * (request.place.key == "slow")))
    assert scene.invoke(batch(scene.put("slow"), scene.put("quick")), remaining_seconds=1.0) == []
    assert scene.endings() == [("quick", "copied"), ("slow", "handed_over")]
    assert [row["key"] for row in scene.lines("backlog/pair=pair/")] == ["slow"]


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
