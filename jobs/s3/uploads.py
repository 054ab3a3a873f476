"""Uploads of one object: from pieces of any size, or from a file, in bounded memory.

What a worker begins it records first (`UploadRecords`), so that after a kill the next attempt goes
on with it or aborts it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence, Set
from functools import partial
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from jobs.core.model import Attributes, Checksum, Location, ObjectRef
from jobs.core.part_sizes import choose_part_size
from jobs.errors import AuthenticationFailed, Conflict, Denied, NotFound, Rejected, StoreError, Unavailable
from jobs.s3.checksums import combine, composite, full_object
from jobs.s3.lookup import look_at_written
from jobs.s3.operations import Operation
from jobs.s3.retries import Tries, gather_bounded, retry
from jobs.s3.store import ABSENT, Guard, PartDone, Store, Upload, Written

PARTS_IN_FLIGHT = 4
WHOLE = Checksum("CRC64NVME", "")
"""S3 makes the whole object's checksum out of the parts' by itself."""
ABORTS = 5
ABORTS_AT_ONCE = 8

ALTERED = "AlteredContent"
"""The code of an error that says that bytes are not those that S3 keeps checksums of."""
_OTHER_BYTES = ("BadDigest", "XAmzContentChecksumMismatch")
"""S3's and MinIO's codes for bytes that do not have the checksum that was sent."""


class UploadRecords:
    """Where a worker records the uploads that it begins.

    These are the records of a caller without a ledger: none. It ends what it begins, unless it is
    killed.
    """

    are_kept = False
    """Whether a later attempt reads them. Else an upload is aborted when its copy fails."""
    attempt = ""
    """Whose uploads may be aborted."""

    async def begun(self, upload: Upload) -> None:
        """Record an upload, before its first part. Raises StoreError."""

    async def ended(self, upload: Upload) -> None:
        """Record that it is completed or aborted. Losing this costs one abort, and nothing else."""

    async def sent(self, upload: Upload, parts: Sequence[tuple[int, str]]) -> None:
        """Record parts that S3 has answered, each as (number, ETag). Parts of a lost record are sent
        again.
        """

    async def sent_parts(self, upload: Upload) -> Set[tuple[int, str]]:
        """All parts that `sent` recorded."""
        return frozenset()

    async def take(self, plan: str) -> Upload | None:
        """The unfinished upload of an equal plan. No other copy of this attempt gets it."""
        return None

    def give_back(self, upload: Upload) -> None:
        """Leave an unfinished upload to the next try."""


NO_RECORDS = UploadRecords()


async def all_parts(store: Store, upload: Upload) -> list[PartDone]:
    """The parts that S3 holds of an upload. Raises NotFound when it has ended."""
    page = await retry(partial(store.list_parts, upload))
    parts = page.parts
    while page.next_after is not None:
        page = await retry(partial(store.list_parts, upload, after=page.next_after))
        parts = parts + page.parts
    return parts


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


async def abort_unfinished(store: Store, uploads: Iterable[Upload], place: Location) -> None:
    """Abort those of the uploads that are below `place`.

    What cannot be aborted now is left to the bucket's lifecycle rule.
    """

    async def abort(upload: Upload) -> None:
        with contextlib.suppress(StoreError):
            await abort_upload(store, upload)

    ours = [each for each in uploads if each.bucket == place.bucket and each.key.startswith(place.key)]
    await gather_bounded(abort, ours, ABORTS_AT_ONCE)


class ObjectUpload(Struct):
    """Writes one object, in parts of `part_size_bytes`. What fits into one part becomes one PutObject.

    It gets pieces of any size by `write`, and is ended by `finish` or `abort`. At most `parts_in_flight + 1` parts are
    in memory. Or the caller sends the parts itself, between `begin` and `complete`, `leave` or `abort`.

    `checksum`: of which algorithm S3 is to keep one, and whether of the parts' or of the whole. S3 has to find that of
    each part, and the whole's value, if it is known at the end. `begun`: None before it has begun and after its end.
    `is_recorded`: another attempt can go on with it.
    """

    store: Store
    target: ObjectRef
    attributes: Attributes
    part_size_bytes: int
    guard: Guard = ABSENT
    parts_in_flight: int = PARTS_IN_FLIGHT
    records: UploadRecords = NO_RECORDS
    checksum: Checksum | None = WHOLE
    begun: Upload | None = None
    is_recorded: bool = False
    size_bytes: int = 0
    parts: list[tuple[int, Checksum]] = []
    """The size and checksum of each part that was written."""
    _pending: bytearray = field(default_factory=bytearray)
    _running: deque[asyncio.Task[PartDone]] = field(default_factory=deque)
    _done: list[PartDone] = []

    @property
    def upload(self) -> Upload:
        """As requests name it."""
        if self.begun is None:
            raise ValueError("the upload has not begun, or has ended")
        return self.begun

    async def begin(self, plan: str | None = None) -> None:
        """Begin it. Raises StoreError."""
        create = partial(self.store.create_multipart, self.target, self.attributes, checksum=self.checksum)
        self.begun, self.is_recorded = replace(await retry(create), plan=plan), False
        await self.records.begun(self.begun)
        self.is_recorded = self.records.are_kept

    async def complete(self, parts: Sequence[PartDone], size_bytes: int) -> Written:
        """Publish the object, if S3 finds its size and checksum. The answer's note says what the object was asked to
        carry and does not show.

        Raises Conflict when a part was sent twice and S3 keeps the other one, when the parts do not have the checksum
        (ALTERED), so that no further try with them can help, when the upload has ended: it may be complete, and the
        answer to an earlier try was lost, or when something else is current by now.
        """
        is_whole = self.checksum is not None and self.checksum.value and not self.checksum.is_composite
        asked = partial(self.store.complete_multipart, checksum=self.checksum if is_whole else None)

        async def publish() -> Written | StoreError:
            try:
                return await asked(self.upload, parts, guard=self.guard, size_bytes=size_bytes)
            except (Unavailable, Rejected, NotFound) as error:
                if error.code not in ("InvalidPart", "NoSuchUpload", *_OTHER_BYTES):
                    raise
                return error

        done = await retry(publish)
        if isinstance(done, StoreError):
            code = ALTERED if done.code in _OTHER_BYTES else done.code
            raise Conflict(done.operation, done.target, code, done.detail, done.status) from done
        await self._end()
        return done.noting(await look_at_written(self.store, self.target, done, self.attributes))

    async def leave(self, error: BaseException) -> None:
        """Keep it for the next attempt, if that can help. Else abort it: S3 has refused it, or nobody knows of it."""
        is_final = isinstance(error, StoreError) and not isinstance(error, (Unavailable, AuthenticationFailed))
        if self.begun is None or is_final or not self.is_recorded:
            await self.abort()
        else:
            self.records.give_back(self.begun)
            self.begun = None

    async def abort(self) -> None:
        """Leave nothing behind, but for another attempt's upload: it may be alive. Harmless after its end."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self.begun is not None and self.begun.attempt in ("", self.records.attempt):
            with contextlib.suppress(StoreError):  # the run's end and the bucket's lifecycle rule are other nets
                await abort_upload(self.store, self.begun)
                await self._end()
        self.begun = None

    async def _end(self) -> None:
        if self.begun is not None:
            await self.records.ended(self.begun)
            self.begun = None

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
        """Publish the object, whose `checksum` is known then, as S3 keeps it.

        Raises PreconditionFailed when what is there is not what the guard says (nothing, unless it was given another
        one), and Conflict as `complete`: look.
        """
        if self.begun is None:
            data = bytes(self._pending)
            self.checksum = await self._add(data)
            put = partial(self.store.put, self.target, data, self.attributes, guard=self.guard)
            return await retry(partial(put, checksum=self.checksum))
        if self._pending:
            await self._flush()
        while self._running:
            self._done.append(await self._running.popleft())
        is_composite = self.checksum is not None and self.checksum.is_composite
        self.checksum = composite([each for _, each in self.parts]) if is_composite else combine(self.parts)
        return await self.complete(self._done, self.size_bytes)

    async def _flush(self) -> None:
        """Send what is pending as the next part."""
        data, self._pending = bytes(self._pending), bytearray()
        if self.begun is None:
            await self.begin()
        checksum = await self._add(data)
        put = partial(self.store.put_part, self.upload, len(self.parts), data, checksum=checksum)
        while len(self._running) >= self.parts_in_flight:
            self._done.append(await self._running.popleft())
        self._running.append(asyncio.create_task(retry(put)))

    async def _add(self, data: bytes) -> Checksum:
        """Hash the next part."""
        algorithm = (self.checksum or WHOLE).algorithm
        self.parts.append((len(data), await asyncio.to_thread(full_object, algorithm, data)))
        return self.parts[-1][1]


PART_BYTES = 32 * 1024 * 1024
READ_BYTES = 1024 * 1024


async def upload_file(
    store: Store, path: Path, ref: ObjectRef, attributes: Attributes, *, guard: Guard, part_bytes: int = PART_BYTES
) -> None:
    """Upload a local file, two parts in memory at most, each with a checksum that S3 verifies.

    Raises PreconditionFailed as `guard` says, any other StoreError when S3 refuses. Nothing is left
    then.
    """
    size_bytes = path.stat().st_size
    part_size_bytes = choose_part_size(size_bytes, part_bytes)
    if size_bytes <= part_size_bytes:  # S3 finds an MD5 in it, which needs no library for a CRC64NVME
        data = await asyncio.to_thread(path.read_bytes)
        await retry(lambda: store.put(ref, data, attributes, guard=guard))
        return
    upload = ObjectUpload(store, ref, attributes, part_size_bytes, guard, parts_in_flight=1)
    try:
        with path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, READ_BYTES):
                await upload.write(data)
        await upload.finish()
    finally:
        await upload.abort()
