"""Expire that is killed, raced, refused: what went is told, and no history makes an unproven version go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.enums import Step
from jobs.core.evidence import Verdict
from jobs.core.model import Attributes, Location, ObjectLock, ObjectRef, ObjectVersion
from jobs.core.outcome import PartlyDone, Status
from jobs.errors import ConfigError, Conflict, Interrupted, StoreError, Unavailable
from jobs.expire.copy_checks import Copies, CopyPair
from jobs.expire.deletes import WRONG
from jobs.expire.undo import unhide
from jobs.ledger.tombstones import Tombstones
from jobs.s3.store import UNGUARDED, Deleted
from tests.doubles.examples import examples
from tests.expire.scene import (
    DAY,
    Shop,
    job,
    one,
    replica,
    row_of,
    shop,
    store_over,
    work,
)


class Killed(BaseException):
    """A process that ends at this very moment."""


def _kill() -> None:
    raise Killed


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_killed_attempt_deleted_is_expired_by_this_run(versioned: bool, hidden: bool) -> None:
    store = shop(versioned=versioned)
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(3)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    if hidden and versioned:
        for ref in refs:
            asyncio.run(store.delete("docs", ref.key))
    store.after_delete = _kill
    with pytest.raises(Killed):
        work(job(store), rows)
    store.after_delete = lambda: None
    outcomes = work(job(store), rows)
    assert [outcome.status for outcome in outcomes] == [Status.EXPIRED] * 3
    assert any("earlier attempt" in outcome.reason for outcome in outcomes)
    assert len(store.contents()) == (3 if versioned and not hidden else 0)  # one step a run, however often it began
    if versioned and not hidden:
        undone = asyncio.run(unhide(store, job(store).tombstones))
        assert (undone.markers, undone.problems) == (3, [])
        assert asyncio.run(store.get(ObjectRef("docs", "k2"))).data == b"content"


def killed_over(*, versioned: bool) -> tuple[Shop, ObjectVersion]:
    """An attempt that was killed when it had deleted one original, and its row."""
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.after_delete = _kill
    with pytest.raises(Killed):
        one(store, row)
    return store, row


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_one_run_does_not_remove_what_it_hid_when_an_upload_in_parts_comes_between(is_confirmed: bool) -> None:
    """S3 orders versions by the beginning of their uploads. The marker then was not directly above any more, so the
    next attempt took the version for one that others had hidden, and removed it for good."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    upload = asyncio.run(store.create_multipart("docs", "k", Attributes()))
    store.now += DAY
    if not is_confirmed:
        store.after_delete = _kill
        with pytest.raises(Killed):
            one(store, row)
        store.after_delete = lambda: None
    else:  # killed between the tombstones and the outcomes
        assert one(store, row).status is Status.EXPIRED
    part = asyncio.run(store.put_part("docs", "k", upload, 1, b"slow"))
    asyncio.run(store.complete_multipart("docs", "k", upload, [part], guard=UNGUARDED))
    again = one(store, row)
    assert (again.status, again.reason) == (Status.EXPIRED, "by an earlier attempt of this run")
    assert sorted(store.contents().values()) == [b"content", b"slow"]
    undone = asyncio.run(unhide(store, job(store).tombstones))
    assert (undone.markers, undone.lost, {each.key for each in undone.problems}) == (0, 0, {"k"})


def test_a_marker_that_one_attempt_knew_is_not_forgotten_by_the_next() -> None:
    """Somebody removed the version beneath it in between: the marker was recorded as unknown, and no undo took it."""
    store, row = killed_over(versioned=True)
    store.after_delete = lambda: None
    assert one(store, row).status is Status.EXPIRED
    asyncio.run(store.delete("docs", "k", version_id=row.version_id))
    assert one(store, row).status is Status.EXPIRED
    undone = asyncio.run(unhide(store, job(store).tombstones))
    assert (undone.markers, undone.problems) == (1, [])
    assert not asyncio.run(store.list_versions("docs", "k")).entries


def deleted_by_others_after_a_kill(hours: float) -> tuple[Shop, ObjectVersion]:
    """An attempt announced its delete and was killed before it. So many hours later somebody deleted the object."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.before_delete = lambda: _kill() if store.is_announced() else None
    with pytest.raises(Killed):
        one(store, row)
    store.before_delete = lambda: None
    store.now += hours * 3600
    asyncio.run(store.delete("docs", "k"))
    return store, row


@pytest.mark.parametrize("hours", [0, 2])
def test_undo_leaves_a_marker_that_was_set_long_after_a_killed_attempt(hours: float) -> None:
    """The attempt was killed before its delete. Much later somebody deleted the object, and undo brought it back."""
    store, _ = deleted_by_others_after_a_kill(hours)
    undone = asyncio.run(unhide(store, job(store).tombstones))
    if not hours:  # the attempt may have set it, and its answer was lost
        assert (undone.markers, undone.problems) == (1, [])
        return
    assert (undone.markers, [each.key for each in undone.problems]) == (0, ["k"])
    assert "2.0 hours after" in undone.problems[0].problem


@pytest.mark.parametrize("hours", [0.5, 2])
def test_the_next_attempt_leaves_a_marker_that_was_set_long_after_a_killed_one(hours: float) -> None:
    """It recorded the marker of somebody's own delete as the run's, so that undo brought the object back."""
    store, row = deleted_by_others_after_a_kill(hours)
    outcome = one(store, row)
    undone = asyncio.run(unhide(store, job(store).tombstones))
    if hours < 1:  # the attempt may have set it, and its answer was lost
        assert (outcome.status, undone.markers) == (Status.EXPIRED, 1)
        return
    assert (outcome.status, "somebody else has deleted it" in outcome.reason) == (Status.KEPT, True)
    assert (undone.markers, [each.key for each in undone.problems]) == (0, ["k"])
    assert list(store.contents().values()) == [b"content"]


def test_what_a_killed_attempt_deleted_is_expired_also_when_something_new_is_there() -> None:
    store, row = killed_over(versioned=False)
    store_over(store, b"newer")
    assert one(store, row).status is Status.EXPIRED
    assert store.contents() == {("k", "null"): b"newer"}


def test_a_delete_whose_answer_was_lost_before_a_stop_is_not_withdrawn() -> None:
    """The worker had to stop before it sent the delete again: its tombstones said that nothing was deleted."""

    class Stopped(Shop):
        sent = False

        async def delete_versions(self, *given: Any) -> list[StoreError | None]:
            if self.sent:
                raise Interrupted("stopped before a delete")
            self.sent = True
            await super().delete_versions(*given)
            raise Unavailable("DeleteObjects", "s3://docs", "NoAnswer")

    store = Stopped()
    store.create_bucket("docs")
    refs = [store.put_now("docs", f"k{n}", b"content") for n in range(3)]
    rows = [row_of(store, n, ref, replica(store, ref)) for n, ref in enumerate(refs)]
    for ref in refs:
        asyncio.run(store.delete("docs", ref.key))
    with pytest.raises(Unavailable):
        work(job(store), rows)
    assert store.contents() == {}
    assert asyncio.run(unhide(store, job(store).tombstones)).lost == 3
    outcomes = work(job(store), rows)
    assert [(each.status, each.reason) for each in outcomes] == [
        (Status.EXPIRED, "by an earlier attempt of this run")
    ] * 3


def test_a_stop_before_any_delete_withdraws_what_was_announced() -> None:
    class Stopped(Shop):
        async def delete_versions(self, *given: Any) -> list[StoreError | None]:
            raise Interrupted("stopped before a delete")

    store = Stopped()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    asyncio.run(store.delete("docs", "k"))
    made = job(store)
    with pytest.raises(PartlyDone):
        work(made, [row])
    assert list(store.contents().values()) == [b"content"]
    assert asyncio.run(made.tombstones.announced(0, 0)) == {}


@pytest.mark.parametrize("versioned", [True, False])
def test_a_delete_whose_answer_was_lost_is_told_from_another_clients_write(versioned: bool) -> None:
    """Repeated, such a delete finds nothing, or its own marker."""

    class Lossy(Shop):
        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            if ".sealift-" not in key:
                await super().delete(bucket, key, **more)
            return await super().delete(bucket, key, **more)

    store = Lossy()
    store.create_bucket("docs", versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    outcome = one(store, row)
    assert outcome.status is Status.EXPIRED
    assert ("hidden by the delete marker v" in outcome.reason) is versioned
    if versioned:
        assert asyncio.run(unhide(store, job(store).tombstones)).markers == 1
        assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("is_lost", [False, True])
def test_what_somebody_else_deletes_at_that_moment_is_not_the_runs(versioned: bool, is_lost: bool) -> None:
    """The run said that it had hidden it, by their delete marker, and undo brought it back."""

    class Raced(Shop):
        lost = is_lost

        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            if key != "k" or not self.is_announced():
                return await super().delete(bucket, key, **more)
            if self.lost:  # the next attempt sends it once, and it may be done late
                self.lost = False
                raise Unavailable("DeleteObject", "s3://docs/k", "NoAnswer")
            await super().delete(bucket, key)
            try:
                return await super().delete(bucket, key, **more)
            except StoreError as error:
                error.was_sent_once = True
                raise

    store = Raced()
    store.create_bucket("docs", versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    made = job(store)
    made.removals.deletes._checked |= {Step.HIDE, Step.REMOVE}
    if is_lost:
        with pytest.raises(Unavailable):
            work(made, [row])
    [outcome] = work(made, [row])
    undone = asyncio.run(unhide(store, made.tombstones))
    if is_lost:
        assert outcome.status is Status.EXPIRED
        return
    assert (outcome.status, "went away" in outcome.reason) == (Status.KEPT, True)
    assert (undone.markers, undone.lost, undone.problems) == (0, 0, [])


def test_a_delete_whose_answer_was_lost_is_not_denied_when_an_upload_in_parts_comes_between() -> None:
    """The run had hidden it, said that it was kept, and forgot its tombstone."""

    class Lossy(Shop):
        upload = ""

        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            made = await super().delete(bucket, key, **more)
            if key != "k":
                return made
            part = await self.put_part("docs", "k", self.upload, 1, b"slow")
            await self.complete_multipart("docs", "k", self.upload, [part], guard=UNGUARDED)
            return await super().delete(bucket, key, **more)

    store = Lossy()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", b"content")
    store.upload = asyncio.run(store.create_multipart("docs", "k", Attributes()))
    store.now += DAY
    made = job(store)
    [outcome] = work(made, [row_of(store, 0, ref, replica(store, ref))])
    assert (outcome.status, "hidden by the delete marker" in outcome.reason) == (Status.EXPIRED, True)
    assert sorted(store.contents().values()) == [b"content", b"slow"]
    assert list(asyncio.run(made.tombstones.announced(0, 0))) == [0]


def test_a_version_that_somebody_wrote_over_meanwhile_is_not_called_expired() -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.before_delete = lambda: store_over(store, b"newer")
    outcome = one(store, row)
    assert (outcome.status, "changed or went away" in outcome.reason) == (Status.KEPT, True)
    assert set(store.contents().values()) == {b"content", b"newer"}


def test_what_somebody_else_deleted_is_missing_not_expired() -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    asyncio.run(store.delete("docs", "k"))
    assert one(store, row).status is Status.MISSING


def test_what_may_pass_is_tried_again_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop(versioned=False)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))

    class Down(Shop):
        async def head(self, ref: ObjectRef, **more: Any) -> Any:
            raise Unavailable("HeadObject", str(ref), "InternalError", status=500)

    store.__class__ = Down
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda *given: 0.0)
    with pytest.raises(Unavailable):
        one(store, row)
    store.__class__ = Shop
    assert store.contents() == {("k", "null"): b"content"}


def test_a_server_that_ignores_if_match_is_found_out_before_anything_goes() -> None:
    class Careless(Shop):
        async def delete(self, bucket: str, key: str, *, if_match: str | None = None, **more: Any) -> Deleted:
            return await super().delete(bucket, key, **more)

    store = Careless()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    with pytest.raises(ConfigError, match="whatever If-Match says"):
        one(store, row)
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"
    assert [key for key, _ in store.contents()] == ["k"]


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "copy", "miscopy", "lose", "hold", "expire", "expire", "dry run"]),
        st.sampled_from("ab"),
    ),
    min_size=5,
    max_size=16,
)


@settings(max_examples=examples(60), deadline=None)
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
            asyncio.run(store.delete("docs", key))
        elif what in ("copy", "miscopy") and latest is not None:
            rows[key, latest] = row_of(store, number, ref, replica(store, ref, b"??" if what == "miscopy" else None))
        elif what == "lose":
            for name, version in list(store.contents("copies")):
                if name == key:
                    asyncio.run(store.delete("copies", name, version_id=version))
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


def compare_for_long(monkeypatch: pytest.MonkeyPatch, event: Callable[[], None]) -> None:
    """Something happens while the copies are compared, which takes a minute."""
    seconds = [0.0]
    for module in ("job", "removals"):
        monkeypatch.setattr(f"jobs.expire.{module}.elapsed_seconds", lambda: seconds[0])
    real = Copies.compare

    async def compare(copies: Copies, pairs: Sequence[CopyPair]) -> list[Verdict]:
        verdicts = await real(copies, pairs)
        seconds[0] += 60.0
        event()
        return verdicts

    monkeypatch.setattr(Copies, "compare", compare)


def remove(store: Shop, ref: ObjectRef) -> None:
    """Another client removes a version."""
    store._buckets.remove(ref)


@pytest.mark.parametrize("versioned", [True, False])
def test_an_object_that_was_written_again_with_the_same_bytes_meanwhile_stays(
    versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the ETag of the proven one, and may have other metadata. It went, long before its grace period ended."""
    store = shop(versioned=versioned)
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    store.now += DAY
    compare_for_long(monkeypatch, lambda: store_over(store, b"content"))
    outcome = one(store, row)
    assert (outcome.status, "written again" in outcome.reason) == (Status.KEPT, True)
    assert asyncio.run(store.get(ObjectRef("docs", "k"))).data == b"content"


def test_an_older_version_of_the_same_bytes_does_not_go_for_one_that_somebody_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = shop()
    older = store.put_now("docs", "k", b"content")
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    compare_for_long(monkeypatch, lambda: remove(store, ref))
    assert one(store, row).status is Status.KEPT
    assert asyncio.run(store.head(ObjectRef("docs", "k"))).version_id == older.version_id


def test_a_hidden_version_that_somebody_removed_meanwhile_is_not_called_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    asyncio.run(store.delete("docs", "k"))
    compare_for_long(monkeypatch, lambda: remove(store, ref))
    outcome = one(store, row)
    assert (outcome.status, "went away" in outcome.reason) == (Status.KEPT, True)
    assert asyncio.run(unhide(store, job(store).tombstones)).lost == 0


def test_an_attempt_that_sent_no_delete_claims_none() -> None:
    """Somebody deleted the object before the trial of If-Match. The next attempt called that its own work."""

    class Raced(Shop):
        async def delete(self, bucket: str, key: str, **more: Any) -> Deleted:
            if key == "k" and more.get("if_match") == WRONG:
                remove(store, ObjectRef("docs", "k"))
            return await super().delete(bucket, key, **more)

    store = Raced()
    store.create_bucket("docs")
    ref = store.put_now("docs", "k", b"content")
    made = replace(job(store), planned_at=store.now)
    row = row_of(store, 0, ref, replica(store, ref))
    store.now += 1
    with pytest.raises(Conflict):
        work(made, [row])
    [outcome] = work(made, [row])
    assert outcome.status is Status.WAITING
    assert asyncio.run(unhide(store, made.tombstones)).markers == 0


@pytest.mark.parametrize("event", ["came back", "hidden below a newer version", "nothing"])
def test_a_version_below_a_marker_that_came_back_while_its_copy_was_compared_stays(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody undid the first step meanwhile. A delete by the version's id heeds no condition."""
    store = shop()
    ref = store.put_now("docs", "k", b"content")
    row = row_of(store, 0, ref, replica(store, ref))
    marker_id = asyncio.run(store.delete("docs", "k")).version_id
    seconds = [0.0]
    for module in ("job", "removals"):
        monkeypatch.setattr(f"jobs.expire.{module}.elapsed_seconds", lambda: seconds[0])
    real = Copies.compare

    async def compare(copies: Copies, pairs: Sequence[CopyPair]) -> list[Verdict]:
        seconds[0] += 60.0
        if event == "came back":
            await store.delete("docs", "k", version_id=marker_id)
        elif event != "nothing":
            await store.put("docs", "k", b"newer", Attributes(), guard=UNGUARDED)
        return await real(copies, pairs)

    monkeypatch.setattr(Copies, "compare", compare)
    outcome = one(store, row)
    goes = event == "nothing"
    assert outcome.status is (Status.EXPIRED if goes else Status.KEPT), outcome
    assert (("k", ref.version_id) in store.contents(), "moved while its copy" in outcome.reason) == (not goes, not goes)
