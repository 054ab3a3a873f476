"""The backup job and hot keys: what an event costs does not grow with the number of versions, and ends right."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.backup.job import KeyResult
from jobs.backup.key_sides import PAGES
from jobs.backup.version_match import LOOKS
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Status
from jobs.s3.store import UNGUARDED, CopySettings
from tests.backup.scene import COPY, KEY, backup, contents, current, make_store, run
from tests.doubles.examples import examples
from tests.doubles.hooks import names, watch

MANY = 120
LATE_REQUESTS = 9 + LOOKS
"""HEAD, 2 LISTs, the newest and the top, the version itself, `LOOKS` copies, 2 CopyObjects, HEAD."""


@dataclass(frozen=True)
class Writes:
    """How the versions of a hot key differ. `reads`: GETs of one comparison that only the bytes can decide."""

    name: str
    body: Callable[[int], bytes] = lambda number: b"%08d" % number
    metadata: Callable[[int], dict[str, str]] = lambda number: {}
    is_opaque: bool = False
    is_multipart: bool = False
    has_checksums: bool = True
    reads: int = 0

    def __str__(self) -> str:
        return self.name


DISTINCT = Writes("other content, MD5 ETags")
WRITES = [
    DISTINCT,
    Writes("other metadata alone", lambda number: b"constant", lambda number: {"at": str(number)}),
    Writes("nothing different", lambda number: b"constant"),
    Writes("opaque ETags, checksums", is_opaque=True),
    Writes("opaque ETags, no checksums", is_opaque=True, has_checksums=False, reads=2),
    Writes("multipart ETags, composite checksums", is_multipart=True, has_checksums=False, reads=2),
    Writes(
        "sometimes the same, sometimes opaque",
        lambda number: b"%08d" % (number // 3),
        lambda number: {"parity": str(number % 2)},
        is_opaque=True,
    ),
]


class Hot:
    """A source whose one key is written again and again, half a minute's versions to a second."""

    def __init__(self, writes: Writes, *, step_seconds: float = 0.01) -> None:
        self.writes, self.written = writes, 0
        default_checksum = "CRC64NVME" if writes.has_checksums else None
        self.store = make_store(step_seconds=step_seconds, default_checksum=default_checksum)

    async def write(self) -> ObjectVersion:
        """One more version; the row of its event."""
        writes, number = self.writes, self.written
        body, self.written = writes.body(number), number + 1
        attributes = Attributes(metadata=writes.metadata(number), sse="aws:kms" if writes.is_opaque else None)
        if writes.is_multipart:
            upload = await self.store.create_multipart(
                "source", KEY, attributes, checksum_algorithm="SHA256", is_composite=True
            )
            pieces = enumerate((body[:4], body[4:]), 1)
            parts = [await self.store.put_part("source", KEY, upload, number, data) for number, data in pieces]
            await self.store.complete_multipart("source", KEY, upload, parts, guard=UNGUARDED)
        else:
            await self.store.put("source", KEY, body, attributes, guard=UNGUARDED)
        version = self.store.stored("source", KEY)[-1]
        self._hide(version)
        return ObjectVersion(0, KEY, version.version_id, size_bytes=len(body), etag=version.etag)

    async def copy_all(self) -> None:
        """As if each of the versions had been backed up in order."""
        for version in self.store.stored("source", KEY):
            settings = CopySettings(sse="aws:kms" if self.writes.is_opaque else None)
            ref = ObjectRef("source", KEY, version.version_id)
            await self.store.copy(ref, None, "hot", COPY, settings, guard=UNGUARDED)
            self._hide(self.store.stored("hot", COPY)[-1])

    async def event(self, *rows: ObjectVersion, **options: Any) -> tuple[KeyResult, Counter[str]]:
        """Settle the rows → what became of them, and the requests by name."""
        job = backup(self.store, sse="aws:kms" if self.writes.is_opaque else None, **options)
        await job.settle("another key")
        requests = watch(self.store)
        numbered = [row._replace(row=number) for number, row in enumerate(rows)]
        return await job.settle(KEY, numbered), Counter(names(requests))

    def _hide(self, version: Any) -> None:
        """KMS makes of an ETag something that says nothing."""
        if self.writes.is_opaque:
            version.etag = hashlib.md5(f"{version.version_id}".encode()).hexdigest()


async def hot(writes: Writes, count: int, **options: Any) -> tuple[Hot, list[ObjectVersion]]:
    key = Hot(writes, **options)
    rows = [await key.write() for _ in range(count)]
    await key.copy_all()
    return key, rows


@pytest.mark.parametrize("count", [1, 10, MANY])
@pytest.mark.parametrize("writes", WRITES, ids=str)
async def test_the_newest_version_of_a_key_costs_at_most_eight_requests(writes: Writes, count: int) -> None:
    key, _ = await hot(writes, count)
    row = await key.write()
    settled, requests = await key.event(row)
    assert settled.outcomes[0].status in (Status.COPIED, Status.SAME)
    assert requests.total() - requests["get"] <= 8
    assert requests["get"] <= writes.reads
    assert current(key.store) == current(key.store, "source", KEY)


@pytest.mark.parametrize("count", [1, 10, MANY])
@pytest.mark.parametrize("writes", WRITES, ids=str)
async def test_a_second_event_of_the_newest_version_costs_five_requests(writes: Writes, count: int) -> None:
    key, rows = await hot(writes, count)
    settled, requests = await key.event(rows[-1])
    assert settled.outcomes[0].status is Status.SAME
    assert requests.total() - requests["get"] == 5
    assert len(key.store.stored("hot", COPY)) == count


@pytest.mark.parametrize("count", [10, MANY])
@pytest.mark.parametrize("writes", WRITES, ids=str)
async def test_a_late_version_costs_a_few_looks_and_leaves_the_newest_on_top(writes: Writes, count: int) -> None:
    key, _ = await hot(writes, count)
    late, newest = await key.write(), await key.write()
    await key.event(newest)
    settled, requests = await key.event(late)
    assert settled.outcomes[0].status in (Status.COPIED, Status.SAME)
    assert requests.total() - requests["get"] <= LATE_REQUESTS
    assert requests["get"] <= writes.reads * (LOOKS + 2)
    assert current(key.store) == current(key.store, "source", KEY)
    assert contents(key.store, "source", KEY)[-2] in contents(key.store)


@pytest.mark.parametrize("place", [0, 1, MANY // 2, MANY - 2])
@pytest.mark.parametrize("writes", WRITES, ids=str)
async def test_the_copy_of_an_old_version_is_found_among_hundreds(writes: Writes, place: int) -> None:
    """An event that comes again, whenever it was, makes no second copy."""

    key, rows = await hot(writes, MANY)
    settled, requests = await key.event(rows[place])
    assert settled.outcomes[0].status is Status.SAME
    assert requests.total() - requests["get"] <= LATE_REQUESTS
    assert len(key.store.stored("hot", COPY)) == MANY


async def test_more_versions_than_a_page_shows_cost_no_more_than_three_pages() -> None:
    count = 2_500

    key, rows = await hot(DISTINCT, count, step_seconds=1.0)
    settled, requests = await key.event(await key.write())
    assert (settled.outcomes[0].status, requests["list_versions"]) == (Status.COPIED, 2)
    assert requests.total() <= 8
    settled, requests = await key.event(rows[-1_500])
    assert (settled.outcomes[0].status, requests["list_versions"]) == (Status.SAME, 1 + PAGES)
    settled, requests = await key.event(rows[0])
    assert requests["list_versions"] <= 1 + PAGES
    assert requests.total() <= LATE_REQUESTS + PAGES
    assert (DISTINCT.body(0), {}) in contents(key.store)
    assert current(key.store) == current(key.store, "source", KEY)


@pytest.mark.parametrize("writes", WRITES, ids=str)
async def test_events_of_one_key_that_come_together_read_its_history_once(writes: Writes) -> None:
    key, _ = await hot(writes, 20)
    rows = [await key.write() for _ in range(MANY)]
    settled, requests = await key.event(*rows, *rows)
    assert {outcome.status for outcome in settled.outcomes.values()} <= {Status.COPIED, Status.SAME}
    assert len(settled.outcomes) == 2 * MANY
    assert requests["list_versions"] == 2
    assert requests.total() - requests["get"] <= 8 * MANY
    stored = contents(key.store)
    assert all(each in stored for each in contents(key.store, "source", KEY)[-MANY:])
    assert current(key.store) == current(key.store, "source", KEY)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(st.sampled_from([b"OK", b"NO"]), min_size=2, max_size=8),
    st.booleans(),
    st.data(),
)
def test_whatever_is_removed_meanwhile_the_event_of_the_newest_version_puts_it_on_top(
    bodies: list[bytes], is_prompt: bool, data: st.DataObject
) -> None:
    """Each event is handled before the next write; versions below the newest are removed at any time."""

    async def scene() -> None:
        store = make_store(step_seconds=1.0)
        for body in bodies:
            written = await store.put("source", KEY, body, Attributes(), guard=UNGUARDED)
            older = [each.version_id for each in store.stored("source", KEY)[:-1]]
            for version_id in data.draw(st.lists(st.sampled_from(older), unique=True)) if older else []:
                await store.delete("source", KEY, version_id=version_id)
            row = ObjectVersion(0, KEY, written.version_id, size_bytes=2, etag=written.etag)
            if is_prompt or data.draw(st.booleans()):
                await backup(store).settle(KEY, [row])
                assert current(store) == (body, {})

    run(scene())
