"""An event of a version whose bytes have rotted, at the source or in its copy."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import Attributes, ObjectVersion
from jobs.core.outcome import Evidence, Status
from jobs.errors import Rejected
from jobs.s3.store import UNGUARDED
from tests.backup.scene import COPY, KEY, backup, make_store, put, run
from tests.doubles.memory_store import MemoryStore

GOOD, ROTTEN = b"the good content", b"the gOOd content"


def kms(store: MemoryStore) -> Any:
    """A backup whose copies have no MD5 as ETag, and here no checksum either: only bytes can be compared."""
    return backup(store, sse="aws:kms")


def unsummed() -> MemoryStore:
    return make_store(default_checksum=None)


def bodies(store: MemoryStore) -> list[bytes]:
    return [each.data for each in store.stored("hot", COPY)]


def test_a_good_copy_is_not_covered_by_the_bytes_of_a_damaged_newest_version() -> None:
    store = unsummed()
    row = run(put(store, GOOD))
    assert run(kms(store).process([row]))[0].status is Status.COPIED
    store.rot("source", KEY, ROTTEN)
    (outcome,) = run(kms(store).process([row]))
    assert (outcome.status, "the last good one" in outcome.reason) == (Status.DAMAGED, True)
    with pytest.raises(Rejected, match="the source is damaged"):
        run(kms(store).settle(KEY, [row]))
    assert bodies(store) == [GOOD]


def test_nothing_is_said_of_an_older_version_below_a_damaged_newest_one() -> None:
    store = unsummed()
    older = run(put(store, b"older"))
    newest = run(put(store, GOOD))._replace(row=1)
    run(kms(store).process([newest]))
    store.rot("source", KEY, ROTTEN)
    outcomes = run(kms(store).process([older, newest]))
    assert [each.status for each in outcomes] == [Status.FAILED, Status.DAMAGED]
    assert bodies(store)[-1] == GOOD


def test_a_damaged_older_version_keeps_no_newer_one_from_being_copied() -> None:
    store = unsummed()
    older = run(put(store, GOOD))
    run(kms(store).process([older]))
    store.rot("source", KEY, ROTTEN)
    newer = run(put(store, b"newer and longer content"))._replace(row=1)
    outcomes = run(kms(store).process([older, newer]))
    assert [each.status for each in outcomes] == [Status.DAMAGED, Status.COPIED]
    assert bodies(store) == [GOOD, b"newer and longer content"]


def test_a_version_of_the_same_size_that_is_whole_is_copied() -> None:
    store = unsummed()
    run(kms(store).process([run(put(store, GOOD))]))
    newer = run(put(store, ROTTEN))
    assert run(kms(store).process([newer]))[0].status is Status.COPIED
    assert bodies(store) == [GOOD, ROTTEN]


def test_a_copy_that_rotted_is_made_again() -> None:
    store = unsummed()
    row = run(put(store, GOOD))
    run(kms(store).process([row]))
    store.rot("hot", COPY, ROTTEN)
    assert run(kms(store).process([row]))[0].status is Status.COPIED
    assert bodies(store)[-1] == GOOD


def in_parts(store: MemoryStore) -> Any:
    """A backup that copies each object in parts."""
    return backup(store, multipart_threshold_bytes=0)


async def put_in_parts(store: MemoryStore, body: bytes, **sums: Any) -> ObjectVersion:
    upload = await store.create_multipart("source", KEY, Attributes(), **sums)
    part = await store.put_part("source", KEY, upload, 1, body)
    written = await store.complete_multipart("source", KEY, upload, [part], guard=UNGUARDED)
    return ObjectVersion(0, KEY, written.version_id, size_bytes=len(body), etag=written.etag)


def test_what_s3_refuses_to_copy_in_parts_is_read_and_found_damaged() -> None:
    store = make_store()
    row = run(put(store, GOOD))
    store.rot("source", KEY, ROTTEN)
    assert run(in_parts(store).process([row]))[0].status is Status.DAMAGED
    newer = run(put(store, b"newer"))._replace(row=1)
    outcomes = run(in_parts(store).process([row, newer]))
    assert [each.status for each in outcomes] == [Status.DAMAGED, Status.COPIED]
    assert bodies(store) == [b"newer"]


@pytest.mark.parametrize("sums", [{}, {"checksum_algorithm": "SHA256", "is_composite": True}])
def test_a_copy_that_rotted_is_not_put_back_on_top_of_an_older_version(sums: dict[str, Any]) -> None:
    store = make_store()
    older = run(put(store, b"older"))
    newest = run(put_in_parts(store, GOOD, **sums))._replace(row=1)
    run(in_parts(store).process([newest]))
    store.rot("hot", COPY, ROTTEN)
    outcomes = run(in_parts(store).process([older, newest]))
    assert [(each.status, each.evidence) for each in outcomes] == [(Status.COPIED, Evidence.CHECKSUM)] * 2
    assert bodies(store)[-1] == GOOD
    assert outcomes[1].destination_version_id == store.stored("hot", COPY)[-1].version_id
