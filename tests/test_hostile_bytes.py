"""Bytes that no parser expects: nothing but our own errors comes out of what reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.archives.index import completed
from jobs.archives.model import ArchiveRecord, Locator
from jobs.backup.events import parse_message
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import SealiftError
from jobs.ledger.ledger import Ledger
from jobs.manifests import open_manifest
from jobs.s3 import wire
from jobs.s3.list_pages import parse_page
from jobs.s3.operations import Operation
from jobs.s3.store import ABSENT
from jobs.tables.rows import write_parquet
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore

_LISTS = (Operation.LIST_OBJECTS, Operation.LIST_VERSIONS)

RUN = "19700101T000000Z-replicate-aaaaaa"
SPEC = RunSpec(RUN, "replicate", 0.0, Side(Location("a")), Side(Location("b")), "s3://a/m.csv", {"x": 1}).to_dict()
PLAN = Plan(1, 2, (ShardSummary(1, 2),)).to_dict() | {"spec_version": 1}
DEEP = b"[" * 100_000
STRANGE = [b"", b"null", b"-1", b'"', b"<", b"\xff", b"%", b"9" * 5_000, b"[]", b"&#0;", b"\r\n", b"{}"]


@st.composite
def damaged(draw: Any, seeds: Sequence[bytes]) -> bytes:
    """Something well-formed, of which a few places have other bytes, or that is cut off."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 1, 2, 8, 64]))
        other = draw(st.one_of(st.sampled_from([*STRANGE, data[start:end] * 2]), st.binary(max_size=8)))
        data = data[:start] + other + (b"" if draw(st.integers(0, 9)) == 0 else data[end:])
    return data


def hostile(*seeds: bytes) -> Callable[[Callable[[bytes], None]], Callable[[], None]]:
    """A property test with bytes of all kinds; the seeds themselves and deep nesting are played each time."""

    def decorate(test: Callable[[bytes], None]) -> Callable[[], None]:
        for each in (*seeds, b"", b"null", DEEP):
            test = example(data=each)(test)
        return settings(max_examples=examples(100))(given(data=st.one_of(st.binary(), damaged(seeds)))(test))

    return decorate


def parquet(**columns: Any) -> bytes:
    return write_parquet(pa.table(columns))


PAGE = b"<IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
ENTRY = b"<Key>a%20b</Key><LastModified>2026-11-25T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>3</Size>"
OBJECTS = b"<ListBucketResult>" + PAGE + b"<Contents>" + ENTRY + b"</Contents></ListBucketResult>"
VERSIONS = b"<ListVersionsResult>" + PAGE + b"<Version>" + ENTRY + b"</Version></ListVersionsResult>"


@hostile(OBJECTS, VERSIONS)
def test_a_listing_is_read_or_malformed(data: bytes) -> None:
    with contextlib.suppress(wire.Malformed):
        parse_page(data, _LISTS[b"<ListVersionsResult" in data])


@hostile(
    b"<Error><Code>SlowDown</Code><Message>m</Message></Error>",
    b"<CopyObjectResult><ETag>&quot;e&quot;</ETag><ChecksumCRC32>AAAA</ChecksumCRC32></CopyObjectResult>",
    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
    b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
)
def test_an_answer_of_s3_is_read_or_malformed(data: bytes) -> None:
    wire.parse_error(data)
    for parse in (wire.parse_upload_id, wire.parse_tags, wire.parse_versioning):
        with contextlib.suppress(wire.Malformed):
            parse(data)
    with contextlib.suppress(wire.Malformed):
        wire.parse_written(Operation.COPY, {}, data)


@hostile(
    b'content-length:3\ncontent-range:bytes 0-2/9\netag:"e"\nlast-modified:Wed, 25 Nov 2026 00:33:40 GMT\n'
    b"x-amz-tagging-count:2\nx-amz-mp-parts-count:3\nx-amz-checksum-crc32:AAAA\nx-amz-meta-a:b"
)
def test_headers_of_s3_are_read_or_malformed(data: bytes) -> None:
    pairs = (line.partition(":") for line in data.decode("latin-1").split("\n"))
    with contextlib.suppress(SealiftError, wire.Malformed):
        wire.object_info({name.strip().lower(): value.strip() for name, _, value in pairs})


@hostile(
    b'{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-11-25T00:00:00.000Z","eventName":'
    b'"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b","versionId":"v","size":3,"sequencer":"0A"}}}]}',
    b'{"Type":"Notification","Message":"{}"}',
    b'{"Event":"s3:TestEvent","Bucket":"b"}',
)
def test_an_event_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(SealiftError):
        parse_message(data.decode("utf-8", "surrogateescape"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifest") / "manifest.csv"


@settings(max_examples=examples(50))
@example(data=b"bucket,a+b%2B,v1\nbucket,\xc3\xa4,\n")
@given(data=st.one_of(st.binary(), damaged([b"bucket,a+b%2B,v1\nbucket,\xc3\xa4,\n", b'bucket,"a,b"\n'])))
def test_a_manifest_is_read_or_refused(data: bytes, manifest: Path) -> None:
    manifest.write_bytes(data)

    async def read() -> None:
        async for _ in (await open_manifest(str(manifest), MemoryStore())).batches:
            pass

    with contextlib.suppress(SealiftError):
        asyncio.run(read())


@hostile(json.dumps(SPEC).encode(), json.dumps(PLAN).encode(), b'{"spec_version": 1, "rows": 1}', b"[]", b"3")
def test_a_document_of_the_ledger_is_read_or_refused(data: bytes) -> None:
    store = MemoryStore()
    store.create_bucket("ledger")
    asyncio.run(store.put(ObjectRef("ledger", f"runs/{RUN}/spec.json"), data, Attributes(), guard=ABSENT))
    for parse in (RunSpec.from_dict, Plan.from_dict):
        with contextlib.suppress(SealiftError):
            asyncio.run(Ledger(store, Location("ledger")).read(RUN, "spec.json", parse))


@hostile(*(Locator(1, 2, 3, 4, 5).encode(kind) for kind in ArchiveFormat))
def test_the_end_of_an_archive_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(SealiftError):
        Locator.decode(data)


@hostile(parquet(key=["k"], size_bytes=[3]), parquet(key=[b"k"], size_bytes=[b"three"]))
def test_the_index_of_an_archive_is_read_or_refused(data: bytes) -> None:
    place = Location("bucket", "a.tar.zst")
    record = ArchiveRecord(place, ArchiveFormat.TAR_ZST, 1_000, "etag", None, "STANDARD", 0, 0, "", "", "bucket", 0.0)
    with contextlib.suppress(SealiftError):
        completed(record, data)
