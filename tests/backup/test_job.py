"""The backup job, one event at a time: what it costs, what it leaves to others, what it says."""

from __future__ import annotations

import pytest

from jobs.backup.job import KeyProgress
from jobs.core.model import Attributes, ObjectRef
from jobs.core.outcome import Status
from jobs.errors import ConfigError, CustomerKeyNeeded, Denied, NoSuchBucket, Rejected, StoreError, Unavailable
from jobs.s3.store import UNGUARDED
from tests.backup.scene import COPY, KEY, backup, contents, make_store, put, run
from tests.doubles.hooks import names, nth, once, refuse, watch
from tests.doubles.memory_store import MemoryStore

DENIED = Denied("CopyObject", COPY, "AccessDenied", "", 403)
INJECTED = Unavailable("CopyObject", COPY, "InternalError", "injected", 500)


def bodies(store: MemoryStore) -> list[bytes | None]:
    return [None if each is None else each[0] for each in contents(store)]


def test_a_new_key_costs_three_requests_and_is_proven():
    store = make_store()
    row = run(put(store, b"body", tags={"team": "blue"}))
    requests = watch(store)
    (outcome,) = run(backup(store).process([row]))
    assert (outcome.status, outcome.evidence.value) == (Status.COPIED, "checksum")
    assert names(requests) == ["is_versioned", "head", "copy", "head"]  # the first is asked once a run
    assert run(store.get_tags(ObjectRef("hot", COPY))) == {"team": "blue"}


def test_a_duplicate_writes_nothing():
    store = make_store()
    row = run(put(store, b"body"))
    run(backup(store).process([row]))
    requests = watch(store)
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.SAME
    assert names(requests).count("copy") == 1  # the bet, which S3 refused
    assert bodies(store) == [b"body"]


def test_a_late_older_version_is_stored_beneath_the_newest():
    store = make_store()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    (outcome,) = run(backup(store).process([old]))
    assert outcome.status is Status.COPIED
    assert bodies(store) == [b"new", b"old", b"new"]


def test_above_the_limit_a_row_is_left_and_nothing_is_written():
    store = make_store()
    row = run(put(store, b"large body"))
    settled = run(backup(store, limit_bytes=5).settle(KEY, [row]))
    assert (settled.outcomes, settled.left) == ({}, {0})
    assert bodies(store) == []
    assert run(backup(store, limit_bytes=5).process([row]))[0].status is Status.FAILED


def test_an_archived_version_ends_as_such():
    store = make_store()
    row = run(put(store, b"cold", storage_class="GLACIER"))
    (outcome,) = run(backup(store).process([row]))
    assert outcome.status is Status.ARCHIVED
    store.restore(ObjectRef("source", KEY, row.version_id))
    assert run(backup(store).process([row]))[0].status is Status.COPIED


def test_no_version_is_put_above_the_newest_ones_copy_that_nothing_can_put_back():
    """An older version of the same bytes was copied in the same batch, which is the newest one's copy as well."""
    store = make_store()
    rows = [run(put(store, body)) for body in (b"cold", b"other")]
    run(put(store, b"cold", storage_class="GLACIER"))
    numbered = [row._replace(row=number) for number, row in enumerate(rows)]
    outcomes = run(backup(store, storage_class="DEEP_ARCHIVE").process(numbered))
    assert [each.status for each in outcomes] == [Status.COPIED, Status.ARCHIVED]
    assert bodies(store) == [b"cold"]


def test_the_newest_version_is_not_called_the_same_while_an_older_one_hides_its_copy():
    """Both its copy and itself are archived, so that no run can put it on top."""
    store = make_store()
    row = run(put(store, b"cold"))
    newest = run(put(store, b"cold", storage_class="GLACIER"))
    run(backup(store, storage_class="DEEP_ARCHIVE").process([row]))
    run(store.put("hot", COPY, b"other", Attributes(), guard=UNGUARDED))
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
        (DENIED, Status.DENIED),
        (CustomerKeyNeeded("CopyObject", COPY, "CustomerKeyNeeded", "", 400), Status.DENIED),
        (Rejected("CopyObject", COPY, "InvalidRequest", "", 400), Status.FAILED),
    ],
)
def test_a_refusal_is_the_outcome_of_its_row_and_a_retry_copies_it(error: StoreError, status: Status) -> None:
    store = make_store()
    row = run(put(store, b"body"))
    store.hook(copy=refuse(error, nth(1)))
    (outcome,) = run(backup(store).process([row]))
    assert (outcome.status, outcome.reason) == (status, str(error))
    assert run(backup(store).process([row]))[0].status is Status.COPIED


def test_a_missing_bucket_is_the_outcome_of_no_row() -> None:
    store = make_store()
    row = run(put(store, b"body"))
    store.hook(copy=refuse(NoSuchBucket("CopyObject", COPY, "NoSuchBucket", "", 404)))
    with pytest.raises(NoSuchBucket):
        run(backup(store).process([row]))


def test_an_older_version_that_a_refusal_left_on_top_is_covered_by_the_retry() -> None:
    """Even if it has gone from the source meanwhile."""
    store = make_store()
    old, new = run(put(store, b"old"))._replace(last_modified=1e9), run(put(store, b"new"))
    run(backup(store).process([new]))
    store.hook(copy=refuse(DENIED, nth(2)))
    assert run(backup(store).process([old]))[0].status is Status.DENIED
    assert bodies(store)[-1] == b"old"
    run(store.delete("source", KEY, version_id=old.version_id))
    assert run(backup(store).process([old]))[0].status is Status.MISSING
    assert bodies(store)[-1] == b"new"


def test_a_removed_version_stays_at_the_destination():
    store = make_store()
    row = run(put(store, b"body"))
    run(backup(store, mirrors_deletes=True).process([row]))
    run(store.delete("source", KEY, version_id=row.version_id))
    settled = run(backup(store, mirrors_deletes=True).settle(KEY))
    assert settled.is_marked
    assert bodies(store) == [b"body", None]


def test_a_writer_that_is_stopped_in_between_says_what_it_owes():
    """Between the older version's append and the newest one's return there is a moment that must not be forgotten."""
    store = make_store()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    progress = KeyProgress()
    store.hook(copy=refuse(INJECTED, nth(2)))  # which is to bring the newest back
    bet_lost = backup(store).settle(KEY, [old, old._replace(row=1)], progress)  # two rows: nothing is betted
    with pytest.raises(Unavailable):
        run(bet_lost)
    assert [progress.owes_newest] == [True]
    assert bodies(store)[-1] == b"old"
    run(backup(store).settle(KEY, [old], progress))
    assert [progress.owes_newest] == [False]
    assert bodies(store)[-1] == b"new"


def test_what_an_attempt_owes_the_next_one_pays_though_the_older_version_is_gone():
    """Between two attempts of one event the older version was removed, and its copy stayed on top."""
    store = make_store()
    old, new = run(put(store, b"old")), run(put(store, b"new"))
    run(backup(store).process([new]))
    store.hook(copy=refuse(INJECTED, nth(2)))  # which is to bring the newest back
    job = backup(store)
    with pytest.raises(Unavailable):
        run(job.process([old, old._replace(row=1)]))
    run(store.delete("source", KEY, version_id=old.version_id))
    assert [outcome.status for outcome in run(job.process([old, old._replace(row=1)]))] == [Status.MISSING] * 2
    assert bodies(store)[-1] == b"new"


def test_a_delete_that_is_handled_while_its_object_is_being_copied_is_not_forgotten():
    """The delete's handler finds nothing to mark; then the copy arrives."""
    store = make_store()
    row = run(put(store, b"body"))

    async def delete() -> None:
        await store.delete("source", KEY)
        assert not (await backup(store, mirrors_deletes=True).settle(KEY)).is_marked

    store.hook(copy=once(delete))
    settled = run(backup(store, mirrors_deletes=True).settle(KEY, [row]))
    assert settled.outcomes[0].status is Status.COPIED
    assert bodies(store) == [b"body", None]


def test_a_delete_marker_hides_no_copy_that_came_after_the_look() -> None:
    """It was taken back above the marker, unless the function died in between."""
    store = make_store()
    run(backup(store).process([run(put(store, b"body"))]))
    run(store.delete("source", KEY))

    async def write() -> None:
        newest = await put(store, b"the newest")
        await backup(store, mirrors_deletes=True).process([newest])

    store.hook(delete=once(write, lambda request: request.place.bucket == "hot"))
    run(backup(store, mirrors_deletes=True).settle(KEY))
    assert bodies(store) == [b"body", b"the newest"]


def test_one_of_two_handlers_of_one_event_copies():
    store = make_store()
    run(backup(store).process([run(put(store, b"first"))]))
    row = run(put(store, b"second"))

    async def other() -> None:
        assert (await backup(store).settle(KEY, [row])).outcomes[0].status is Status.COPIED

    store.hook(copy=once(other, nth(2)))  # once the bet is lost
    assert run(backup(store).settle(KEY, [row])).outcomes[0].status is Status.SAME
    assert bodies(store) == [b"first", b"second"]


@pytest.mark.parametrize("is_in_parts", [True, False])
@pytest.mark.parametrize("is_copied", [True, False])
def test_no_retained_copy_covers_a_version_that_was_written_meanwhile(is_copied: bool, is_in_parts: bool) -> None:
    """A late version was about to be copied above the retained copy, and the new one had come on top by then.

    S3 dates an upload in parts by its beginning.
    """
    store = make_store()
    late, later, second, third = (run(put(store, body)) for body in (b"late", b"later", b"second", b"the third"))
    for row in (second, third):
        run(backup(store).process([row]))
    run(store.delete("source", KEY, version_id=third.version_id))

    async def write() -> None:
        newest = await put(store, b"the newest")
        if is_in_parts:
            store.stored("source", KEY)[-1].last_modified = 1e9
        if is_copied:
            await backup(store).process([newest])

    store.hook(copy=once(write))
    run(backup(store).process([late, later._replace(row=1)]))
    assert bodies(store)[-1] == b"the newest"


def test_where_deletes_are_retained_a_removed_newest_version_stays_on_top_of_its_copies():
    store = make_store()
    old = run(put(store, b"old"))
    run(backup(store).process([old]))
    new = run(put(store, b"new"))
    run(backup(store).process([new]))
    run(store.delete("source", KEY, version_id=new.version_id))
    assert run(backup(store).process([old]))[0].status is Status.SAME
    assert bodies(store)[-1] == b"new"
