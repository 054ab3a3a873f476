"""An undo of a run whose worker was killed before it confirmed, on machines whose clocks are wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.enums import Step
from jobs.core.model import ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, PartlyDone, Status
from jobs.errors import Denied, NotFound, Unavailable
from jobs.expire.undo import LAST_SECONDS, undo_run, unhide
from jobs.ledger.ledger import UNDONE, Checkpoint, Ledger
from jobs.ledger.tombstones import Tombstone, Tombstones
from jobs.s3.store import Deleted
from jobs.tables.rows import write_outcomes
from tests.doubles.hooks import Killed
from tests.doubles.memory_store import Request
from tests.expire.scene import (
    DAY,
    LEDGER,
    NOW,
    Shop,
    job,
    job_of_another_run,
    one,
    shop,
    store_over,
    undo,
    work,
)

HOUR = 3600.0


@pytest.mark.parametrize(
    ("ahead", "deleted_after", "has_upload", "goes"),
    [
        *((ahead, 1.0, False, True) for ahead in (-HOUR / 2, 0.0, HOUR, 40 * 24 * HOUR)),
        *((0.0, deleted_after, False, False) for deleted_after in (-HOUR, 2 * HOUR)),
        *((0.0, deleted_after, True, False) for deleted_after in (1.0, 2 * HOUR)),
    ],
)
def test_the_marker_of_a_killed_attempt_goes_if_it_is_surely_its_own(
    ahead: float, deleted_after: float, has_upload: bool, goes: bool
) -> None:
    """Whatever the clock of its machine said: an announcement of later than the marker passed for one of another
    deletion, and all for brought back. A marker of long after the announcement stays, and one above an upload in parts,
    which S3 orders by its beginning: nothing lay directly above the version, so undo said that all was back.
    One of long before it is somebody's, who deleted the object while its copy was compared: there is nothing to say.
    """
    store = shop()
    row = store.original()
    upload = store.begin_upload()
    announce(store, stone_of(row, recorded_at=store.now + ahead))
    store.now += deleted_after
    store.hide(row)
    if has_upload:
        store.end_upload(upload)
    store.now += DAY
    undone = undo(store)
    assert (undone.markers, len(undone.problems), undone.lost) == (goes, not goes and deleted_after > 0, 0)
    assert (store.current() == {"k": b"content"}) is goes


@pytest.mark.parametrize("step", [Step.REMOVE, Step.HIDE])
def test_the_last_of_several_killed_attempts_counts(step: Step) -> None:
    """An attempt was to remove a hidden version, or had hidden it. Somebody brought it back, and the next attempt hid
    it. Undo said that all was back, and that attempt's successor, that it was not hidden."""
    store = shop()
    rows = store.originals(2)
    announce(store, stone_of(rows[0], step=step), marker_id="gone" if step is Step.HIDE else None)
    store.now += HOUR
    announce(store, *(stone_of(row, recorded_at=store.now) for row in rows))
    store.hide(*rows)
    undone = undo(store)
    assert (undone.markers, undone.problems) == (2, [])
    store.hide(*rows)
    assert [each.status for each in work(job(store), rows)] == [Status.DONE] * 2


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_marker_of_another_run_stays(is_killed: bool) -> None:
    """A run was killed before it hid anything, and the next one hid it. Undo of the first brought it back."""
    store = shop()
    row = store.original()
    announce(store, stone_of(row))
    other = job_of_another_run(store, grace_days=0)
    if is_killed:
        asyncio.run(other.tombstones.announce([stone_of(row)]))
        store.hide(row)
    else:
        assert [each.status for each in work(other, [row])] == [Status.DONE]
    undone = undo(store)
    assert (undone.markers, len(undone.problems), store.current()) == (0, 1, {})
    undone = asyncio.run(unhide(store, other.tombstones))
    assert (undone.markers, store.current()) == ((0, {}) if is_killed else (1, {"k": b"content"}))


@pytest.mark.parametrize(("own", "named"), [(None, "null"), ("null", None)])
def test_the_marker_of_another_run_stays_where_one_names_the_null_version(own: str | None, named: str | None) -> None:
    """A run saw no ids while versioning was off. Both were killed, and undo brought the other one's object back."""
    store = shop(versioned=False)
    row = store.original()
    store.enable_versioning("docs")
    announce(store, stone_of(row._replace(version_id=own), Step.HIDE if own else Step.REMOVE))
    other = job_of_another_run(store, grace_days=0).tombstones
    asyncio.run(other.announce([stone_of(row._replace(version_id=named), Step.HIDE if named else Step.REMOVE)]))
    store.hide(row)
    undone = undo(store)
    assert (undone.markers, len(undone.problems), store.current()) == (0, 1, {})


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_marker_counts_as_removed_if_no_listing_shows_it(is_kept: bool) -> None:
    """Some servers answer 404 when the request is sent again. SeaweedFS says that it has removed a null marker, and
    keeps it: undo said that all was back.
    """
    store = shop()
    rows = store.originals(2)
    assert [each.status for each in work(job(store), rows)] == [Status.DONE] * 2

    async def remove(request: Request) -> Any:
        if is_kept and request.place.key == "k0":
            return Deleted("null", True)
        await request()
        raise NotFound("DeleteObject", str(request.place), "NoSuchVersion", "", 404)

    store.hook(delete=remove)
    undone = undo(store)
    kept = ["k0"] * is_kept
    assert (undone.markers, [each.key for each in undone.problems], undone.lost) == (2 - is_kept, kept, 0)
    assert len(store.current()) == 2 - is_kept


def test_the_last_delete_of_a_run_that_was_stopped_in_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has announced it, and sends it at most seconds after its look at the run's owner."""
    store = shop()
    row = store.original()
    ledger, said = Ledger(store, LEDGER), list[str]()
    tombstones = Tombstones(store, LEDGER, "docs", "20261125T003345Z-expire-1f3a02")
    asyncio.run(tombstones.announce([stone_of(row)]))

    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds == LAST_SECONDS:
            assert await ledger.run_ids(), "the run has another owner before"
            await store.delete(ObjectRef("docs", row.key))
        else:
            await real(seconds)

    monkeypatch.setattr("jobs.expire.undo.asyncio.sleep", sleep)
    undone = asyncio.run(undo_run(ledger, store, tombstones, "", said.append))
    assert (undone.markers, undone.problems, store.current(), len(said)) == (1, [], {"k": b"content"}, 1)


@pytest.mark.parametrize(
    ("report", "lacking"),
    [
        ({"dry_run": False, "deletions": {"rows": 1}}, 0),
        ({"dry_run": False, "deletions": {"rows": 4}}, 3),
        ({"dry_run": True, "deletions": {"rows": 4}}, 0),
        ({"dry_run": False, "deletions": {"rows": None}}, 0),  # altered, and no obstacle
        ({"dry_run": False, "deletions": []}, 0),
        ({"run_id": "another run's"}, 0),
        (Denied("GetObject", "report.json", "AccessDenied", "no", 403), 0),
        (None, 2),  # the run was killed: its outcomes say what it did
    ],
)
def test_an_undo_says_how_many_deletions_have_lost_their_tombstones(
    report: dict[str, Any] | Denied | None, lacking: int
) -> None:
    """Somebody, or a lifecycle rule, removed some files of the ledger: undo said that all was back. Where the report
    may not be read, it ended with an error in place of the number of markers, which were gone.
    """
    store = shop()
    row = store.original()
    ledger, run_id = Ledger(store, LEDGER), "20261125T003345Z-expire-1f3a02"
    tombstones = Tombstones(store, LEDGER, "docs", run_id)
    name = asyncio.run(tombstones.announce([stone_of(row)]))
    store.hide(row)
    asyncio.run(tombstones.confirm(name, [stone_of(row)]))
    done, left = (Outcome.of(row, status).ended(NOW, "a") for status in (Status.DONE, Status.LEFT))
    first = [done, done._replace(row=1), left._replace(row=2)]
    for attempt, outcomes in (("a", first), ("b", [done._replace(row=3)])):
        data = write_outcomes(outcomes)
        checkpoint = Checkpoint(0, attempt, 0, len(outcomes), 0, len(data))
        asyncio.run(ledger.write_checkpoint(run_id, checkpoint, data))
    if isinstance(report, dict):
        asyncio.run(ledger.write_document(run_id, "report.json", report))

    async def deny(request: Request) -> Any:
        if isinstance(report, Denied) and request.place.key.endswith("/report.json"):
            raise report
        return await request()

    store.hook(get=deny)
    undone = asyncio.run(undo_run(ledger, store, tombstones, "", lambda _: None))
    assert (undone.markers, store.current()) == (1, {"k": b"content"})
    assert [each.problem.split()[3] for each in undone.problems] == [str(lacking)] * bool(lacking)
    assert len(asyncio.run(ledger.names(run_id, UNDONE))) == 1


def test_a_version_that_two_attempts_name_has_one_problem() -> None:
    store = shop()
    row = store.original()
    for _ in range(2):
        announce(store, stone_of(row), marker_id=row.version_id)  # it is no marker's: forged
    undone = undo(store)
    assert (undone.markers, len(undone.problems)) == (0, 1)


def stone_of(row: ObjectVersion, step: Step = Step.HIDE, recorded_at: float = NOW) -> Tombstone:
    version = row.row, row.key, row.version_id, row.etag or "", 7, NOW
    return Tombstone(*version, step, "s3://copies/k", None, None, "content", recorded_at=recorded_at)


def announce(store: Shop, *stones: Tombstone, marker_id: str | None = None) -> None:
    """An attempt announces these deletes. `marker_id`: and confirms the first one."""
    tombstones = job(store).tombstones
    name = asyncio.run(tombstones.announce(stones))
    if marker_id:
        asyncio.run(tombstones.confirm(name, [stones[0]._replace(marker_version_id=marker_id)]))


# The bucket begins to keep versions, or ends that, between the last look and the delete: the answer says what it did.


@pytest.mark.parametrize("answer", ["received", "lost", "killed"])
def test_what_went_where_versions_are_kept_since_the_look_is_hidden_and_comes_back(answer: str) -> None:
    """It was reported as removed, and an undo did not look for its marker."""
    store = shop(versioned=False)
    row = store.original()

    async def enable(request: Request) -> Any:
        store.enable_versioning("docs")
        deleted = await request()
        if answer == "killed":
            raise Killed
        if answer == "lost":
            raise Unavailable("DeleteObject", "k", "NoAnswer")
        return deleted

    store.hook(delete=enable)
    if answer == "received":
        outcome = one(store, row)
        assert (outcome.status, outcome.detail) == (Status.DONE, "hidden")
    else:
        with pytest.raises((Killed, PartlyDone)):  # the places are not as they were
            work(job(store), [row])
    store.hook(delete=None)
    assert (store.current(), list(store.contents().values())) == ({}, [b"content"])
    undone = undo(store)
    assert (undone.markers, undone.lost, undone.problems) == (1, 0, [])
    assert store.current() == {"k": b"content"}


@pytest.mark.parametrize("was_null", [False, True])
def test_what_is_hidden_comes_back_where_the_answer_lacks_the_id_of_the_marker(*, was_null: bool) -> None:
    """It was reported as removed, and an undo did not look for its marker."""
    store = shop(versioned=not was_null)
    row = store.original()
    store.enable_versioning("docs")

    async def leave_out(request: Request) -> Any:
        return (await request())._replace(version_id=None)

    store.hook(delete=leave_out)
    outcome = one(store, row)
    store.hook(delete=None)
    assert (outcome.status, outcome.detail) == (Status.DONE, "hidden")
    undone = undo(store)
    assert (undone.markers, undone.lost, store.current()) == (1, 0, {"k": b"content"})


def suspended(*, was_null: bool) -> Shop:
    """Versioning was suspended before the delete of a version, or of the null version."""
    store = shop(versioned=not was_null)
    row = store.original()
    store.enable_versioning("docs")
    store.around_deletes(before=lambda: store.suspend_versioning("docs"))
    outcome = one(store, row)
    assert (outcome.status, outcome.detail) == (Status.DONE, "removed" if was_null else "hidden")
    store.around_deletes()
    assert len(store.contents()) == (not was_null)
    return store


@pytest.mark.parametrize("is_enabled", [False, True])
@pytest.mark.parametrize("others", ["nothing", "a write", "a write and a delete"])
def test_a_null_marker_goes_only_while_no_write_can_replace_it(is_enabled: bool, others: str) -> None:
    """Undo took it for no marker of the run. What others have written in its place stays."""
    store = suspended(was_null=False)
    store.now += 2 * HOUR
    if others != "nothing":
        store_over(store, b"newer")
    if others == "a write and a delete":
        asyncio.run(store.delete(ObjectRef("docs", "k")))
    if is_enabled:
        store.enable_versioning("docs")
    undone = undo(store)
    assert (undone.markers, undone.lost) == (is_enabled and others == "nothing", 0)
    assert len(undone.problems) == (others != "a write" and not undone.markers)
    back = {"nothing": {"k": b"content"} if is_enabled else {}, "a write": {"k": b"newer"}}
    assert store.current() == back.get(others, {})


def test_what_replaces_a_null_marker_before_versioning_is_on_stays() -> None:
    """Undo asked whether versioning is on after it had looked at the marker, and removed what had come between."""
    store, listed = suspended(was_null=False), list[str]()

    async def replace_marker(request: Request) -> Any:
        page = await request()
        if not listed:
            store_over(store, b"newer")
            store.enable_versioning("docs")
        listed.append(request.operation)
        return page

    store.hook(list_versions=replace_marker)
    undone = undo(store)
    assert (undone.markers, len(undone.problems), store.current()) == (0, 1, {"k": b"newer"})


def test_what_replaces_a_null_marker_while_the_machine_sleeps_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo sent the delete of the null version by a look of before: a write of after it was destroyed."""
    store, seconds = suspended(was_null=False), [0.0]
    store.enable_versioning("docs")
    for module in ("expire.undo", "core.elapsed"):
        monkeypatch.setattr(f"jobs.{module}.elapsed_seconds", lambda: seconds[0])

    def sleep() -> None:
        seconds[0] += 6
        store.suspend_versioning("docs")
        store_over(store, b"newer")

    store.around_deletes(before=sleep)
    undone = undo(store)
    assert (undone.markers, len(undone.problems), store.current()) == (0, 1, {"k": b"newer"})


def test_a_null_version_that_a_null_marker_has_replaced_is_gone() -> None:
    """It was reported as hidden."""
    store = suspended(was_null=True)
    undone = undo(store)
    assert (undone.markers, undone.lost, undone.problems) == (0, 1, [])


def test_a_null_version_is_gone_also_where_the_answer_is_lost_and_versioning_on_again() -> None:
    """It was reported as hidden."""
    store = shop(versioned=False)
    row = store.original()
    store.enable_versioning("docs")

    async def suspend(request: Request) -> Any:
        store.suspend_versioning("docs")
        await request()
        store.enable_versioning("docs")
        raise Unavailable("DeleteObject", "k", "NoAnswer")

    store.hook(delete=suspend)
    with pytest.raises(PartlyDone):
        one(store, row)
    outcome = one(store, row)
    assert (outcome.status, outcome.detail, store.contents()) == (Status.DONE, "removed", {})


def test_a_null_version_that_was_written_over_is_lost() -> None:
    """Versioning was suspended after the run: one null version takes the place of the other."""
    store = shop(versioned=False)
    row = store.original()
    store.enable_versioning("docs")
    assert one(store, row).status is Status.DONE
    store.suspend_versioning("docs")
    store_over(store, b"newer")
    assert undo(store).lost == 1
