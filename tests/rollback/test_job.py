"""What the job does to single keys, and what it refuses whatever a plan or an outcome says."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Attributes, ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.errors import CustomerKeyNeeded
from jobs.rollback.rules import Move, Step
from jobs.s3.copying import CopyOptions
from jobs.s3.store import UNGUARDED
from tests.doubles.hooks import refuse
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore, Request
from tests.rollback import scene
from tests.rollback.scene import Killed, World, back, state

LOCKED = ObjectLock(legal_hold=True)


def made(*contents: bytes | None, **attributes: Any) -> World:
    """A world whose key `a` has these versions, one each second from 1 on. None: a delete marker."""
    world = World({})
    for data in contents:
        asyncio.run(world.write("a", data, Attributes(**attributes)))
        world.time += 1
    return world


def key(world: World) -> list[Version]:
    return world.versions()["a"]


def run(world: World, at: float = 1.5, name: str = "run") -> Outcome:
    [outcome] = world.work(name, asyncio.run(world.plan(at)))
    return outcome


def undo(world: World, outcome: Outcome) -> Outcome:
    [undone] = world.work("undo", back([outcome]), undo="run")
    return undone


def end(outcome: Outcome) -> tuple[Status, str, str]:
    return outcome.status, outcome.reason, outcome.detail


def test_a_copy_has_all_that_the_version_of_then_had_but_its_lock() -> None:
    along = {"metadata": {"who": "me"}, "tags": {"class": "scan"}, "headers": {"content-type": "a/b"}}
    world = made(b"one", storage_class="STANDARD_IA", sse="aws:kms", kms_key_id="key-1", lock=LOCKED, **along)
    asyncio.run(world.store.put_annotation(ObjectRef("docs", "a"), "note", b"text", object_etag=key(world)[0].etag))
    asyncio.run(world.write("a", b"encrypted", Attributes()))
    assert run(world).status is Status.DONE
    first, _, copy = key(world)
    assert state(copy) == state(first)
    assert (first.attributes.lock, copy.attributes.lock) == (LOCKED, None)


def test_what_differs_by_metadata_or_tags_alone_is_put_back() -> None:
    for attributes in (Attributes(metadata={"who": "else"}), Attributes(tags={"class": "other"})):
        world = made(b"one")
        asyncio.run(world.write("a", b"one", attributes))
        assert run(world).status is Status.DONE
        assert state(key(world)[2]) == state(key(world)[0])


def test_a_large_version_is_copied_in_parts_and_its_undo_compares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = made(b"1234567890", b"encrypted", tags={"class": "scan"})
    monkeypatch.setattr("jobs.rollback.job.CopyOptions", lambda: CopyOptions(multipart_threshold_bytes=4))
    outcome = run(world)
    assert outcome.status is Status.DONE
    assert state(key(world)[2]) == state(key(world)[0])
    assert undo(world, outcome).status is Status.DONE
    assert [each.data for each in key(world)] == [b"1234567890", b"encrypted"]


def test_a_copy_in_parts_has_its_annotations_though_its_worker_was_killed_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = made(b"1234567890", b"encrypted")
    note = partial(world.store.put_annotation, ObjectRef("docs", "a", key(world)[0].version_id), "note", b"text")
    asyncio.run(note(object_etag=key(world)[0].etag))
    monkeypatch.setattr("jobs.rollback.job.CopyOptions", lambda: CopyOptions(multipart_threshold_bytes=4))
    hook, deaths = world.hook, list[str]()

    async def kill(request: Request) -> Any:
        answer = await hook(request)
        if request.operation == "complete_multipart" and not deaths:
            deaths.append(request.operation)
            world.is_dead = True
            raise Killed
        return answer

    monkeypatch.setattr(world, "hook", kill)
    assert end(run(world)) == (Status.DONE, "", "")
    assert deaths
    assert [each.annotations for each in key(world)] == [{"note": b"text"}, {}, {"note": b"text"}]


def test_what_cannot_be_put_back_says_why() -> None:
    archived = made(b"one", storage_class="GLACIER")
    asyncio.run(archived.write("a", b"encrypted", Attributes()))
    assert end(run(archived)) == (Status.BLOCKED, Reason.ARCHIVED, "")

    null = made(b"one")
    asyncio.run(null.write("a", b"null", Attributes(), is_null=True))
    assert end(run(null)) == (Status.BLOCKED, Reason.CURRENT_UNKNOWN, "overwritten")

    gone = made(b"one", b"two", b"encrypted")
    rows = asyncio.run(gone.plan(2.5))
    asyncio.run(MemoryStore.delete(gone.store, ObjectRef("docs", "a", key(gone)[1].version_id)))
    assert end(gone.work("run", rows)[0]) == (Status.MISSING, Reason.SOURCE_GONE, "")

    for world in (archived, null):
        assert len(key(world)) == 2


def test_an_object_under_a_customers_key_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    world = made(b"one", b"encrypted")
    needed = CustomerKeyNeeded("HeadObject", "a", "CustomerKeyNeeded", status=400)
    monkeypatch.setattr(world, "hook", refuse(needed, lambda request: request.operation == "head"))
    assert end(run(world)) == (Status.BLOCKED, Reason.DENIED, "HeadObject: CustomerKeyNeeded")
    assert len(key(world)) == 2


@pytest.mark.parametrize("contents", [(b"one", b"two"), (b"one", None), (b"one", None, b"two")])
def test_nothing_is_written_while_versioning_is_suspended(contents: tuple[bytes | None, ...]) -> None:
    world = made(*contents)
    rows, before = asyncio.run(world.plan(1.5 if len(contents) == 2 else 2.5)), key(world)
    world.store.suspend_versioning("docs")
    assert end(world.work("run", rows)[0]) == (Status.BLOCKED, Reason.KEPT, "suspended")
    assert key(world) == before


@pytest.mark.parametrize(("at", "operation"), [(1.5, "copy"), (0.5, "delete")])
def test_what_others_write_a_moment_before_is_not_covered(at: float, operation: str) -> None:
    world = made(b"one", b"two") if operation == "copy" else made(b"one")
    rows, hook = asyncio.run(world.plan(at)), world.hook

    async def write_first(request: Request) -> Any:
        if request.operation == operation:
            await world.write("a", b"newer", Attributes())
        return await hook(request)

    world.hook = write_first  # type: ignore[method-assign]
    assert end(world.work("run", rows)[0]) == (Status.CHANGED, Reason.DESTINATION_DIFFERS, "plan")
    assert key(world)[-1].data == b"newer"


def test_an_equal_write_of_others_is_theirs() -> None:
    """No attempt was killed and no answer lost, so it cannot be the run's."""
    world = made(b"one", b"encrypted")
    rows = asyncio.run(world.plan(1.5))
    asyncio.run(world.write("a", b"one", Attributes()))
    [outcome] = world.work("run", rows)
    assert outcome.status is Status.SAME
    assert back([outcome]) == []


def test_a_marker_that_may_not_be_removed_is_covered_by_a_copy() -> None:
    world = made(b"one", None)
    world.denies_markers = True
    outcome = run(world)
    assert end(outcome) == (Status.DONE, "", "")
    assert [each.data for each in key(world)] == [b"one", b"", b"one"]
    assert undo(world, outcome).status is Status.DONE
    assert [each.is_delete_marker for each in key(world)] == [False, True]


def test_an_undo_leaves_what_is_locked_or_covered() -> None:
    world = made(b"one", b"encrypted")
    outcome = run(world)
    copy = key(world)[2]
    copy.attributes = replace(copy.attributes, lock=LOCKED)
    assert end(undo(world, outcome)) == (Status.BLOCKED, Reason.DENIED, "DeleteObject: AccessDenied")
    copy.attributes = replace(copy.attributes, lock=None)
    asyncio.run(world.write("a", b"newer", Attributes()))
    assert end(undo(world, outcome)) == (Status.CHANGED, Reason.DESTINATION_DIFFERS, "plan")
    assert len(key(world)) == 4


def test_an_undo_leaves_a_copy_whose_tags_others_have_changed() -> None:
    world = made(b"one", b"encrypted", tags={"class": "scan"})
    outcome = run(world)
    copy = key(world)[2]
    copy.attributes = replace(copy.attributes, tags={"class": "evidence"})
    assert end(undo(world, outcome)) == (Status.CHANGED, Reason.DESTINATION_DIFFERS, "plan")
    assert key(world)[2] is copy


@pytest.mark.parametrize("step", [Step.HIDE, Step.COPY])
def test_a_forged_row_changes_no_object_of_sealifts_own(step: Step) -> None:
    world, own = World({}), ObjectRef("docs", f".sealift/place-{'0' * 32}")
    ids = [
        asyncio.run(world.store.put(own, data, Attributes(), guard=UNGUARDED)).version_id for data in (b"one", b"two")
    ]
    before = world.store.stored("docs", own.key)
    row = ObjectVersion(0, own.key, ids[0], etag=before[0].etag, beside=Move(step, ids[1], before[1].etag))
    [outcome] = world.work("run", [row])
    assert end(outcome) == (Status.CHANGED, Reason.DESTINATION_DIFFERS, "plan")
    assert world.store.stored("docs", own.key) == before


def forged(
    world: World, step: Step, wanted: int, top: int, *, etag: str | None = "", undo: str | None = "run"
) -> Outcome:
    """What the job makes of a row that the plan has not made, by the places of two versions."""
    versions = key(world)
    move = Move(step, versions[top].version_id, versions[top].etag if etag == "" else etag)
    row = ObjectVersion(0, "a", versions[wanted].version_id, etag=versions[wanted].etag, beside=move)
    return world.work(f"forged {step} {wanted} {top} {etag} {undo}", [row], undo=undo)[0]


def test_a_forged_undo_removes_nothing_that_has_no_equal() -> None:
    world = made(b"one", b"two", b"three")
    before = key(world)
    assert forged(world, Step.REMOVE, 0, 2).status is Status.CHANGED, "other bytes"
    assert forged(world, Step.REMOVE, 2, 2).status is Status.CHANGED, "the version itself"
    assert forged(world, Step.REMOVE, 0, 1).status is Status.CHANGED, "it is not on top"
    assert forged(world, Step.REMOVE, 0, 2, etag=before[0].etag).status is Status.CHANGED, "another ETag"
    assert forged(world, Step.UNHIDE, 1, 2, etag=None).status is not Status.DONE, "no delete marker"
    assert key(world) == before


def test_a_run_that_is_no_undo_removes_no_version() -> None:
    world = made(b"one", b"two", b"one")
    assert forged(world, Step.REMOVE, 0, 2, undo=None).status is Status.CHANGED
    assert len(key(world)) == 3
    assert forged(world, Step.REMOVE, 0, 2).status is Status.DONE


def test_a_null_version_is_removed_by_no_undo() -> None:
    world = made(b"one")
    asyncio.run(world.write("a", b"one", Attributes(), is_null=True))
    assert forged(world, Step.REMOVE, 0, 1).status is Status.CHANGED
    assert len(key(world)) == 2


def test_chains_have_all_rows_once() -> None:
    world, rows = made(b"one"), [ObjectVersion(number, f"{number}") for number in range(600)]
    job = scene.job_of(world, "run", undo=None)
    assert [row for chain in job.chains(rows) for row in chain] == rows
