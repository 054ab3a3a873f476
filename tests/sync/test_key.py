"""One key: what is copied, what is not, and how its rows end."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from jobs.core.model import ObjectVersion, Repair
from jobs.core.outcome import Evidence, Status
from jobs.core.reasons import Reason
from jobs.errors import ConfigError, Conflict, Denied, NoSuchBucket, NotFound, Unavailable
from jobs.sync.edges import End
from jobs.sync.key import sync_key
from tests.doubles.hooks import nth, once, refuse, watch
from tests.doubles.memory_store import Request
from tests.sync.scene import (
    COPY,
    EVENT,
    KIB,
    PARTS,
    SOURCE,
    bodies,
    delete,
    event_of,
    finish,
    make_store,
    put,
    put_in_parts,
    row_of,
    rows_of,
    sides,
    statuses,
    sync,
    sync_all,
    sync_one,
)

A, B, C = b"aaa", b"bbb", b"ccc"
SAME, COPIED = Status.SAME, Status.DONE


def of_source(request: Request) -> bool:
    return request.place.bucket == "source"


def of_version(row: ObjectVersion) -> Any:
    return lambda request: request.arguments["source"].version_id == row.version_id


# What is newest


async def test_current_object_is_copied_and_then_the_same() -> None:
    store = make_store()
    row = await put(store, A, metadata={"colour": "red"}, tags={"a": "1"}, headers={"content-type": "text/plain"})
    copied = await sync_one(store, row)
    assert (copied.status, copied.evidence, copied.etag) == (COPIED, Evidence.MD5_ETAG, row.etag)
    again = await sync_one(store, row)
    assert (again.status, again.destination_version_id) == (SAME, copied.destination_version_id)
    assert again.evidence is Evidence.CHECKSUM
    copy = store.stored(*COPY[:2])[-1].attributes
    assert (copy.metadata, copy.tags, copy.headers) == ({"colour": "red"}, {"a": "1"}, {"content-type": "text/plain"})


@pytest.mark.parametrize("is_killed", [False, True])
async def test_version_that_comes_late_does_not_bring_a_deleted_key_back(is_killed: bool) -> None:
    store = make_store()
    await put(store, A)
    second = await put(store, B)
    await delete(store)
    options = {"all_versions": True, "mirrors_deletes": False, "is_replay": True}
    await sync_all(store, **options)
    await delete(store, COPY._replace(version_id=store.stored(*COPY[:2])[1].version_id))
    assert bodies(store) == [A, None]
    if is_killed:
        store.hook(delete=refuse(Unavailable("DeleteObject", "k", "Killed")))
        with pytest.raises(Unavailable):
            await sync_one(store, second, **options)
        store.hook(delete=None)
    outcome = await sync_one(store, second, **options)
    assert outcome.status is (SAME if is_killed else COPIED)
    assert bodies(store) == [A, None, B, None]
    assert (await sync_one(store, second, **options)).status is SAME
    assert bodies(store) == [A, None, B, None]


@pytest.mark.parametrize("is_first", [True, False])
async def test_late_version_comes_above_all_but_the_markers_that_were_reproduced_above_it(is_first: bool) -> None:
    store = make_store()
    await put(store, A)
    row = await put(store, B)
    if not is_first:
        await delete(store)
        row = await put(store, B)
    await delete(store)
    options = {"all_versions": True, "mirrors_deletes": False, "is_replay": True}
    await sync_all(store, **options)
    last = store.stored(*COPY[:2])
    for copy in [last[1]] if is_first else last[-2:]:
        await delete(store, COPY._replace(version_id=copy.version_id))
    await put(store, b"later")
    await delete(store)
    await sync_one(store, row, **options)
    assert bodies(store) == ([A, None, B, None] if is_first else [A, B, None, B])


async def test_bet_on_an_etag_that_came_twice_is_no_copy_of_the_older_version() -> None:
    store = make_store()
    old = await put(store, A, metadata={"number": "1"})
    await put(store, A, metadata={"number": "2"})
    outcome = await sync_one(store, old)
    assert (outcome.status, outcome.reason) == (COPIED, Reason.NEWER_COPIED)
    assert [each.attributes.metadata for each in store.stored(*COPY[:2])] == [{"number": "2"}]


async def test_server_that_does_not_name_what_it_copied_is_asked_by_version() -> None:
    store = make_store()

    async def say_nothing(request: Request) -> Any:
        return (await request())._replace(source_version_id=None)

    store.hook(copy=say_nothing)
    both = sides(store, **EVENT)
    for number in range(2):
        row = event_of(await put(store, b"%d" % number))
        assert (await finish(both, [row], is_event=True)).outcomes[0].status is COPIED
    assert not both.names_copied
    assert bodies(store) == [b"0", b"1"]


@pytest.mark.parametrize("names_copied", [True, False])
async def test_object_that_is_overwritten_while_it_is_copied_is_brought_up_to_date(names_copied: bool) -> None:
    """Also where the server does not say which version it copied."""
    store = make_store()
    await put(store, A)
    await sync_one(store, await row_of(store))
    row = await put(store, B)
    store.hook(copy=once(lambda: put(store, C), where=nth(2)))
    both = sides(store)
    both.names_copied = names_copied
    outcome = (await sync_key(both, SOURCE.key, [row])).outcomes[0]
    assert (outcome.status, outcome.reason) == (COPIED, Reason.NEWER_COPIED)
    assert bodies(store)[-1] == C


@pytest.mark.parametrize("names_copied", [True, False])
async def test_row_of_a_version_that_was_superseded_leads_to_a_copy_of_the_newest(names_copied: bool) -> None:
    """Also where the server does not say which version it copied, so that it is asked for the row's."""
    store = make_store()
    row = await put(store, A)
    await put(store, B)
    both = sides(store)
    both.names_copied = names_copied
    outcome = (await sync_key(both, SOURCE.key, [row])).outcomes[0]
    assert (outcome.status, outcome.reason) == (COPIED, Reason.NEWER_COPIED)
    assert bodies(store)[-1] == B


@pytest.mark.parametrize("step_seconds", [10.0, 400.0])
async def test_streamed_copy_that_could_be_lost_is_replaced_only_if_it_is_older_by_two_clocks(
    step_seconds: float,
) -> None:
    store = make_store(versioned=False, kept=False, step_seconds=step_seconds)
    await sync_one(store, await put(store, A), streamed=True)
    outcome = await sync_one(store, await put(store, B), streamed=True)
    assert outcome.status is (COPIED if step_seconds > 300 else Status.CHANGED)
    assert outcome.reason == ("" if step_seconds > 300 else Reason.ORDER_UNKNOWN)


@pytest.mark.parametrize("colour", ["red", "blue"])
async def test_copy_that_would_be_lost_is_an_older_version_s_only_with_its_metadata(colour: str) -> None:
    store = make_store(kept=False)
    await put(store, A, metadata={"colour": "red"})
    row = await put(store, B)
    await put(store, A, COPY, metadata={"colour": colour})
    outcome = await sync_one(store, row)
    assert outcome.status is (COPIED if colour == "red" else Status.CHANGED)
    assert bodies(store) == ([B] if colour == "red" else [A])


async def test_other_metadata_is_another_object() -> None:
    store = make_store()
    await put(store, A, COPY, metadata={"colour": "red"})
    row = await put(store, A, metadata={"colour": "blue"})
    assert (await sync_one(store, row)).status is COPIED
    await put(store, A, COPY, metadata={"colour": "red"})
    assert (await sync_one(store, row)).reason == Reason.DELETE_RETAINED


async def test_copy_has_to_have_the_tags_of_its_source_where_they_are_compared() -> None:
    store = make_store()
    row = await put(store, A, tags={"a": "1"})
    await put(store, A, COPY, tags={"b": "1"})
    assert (await sync_one(store, row)).status is SAME
    assert (await sync_one(store, row, compares_tags=True)).status is Status.CHANGED
    await put(store, A, COPY, tags={"a": "1", "b": "1"})
    assert (await sync_one(store, row, compares_tags=True)).status is SAME


async def test_source_that_is_gone_is_missing() -> None:
    store = make_store()
    row = await put(store, A)
    await delete(store, SOURCE._replace(version_id=row.version_id))
    outcome = await sync_one(store, row)
    assert (outcome.status, outcome.reason) == (Status.MISSING, Reason.SOURCE_GONE)


async def test_rows_that_only_a_history_can_have_fail_one_by_one() -> None:
    store = make_store()
    row = await put(store, A)
    result = await sync(store, row, row._replace(row=1))
    assert {each.reason for each in result.outcomes.values()} == {Reason.ONE_OF_SEVERAL}
    marker = await sync_one(store, row._replace(is_delete_marker=True))
    assert (marker.status, marker.reason) == (Status.BLOCKED, Reason.IS_MARKER)


# Histories


@pytest.mark.parametrize("overwrite", ["older", "never"])
async def test_each_version_of_equal_bytes_gets_a_copy(overwrite: str) -> None:
    store = make_store()
    for body in (A, A, A):
        await put(store, body)
    assert statuses(await sync_all(store, overwrite=overwrite, is_replay=True)) == [COPIED, COPIED, COPIED]
    assert bodies(store) == [A, A, A]


async def test_each_event_of_equal_bytes_gets_a_copy() -> None:
    """More of them than an event compares."""
    store = make_store()
    for _ in range(12):
        row = event_of(await put(store, A))
        assert (await sync(store, row, is_event=True, **EVENT)).outcomes[0].status is COPIED
    assert bodies(store) == [A] * 12


async def test_late_version_is_appended_and_the_newest_once_more_above_it() -> None:
    store = make_store()
    late, new = await put(store, A), await put(store, B)
    await sync(store, event_of(new), is_event=True, **EVENT)
    outcome = (await sync(store, event_of(late), is_event=True, **EVENT)).outcomes[0]
    assert (outcome.status, outcome.reason) == (COPIED, Reason.COPIED_LATE)
    assert bodies(store) == [B, A, B]


async def test_versions_that_nobody_names_are_copied_from_the_first_copy_on() -> None:
    store = make_store()
    await put(store, A)
    first = await put(store, B)
    await sync(store, first, all_versions=True)
    await put(store, C)
    last = await put(store, b"ddd")
    await sync(store, last, all_versions=True)
    assert bodies(store) == [B, C, b"ddd"]


@pytest.mark.parametrize(("mirrors", "expected"), [(True, [A, None]), (False, [A])])
async def test_deletes_are_mirrored_or_retained(mirrors: bool, expected: list[bytes | None]) -> None:
    store = make_store()
    row = event_of(await put(store, A))
    await sync(store, row, is_event=True, mirrors_deletes=mirrors, **EVENT)
    await delete(store)
    result = await sync(store, is_event=True, mirrors_deletes=mirrors, **EVENT)
    assert result.is_marked is mirrors
    assert not (await sync(store, is_event=True, mirrors_deletes=mirrors, **EVENT)).is_marked
    assert bodies(store) == expected


async def test_row_without_a_version_brings_back_nothing_that_was_deleted() -> None:
    """An event had mirrored the delete. The version below the source's marker was copied above that of the copies."""
    store = make_store()
    row = await put(store, A)
    await sync_one(store, row)
    await delete(store)
    await delete(store, COPY)
    outcome = await sync_one(store, row._replace(version_id=None))
    assert (outcome.status, outcome.reason, bodies(store)) == (Status.MISSING, Reason.SOURCE_GONE, [A, None])


async def test_event_of_a_version_that_is_gone_is_missing() -> None:
    store = make_store()
    gone = await put(store, A)
    await put(store, B)
    await delete(store, SOURCE._replace(version_id=gone.version_id))
    outcome = (await sync(store, event_of(gone), is_event=True, **EVENT)).outcomes[0]
    assert (outcome.status, outcome.reason) == (Status.MISSING, Reason.SOURCE_GONE)
    assert bodies(store) == [B]


async def test_destination_without_versions_takes_no_history() -> None:
    store = make_store(kept=False)
    with pytest.raises(ConfigError, match="keeps no versions"):
        await sync(store, await put(store, A), all_versions=True)
    assert bodies(store) == []


async def test_only_copy_is_not_replaced_where_it_would_be_lost() -> None:
    store = make_store(kept=False)
    await put(store, A, COPY)
    row = await put(store, B)
    outcome = await sync_one(store, row, keeps_replaced=True)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.ONLY_COPY)
    assert (await sync_one(store, row)).status is COPIED
    assert bodies(store) == [B]


async def test_delete_that_is_handled_while_its_object_is_copied_is_not_forgotten() -> None:
    """Its handler finds nothing to mark; then the copy arrives."""
    store = make_store()
    row = event_of(await put(store, A))

    async def remove() -> None:
        await delete(store)
        assert not (await sync(store, is_event=True, mirrors_deletes=True, **EVENT)).is_marked

    store.hook(copy=once(remove))
    await sync(store, row, is_event=True, mirrors_deletes=True, **EVENT)
    assert bodies(store) in ([], [A, None])


async def test_removal_right_after_the_copy_of_a_row_is_mirrored() -> None:
    """What was read of the destination before the copy does not show it."""
    store = make_store()
    row = await put(store, A)

    async def then_remove(request: Request) -> Any:
        written = await request()
        await delete(store, SOURCE._replace(version_id=row.version_id))
        return written

    store.hook(copy=then_remove)
    await sync_one(store, row, all_versions=True, mirrors_deletes=True)
    assert bodies(store) == [A, None]


@pytest.mark.parametrize(("bucket", "is_event"), [("source", True), ("destination", False)])
async def test_refusal_before_the_first_copy_is_an_outcome(bucket: str, is_event: bool) -> None:
    store = make_store()
    row = await put(store, A)
    denied = Denied("any", f"s3://{bucket}", "AccessDenied", "", 403)
    store.hook(every=refuse(denied, lambda request: request.place.bucket == bucket))
    end = (await sync(store, event_of(row) if is_event else row, is_event=is_event, all_versions=True)).outcomes[0]
    assert (end.status, end.reason, bodies(store)) == (Status.BLOCKED, Reason.DENIED, [])


async def test_delete_marker_hides_no_copy_that_came_after_the_look() -> None:
    store = make_store()
    await sync(store, event_of(await put(store, A)), is_event=True, mirrors_deletes=True, **EVENT)
    await delete(store)

    async def write() -> None:
        await sync(store, event_of(await put(store, B)), is_event=True, mirrors_deletes=True, **EVENT)

    store.hook(delete=once(write, lambda request: request.place.bucket == "destination"))
    await sync(store, is_event=True, mirrors_deletes=True, **EVENT)
    assert bodies(store) == [A, None, B]


async def test_object_that_is_overwritten_after_its_copy_is_covered_and_not_copied_twice() -> None:
    """Under a KMS key, without checksums: nothing but the answer to the copy says of which version it is."""
    store = make_store(default_checksum=None)
    row = event_of(await put(store, A, sse="aws:kms"))

    async def overwrite(request: Request) -> Any:
        written = await request()
        store.hook(copy=None)
        await put(store, B, sse="aws:kms")
        return written

    store.hook(copy=overwrite)
    outcome = (await sync(store, row, is_event=True, sse="aws:kms", mirrors_deletes=True, **EVENT)).outcomes[0]
    assert outcome.status is COPIED
    assert bodies(store) == [A, B]


async def test_one_of_two_handlers_of_one_event_copies() -> None:
    store = make_store()
    await sync(store, event_of(await put(store, A)), is_event=True, **EVENT)
    row = event_of(await put(store, B))

    async def other() -> None:
        assert (await sync(store, row, is_event=True, **EVENT)).outcomes[0].status is COPIED

    store.hook(copy=once(other, nth(2)))  # once the bet is lost
    assert (await sync(store, row, is_event=True, **EVENT)).outcomes[0].status is SAME
    assert bodies(store) == [A, B]


# What cannot be copied


async def test_archived_version_is_left_and_others_are_copied() -> None:
    store = make_store()
    old = await put(store, A)
    await put(store, B, storage_class="GLACIER")
    result = await sync(store, *await rows_of(store), all_versions=True)
    assert statuses(list(result.outcomes.values())) == [COPIED, Status.BLOCKED]
    assert result.outcomes[1].reason == Reason.ARCHIVED
    assert bodies(store) == [A]
    assert (await sync(store, event_of(old), is_event=True, **EVENT)).outcomes[0].status is SAME


async def test_older_version_on_top_does_not_settle_the_row_of_an_archived_newest_one() -> None:
    store = make_store()
    await put(store, A)
    await put(store, C, COPY)
    row = await put(store, B, storage_class="GLACIER")
    for _ in range(2):
        ended = await sync_one(store, row._replace(version_id=None), overwrite="always")
        assert (ended.status, ended.reason, bodies(store)) == (Status.BLOCKED, Reason.ARCHIVED, [C, A])


async def test_bet_on_what_is_archived_by_now_blocks_no_older_version_of_the_same_bytes() -> None:
    """It was copied over itself, to another class."""
    store = make_store()
    old = await put(store, A)
    await put(store, A, storage_class="GLACIER")
    assert (await sync_one(store, old, all_versions=True)).status is COPIED
    assert bodies(store) == [A]


async def test_older_version_is_not_put_on_top_of_what_cannot_be_put_back() -> None:
    store = make_store()
    late = await put(store, A)
    await put(store, B, storage_class="GLACIER")
    await put(store, B, COPY, storage_class="GLACIER")
    result = await sync(store, event_of(late), is_event=True, **EVENT)
    assert (result.outcomes[0].status, result.outcomes[0].reason) == (Status.BLOCKED, Reason.NEWEST_ARCHIVED)
    assert bodies(store) == [B]


async def test_larger_object_is_left_to_another_worker() -> None:
    store = make_store()
    row = event_of(await put(store, b"much larger"))
    result = await sync(store, row, is_event=True, limit_bytes=5, **EVENT)
    assert result.left is not None
    assert {result.top.reason, result.outcomes[0].reason} == {Reason.TOO_LARGE}
    assert bodies(store) == []


async def test_event_leaves_a_late_version_whose_copy_it_does_not_find_to_a_run() -> None:
    store = make_store(default_checksum="CRC64NVME")
    rows = [await put(store, letter.encode() * 3) for letter in "AAABAABBB"]
    rows.append(await put(store, b"BBB", metadata={"colour": "red"}))
    options = {"all_versions": True}  # a class that is kept costs a HEAD, so S3's own ETags prove less
    for row in rows:
        await sync(store, event_of(row), is_event=True, **options)
    copies = bodies(store)
    again = [(await sync(store, event_of(row), is_event=True, **options)).outcomes[0] for row in rows]
    left = [row for row, outcome in zip(rows, again, strict=True) if outcome.reason == Reason.TOO_SLOW]
    assert left
    assert {outcome.status for outcome in again} == {SAME, Status.BLOCKED}
    assert bodies(store) == copies
    await sync(store, *left, **options)
    assert set(statuses(await sync_all(store, mirrors_deletes=False))) == {SAME}


@pytest.mark.parametrize("all_versions", [False, True])
async def test_version_that_is_listed_and_never_found_is_refused_at_once(all_versions: bool) -> None:
    """SeaweedFS, with a key that ends in /."""
    store = make_store()
    row = await put(store, A)
    asked: list[Request] = []

    async def deny(request: Request) -> Any:
        asked.append(request)
        raise NotFound("CopyObject", "s3://source/key", "NoSuchKey", "", 404)

    store.hook(copy=deny)
    outcome = await sync_one(store, row, all_versions=all_versions)
    assert (outcome.status, outcome.reason) == (Status.BLOCKED, Reason.REFUSED)
    assert len(asked) <= 3


async def test_version_that_is_never_found_keeps_no_others_from_being_copied() -> None:
    store = make_store()
    gone = await put(store, A)
    await put(store, B)
    store.hook(copy=refuse(NotFound("CopyObject", "s3://source/key", "NoSuchKey", "", 404), of_version(gone)))
    assert statuses(await sync_all(store)) == [Status.BLOCKED, COPIED]
    assert bodies(store) == [B]


async def test_row_that_is_blocked_below_a_new_copy_tells_when_that_was_made() -> None:
    store = make_store()
    await put(store, A, storage_class="GLACIER")
    await put(store, B)
    blocked, copied = await sync_all(store)
    assert (blocked.status, copied.status) == (Status.BLOCKED, COPIED)
    made = copied.destination_version_id, copied.copy_modified
    assert (blocked.destination_version_id, blocked.copy_modified) == made


async def test_version_that_is_removed_before_it_is_copied_is_missing() -> None:
    store = make_store()
    row = await put(store, A)
    await delete(store)  # the bet does not find it

    async def remove() -> None:
        await delete(store, SOURCE._replace(version_id=row.version_id))

    store.hook(copy=once(remove, nth(2)))
    outcome = await sync_one(store, row, all_versions=True)
    assert (outcome.status, outcome.reason) == (Status.MISSING, Reason.SOURCE_GONE)


async def test_missing_bucket_is_no_rows_outcome() -> None:
    store = make_store()
    row = await put(store, A)
    store.hook(copy=refuse(NoSuchBucket("CopyObject", "k", "NoSuchBucket", "", 404)))
    with pytest.raises(NoSuchBucket):
        await sync_one(store, row)


# Damage


async def test_damaged_source_is_not_copied_onto_a_copy_with_other_bytes() -> None:
    store = make_store(default_checksum=None)
    row = await put_in_parts(store, b"good", b"bytes", algorithm="CRC64NVME")
    await put(store, b"goodbytes", COPY)
    store.rot(*SOURCE[:2], b"badxbytes")
    result = await sync(store, row, overwrite="always")
    assert (result.outcomes[0].status, result.top) == (Status.DAMAGED, End(Status.DAMAGED, Reason.DAMAGED))
    assert bodies(store) == [b"goodbytes"]


@pytest.mark.parametrize("checksum", ["CRC64NVME", None])
@pytest.mark.parametrize("options", [{"is_event": True, "all_versions": True}, {}, {"all_versions": True}])
async def test_copy_that_contradicts_its_source_shows_the_damage(options: dict[str, Any], checksum: str | None) -> None:
    """By a checksum or, without one, by the ETags of both."""
    store = make_store(default_checksum=checksum)
    await put(store, A)
    store.rot(*SOURCE[:2], B)
    row = event_of(await row_of(store))
    outcome = (await sync(store, row, **options)).outcomes[0]
    assert (outcome.status, outcome.reason) == (Status.DAMAGED, Reason.DAMAGED)


async def test_etags_of_copies_under_a_key_are_looked_at_once() -> None:
    store = make_store(default_checksum=None)
    both = sides(store, sse="aws:kms", kms_key_id="key", all_versions=True)

    async def seal(request: Request) -> Any:
        written = await request()
        store.stored(*COPY[:2])[-1].etag = hashlib.md5(written.version_id.encode()).hexdigest()
        return written._replace(etag=store.stored(*COPY[:2])[-1].etag)

    store.hook(copy=seal)
    for number, body in enumerate((A, B, C)):
        row, requests = await put(store, body), watch(store)
        assert (await sync_key(both, SOURCE.key, [row])).outcomes[0].status is COPIED
        heads = [each for each in requests if (each.operation, each.place.bucket) == ("head", COPY.bucket)]
        assert len(heads) == (number == 0), requests


@pytest.mark.parametrize("is_right_now", [False, True])
async def test_source_that_was_found_damaged_is_read_first(is_right_now: bool) -> None:
    store = make_store()
    row = await put(store, A)
    row = row._replace(beside=Repair(damaged_etag=row.etag))
    if not is_right_now:
        store.rot(*SOURCE[:2], B)
    outcome = await sync_one(store, row)
    assert outcome.status is (COPIED if is_right_now else Status.DAMAGED)
    assert bodies(store) == ([A] if is_right_now else [])


async def test_older_version_that_was_found_damaged_stays_damaged_though_its_copy_is_there() -> None:
    store = make_store()
    row = await put(store, A)
    await sync_all(store)
    store.rot(*SOURCE[:2], B)
    await put(store, C)
    await sync_all(store)
    row = row._replace(beside=Repair(damaged_etag=row.etag))
    assert (await sync_one(store, row, all_versions=True, is_replay=True)).status is Status.DAMAGED


async def test_all_copies_that_were_found_wrong_are_replaced() -> None:
    store = make_store()
    rows = []
    for body in (A, B):
        rows.append(await put(store, body))
        await sync_all(store)
        store.rot(*COPY[:2], C)
    await put(store, b"ddd")
    await sync_all(store)
    rows = [row._replace(row=place, beside=Repair(condemned_etag=row.etag)) for place, row in enumerate(rows)]
    result = await sync(store, *rows, all_versions=True, is_replay=True)
    assert [result.outcomes[place].status for place in range(2)] == [COPIED, COPIED]
    assert bodies(store) == [C, C, b"ddd", A, B, b"ddd"]


# How it is copied


async def test_marker_that_comes_while_parts_are_sent_is_seen() -> None:
    store = make_store()
    row = await put(store, b"x" * (7 * KIB))
    store.hook(complete_multipart=once(lambda: delete(store, COPY)))
    await finish(sides(store, **PARTS), [row])
    assert bodies(store)[-1] == b"x" * (7 * KIB)


# Others


async def test_key_that_others_keep_changing_is_given_back() -> None:
    store = make_store()
    row = await put(store, A)
    store.hook(copy=refuse(Conflict("CopyObject", "k", "ConditionalRequestConflict", "", 409)))
    with pytest.raises(Conflict, match="kept changing"):
        await sync_one(store, row)


async def test_version_older_than_the_pages_is_described_by_itself() -> None:
    store = make_store(step_seconds=100.0)
    rows = [await put(store, b"%04d" % number) for number in range(30)]
    await sync(store, rows[-1], all_versions=True)

    async def shorten(request: Request) -> Any:
        request.arguments["max_keys"] = 4
        return await request()

    watched = watch(store)
    store.hook(list_versions=shorten)
    outcome = (await sync(store, event_of(rows[0]), is_event=True, **EVENT)).outcomes[0]
    assert outcome.status is COPIED
    assert len([each for each in watched if each.operation == "list_versions"]) == 2
    assert bodies(store)[-2:] == [b"0000", b"0029"]
