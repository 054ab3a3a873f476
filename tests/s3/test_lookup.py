"""What the versions of one key are, where a server's list says less of them than its HEAD."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.model import Attributes, ObjectInfo, ObjectLock, ObjectRef
from jobs.s3.lookup import key_history, not_kept
from jobs.s3.store import ABSENT
from tests.doubles.memory_store import MemoryStore, Request


@pytest.mark.parametrize(("data", "listed"), [(b"", None), (b"large", "0" * 32 + "-3")])
async def test_a_null_version_has_the_etag_that_requests_know(data: bytes, listed: str | None) -> None:
    """SeaweedFS 4.48 lists an empty object without an ETag, and a large one with that of its chunks."""

    async def as_listed(request: Request) -> Any:
        page = await request()
        return page._replace(entries=[each._replace(etag=listed) for each in page.entries])

    store = MemoryStore(on={"list_versions": as_listed}, buckets=["b"], versioned=False)
    written = await store.put(ObjectRef("b", "k"), data, Attributes(), guard=ABSENT)
    assert [each.etag for each in await key_history(store, "b", "k")] == [written.etag]


UNTIL = ObjectLock("GOVERNANCE", "2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("asked", "shown", "lost"),
    [
        (UNTIL, replace(UNTIL, retain_until="2030-01-01T00:00:00.000Z"), []),
        (UNTIL, replace(UNTIL, retain_until="soon"), ["retention"]),
        (ObjectLock(legal_hold=True, event_hold=True), None, ["legal hold", "event hold"]),
    ],
)
def test_a_lock_is_kept_if_its_date_and_its_holds_are(
    asked: ObjectLock, shown: ObjectLock | None, lost: list[str]
) -> None:
    info = ObjectInfo(1, "e", 0.0, None, "STANDARD", attributes=Attributes(lock=shown))
    assert not_kept(Attributes(lock=asked), info, {}) == lost
