"""Streams whose parts are files: what is sent, what is held meanwhile, and what is left when something goes wrong."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from jobs.core.model import Attributes, ObjectInfo, ObjectRef
from jobs.core.part_sizes import MAX_OBJECT_BYTES
from jobs.errors import NotFound, Rejected, StoreError, Unavailable
from jobs.s3 import multipart_copy
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.http.answers import NoAnswer, Response
from jobs.s3.http.connect import Dialer
from jobs.s3.http.connection_pool import Pool
from jobs.s3.http.part_files import PIECE_BYTES, PartFile
from jobs.s3.http.proxies import Proxies
from jobs.s3.multipart_copy import Streamed, Transfer, stream
from jobs.s3.store import ABSENT, UNGUARDED, Body, PartDone, Written
from tests.doubles.loopback import listening
from tests.doubles.memory_store import MemoryStore

MIB = 1 << 20
CONTENT = bytes(range(251)) * (21 * MIB // 251)
FROM, TO = ObjectRef("a", "k"), ObjectRef("b", "k")


class Watched(MemoryStore):
    """`reads`: the spans that were asked for. `sent`: part number → SHA-256 as it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []
        self.sent: list[tuple[int, str]] = []
        self.failing: dict[int, StoreError] = {}
        self.flips = False
        for bucket in ("a", "b"):
            self.create_bucket(bucket)

    async def get(self, ref: ObjectRef, **options: Any) -> Body:
        self.reads.append((options["start"], options["end"]))
        body = await super().get(ref, **options)
        return body._replace(data=body.data[:-1] + b"!") if self.flips else body

    async def put_part(self, *place: Any, **options: Any) -> PartDone:
        number = place[3]
        self.sent.append((number, options["checksum"].value))
        if error := self.failing.pop(number, None):
            raise error
        return await super().put_part(*place, **options)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Its object needs three parts of 7 MiB, which is more than a stream here may hold."""
    monkeypatch.setattr("jobs.core.part_sizes.MAX_PARTS", 3)
    monkeypatch.setattr(multipart_copy, "STREAM_PART_BYTES", 2 * MIB)
    store = Watched()
    asyncio.run(store.put("a", "k", CONTENT, Attributes(), guard=UNGUARDED))
    return store


def copy(store: MemoryStore, budget_bytes: int = 4 * MIB) -> Streamed:
    """Stream the object, with so many bytes of memory."""

    async def run() -> Streamed:
        info = await MemoryStore.head(store, FROM)
        return await stream(Transfer(store, FROM, info, store, *TO[:2], Attributes(), ABSENT), ByteBudget(budget_bytes))

    return asyncio.run(run())


def test_parts_above_the_buffer_are_files_and_the_copy_is_the_same(
    store: Watched, open_files: Callable[[], int]
) -> None:
    _, spelled, _ = copy(store)
    assert asyncio.run(MemoryStore.get(store, TO)).data == CONTENT
    assert spelled == "SHA256:" + b64encode(hashlib.sha256(CONTENT).digest()).decode()
    step = -(-len(CONTENT) // 3)
    pieces = [CONTENT[start : start + step] for start in range(0, len(CONTENT), step)]
    assert store.sent == [
        (number, b64encode(hashlib.sha256(piece).digest()).decode()) for number, piece in enumerate(pieces, 1)
    ]
    assert max(end - start for start, end in store.reads) == 2 * MIB
    assert sum(end - start for start, end in store.reads) == len(CONTENT)
    assert open_files() == 0


def test_a_part_that_fails_is_sent_again_and_not_read_again(store: Watched) -> None:
    store.failing[2] = Unavailable("UploadPart", "k", "SlowDown", "", 503)
    copy(store)
    assert [number for number, _ in store.sent] in ([1, 2, 2, 3], [1, 2, 3, 2])
    assert sum(end - start for start, end in store.reads) == len(CONTENT)
    assert asyncio.run(MemoryStore.get(store, TO)).data == CONTENT


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_part_that_is_refused_ends_the_stream_and_leaves_nothing(
    store: Watched, number: int, open_files: Callable[[], int]
) -> None:
    store.failing[number] = Rejected("UploadPart", "k", "InvalidRequest", "", 400)
    with pytest.raises(Rejected, match="InvalidRequest"):
        copy(store)
    assert (open_files(), store.uploads("b")) == (0, [])
    with pytest.raises(NotFound):
        asyncio.run(store.head(TO))


def test_bytes_that_are_not_the_sources_are_never_published(store: Watched) -> None:
    store.flips = True
    with pytest.raises(Unavailable, match="not the source's"):
        copy(store)
    assert store.uploads("b") == []


def test_a_full_disk_is_said_by_name_and_leaves_nothing(
    store: Watched, monkeypatch: pytest.MonkeyPatch, open_files: Callable[[], int]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartFile, "write", full)
    with pytest.raises(Rejected, match=r"No space left.*TMPDIR"):
        copy(store)
    assert (open_files(), store.uploads("b")) == (0, [])


@pytest.fixture
def open_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many part files are open now. There are never more than two."""
    files: list[PartFile] = []
    make = PartFile.__init__

    def made(file: PartFile) -> None:
        make(file)
        files.append(file)
        assert count() <= 2

    def count() -> int:
        return sum(not file._file.closed for file in files)

    monkeypatch.setattr(PartFile, "__init__", made)
    return count


class Bytes(bytes):
    """Bytes that are only counted."""

    def __new__(cls, size_bytes: int) -> Bytes:
        made = super().__new__(cls)
        made.size_bytes = size_bytes
        return made

    size_bytes: int

    def __len__(self) -> int:
        return self.size_bytes


class CountedFile(PartFile):
    """A file of such bytes."""

    held: ClassVar[list[CountedFile]] = []

    def __init__(self) -> None:
        super().__init__()
        self.held.append(self)
        assert len(self.held) <= 2

    def write(self, data: bytes) -> None:
        self._size_bytes += len(data)

    def close(self) -> None:
        super().close()
        with suppress(ValueError):
            self.held.remove(self)


class Huge(Watched):
    """Its object is as large as S3 allows. `parts`: their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[int, int] = {}
        self.held_bytes = self.most_bytes = 0

    async def get(self, ref: ObjectRef, **options: Any) -> Body:
        return Body(Bytes(options["end"] - options["start"]), HUGE)

    async def put_part(self, *place: Any, **_: Any) -> PartDone:
        self.parts[place[3]] = len(place[4])
        return PartDone(place[3], "e")

    async def complete_multipart(self, *place: Any, **_: Any) -> Written:
        assert [part.number for part in place[3]] == sorted(self.parts)
        return Written("e-10000")


HUGE = ObjectInfo(MAX_OBJECT_BYTES, "e" * 32 + "-9", 0.0, None, "STANDARD")


def test_the_largest_object_is_streamed_in_10_000_parts_of_which_two_are_on_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multipart_copy, "STREAM_PART_BYTES", 1 << 30)  # fewer pieces than in earnest
    monkeypatch.setattr(multipart_copy, "PartFile", CountedFile)
    monkeypatch.setattr(multipart_copy, "free_bytes", lambda: 5 << 30)
    monkeypatch.setattr(multipart_copy._Digests, "update", lambda *_: None)
    store = Huge()
    transfer = Transfer(store, FROM, HUGE, store, *TO[:2], Attributes(), ABSENT)
    asyncio.run(stream(transfer, ByteBudget(4 << 30)))
    assert store.parts == dict.fromkeys(range(1, 10_001), 5 << 30)
    assert CountedFile.held == []


# --- the connection --------------------------------------------------------------------------------------------------


AUTHORITY = trustme.CA()
LARGE_BYTES = 48 * MIB
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES


class CountedPieces(PartFile):
    """`taken`: how many pieces were read of it."""

    taken = 0

    def pieces(self) -> Iterator[bytes]:
        for piece in super().pieces():
            self.taken += 1
            yield piece


@pytest.fixture
def large() -> Iterator[CountedPieces]:
    with CountedPieces() as file:
        for number in range(LARGE_BYTES // MIB):
            file.write(bytes([number]) * MIB)
        file.close_writing()
        yield file


def use_pool(serve: Any, use: Callable[[Pool, str], Any], *, is_tls: bool) -> Any:
    """What `use(pool, host)` returns, with a server for it."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)

    async def run(host: str) -> Any:
        pool = Pool(2, Dialer(trusting if is_tls else None, Proxies(is_tls=is_tls, urls={})))
        try:
            return await asyncio.wait_for(use(pool, host), 60)
        finally:
            pool.close()

    with listening(serve, tls=served if is_tls else None) as url:
        return asyncio.run(run(url.partition("//")[2]))


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_file_is_read_as_the_server_takes_it(large: CountedPieces, is_tls: bool) -> None:
    may_read, received = asyncio.Event(), hashlib.sha256()
    server_loop: list[asyncio.AbstractEventLoop] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_loop.append(asyncio.get_running_loop())
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            await may_read.wait()
            left = LARGE_BYTES
            while left:
                piece = await reader.read(min(left, MIB))
                received.update(piece)
                left -= len(piece)
            writer.write(OK)

    async def use(pool: Pool, host: str) -> list[int]:
        sending = asyncio.create_task(pool.exchange(host, HEAD, large))
        while not server_loop or not any(each._is_full for each in pool._busy):
            await asyncio.sleep(0.001)
        before = large.taken
        server_loop[0].call_soon_threadsafe(may_read.set)
        answers = [await sending, await pool.exchange(host, HEAD, large)]
        assert [answer.body for answer in answers] == [b"ok", b"ok"]
        return [before, len(pool._idle[host])]

    before, idle = use_pool(serve, use, is_tls=is_tls)
    assert before * PIECE_BYTES < LARGE_BYTES // 2
    assert idle == 1
    whole = b"".join(large.pieces())
    assert received.digest() == hashlib.sha256(whole + whole).digest()


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_connection_on_which_a_file_was_not_wanted_whole_serves_no_other_request(
    large: CountedPieces, is_tls: bool
) -> None:
    refused = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refused)
        await writer.drain()
        await reader.read(1)
        await asyncio.sleep(60)

    async def use(pool: Pool, host: str) -> tuple[int, int]:
        answer: Response = await pool.exchange(host, HEAD, large)
        return answer.status, len(pool._idle[host])

    assert use_pool(serve, use, is_tls=is_tls) == (503, 0)


def test_a_file_that_cannot_be_read_ends_the_exchange(large: CountedPieces) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use(pool: Pool, host: str) -> None:
        await pool.exchange(host, HEAD, large)

    os.ftruncate(large._file.fileno(), 0)
    with pytest.raises(NoAnswer, match="cannot read"):
        use_pool(serve, use, is_tls=False)


def test_a_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with PartFile() as file:
        file.write(b"data")
        file.close_writing()
        assert list(tmp_path.iterdir()) == []
        assert bytes(file) == b"data"
