"""One contract for every Store: memory, and our client on SeaweedFS, on moto's server and on Ceph.

What S3 documents is what a check demands. Where a double does otherwise it stands in DEVIATIONS, and
the check must fail there: a double that was mended makes this suite fail until its line is removed.
A store's name is that of its server; `seaweedfs/tls` is reached over TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from jobs.core.model import Attributes, Checksum, Listed, ObjectRef
from jobs.errors import StoreError
from jobs.s3 import checksums
from jobs.s3.store import UNGUARDED, Page, PartDone, Store, Upload
from tests.doubles.ceph_server import is_on_ceph
from tests.s3.contract.deviations import DEVIATIONS

FAST, SLOW, CEPH = ("memory", "seaweedfs"), ("seaweedfs/tls", "moto"), ("ceph",)
STORES = CEPH if is_on_ceph() else (*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))
ENDLESS_SECONDS = 60
"""A server whose listings do not advance fails its check, and does not stop all others."""
PLAIN = Attributes()
PART = 5 * 1024 * 1024
RICH = Attributes(
    headers={
        "content-type": "application/pdf",
        "cache-control": "max-age=60",
        "content-disposition": 'attachment; filename="a.pdf"',
        "content-language": "de",
        "content-encoding": "identity",
    },
    metadata={"shipment": "SL-1", "note": "a=b; c"},
    tags={"team": "ops/docs", "note": "a+b = c:d@e_f.g-h"},
)


@dataclass(frozen=True)
class Subject:
    """A store under test, how to make buckets there, and the bucket of one check."""

    store: Store
    create_bucket: Callable[..., None]
    bucket: str = ""

    def with_bucket(self, *, versioned: bool = False, object_lock: bool = False) -> Subject:
        made = replace(self, bucket=f"t-{uuid.uuid4().hex[:12]}")
        self.create_bucket(made.bucket, versioned=versioned, object_lock=object_lock)
        return made

    def ref(self, key: str, version_id: str | None = None) -> ObjectRef:
        return ObjectRef(self.bucket, key, version_id)

    async def put(self, key: str, data: bytes = b"content", attributes: Attributes = PLAIN) -> ObjectRef:
        """Write an object → its reference, with the version id if it got one."""
        written = await self.store.put(self.ref(key), data, attributes, guard=UNGUARDED)
        return self.ref(key, written.version_id)

    async def read(self, key: str) -> bytes:
        return (await self.store.get(self.ref(key))).data

    async def pages(self, request: Callable[..., Awaitable[Page]], prefix: str = "", **named: Any) -> list[Page]:
        """All pages of a listing."""
        pages = [await request(self.bucket, prefix, **named)]
        while pages[-1].next_marker is not None:
            pages.append(await request(self.bucket, prefix, after=pages[-1].next_marker, **named))
        return pages

    async def upload(
        self, key: str, pieces: list[bytes], attributes: Attributes = PLAIN, algorithm: str | None = None
    ) -> tuple[Upload, list[PartDone]]:
        """Begin a multipart upload and upload the pieces."""
        kind = Checksum(algorithm, "", is_composite=algorithm in ("SHA1", "SHA256")) if algorithm else None
        upload_id = await self.store.create_multipart(self.ref(key), attributes, checksum=kind)
        parts = []
        for number, piece in enumerate(pieces, 1):
            checksum = checksums.full_object(algorithm, piece) if algorithm else None
            parts.append(await self.store.put_part(upload_id, number, piece, checksum=checksum))
        return upload_id, parts


Check = Callable[..., Awaitable[None]]


def contract(*cases: Any, versioned: bool = False, object_lock: bool = False) -> Callable[[Check], Callable[..., None]]:
    """A check, which gets a bucket of its own, becomes a test for each store, and for each case if there are any."""

    def decorate(check: Check) -> Callable[..., None]:
        def test(subject: Subject, store: str, case: Any) -> None:
            subject = subject.with_bucket(versioned=versioned, object_lock=object_lock)
            arguments = (subject, case) if cases else (subject,)
            name = check.__name__.removeprefix("test_")
            case_id = case if isinstance(case, str) else repr(case)
            ends = (AssertionError, StoreError, TimeoutError, pytest.fail.Exception)
            with pytest.raises(ends) if deviates(name, store, case_id) else contextlib.nullcontext():
                asyncio.run(_run(check, arguments))

        test.__doc__ = inspect.getdoc(check)
        parametrized = pytest.mark.parametrize("case", cases or [None], ids=_case_id)(test)
        return pytest.mark.parametrize("store", STORES)(parametrized)

    return decorate


def deviates(name: str, store: str, case_id: str) -> bool:
    """Whether this store does otherwise, by itself or because its server does it to every client."""
    names = (store, store.partition("/")[0])
    return any((name, each, *case) in DEVIATIONS for each in names for case in ((), (case_id,)))


async def _run(check: Check, arguments: tuple[Any, ...]) -> None:
    async with asyncio.timeout(ENDLESS_SECONDS):
        await check(*arguments)


def _case_id(case: Any) -> str:
    text = "-" if case is None else str(case)
    return text.encode("unicode_escape").decode()[:40]


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def multipart_etag_of(pieces: list[bytes]) -> str:
    digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)
    return f"{md5_of(digests)}-{len(pieces)}"


def brief(entry: Listed) -> tuple[str, str | None, bool, bool, int | None]:
    return entry.key, entry.version_id, entry.is_latest, entry.is_delete_marker, entry.size_bytes
