"""Every parser of what others write: how it is called, what it may raise, and something well-formed to start from."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from jobs.archives.files import extract_member
from jobs.archives.index import completed
from jobs.archives.model import ArchiveRecord, Locator, Member
from jobs.backup.events import parse_message
from jobs.checksum_reports.rows import parse_row
from jobs.core.enums import ArchiveFormat, Step
from jobs.core.model import Attributes, Checksum, Location, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.run import Plan, RunSpec, ShardSummary, Side
from jobs.errors import SealiftError
from jobs.inventory.report import open_inventory
from jobs.ledger.job_starts import decode_start_record, encode_start_record
from jobs.ledger.journal import Ending, Entry, to_lines
from jobs.ledger.ledger import Checkpoint, Ledger
from jobs.ledger.tombstones import DONE, FOLDER, Tombstone, Tombstones
from jobs.manifests import open_manifest
from jobs.policy.reader import parse_policy
from jobs.restore.as_of_journal import row_from_entry
from jobs.restore.journal_rows import parse_journal
from jobs.s3 import wire
from jobs.s3.list_pages import parse_page
from jobs.s3.store import UNGUARDED
from jobs.tables.rows import read_outcomes, read_shard, shard_schema, write_outcomes, write_parquet
from tests.doubles.memory_store import MemoryStore
from tests.fuzz.conversations import CUT, HEAD, LATE, NEXT, WAITING, play
from tests.fuzz.ledger_readers import EXPIRED_ROWS, READERS
from tests.scheduler.event_samples import eventbridge, from_sns, notification, probe, record
from tests.simulation.engine.loop import run_at_once

RUN = "19700101T000000Z-replicate-aaaaaa"
ARCHIVE = ArchiveRecord(
    Location("bucket", "a.tar.zst"), ArchiveFormat.TAR_ZST, 1_000, "etag", None, "STANDARD", 0, 0, "", "", "bucket", 0.0
)


@dataclass(frozen=True)
class Parser:
    """`parse` takes any bytes; nothing but `raises` may come out of it. `seeds` are well-formed."""

    name: str
    parse: Callable[[bytes], object]
    seeds: Sequence[bytes]
    raises: tuple[type[Exception], ...] = (SealiftError,)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


async def _drain(opened: Any) -> None:
    async for _ in opened.batches:
        pass


def _in_store(**objects: bytes) -> MemoryStore:
    store = MemoryStore(clock=lambda: 0.0)
    store.create_bucket("bucket")
    for name, data in objects.items():
        run_at_once(store.put("bucket", name, data, Attributes(), guard=UNGUARDED))
    return store


def _inventory(data: bytes) -> object:
    checksum = hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
    store = _in_store(**{"manifest.json": data, "manifest.checksum": checksum})
    return run_at_once(open_inventory(store, Location("bucket", "manifest.json")))


def _manifest(suffix: str) -> Callable[[bytes], object]:
    async def read(path: str) -> None:
        await _drain(await open_manifest(path, MemoryStore(clock=lambda: 0.0), lambda: None))

    def parse(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"manifest{suffix}")
            path.write_bytes(data)
            return asyncio.run(read(str(path)))

    return parse


def _ledger(name: str, read: Callable[[Ledger], Coroutine[Any, Any, Any]]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        return run_at_once(read(Ledger(_in_store(**{f"runs/{RUN}/{name}": data}), Location("bucket"))))

    return parse


def _checkpoint_name(data: bytes) -> object:
    return Checkpoint.parse(0, _text(data))


def _outcomes(data: bytes) -> object:
    return list(read_outcomes(data))


def _shard(data: bytes) -> object:
    return list(read_shard(data))


def _headers(data: bytes) -> object:
    pairs = (line.partition(":") for line in data.decode("latin-1").split("\n"))
    return wire.object_info({name.strip().lower(): value.strip() for name, _, value in pairs})


def _answers(data: bytes) -> object:
    found: list[Any] = [wire.parse_error(data)]
    for parse in (
        lambda: wire.parse_result("CopyObject", {}, data),
        lambda: wire.parse_upload_id(data),
        lambda: wire.parse_tags(data),
        lambda: wire.parse_versioning(data),
        lambda: wire.parse_deletions(data, "bucket"),
    ):
        try:
            found.append(parse())
        except wire.Malformed:
            continue
    return found


def _frames(data: bytes) -> object:
    member = Member("", None, True, 64, None, 0.0, "", {}, {}, {}, offset=3, frame_start=0, frame_offset=0)
    return extract_member(ARCHIVE, member._replace(frame_length=len(data)), data, 0)


def _tombstones(data: bytes) -> object:
    store = _in_store(**{f"{FOLDER}bucket/{RUN}/0-9-0{DONE}": data})
    return run_at_once(Tombstones(store, Location("bucket"), "bucket", RUN).read(f"0-9-0{DONE}"))


def _tombstone() -> bytes:
    """The file of one tombstone."""
    store = _in_store()
    stone = Tombstone(3, "k", "v", "e", 3, 1.5, Step.HIDE, "s3://b/k", None, None, "etag", "m", 2.5)
    run_at_once(Tombstones(store, Location("bucket"), "bucket", RUN).settle([stone]))
    page = run_at_once(store.list_objects("bucket", ""))
    return run_at_once(store.get(ObjectRef("bucket", page.entries[0].key))).data


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def parquet(**columns: Any) -> bytes:
    """A Parquet file of these columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


_ROW = ObjectVersion(0, "k", None)
_SHARD = pa.table({name: [getattr(_ROW, name)] for name in shard_schema().names}, schema=shard_schema())
_SPEC = RunSpec(
    RUN, "replicate", 0.0, Side(Location("bucket-a")), Side(Location("bucket-b")), "s3://bucket-a/m.csv", {"x": 1}
)
_PLAN = Plan(1, 2, (ShardSummary(1, 2),)).to_dict() | {"spec_version": 1}
_SUMS = (Checksum("CRC32", "AAAA"),)
MEMBER = Member("a/b", "v1", True, 3, "etag", 1.5, "GLACIER", {"expires": "b"}, {}, {}, _SUMS, "0" * 64)
_ENTRY = (
    b"<Key>a%20b</Key><LastModified>2026-11-25T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>3</Size>"
)
_PAGE = b"<IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
_INVENTORY = {
    "sourceBucket": "a", "destinationBucket": "arn:aws:s3:::b", "version": "2016-11-30", "fileFormat": "CSV",
    "creationTimestamp": "1700000000000", "fileSchema": "Bucket, Key, Size",
    "files": [{"key": "data/x.csv.gz", "size": 3, "MD5checksum": "00"}],
}  # fmt: skip
_POLICY = b"""version: 1
name: sealift
ledger: {bucket: ledger-of-ours, region: us-east-1, prefix: l/}
pairs:
  - name: pair
    source: {bucket: source-of-ours, region: us-east-1, prefixes: [a/]}
    destination: {bucket: hot-of-ours, region: us-east-1, transitions: [{days: 30, storage_class: GLACIER}]}
    thresholds: {lambda_max_size: 1 GiB, backlog_age: 2h}
    nightly: {hour: "02:30", time_zone: Europe/Berlin}
"""

PARSERS = [
    Parser(
        "events",
        lambda data: parse_message(_text(data)),
        [
            _json(notification(record("bucket", "a b", versionId="v", eTag="e", size=3, sequencer="00AB"))),
            _json(eventbridge("bucket", "a b", "Object Deleted", deletion_type="Delete Marker Created")),
            _json(from_sns(notification(record("bucket", "k")))),
            _json(probe("bucket")),
        ],
    ),
    Parser("inventory", _inventory, [_json(_INVENTORY)]),
    Parser("csv", _manifest(".csv"), [b"bucket,a+b%2B,v1\nbucket,\xc3\xa4,\n", b'bucket,"a,b"\n']),
    Parser("parquet", _manifest(".parquet"), [parquet(bucket=["a"], key=["k"], size=[3])]),
    Parser(
        "checksum report",
        lambda data: parse_row(_text(data).split(",")),
        [b'b,k,,succeeded,,,{"checksumAlgorithm":"CRC32","checksumType":"FULL_OBJECT","checksum_base64":"AAAAAA=="}'],
    ),
    Parser(
        "journal",
        lambda data: [row_from_entry(each) for each in parse_journal(ObjectRef("ledger", "journal/a.json"), data)],
        [to_lines([Entry(1e9, "ObjectCreated:Put", "source", "k", "v", "FF", Ending.COPIED, destination_key="k")])],
    ),
    Parser("policy", lambda data: parse_policy(data, "policy.yaml"), [_POLICY]),
    Parser("uri", lambda data: Location.parse(_text(data)), [b"s3://bucket/a/b"]),
    Parser("locator", Locator.decode, [Locator(1, 2, 3, 4, 5).encode(kind) for kind in ArchiveFormat]),
    Parser("own index", lambda data: completed(ARCHIVE, data), [parquet(key=["k"], size_bytes=[3])]),
    Parser("frames", _frames, [zstandard.ZstdCompressor().compress(bytes(range(67)))]),
    Parser(
        "page",
        lambda data: parse_page(data, is_versions=b"<ListVersionsResult" in data),
        [
            b"<ListBucketResult>" + _PAGE + b"<Contents>" + _ENTRY + b"</Contents></ListBucketResult>",
            b"<ListVersionsResult>" + _PAGE + b"<Version>" + _ENTRY + b"</Version></ListVersionsResult>",
            b"<ListVersionsResult>" + _PAGE + b"<DeleteMarker>" + _ENTRY + b"</DeleteMarker></ListVersionsResult>",
        ],
        (wire.Malformed,),
    ),
    Parser(
        "answers",
        _answers,
        [
            b"<Error><Code>SlowDown</Code><Message>m</Message></Error>",
            b"<CopyObjectResult><ETag>&quot;e&quot;</ETag><ChecksumCRC32>AAAA</ChecksumCRC32></CopyObjectResult>",
            b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
            b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
            b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>",
        ],
    ),
    Parser(
        "headers",
        _headers,
        [
            b'content-length:3\ncontent-range:bytes 0-2/9\netag:"e"\nlast-modified:Wed, 25 Nov 2026 00:33:40 GMT\n'
            b"x-amz-tagging-count:2\nx-amz-mp-parts-count:3\nx-amz-checksum-crc32:AAAA\nx-amz-meta-a:b"
        ],
    ),
    Parser("spec", _ledger("spec.json", lambda ledger: ledger.spec(RUN)), [_json(_SPEC.to_dict())]),
    Parser("plan", _ledger("plan.json", lambda ledger: ledger.plan(RUN)), [_json(_PLAN)]),
    Parser("report", _ledger("report.json", lambda ledger: ledger.report(RUN)), [b'{"rows": 1, "outcomes": {}}']),
    Parser("checkpoint", _checkpoint_name, [b"0123456789abcdef-000000-3-2-9.parquet"]),
    Parser("outcomes", _outcomes, [write_outcomes([Outcome(0, "k", None, Status.COPIED)])]),
    Parser("shard", _shard, [write_parquet(_SHARD)]),
    Parser("tombstones", _tombstones, [_tombstone()]),
    Parser("claim", decode_start_record, [encode_start_record("job")]),
    Parser(
        "connection",
        play,
        [
            bytes([0, NEXT, HEAD, 1, NEXT, 7, 0]),
            bytes([3, 19, CUT, 20, LATE, 0, NEXT, 12, 22, NEXT, 0, WAITING, 0, NEXT, 0]),
        ],
    ),
    *(Parser(name, read, seeds) for name, read, seeds in READERS),
    Parser("expired rows", EXPIRED_ROWS, [_tombstone()]),
]
