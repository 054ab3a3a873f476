"""Expire that is killed, raced, refused: what went is told, and no history makes an unproven version go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.elapsed import TOO_LATE
from jobs.core.model import Location, ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import Evidence, PartlyDone, Status
from jobs.core.reasons import Reason
from jobs.errors import AuthenticationFailed, ConfigError, Conflict, Denied, Interrupted, StoreError, Unavailable
from jobs.expire.job import Expire
from jobs.expire.rules import Candidate
from jobs.ledger.tombstones import Tombstones
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore, Request
from tests.expire.scene import DAY, Shop, job, one, replica, row_of, shop, store_over, undo, work, work_killed


@pytest.mark.parametrize(("versioned", "hidden"), [(True, False), (True, True), (False, False)])
def test_what_a_killed_attempt_deleted_is_expired_by_this_run(versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    rows = store.originals(3)
    store.hide(*rows * hidden)
    work_killed(store, rows)
    again = work(job(store), rows)
    assert [outcome.status for outcome in again] == [Status.DONE] * 3
    what = "hidden" if versioned and not hidden else "removed"
    assert {(outcome.reason, outcome.detail) for outcome in again} == {(Reason.DELETED, what)}
    copies = [asyncio.run(store.head(ObjectRef("copies", row.key))) for row in rows]
    assert [(each.destination_version_id, each.destination_etag) for each in again] == [
        (each.version_id, each.etag) for each in copies
    ]
    assert {(each.evidence, each.size_bytes) for each in again} == {(Evidence.MD5_ETAG, 7)}
    assert len(store.contents()) == (3 if versioned and not hidden else 0)  # one step a run, however often it began
    if versioned and not hidden:
        undone = undo(store)
        assert (undone.markers, undone.problems, len(store.current())) == (3, [], 3)


def test_what_a_killed_attempt_deleted_is_expired_also_when_something_new_is_there() -> None:
    store = shop(versioned=False)
    row = store.original()
    work_killed(store, [row])
    store_over(store, b"newer")
    assert one(store, row).status is Status.DONE
    assert store.contents() == {("k", "null"): b"newer"}


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_one_run_does_not_remove_what_it_hid_when_an_upload_in_parts_comes_between(is_confirmed: bool) -> None:
    """S3 orders versions by the beginning of their uploads, so the marker is not directly above any more."""
    store = shop()
    row = store.original()
    upload = store.begin_upload()
    if is_confirmed:  # killed between the tombstones and the outcomes
        assert one(store, row).status is Status.DONE
    else:
        work_killed(store, [row])
    store.end_upload(upload)
    assert one(store, row).status is Status.DONE
    assert sorted(store.contents().values()) == [b"content", b"slow"]
    undone = undo(store)
    assert (undone.markers, undone.lost, {each.key for each in undone.problems}) == (0, 0, {"k"})


@pytest.mark.parametrize("hours", [0.5, 2])
@pytest.mark.parametrize("is_tried_again", [False, True])
def test_a_marker_that_was_set_long_after_a_killed_attempt_is_somebody_elses(
    hours: float, is_tried_again: bool
) -> None:
    """The attempt announced its delete and was killed before it. Within an hour it may have set the marker."""
    store = shop()
    row = store.original()
    work_killed(store, [row], "before")
    store.now += hours * 3600
    asyncio.run(store.delete(ObjectRef("docs", "k")))
    is_ours = hours < 1
    if is_tried_again:
        assert one(store, row).status is (Status.DONE if is_ours else Status.BLOCKED)
    undone = undo(store)
    assert (undone.markers, len(undone.problems)) == ((1, 0) if is_ours else (0, 1))
    assert list(store.contents().values()) == [b"content"]


def stop_before(store: Shop, number: int) -> list[str]:
    """The worker stops before its delete of this number. The keys that it has deleted."""
    deleted: list[str] = []

    async def stop(request: Request) -> Any:
        if len(deleted) == number - 1:
            raise Interrupted("stopped before a delete")
        deleted.append(request.place.key)
        return await request()

    store.hook(delete=stop)
    return deleted


def test_a_delete_whose_answer_was_lost_before_a_stop_is_not_withdrawn() -> None:
    store = shop()
    rows = store.originals(3)
    store.hide(*rows)
    sent: list[Request] = []

    async def lose_first(request: Request) -> Any:
        if sent:
            raise Interrupted("stopped before a delete")
        sent.append(request)
        await request()
        raise Unavailable("DeleteObject", "s3://docs", "NoAnswer")

    store.hook(delete=lose_first)
    with pytest.raises(PartlyDone):
        work(job(store), rows)
    assert (len(store.contents()), undo(store).lost) == (2, 1)
    store.hook(delete=None)
    assert [each.status for each in work(job(store), rows)] == [Status.DONE] * 3


def test_a_stop_before_any_delete_withdraws_what_was_announced() -> None:
    store = shop()
    row = store.original()
    store.hide(row)
    stop_before(store, 1)
    made = job(store)
    with pytest.raises(PartlyDone):
        work(made, [row])
    assert list(store.contents().values()) == [b"content"]
    assert asyncio.run(made.tombstones.announced(0, 0)) == {}


def test_after_a_killed_attempt_an_original_is_kept_for_what_its_copy_says() -> None:
    """It was said to be raced, for the announcement of that attempt."""

    async def deny(request: Request) -> Any:
        raise Denied("GetObject", str(request.place), "AccessDenied", "no", 403)

    store = shop()
    row = store.original()
    work_killed(store, [row], "before")
    made = job(store)
    store.hook(get=lambda request: deny(request) if request.place.key == "k" else request())
    [outcome] = work(made, [row])
    assert (outcome.status, outcome.reason, outcome.detail) == (
        Status.BLOCKED, Reason.REFUSED, "GetObject: AccessDenied"
    )  # fmt: skip


@pytest.mark.parametrize("versioned", [True, False])
def test_a_worker_that_has_to_stop_accounts_for_what_it_has_deleted(versioned: bool) -> None:
    store = shop(versioned=versioned)
    rows = store.originals(5)
    deleted = stop_before(store, 3)
    with pytest.raises(PartlyDone) as stopped:
        work(job(store), rows)
    assert len(deleted) == 2
    assert [each.key for each in stopped.value.outcomes if each.status is Status.DONE] == deleted
    assert set(store.current()) == {row.key for row in rows} - set(deleted)


@pytest.mark.parametrize("fails", ["delete", "confirm"])
def test_what_was_deleted_before_an_error_that_ends_the_run_is_told(fails: str) -> None:
    """The outcomes of a whole group were lost, and its deletes were not confirmed."""
    store = shop()
    rows = store.originals(5)

    async def expire(request: Request) -> Any:
        if request.place.key == "k2" if fails == "delete" else request.place.key.endswith("-done.parquet"):
            error = AuthenticationFailed("DeleteObject", str(request.place), "ExpiredToken")
            error.was_sent_once = True
            raise error
        return await request()

    store.hook(**{"delete" if fails == "delete" else "put": expire})
    with pytest.raises(PartlyDone) as ended:
        work(job(store), rows)
    assert isinstance(ended.value.error, AuthenticationFailed)
    deleted = {row.key for row in rows} - set(store.current())
    assert {each.key for each in ended.value.outcomes if each.status is Status.DONE} == deleted
    assert len(deleted) == (4 if fails == "delete" else 5)
    store.hook(delete=None, put=None)
    if fails == "delete":
        store.hide(rows[2])
    assert undo(store).markers == len(deleted)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("error", [None, Unavailable, Denied])
def test_a_delete_whose_answer_was_lost_is_told_from_another_clients_write(versioned: bool, error: Any) -> None:
    """Repeated, such a delete finds nothing, or its own marker, or is refused. The next try looks what became of it."""

    async def lose(request: Request) -> Any:
        await request()
        try:
            if error is not None:
                raise error("DeleteObject", str(request.place), "Odd")
            return await request()
        except StoreError as lost:
            lost.was_sent_once = False
            raise

    store = shop(versioned=versioned)
    row = store.original()
    store.hook(delete=lose)
    with pytest.raises(PartlyDone):
        one(store, row)
    assert one(store, row).status is Status.DONE
    store.hook(delete=None)
    if versioned:
        assert undo(store).markers == 1
        assert store.current() == {"k": b"content"}


def fail(store: Shop, at: str, status: int = 500) -> None:
    """From now on the server fails at each request of one kind, such as `get copies`, for `k1`."""
    operation, bucket = at.split()

    async def sick(request: Request) -> Any:
        if (request.place.bucket, request.place.key) == (bucket, "k1"):
            raise Unavailable(operation, str(request.place), "InternalError", status=status)
        return await request()

    store.hook(**{operation: sick})


@pytest.mark.parametrize("at", ["delete docs", "head docs", "head copies", "get copies"])
@pytest.mark.parametrize(("versioned", "hidden"), [(True, False), (True, True), (False, False)])
def test_an_object_that_the_server_cannot_serve_holds_no_other(at: str, versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    rows = store.originals(4)
    store.hide(*rows * hidden)
    fail(store, at)
    if at == "delete docs":
        with pytest.raises(PartlyDone) as partly:  # what may pass is tried again
            work(job(store), rows)
        assert isinstance(partly.value.error, Unavailable)
        told = {each.key: each.status for each in partly.value.outcomes}
    else:
        told = {each.key: each.status for each in work(job(store), rows)}
        assert told.pop("k1") is Status.BLOCKED
    there = {key for key, _ in store.contents()} if hidden else set(store.current())
    assert (there, told) == ({"k1"}, dict.fromkeys(("k0", "k2", "k3"), Status.DONE))
    store.hook(head=None, delete=None)
    if at == "delete docs" and versioned and not hidden:
        assert undo(store).markers == 3


def test_an_original_that_never_answers_holds_no_other() -> None:
    store = shop()
    rows = store.originals(3)

    async def hang(request: Request) -> Any:
        if (request.place.bucket, request.place.key) == ("docs", "k1"):
            await asyncio.Event().wait()
        return await request()

    store.hook(head=hang)
    told = work(replace(job(store), patience_seconds=0.05), rows)
    assert [each.status for each in told] == [Status.DONE, Status.BLOCKED, Status.DONE]
    assert told[1].reason == Reason.GIVEN_UP


def test_a_delete_that_came_too_late_to_be_sent_is_not_the_runs() -> None:
    """Somebody else's delete in these seconds was told as the run's own, and undone with it."""
    store = shop()
    row = store.original()

    async def late(request: Request) -> Any:
        raise Conflict("DeleteObject", str(request.place), TOO_LATE)

    store.hook(delete=late)
    with pytest.raises(PartlyDone):
        work(job(store), [row])
    store.hook(delete=None)
    store.hide(row)
    assert one(store, row, grace_days=1).status is Status.LEFT
    assert undo(store).markers == 0


@pytest.mark.parametrize("versioned", [True, False])
def test_what_somebody_else_deletes_at_that_moment_is_not_the_runs(versioned: bool) -> None:
    store = shop(versioned=versioned)
    row = store.original()

    async def raced(request: Request) -> Any:
        if request.place.key == "k" and store.is_announced():
            await MemoryStore.delete(store, ObjectRef("docs", "k"))
        return await request()

    store.hook(delete=raced)
    assert one(store, row).status is Status.BLOCKED
    store.hook(delete=None)
    assert (undo(store).markers, undo(store).lost) == (0, 0)


@pytest.mark.parametrize("hidden", [False, True])
def test_credentials_that_are_no_longer_accepted_end_the_run(hidden: bool) -> None:
    async def refuse(request: Request) -> Any:
        raise AuthenticationFailed("DeleteObject", "s3://docs", "ExpiredToken", "", 400)

    store = shop()
    rows = store.originals(2)
    store.hide(*rows * hidden)
    store.hook(delete=refuse)
    with pytest.raises(PartlyDone) as ended:
        work(job(store), rows)
    assert isinstance(ended.value.error, AuthenticationFailed)


def test_what_somebody_else_deleted_is_missing_not_expired() -> None:
    store = shop(versioned=False)
    row = store.original()
    store.hide(row)
    assert one(store, row).status is Status.MISSING


events = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "put", "delete", "copy", "miscopy", "rot", "lose", "hold", "expire", "expire", "dry run"]
        ),
        st.sampled_from("ab"),
    ),
    min_size=5,
    max_size=16,
)


@settings(max_examples=examples(25), deadline=None)
@given(events, st.booleans())
def test_no_history_makes_a_version_go_that_no_copy_holds(history: list[tuple[str, str]], versioned: bool) -> None:
    """Whatever is expired, its bytes are in `copies` at that moment, and it was under no hold."""
    store = shop(versioned=versioned)
    rows: dict[tuple[str, str | None], ObjectVersion] = {}
    held: set[tuple[str, str | None]] = set()
    for number, (what, key) in enumerate(history):
        there = store.contents()
        latest = max((version for name, version in there if name == key), default=None, key=str)
        ref = ObjectRef("docs", key, latest if versioned else None)
        if what == "put":
            store.put_now("docs", key, f"{key}{number}".encode())
        elif what == "hold" and versioned:
            made = store.put_now("docs", key, f"{key}{number}".encode(), lock=ObjectLock(legal_hold=True))
            held.add((key, made.version_id))
        elif what == "delete" and versioned:
            asyncio.run(store.delete(ObjectRef("docs", key)))
        elif what in ("copy", "miscopy") and latest is not None:
            rows[key, latest] = row_of(store, number, ref, replica(store, ref, b"??" if what == "miscopy" else None))
        elif what == "rot" and key in store.current("copies"):
            store.rot("copies", key, b"??")
        elif what == "lose":
            for name, version in list(store.contents("copies")):
                if name == key:
                    asyncio.run(store.delete(ObjectRef("copies", name, version)))
        elif what in ("expire", "dry run"):
            store.now += 31 * DAY
            given_rows = [row._replace(row=place) for place, row in enumerate(rows.values())]
            made_job = replace(
                job(store, delete=what == "expire", grace_days=30),
                tombstones=Tombstones(store, Location("ledger", "runs"), "docs", f"run-{number}"),
            )
            work(made_job, given_rows)
            gone = {place: data for place, data in there.items() if place not in store.contents()}
            assert not (gone and what == "dry run")
            assert not held & set(gone)
            safe = set(store.contents("copies").values())
            assert all(data in safe for data in gone.values())


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed, which a test changes."""
    seconds = [0.0]
    for module in ("expire.job", "core.elapsed"):
        monkeypatch.setattr(f"jobs.{module}.elapsed_seconds", lambda: seconds[0])
    return seconds


def compare_for_long(monkeypatch: pytest.MonkeyPatch, event: Callable[[], Any]) -> None:
    """Something happens while the copies are compared, which takes a minute."""
    seconds = stop_clock(monkeypatch)
    real = Expire.compare

    async def compare(job: Expire, originals: Sequence[Candidate]) -> dict[int, Candidate]:
        proven = await real(job, originals)
        seconds[0] += 60.0
        event()
        return proven

    monkeypatch.setattr(Expire, "compare", compare)


def test_a_slow_server_gets_each_delete_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one group: 300 looks at both sides and as many deletes take nine seconds."""
    store = shop()
    rows = store.originals(300)
    seconds = stop_clock(monkeypatch)

    async def slow(request: Request) -> Any:
        seconds[0] += 0.01
        return await request()

    store.hook(head=slow, delete=slow)
    assert {outcome.status for outcome in work(job(store), rows)} == {Status.DONE}
    assert store.current() == {}


MEANWHILE: dict[str, Callable[[Shop, str | None], Any]] = {
    "written again, with the same bytes": lambda store, _: store_over(store, b"content"),
    "copy went away": lambda store, _: store._buckets.remove(ObjectRef("copies", "k")),
    "above an older version of the same bytes, and removed": lambda store, version_id: store._buckets.remove(
        ObjectRef("docs", "k", version_id)
    ),
}


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("versioned", [True, False])
def test_what_changed_while_its_copy_was_compared_stays(
    what: str, versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop(versioned=versioned)
    older = store.put_now("docs", "k", b"content")
    row = store.original()
    store.now += DAY
    compare_for_long(monkeypatch, lambda: MEANWHILE[what](store, row.version_id))
    assert one(store, row).status is Status.BLOCKED
    removed = what.endswith("removed")
    assert store.current() == ({} if removed and not versioned else {"k": b"content"})
    if removed and versioned:
        assert asyncio.run(store.head(ObjectRef("docs", "k"))).version_id == older.version_id


def test_an_attempt_that_sent_no_delete_claims_none() -> None:
    """Somebody deleted the object after the announcement. The next attempt called that its own work."""
    store = shop()
    row = store.original()
    looks: list[bool] = []

    async def suspended_once(request: Request) -> Any:
        if store.is_announced() and not looks:
            store._buckets.remove(ObjectRef("docs", "k"))
            looks.append(False)
            return False
        return await request()

    store.hook(is_versioned=suspended_once)
    made = job(store)
    made = replace(made, terms=made.terms._replace(now=store.now))
    store.now += 1
    with pytest.raises(ConfigError):
        work(made, [row])
    assert work(made, [row])[0].status is Status.LEFT
    assert undo(store).markers == 0


@pytest.mark.parametrize("event", ["came back", "hidden below a newer version", "removed", "nothing"])
def test_a_hidden_version_that_is_moved_while_its_copy_is_compared_stays(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody undid the first step meanwhile. A delete by the version's id heeds no condition."""
    store = shop()
    row = store.original()
    marker_id = asyncio.run(store.delete(ObjectRef("docs", "k"))).version_id
    events: dict[str, Callable[[], Any]] = {
        "came back": lambda: store._buckets.remove(ObjectRef("docs", "k", marker_id)),
        "hidden below a newer version": lambda: store_over(store, b"newer"),
        "removed": lambda: store._buckets.remove(ObjectRef("docs", "k", row.version_id)),
        "nothing": lambda: None,
    }
    compare_for_long(monkeypatch, events[event])
    goes = event == "nothing"
    assert one(store, row).status is (Status.DONE if goes else Status.BLOCKED)
    assert (("k", row.version_id) in store.contents()) == (event not in ("nothing", "removed"))
    assert undo(store).lost == goes
