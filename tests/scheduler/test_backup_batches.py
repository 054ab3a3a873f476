"""Batches of events against a store in memory: what a real server cannot be made to do."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import Denied, NotFound, StoreError, Throttled, Unavailable
from jobs.s3.store import UNGUARDED
from scheduler import backlog
from scheduler.backup import handle
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
from tests.scheduler.event_samples import batch, message, notification, record

Fail = Callable[[str, tuple[Any, ...]], StoreError | None]


class Faulty(MemoryStore):
    """`fail` is asked before each request, and `slow` says how long one takes."""

    def __init__(self) -> None:
        super().__init__()
        for bucket in ("source", "hotter", "ledger"):
            self.create_bucket(bucket)
        self.fail: Fail = lambda operation, arguments: None
        self.slow: Callable[[str, tuple[Any, ...]], float] = lambda operation, arguments: 0.0
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("head", "get", "put", "copy", "delete", "list_versions", "list_objects", "is_versioned"):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if seconds := self.slow(name, arguments):
                await asyncio.sleep(seconds)
            if (error := self.fail(name, arguments)) is not None:
                raise error
            return await found(*arguments, **named)

        return call


class Scene:
    """A store, a policy and the function over them."""

    def __init__(self, folder: Path, deletes: str = "retain") -> None:
        self.store = Faulty()
        pair = {
            "name": "pair",
            "source": {"bucket": "source", "region": "us-east-1"},
            "destination": {"bucket": "hotter", "region": "us-east-1"},
            "deletes": deletes,
        }
        document = {"version": 1, "ledger": {"bucket": "ledger", "region": "us-east-1"}, "pairs": [pair]}
        (folder / "policy.yaml").write_text(yaml.safe_dump(document))
        self.runtime = Runtime(
            FunctionSettings(str(folder / "policy.yaml"), Location("ledger", "l")),
            open_region=lambda *_: self.store,
        )
        self.sequencer = 0

    def put(self, key: str, body: bytes = b"body", **attributes: Any) -> dict[str, Any]:
        written = asyncio.run(
            MemoryStore.put(self.store, "source", key, body, Attributes(**attributes), guard=UNGUARDED)
        )
        return self.told(key, "ObjectCreated:Put", versionId=written.version_id, eTag=written.etag, size=len(body))

    def told(self, key: str, name: str, **thing: Any) -> dict[str, Any]:
        self.sequencer += 1
        return notification(record("source", key, name, sequencer=f"{self.sequencer:016X}", **thing))

    def invoke(self, event: Mapping[str, Any], remaining_seconds: float = 30.0) -> list[str]:
        answer = self.runtime.run(handle(self.runtime, event, remaining_seconds, "request"))
        return [each["itemIdentifier"] for each in answer["batchItemFailures"]]

    def lines(self, folder: str) -> list[dict[str, Any]]:
        page = asyncio.run(MemoryStore.list_objects(self.store, "ledger", f"l/{folder}"))
        bodies = [asyncio.run(MemoryStore.get(self.store, ObjectRef("ledger", each.key))).data for each in page.entries]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def endings(self) -> list[tuple[str, str]]:
        return [(line["key"], line["status"]) for line in self.lines("journal/")]

    def copy_of(self, key: str) -> bytes | None:
        try:
            return asyncio.run(MemoryStore.get(self.store, ObjectRef("hotter", key))).data
        except NotFound:
            return None


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def on_key(operation: str, key: str, error: StoreError) -> Fail:
    """Fail one kind of request for one destination key."""

    def fail(name: str, arguments: tuple[Any, ...]) -> StoreError | None:
        return error if name == operation and key in arguments else None

    return fail


def test_no_permission_on_one_key_fails_its_message_alone(scene: Scene) -> None:
    scene.store.fail = on_key("copy", "b", Denied("CopyObject", "b", "AccessDenied", "no", 403))
    assert scene.invoke(batch(scene.put("a"), scene.put("b"), scene.put("c"))) == ["m1"]
    assert sorted(scene.endings()) == [("a", "copied"), ("b", "denied"), ("c", "copied")]


def test_an_event_of_a_size_that_no_object_has_fails_its_message_alone(scene: Scene) -> None:
    """It was handed over under a name that nothing reads, and the large objects of its batch with it."""
    forged, large = scene.put("a"), scene.put("b")
    forged["Records"][0]["s3"]["object"]["size"] = 5 * 10**18
    large["Records"][0]["s3"]["object"]["size"] = 5 * 10**12
    assert scene.invoke(batch(forged, large)) == ["m0"]
    assert sorted(scene.endings()) == [("", "failed"), ("b", "handed_over")]
    waiting = scene.runtime.run(backlog.waiting(scene.runtime, "pair"))
    assert [(each.rows, each.size_bytes) for each in waiting] == [(1, len(b"body"))]  # as S3 says


def test_a_message_of_several_records_comes_again_as_a_whole(scene: Scene) -> None:
    scene.store.fail = on_key("copy", "b", Denied("CopyObject", "b", "AccessDenied", "no", 403))
    both = notification(*scene.put("a")["Records"], *scene.put("b")["Records"])
    assert scene.invoke(batch(both)) == ["m0"]
    scene.store.fail = lambda operation, arguments: None
    assert scene.invoke(batch(both)) == []
    assert sorted(scene.endings()) == [("a", "copied"), ("a", "same"), ("b", "copied"), ("b", "denied")]


def test_a_disabled_kms_key_is_told_by_name(scene: Scene) -> None:
    from jobs.errors import store_error

    error = store_error("CopyObject", "a", "KMS.DisabledException", "arn:aws:kms:… is disabled.", 400)
    scene.store.fail = on_key("copy", "a", error)
    assert scene.invoke(batch(scene.put("a"))) == ["m0"]
    assert "KMS.DisabledException" in scene.lines("journal/")[0]["reason"]


def test_what_may_pass_is_tried_again_at_once(scene: Scene) -> None:
    left = [Throttled("CopyObject", "a", "SlowDown", "", 503)] * 2 + [Unavailable("CopyObject", "a", "Reset", "", 0)]
    scene.store.fail = lambda operation, arguments: left.pop() if operation == "copy" and left else None
    assert scene.invoke(batch(scene.put("a"))) == []
    assert scene.endings() == [("a", "copied")]


def test_what_does_not_pass_comes_again(scene: Scene) -> None:
    scene.store.fail = on_key("copy", "a", Unavailable("CopyObject", "a", "InternalError", "", 500))
    assert scene.invoke(batch(scene.put("a"), scene.put("b")), remaining_seconds=600) == ["m0"]
    assert sorted(scene.endings()) == [("a", "failed"), ("b", "copied")]


def test_a_copy_slower_than_the_time_left_becomes_backlog(scene: Scene) -> None:
    scene.store.slow = lambda operation, arguments: 60.0 if operation == "copy" and "slow" in arguments else 0.0
    assert scene.invoke(batch(scene.put("slow"), scene.put("quick")), remaining_seconds=1.0) == []
    assert sorted(scene.endings()) == [("quick", "copied"), ("slow", "handed_over")]
    assert [row["key"] for row in scene.lines("backlog/pair=pair/")] == ["slow"]


def test_what_was_not_begun_in_time_comes_again(scene: Scene) -> None:
    scene.store.slow = lambda operation, arguments: 60.0 if operation == "copy" else 0.0
    told = [scene.put(f"k{number:02d}") for number in range(40)]
    failed = scene.invoke(batch(*told), remaining_seconds=1.0)
    assert len(failed) == 8  # 32 at a time
    assert len(scene.lines("backlog/pair=pair/")) == 32


def test_an_older_version_on_top_is_never_acknowledged(scene: Scene) -> None:
    """The time is over between the older version's append and the newest one's return."""
    old, new = scene.put("k", b"old"), scene.put("k", b"new")
    assert scene.invoke(batch(new)) == []
    copies = iter([0.0, 60.0])  # the append; the return
    scene.store.slow = lambda operation, arguments: next(copies) if operation == "copy" else 0.0
    assert scene.invoke(batch(old), remaining_seconds=1.0) == ["m0"]
    assert scene.copy_of("k") == b"old"
    scene.store.slow = lambda operation, arguments: 0.0
    assert scene.invoke(batch(old)) == []
    assert scene.copy_of("k") == b"new"
    assert scene.lines("backlog/") == []


def test_an_archived_object_waits_in_the_backlog_until_it_is_restored(scene: Scene) -> None:
    told = scene.put("cold", storage_class="GLACIER")
    assert scene.invoke(batch(told)) == []
    assert "archived" in scene.lines("backlog/pair=pair/")[0]["reason"]
    version = told["Records"][0]["s3"]["object"]["versionId"]
    scene.store.restore(ObjectRef("source", "cold", version))
    assert scene.invoke(batch(scene.told("cold", "ObjectRestore:Completed", versionId=version))) == []
    # both may be of the same millisecond, which the journal's names begin with
    assert sorted(scene.endings()) == [("cold", "copied"), ("cold", "handed_over")]


def test_a_backlog_that_cannot_be_written_fails_its_messages(scene: Scene) -> None:
    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        is_backlog = operation == "put" and "/backlog/" in str(arguments[1])
        return Denied("PutObject", "backlog", "AccessDenied", "", 403) if is_backlog else None

    scene.store.fail = fail
    assert scene.invoke(batch(scene.put("cold", storage_class="GLACIER"), scene.put("k"))) == ["m0"]
    assert sorted(scene.endings()) == [("cold", "failed"), ("k", "copied")]


def test_a_ledger_that_cannot_be_written_fails_every_message(scene: Scene) -> None:
    """The work is done, yet not accounted for: it comes again and is found done."""
    told = batch(scene.put("k"))

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        return Denied("PutObject", "journal", "AccessDenied", "", 403) if operation == "put" else None

    scene.store.fail = fail
    with pytest.raises(Denied):
        scene.invoke(told)
    scene.store.fail = lambda operation, arguments: None
    assert scene.invoke(told) == []
    assert scene.endings() == [("k", "same")]


def test_a_journal_whose_answer_is_lost_is_written_once(scene: Scene) -> None:
    lost = [Unavailable("PutObject", "journal", "Reset", "", 0)]
    put = MemoryStore.put

    async def lossy(*arguments: Any, **named: Any) -> Any:
        answer = await put(scene.store, *arguments, **named)
        if lost:
            raise lost.pop()
        return answer

    told = batch(scene.put("k"))
    scene.store.put = lossy  # type: ignore[method-assign]  # of this one instance
    assert scene.invoke(told) == []
    assert scene.endings() == [("k", "copied")]


def test_the_policy_is_read_again_after_a_minute(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    now = [0.0]
    scene.runtime.clock = lambda: now[0]
    assert scene.invoke(batch(scene.put("a"))) == []
    (tmp_path / "policy.yaml").write_text("version: 1")
    assert scene.invoke(batch(scene.put("b"))) == []
    now[0] = 61.0
    with pytest.raises(Exception, match="missing: write"):
        scene.invoke(batch(scene.put("c")))


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["mirror", "retain"]))
def test_messages_that_come_again_until_they_are_done_account_for_every_event(
    tmp_path_factory: pytest.TempPathFactory, seed: int, deletes: str
) -> None:
    """As the event source mapping does it: any batches, duplicates, failures of any request, messages returned."""
    chance = random.Random(seed)
    scene = Scene(tmp_path_factory.mktemp("policy"), deletes)
    events: list[dict[str, Any]] = []
    newest: dict[str, bytes | None] = {}
    for number in range(chance.randrange(1, 15)):
        key = chance.choice("ab")
        if chance.random() < 0.7:
            newest[key] = b"%d" % number
            events.append(scene.put(key, newest[key] or b""))
        else:
            deleted = asyncio.run(MemoryStore.delete(scene.store, "source", key))
            events.append(scene.told(key, "ObjectRemoved:DeleteMarkerCreated", versionId=deleted.version_id))
            if deletes == "mirror":
                newest[key] = None
    waiting = [message(event, str(number)) for number, event in enumerate(events)]
    waiting += [message(event, f"{number} again") for number, event in enumerate(events) if chance.random() < 0.3]

    def fail(operation: str, arguments: tuple[Any, ...]) -> StoreError | None:
        if chance.random() < 0.05:
            return Denied(operation, "", "AccessDenied", "", 403)
        return Unavailable(operation, "", "Reset", "", 0) if chance.random() < 0.02 else None

    scene.store.fail = fail
    received = 0
    with pytest.MonkeyPatch.context() as patch:
        for module in ("scheduler.backup", "jobs.s3.retries"):  # nobody has to wait for a store in memory
            patch.setattr(f"{module}.backoff_seconds", lambda attempt, jitter: 0.0)
        while waiting:
            chance.shuffle(waiting)
            some = waiting[: chance.randrange(1, 11)]
            waiting = [each for each in waiting if each not in some]
            received += 1
            if received > 200:
                scene.store.fail = lambda operation, arguments: None
            try:
                failed = scene.invoke({"Records": some})
            except StoreError:
                failed = [each["messageId"] for each in some]
            waiting += [each for each in some if each["messageId"] in failed]
    for key, expected in newest.items():
        assert scene.copy_of(key) == expected
    done = {line["sequencer"] for line in scene.lines("journal/") if line["status"] not in ("failed", "denied")}
    assert done == {event["Records"][0]["s3"]["object"]["sequencer"] for event in events}
