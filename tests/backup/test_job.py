"""The backup job, one event at a time: what it costs, what it leaves to others, what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from jobs.backup.job import KeyProgress, KeyResult
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.errors import ConfigError, CustomerKeyNeeded, Denied, NoSuchBucket, Rejected, StoreError, Unavailable
from jobs.s3.store import UNGUARDED
from tests.backup.scene import (
    COPY,
    KEY,
    Ticking,
    backup,
    history,
    put,
    put_in_parts,
    run,
)
from tests.doubles.memory_store import MemoryStore


def test_a_new_key_costs_three_requests_and_is_proven():
    store = Ticking()
    row = run(put(store, b"body", tags={"team": "blue"}))
    store.requests.clear()
    (outcome,) = run(backup(store).process([row]))
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "checksum")
    assert store.requests == ["head", "copy", "head"]
    assert run(store.get_tags(ObjectRef("hot", COPY))) == {"team": "blue"}


def test_a_duplicate_writes_nothing():
    store = Ticking()
    row = run(put(store, b"body"))
    run(backup(store).process([row]))
    store.requests.clear()
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.SAME
    assert "copy" not in store.requests[2:]  # the bet, which S3 refused
    assert len(run(store.copies())) == 1


def test_a_late_older_version_is_stored_beneath_the_newest():
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    (outcome,) = run(backup(store).process([old]))
    assert outcome.status is Status.COPIED
    assert [copy[0] for copy in run(store.copies())] == [b"new", b"old", b"new"]


def test_a_version_that_only_changes_metadata_is_copied_as_well():
    store = Ticking()
    first = run(put(store, b"body", metadata={"colour": "red"}))
    run(backup(store).process([first]))
    second = run(put(store, b"body", metadata={"colour": "green"}))
    (outcome,) = run(backup(store).process([second]))
    assert outcome.status is Status.COPIED
    assert run(store.body("hot", COPY)) == (b"body", {"colour": "green"})


def test_above_the_limit_a_row_is_left_and_nothing_is_written():
    store = Ticking()
    row = run(put(store, b"large body"))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [row]))
    assert (settled.outcomes, settled.left) == ({}, {0})
    assert run(store.copies()) == []
    assert run(backup(store, limit_bytes=5).process([row]))[0].status is Status.FAILED


def test_an_older_version_is_left_when_putting_the_newest_back_would_take_too_long():
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new and large"))
    run(backup(store).process([new]))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [old]))
    assert settled.left == {0}
    assert [copy[0] for copy in run(store.copies())] == [b"new and large"]


def test_an_older_version_stays_beneath_a_newer_one_while_the_newest_waits_for_a_larger_worker():
    store = Ticking()
    old, middle, large = run(put(store, b"old")), run(put(store, b"mid")), run(put(store, b"new and large"))
    assert run(backup(store, limit_bytes=5).settle(KEY, [middle])).left == frozenset()
    run(backup(store, limit_bytes=5).settle(KEY, [old]))
    assert run(store.body("hot", COPY)) == (b"mid", {})
    run(backup(store).process([large]))
    assert [copy[0] for copy in run(store.copies())] == [b"mid", b"old", b"mid", b"new and large"]


def test_what_belongs_on_top_below_an_archived_newest_version_is_told_when_it_is_too_large():
    """The archived one alone was told, so that no run put the large one back."""
    store = Ticking()
    old, large = run(put(store, b"old")), run(put(store, b"new and large"))
    run(backup(store).process([large]))
    run(put(store, b"cold", storage_class="GLACIER"))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [old]))
    assert settled.outcomes[0].status is Status.COPIED
    assert settled.unfinished is not None
    assert (settled.unfinished.version.version_id, settled.unfinished.has_copy) == (large.version_id, True)
    run(backup(store).settle(KEY, [ObjectVersion(0, KEY, large.version_id)]))
    assert [copy[0] for copy in run(store.copies())] == [b"new and large", b"old", b"new and large"]


def test_an_archived_version_ends_as_such():
    store = Ticking()
    row = run(put(store, b"cold", storage_class="GLACIER"))
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.ARCHIVED
    store.restore(ObjectRef("source", KEY, row.version_id))
    assert run(backup(store).process([row]))[0].status is Status.COPIED


def test_no_version_is_put_above_the_newest_ones_copy_that_nothing_can_put_back():
    """An older version of the same bytes was copied in the same batch, which is the newest one's copy as well."""
    store = Ticking()
    rows = [run(put(store, body)) for body in (b"cold", b"other")]
    run(put(store, b"cold", storage_class="GLACIER"))
    numbered = [row._replace(row=number) for number, row in enumerate(rows)]
    outcomes = run(backup(store, storage_class="DEEP_ARCHIVE").process(numbered))
    assert [each.status for each in outcomes] == [Status.COPIED, Status.ARCHIVED]
    assert run(sizes(store)) == [4]


def test_the_newest_version_is_not_called_the_same_while_an_older_one_hides_its_copy():
    """Both its copy and itself are archived, so that no run can put it on top."""
    store = Ticking()
    row = run(put(store, b"cold"))
    newest = run(put(store, b"cold", storage_class="GLACIER"))
    run(backup(store, storage_class="DEEP_ARCHIVE").process([row]))
    run(MemoryStore.put(store, "hot", COPY, b"other", Attributes(), guard=UNGUARDED))
    (outcome,) = run(backup(store, storage_class="DEEP_ARCHIVE", mirrors_deletes=True).process([newest]))
    assert (outcome.status, "could not be put back on top" in outcome.reason) == (Status.ARCHIVED, True)


def test_a_destination_without_versions_is_refused():
    store = MemoryStore()
    for bucket in ("source", "hot"):
        store.create_bucket(bucket, versioned=False)
    row = run(put(store, b"body"))
    with pytest.raises(ConfigError, match="keeps no versions"):
        run(backup(store).process([row]))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Denied("CopyObject", COPY, "AccessDenied", "", 403), Status.DENIED),
        (CustomerKeyNeeded("CopyObject", COPY, "CustomerKeyNeeded", "", 400), Status.DENIED),
        (Rejected("CopyObject", COPY, "InvalidRequest", "", 400), Status.FAILED),
    ],
)
def test_a_refusal_is_the_outcome_of_its_row_and_a_retry_copies_it(error: StoreError, status: Status) -> None:
    store = Ticking()
    row = run(put(store, b"body"))

    async def refuse() -> None:
        raise error

    store.meanwhile = refuse
    (outcome,) = run(backup(store).process([row]))
    assert (outcome.status, outcome.reason) == (status, str(error))
    assert run(backup(store).process([row]))[0].status is Status.COPIED


def test_a_missing_bucket_is_the_outcome_of_no_row() -> None:
    store = Ticking()
    row = run(put(store, b"body"))

    async def refuse() -> None:
        raise NoSuchBucket("CopyObject", COPY, "NoSuchBucket", "", 404)

    store.meanwhile = refuse
    with pytest.raises(NoSuchBucket):
        run(backup(store).process([row]))


def test_an_older_version_that_a_refusal_left_on_top_is_covered_by_the_retry() -> None:
    """Even if it has gone from the source meanwhile."""
    store = Ticking()
    old, new = run(put(store, b"old"))._replace(last_modified=1e9), run(put(store, b"new"))
    run(backup(store).process([new]))

    async def refuse_the_second() -> None:
        async def refuse() -> None:
            raise Denied("CopyObject", COPY, "AccessDenied", "", 403)

        store.meanwhile = refuse

    store.meanwhile = refuse_the_second
    assert run(backup(store).process([old]))[0].status is Status.DENIED
    assert run(store.copies())[-1][0] == b"old"
    run(store.delete("source", KEY, version_id=old.version_id))
    assert run(backup(store).process([old]))[0].status is Status.MISSING
    assert run(store.copies())[-1][0] == b"new"


def test_a_removed_version_stays_at_the_destination():
    store = Ticking()
    row = run(put(store, b"body"))
    run(backup(store, mirrors_deletes=True).process([row]))
    run(store.delete("source", KEY, version_id=row.version_id))
    settled = run(backup(store, mirrors_deletes=True).settle(KEY))
    assert settled.is_marked
    assert run(store.copies()) == [(b"body", {}), None]


def test_a_writer_that_is_stopped_in_between_says_what_it_owes():
    """Between the older version's append and the newest one's return there is a moment that must not be forgotten."""
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    progress = KeyProgress()

    async def fail() -> None:  # with the second copy, which is to bring the newest back
        async def fail_again() -> None:
            raise Unavailable("CopyObject", COPY, "InternalError", "injected", 500)

        store.meanwhile = fail_again

    store.meanwhile = fail
    bet_lost = backup(store).settle(KEY, [old, old._replace(row=1)], progress)  # two rows: nothing is betted
    with pytest.raises(Unavailable):
        run(bet_lost)
    assert [progress.owes_newest] == [True]
    assert run(store.body("hot", COPY)) == (b"old", {})
    run(backup(store).settle(KEY, [old], progress))
    assert [progress.owes_newest] == [False]
    assert run(store.body("hot", COPY)) == (b"new", {})


def test_what_an_attempt_owes_the_next_one_pays_though_the_older_version_is_gone():
    """Between two attempts of one event the older version was removed, and its copy stayed on top."""
    store = Ticking()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))

    async def fail() -> None:  # with the second copy, which is to bring the newest back
        async def fail_again() -> None:
            raise Unavailable("CopyObject", COPY, "InternalError", "injected", 500)

        store.meanwhile = fail_again

    store.meanwhile = fail
    job = backup(store)
    with pytest.raises(Unavailable):
        run(job.process([old, old._replace(row=1)]))
    run(store.delete("source", KEY, version_id=old.version_id))
    assert [outcome.status for outcome in run(job.process([old, old._replace(row=1)]))] == [Status.MISSING] * 2
    assert run(store.body("hot", COPY)) == (b"new", {})


def test_the_newest_comes_back_where_only_its_size_says_what_an_archived_copy_on_top_is_of():
    """A worker was killed before it put the newest back, and nobody did so after it."""
    store = Ticking()
    store._default_checksum = None
    cold = {"storage_class": "DEEP_ARCHIVE"}
    old, new = run(put_in_parts(store, [b"in ", b"parts"])), run(put(store, b"new"))
    run(backup(store, **cold).process([new]))

    async def fail() -> None:  # with the second copy, which is to bring the newest back
        async def fail_again() -> None:
            raise Unavailable("CopyObject", COPY, "InternalError", "injected", 500)

        store.meanwhile = fail_again

    store.meanwhile = fail
    with pytest.raises(Unavailable):
        run(backup(store, **cold).settle(KEY, [old, old._replace(row=1)]))
    assert run(sizes(store)) == [3, 8]
    (outcome,) = run(backup(store, **cold).process([old]))
    assert (outcome.status, run(sizes(store))) == (Status.UNVERIFIABLE, [3, 8, 3])
    run(backup(store, **cold).process([old]))
    assert run(sizes(store)) == [3, 8, 3], "the same event again copies nothing"


def test_a_delete_that_is_handled_while_its_object_is_being_copied_is_not_forgotten():
    """The delete's handler finds nothing to mark; then the copy arrives."""
    store = Ticking()
    row = run(put(store, b"body"))

    async def delete() -> None:
        await store.delete("source", KEY)
        assert not (await backup(store, mirrors_deletes=True).settle(KEY)).is_marked

    store.meanwhile = delete
    settled = run(backup(store, mirrors_deletes=True).settle(KEY, [row]))
    assert settled.outcomes[0].status is Status.COPIED
    assert run(store.copies()) == [(b"body", {}), None]


def test_a_delete_marker_hides_no_copy_that_came_after_the_look() -> None:
    """It was taken back above the marker, unless the function died in between."""

    class Late(Ticking):
        before: Callable[[], Awaitable[Any]] | None = None

        async def delete(self, bucket: str, *arguments: Any, **named: Any) -> Any:
            if bucket == "hot" and self.before is not None:
                before, self.before = self.before, None
                await before()
            return await super().delete(bucket, *arguments, **named)

    store = Late()
    run(backup(store).process([run(put(store, b"body"))]))
    run(store.delete("source", KEY))

    async def write() -> None:
        newest = await put(store, b"the newest")
        await backup(store, mirrors_deletes=True).process([newest])

    store.before = write
    run(backup(store, mirrors_deletes=True).settle(KEY))
    assert run(store.copies()) == [(b"body", {}), (b"the newest", {})]


def test_one_of_two_handlers_of_one_event_copies():
    store = Ticking()
    run(backup(store).process([run(put(store, b"first"))]))
    row = run(put(store, b"second"))

    async def other() -> None:
        assert (await backup(store).settle(KEY, [row])).outcomes[0].status is Status.COPIED

    async def once_the_bet_is_lost() -> None:
        store.meanwhile = other

    store.meanwhile = once_the_bet_is_lost
    assert run(backup(store).settle(KEY, [row])).outcomes[0].status is Status.SAME
    assert [copy[0] for copy in run(store.copies())] == [b"first", b"second"]


@pytest.mark.parametrize("is_in_parts", [True, False])
@pytest.mark.parametrize("is_copied", [True, False])
def test_no_retained_copy_covers_a_version_that_was_written_meanwhile(is_copied: bool, is_in_parts: bool) -> None:
    """A late version was about to be copied above the retained copy, and the new one had come on top by then.

    S3 dates an upload in parts by its beginning.
    """
    store = Ticking()
    late, later, second, third = (run(put(store, body)) for body in (b"late", b"later", b"second", b"the third"))
    for row in (second, third):
        run(backup(store).process([row]))
    run(store.delete("source", KEY, version_id=third.version_id))

    async def write() -> None:
        newest = await put(store, b"the newest")
        if is_in_parts:
            store._buckets.named["source"].versions[KEY][-1].last_modified = 1e9
        if is_copied:
            await backup(store).process([newest])

    store.meanwhile = write
    run(backup(store).process([late, later._replace(row=1)]))
    assert run(store.body("hot", COPY)) == (b"the newest", {})


def test_where_deletes_are_retained_a_removed_newest_version_stays_on_top_of_its_copies():
    store = Ticking()
    old = run(put(store, b"old"))
    run(backup(store).process([old]))
    new = run(put(store, b"new"))
    run(backup(store).process([new]))
    run(store.delete("source", KEY, version_id=new.version_id))
    assert run(backup(store).process([old]))[0].status is Status.SAME
    assert run(store.body("hot", COPY)) == (b"new", {})


def test_contents_that_only_reading_can_tell_apart_are_read_below_the_limit_only():
    """A composite checksum proves nothing about a copy in one part."""
    store = Ticking()

    async def main() -> tuple[Sequence[ObjectVersion], KeyResult, KeyResult]:
        upload = await store.create_multipart(
            "source", KEY, Attributes(), checksum_algorithm="SHA256", is_composite=True
        )
        parts = [
            await store.put_part("source", KEY, upload, number, body) for number, body in ((1, b"abc"), (2, b"def"))
        ]
        written = await store.complete_multipart("source", KEY, upload, parts, guard=UNGUARDED)
        row = ObjectVersion(0, KEY, written.version_id, size_bytes=6, etag=written.etag)
        await backup(store).settle(KEY, [row])
        return [row], await backup(store, limit_bytes=5).settle(KEY, [row]), await backup(store).settle(KEY, [row])

    _, left, read = run(main())
    assert left.left == {0}
    assert (read.outcomes[0].status, read.outcomes[0].evidence.value) == (Status.SAME, "content")
    assert len(run(store.copies())) == 1


def test_a_row_without_a_version_means_the_latest_even_where_that_has_to_wait():
    """The older version was copied for it, and the archived one was called copied."""
    store = Ticking()
    run(put(store, b"older"))
    run(put(store, b"archived", storage_class="GLACIER"))
    (outcome,) = run(backup(store, storage_class="STANDARD").process([ObjectVersion(0, KEY)]))
    assert outcome.status is Status.ARCHIVED
    assert [copy[0] for copy in run(store.copies())] == [b"older"]


async def sizes(store: Ticking) -> list[int | None]:
    """The sizes of the copies, oldest first."""
    return [each.size_bytes for each in await history(store, "hot", COPY)]
