"""Uploads of one object: from pieces of any size, or from a file, in bounded memory.

What a worker begins it records first (`UploadRecords`), so that after a kill the next attempt goes
on with it or aborts it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jobs.core.model import Attributes, Checksum, Location, ObjectRef
from jobs.core.part_sizes import choose_part_size
from jobs.errors import Conflict, Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.checksums import combine, composite, full_object
from jobs.s3.lookup import look_at_written
from jobs.s3.operations import Operation
from jobs.s3.retries import Tries, gather_bounded, retry
from jobs.s3.store import ABSENT, Guard, PartDone, Store, StoredPart, Upload, Written

PARTS_IN_FLIGHT = 4
ALGORITHM = "CRC64NVME"
"""S3 makes the whole object's checksum out of the parts' by itself."""
ABORTS = 5
ABORTS_AT_ONCE = 8

CopyPlan = Mapping[str, str | int | bool | None]
"""What an upload is made of, as JSON has it. Two uploads with equal plans have equal parts."""
ALTERED = "AlteredContent"
"""The code of an error that says that bytes are not those that S3 keeps checksums of."""
_OTHER_BYTES = ("BadDigest", "XAmzContentChecksumMismatch")
"""S3's and MinIO's codes for bytes that do not have the checksum that was sent."""


class BegunUpload(NamedTuple):
    """A multipart upload that was begun. `plan` None: nobody can go on with it. `attempt`: which attempt's it is, if a
    record said so.
    """

    bucket: str
    key: str
    upload_id: str
    plan: CopyPlan | None = None
    attempt: str = ""

    @property
    def upload(self) -> Upload:
        """As requests name it."""
        return Upload(*self[:3])


class UploadRecords:
    """Where a worker records the uploads that it begins.

    These are the records of a caller without a ledger: none. It ends what it begins, unless it is
    killed.
    """

    are_kept = False
    """Whether a later attempt reads them. Else an upload is aborted when its copy fails."""
    attempt = ""
    """Whose uploads may be aborted."""

    async def begun(self, upload: BegunUpload) -> None:
        """Record an upload, before its first part. Raises StoreError."""

    async def ended(self, upload: BegunUpload) -> None:
        """Record that it is completed or aborted. Losing this costs one abort, and nothing else."""

    async def sent(self, upload: BegunUpload, parts: Sequence[tuple[int, str]]) -> None:
        """Record parts that S3 has answered, each as (number, ETag). Parts of a lost record are sent
        again.
        """

    async def sent_parts(self, upload: BegunUpload) -> Set[tuple[int, str]]:
        """All parts that `sent` recorded."""
        return frozenset()

    async def take(self, plan: CopyPlan) -> BegunUpload | None:
        """The unfinished upload of an equal plan. No other copy of this attempt gets it."""
        return None

    def give_back(self, upload: BegunUpload) -> None:
        """Leave an unfinished upload to the next try."""


NO_RECORDS = UploadRecords()


async def all_parts(store: Store, upload: Upload) -> AsyncIterator[StoredPart]:
    """The parts that S3 holds of an upload. Raises NotFound when it has ended."""
    after: int | None = 0
    while after is not None:
        page = await retry(partial(store.list_parts, upload, after=after))
        for part in page.parts:
            yield part
        after = page.next_after


async def complete(
    store: Store, upload: Upload, parts: Sequence[PartDone], guard: Guard, size_bytes: int, checksum: Checksum | None
) -> Written:
    """Publish an object. Raises Conflict when a part was sent twice and S3 keeps the other one, when the parts do not
    have the checksum (ALTERED), so that no further try with them can help, or when the upload has ended: it may be
    complete, and the answer to an earlier try was lost.
    """

    async def publish() -> Written | StoreError:
        try:
            return await store.complete_multipart(upload, parts, guard=guard, size_bytes=size_bytes, checksum=checksum)
        except (Unavailable, Rejected, NotFound) as error:
            if error.code not in ("InvalidPart", "NoSuchUpload", *_OTHER_BYTES):
                raise
            return error

    done = await retry(publish)
    if isinstance(done, StoreError):
        code = ALTERED if done.code in _OTHER_BYTES else done.code
        raise Conflict(done.operation, done.target, code, done.detail, done.status) from done
    return done


async def abort_upload(store: Store, upload: Upload) -> None:
    """Abort an upload, and again while it has parts: one in flight can survive an abort.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
    Who may not list its parts aborts it once. Raises StoreError: Conflict when parts remain.
    """

    async def abort() -> None:
        await retry(partial(store.abort_multipart, upload))
        try:
            page = await store.list_parts(upload)
        except (NotFound, Denied, Rejected):  # it is gone, or nobody can look
            return
        if page.parts:
            raise Conflict(Operation.ABORT, str(upload.place), "PartsRemain", "it still has parts")

    await Tries(ABORTS, passing=(Conflict,))(abort)


async def abort_unfinished(store: Store, uploads: Iterable[BegunUpload], place: Location) -> None:
    """Abort those of the uploads that are below `place`.

    What cannot be aborted now is left to the bucket's lifecycle rule.
    """

    async def abort(upload: BegunUpload) -> None:
        with contextlib.suppress(StoreError):
            await abort_upload(store, upload.upload)

    ours = [each for each in uploads if each.bucket == place.bucket and each.key.startswith(place.key)]
    await gather_bounded(abort, ours, ABORTS_AT_ONCE)


@dataclass(slots=True)
class ObjectUpload:
    """Writes `bucket`/`key` in parts of `part_size_bytes`.

    What fits into one part becomes one PutObject.

    The caller ends it with `finish` or `abort`. At most `parts_in_flight + 1` parts are in memory.
    S3 has to find the checksum of each part. `algorithm`: CRC64NVME, of which S3 then has to find
    the whole object's as well, or SHA256, of which it keeps the parts' (a composite checksum).
    """

    store: Store
    bucket: str
    key: str
    attributes: Attributes
    part_size_bytes: int
    guard: Guard = ABSENT
    parts_in_flight: int = PARTS_IN_FLIGHT
    records: UploadRecords = NO_RECORDS
    algorithm: str = ALGORITHM
    size_bytes: int = field(default=0, init=False)
    _pending: bytearray = field(default_factory=bytearray, init=False)
    _begun: BegunUpload | None = field(default=None, init=False)
    _running: deque[asyncio.Task[PartDone]] = field(default_factory=deque, init=False)
    _done: list[PartDone] = field(default_factory=list, init=False)
    parts: list[tuple[int, Checksum]] = field(default_factory=list, init=False)
    """The size and checksum of each part."""

    @property
    def checksum(self) -> Checksum:
        """The object's checksum after `finish`, as S3 keeps it."""
        if len(self.parts) == 1 and not self._done:
            return self.parts[0][1]
        if self._kind.is_composite:
            return composite([checksum for _, checksum in self.parts])
        return combine((checksum, size) for size, checksum in self.parts)

    async def write(self, data: bytes | memoryview) -> None:
        """The next bytes. Raises a StoreError that an earlier part met with."""
        self.size_bytes += len(data)
        place = 0
        while len(self._pending) + len(data) - place > self.part_size_bytes:
            end = place + self.part_size_bytes - len(self._pending)
            self._pending += data[place:end]
            place = end
            await self._flush()
        self._pending += data[place:]

    async def finish(self) -> Written:
        """Publish the object. Raises PreconditionFailed when what is there is not what the guard
        says (nothing, unless it was given another one), Conflict when it is unknown whether it has
        been, or when it is and something else is current: look. The answer's note says what the
        object was asked to carry and does not show.
        """
        if self._begun is None:
            data = bytes(self._pending)
            checksum = await self._add(data)
            put = partial(self.store.put, self.bucket, self.key, data, self.attributes)
            return await retry(partial(put, guard=self.guard, checksum=checksum))
        if self._pending:
            await self._flush()
        while self._running:
            self._done.append(await self._running.popleft())
        whole = None if self._kind.is_composite else self.checksum
        written = await complete(self.store, self._begun.upload, self._done, self.guard, self.size_bytes, whole)
        await self.records.ended(self._begun)
        self._begun = None
        lack = await look_at_written(self.store, ObjectRef(self.bucket, self.key), written, self.attributes)
        return written._replace(note="; ".join(filter(None, (written.note, lack))))

    async def abort(self) -> None:
        """Leave nothing behind. Harmless after `finish`."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._begun is not None:
            with contextlib.suppress(StoreError):  # the run's end and the bucket's lifecycle rule are other nets
                await abort_upload(self.store, self._begun.upload)
                await self.records.ended(self._begun)
            self._begun = None

    @property
    def _kind(self) -> Checksum:
        return Checksum(self.algorithm, "", is_composite=self.algorithm != ALGORITHM)

    async def _begin(self) -> Upload:
        if self._begun is None:
            create = partial(self.store.create_multipart, self.bucket, self.key, self.attributes, checksum=self._kind)
            self._begun = BegunUpload(*await retry(create))
            await self.records.begun(self._begun)
        return self._begun.upload

    async def _flush(self) -> None:
        """Send what is pending as the next part."""
        data, self._pending = bytes(self._pending), bytearray()
        upload, checksum = await self._begin(), await self._add(data)
        request = partial(self.store.put_part, upload, len(self.parts), data, checksum=checksum)
        while len(self._running) >= self.parts_in_flight:
            self._done.append(await self._running.popleft())
        self._running.append(asyncio.create_task(retry(request)))

    async def _add(self, data: bytes) -> Checksum:
        """Hash the next part."""
        checksum = await asyncio.to_thread(full_object, self.algorithm, data)
        self.parts.append((len(data), checksum))
        return checksum


PART_BYTES = 32 * 1024 * 1024
READ_BYTES = 1024 * 1024


async def upload_file(
    store: Store, path: Path, place: Location, attributes: Attributes, *, guard: Guard, part_bytes: int = PART_BYTES
) -> None:
    """Upload a local file, two parts in memory at most, each with a checksum that S3 verifies.

    Raises PreconditionFailed as `guard` says, any other StoreError when S3 refuses. Nothing is left
    then.
    """
    size_bytes = path.stat().st_size
    part_size_bytes = choose_part_size(size_bytes, part_bytes)
    if size_bytes <= part_size_bytes:  # S3 finds an MD5 in it, which needs no library for a CRC64NVME
        data = await asyncio.to_thread(path.read_bytes)
        await retry(lambda: store.put(place.bucket, place.key, data, attributes, guard=guard))
        return
    upload = ObjectUpload(store, place.bucket, place.key, attributes, part_size_bytes, guard, parts_in_flight=1)
    try:
        with path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, READ_BYTES):
                await upload.write(data)
        await upload.finish()
    finally:
        await upload.abort()
