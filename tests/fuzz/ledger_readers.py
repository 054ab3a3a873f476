"""Readers of the ledger's documents, as the programs call them that act on what they read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, date
from typing import Any

from jobs.archives.index import ArchiveIndex
from jobs.archives.index_tables import TableWriter, write_index
from jobs.archives.model import ArchiveRecord, Member
from jobs.aws.batch_arrays import Placement, Submission, payload
from jobs.cli.nightly import summary_text
from jobs.core.enums import ArchiveFormat
from jobs.core.model import Attributes, Checksum, Location, ObjectRef, ObjectVersion
from jobs.expire.rules import Original, Proof, Terms, decide
from jobs.ledger.expired_rows import expired_rows
from jobs.ledger.ledger import Ledger
from jobs.ledger.tombstones import FOLDER as TOMBSTONES
from jobs.nights.calendar import Stage, claim_name, record_name, summary_name
from jobs.nights.records import NightRecords
from jobs.policy.reader import parse_policy
from jobs.runs import batch_executor as batch
from jobs.runs import leases
from jobs.s3.store import UNGUARDED
from scheduler import backlog, batch_starts, follow
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.memory_store import MemoryStore
from tests.fuzz.conversations import own_loop
from tests.simulation.engine.loop import run_at_once

RUN = "19700101T000000Z-replicate-aaaaaa"
JOB = "sealift-pair-nightly-2026-11-25"
NIGHT = date(2026, 11, 25)
PLACE = Location("bucket")
ARCHIVE = ArchiveRecord(
    Location("archives", "a.tar.zst"), ArchiveFormat.TAR_ZST, 1_000, "etag", None, "STANDARD", 1, 3, "a/b", "a/b",
    "bucket", 0.0,
)  # fmt: skip
MEMBER = Member(
    "a/b", "v1", True, 3, "etag", 1.5, "GLACIER", {"expires": "b"}, {}, {}, (Checksum("CRC32", "AAAA"),), "0" * 64,
    1024, 0, 0, 99,
)  # fmt: skip
POLICY = parse_policy(
    b"""
version: 1
name: sealift
ledger: {bucket: ledger-of-ours, region: us-east-1}
pairs:
  - name: pair
    source: {bucket: source-of-ours, region: us-east-1}
    destination: {bucket: hot-of-ours, region: us-east-1}
""",
    "policy.yaml",
)
TERMS = Terms(1e10, 0.0, False, (PLACE,))


def store_of(objects: dict[str, bytes]) -> MemoryStore:
    """A store whose bucket has these objects."""
    store = MemoryStore(clock=lambda: 0.0)
    store.create_bucket("bucket")
    for name, data in objects.items():
        run_at_once(store.put("bucket", name, data, Attributes(), guard=UNGUARDED))
    return store


def _reader(name: str, read: Callable[[Ledger], Coroutine[Any, Any, Any]]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        return own_loop().run_until_complete(read(Ledger(store_of({name: data}), PLACE)))

    return parse


def _runtime(name: str, read: Callable[[Runtime], Coroutine[Any, Any, Any]]) -> Callable[[bytes], object]:
    settings = FunctionSettings("policy.yaml", PLACE)

    def parse(data: bytes) -> object:
        store = store_of({name: data})
        runtime = Runtime(settings, open_region=lambda *_: store, clock=lambda: 0.0)
        runtime._policy = (0.0, POLICY)
        return own_loop().run_until_complete(read(runtime))

    return parse


async def _backlog(runtime: Runtime) -> object:
    waiting = await backlog.waiting(runtime, "pair")
    published = await backlog.publish(runtime, "pair", waiting, "age")
    return published and await backlog.read_manifest(runtime, "pair", published.number)


async def _manifest(runtime: Runtime) -> object:
    """What is published next to a manifest that may be forged, and what a run of that one would be started for."""
    await backlog.add(runtime, "pair", [backlog.BacklogRow("source-of-ours", "k", None, 1, None, "")])
    waiting = await backlog.waiting(runtime, "pair")
    return waiting, await backlog.publish(runtime, "pair", waiting, ""), await backlog.read_manifest(runtime, "pair", 1)


async def _follow(runtime: Runtime, name: str, **more: Any) -> object:
    follower = follow._Follower(runtime, POLICY, "arn:aws:sns:us-east-1:111122223333:topic")
    follower._announce = _say_nothing  # type: ignore[assignment, method-assign]  # it sends no mail
    return await follower.follow({"jobName": name, "jobId": "job", "status": "SUCCEEDED", **more})


async def _say_nothing(name: str, subject: str, text: str, *more: Any) -> dict[str, Any]:
    return {"length": len(f"{name}{subject}{text}".encode("utf-8", "surrogatepass"))}


async def _night(runtime: Runtime) -> object:
    await runtime.write_once(f"starts/{JOB}.json", _json(_START))
    return await _follow(runtime, JOB)


async def _made(run_id: str) -> bool:
    return bool(run_id)


async def _ended(runtime: Runtime) -> object:
    return await _follow(runtime, f"{RUN}-000-report")


async def _start(runtime: Runtime) -> object:
    return await batch_starts.read_start(runtime, POLICY, JOB)


async def _job(ledger: Ledger) -> object:
    return await batch._job_id(ledger, RUN, _JOB_RECORD)


def _book(ledger: Ledger) -> NightRecords:
    return NightRecords(ledger, "pair", NIGHT)


async def _summary(ledger: Ledger) -> object:
    summary = await _book(ledger).summary()
    assert summary is not None
    return "\n".join(
        summary_text(summary | {"ran_before": ran_before}, UTC, is_latest=True) for ran_before in (True, False)
    )


async def _records(ledger: Ledger) -> object:
    return await _book(ledger).current_record(Stage.SAMPLE, _made, 0.0)


async def _launches(ledger: Ledger) -> object:
    return await leases.last_launch(ledger, RUN), await leases.launch_ids(ledger, RUN)


async def _leases(ledger: Ledger) -> object:
    lease = leases.Lease(ledger, RUN, 0, "launch")
    found = [str(each) for each in await leases.open_leases(ledger, RUN, 5)]
    return found, await lease._rivals(), await leases.write_launch(ledger, RUN, "launch", {}, "a test")


async def _submissions(ledger: Ledger) -> object:
    found = await batch.BatchExecutor(ledger, None).latest(RUN)  # type: ignore[arg-type]  # nothing asks Batch
    assert found is not None
    shards = await batch.child_shards(ledger, RUN, 0, 0)
    return shards, payload(found.submission, "work")


async def _expired(ledger: Ledger) -> object:
    return [batch async for batch in expired_rows(ledger.store, ledger.location, "bucket", "")]


def _index(data: bytes) -> object:
    """An index as restores and expire runs read it."""

    async def read() -> object:
        index = ArchiveIndex(store_of({"archives/archives/a.tar.zst.parquet": data}), PLACE)
        record = await index.record(ARCHIVE.location)
        members = [each async for part in index.members(ARCHIVE.location, "a") for each in part]
        return record, members, await index.find("a/b"), [each.byte_range for each in members]

    return own_loop().run_until_complete(read())


def _directory(data: bytes) -> object:
    async def read() -> object:
        objects = {"archives/archives/a.tar.zst.parquet": INDEX, "archives/archives.directory.json": data}
        index = ArchiveIndex(store_of(objects), PLACE)
        return await index.records(), await index.find("a/b")

    return own_loop().run_until_complete(read())


def _proof(data: bytes) -> object:
    """A proof and what is decided by it."""
    try:
        proof = Proof.decode(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    row = ObjectVersion(0, "k", "v", etag="e")
    return decide(row, proof, Original("v", "e", 3, 0.0), None, TERMS), proof.encode()


def index_file() -> bytes:
    """The index of an archive of one member."""
    own, file = io.BytesIO(), io.BytesIO()
    writer = TableWriter(own)
    writer.add([MEMBER])
    writer.close()
    write_index(io.BytesIO(own.getvalue()), ARCHIVE, file)
    return file.getvalue()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


INDEX = index_file()
_ETAG = run_at_once(store_of({"index": INDEX}).head(ObjectRef("bucket", "index"))).etag
_SUBMISSION = Submission(RUN, 0, Placement("queue", "definition"), [0, 1, 5], 2, "s3://bucket/").to_dict()
_SUBMISSION |= {"spec_version": 1}
_JOB_RECORD = "batch/000-work.json"
_START = {"pair": "pair", "job": "nightly", "once": str(NIGHT)}
_REPORT = {
    "report_version": 1, "spec_version": 1, "run_id": RUN, "job": "replicate", "state": "complete", "rows": 1,
    "accounted": 1, "outcomes": {"copied": 1}, "failures": 0, "planned_dollars": 0.5, "source": "s3://bucket/",
}  # fmt: skip
_RECONCILED = {
    "job": "reconcile", "state": "complete", "rows": 1, "categories": {"same": {"rows": 1}, "extra": {"rows": 2}},
    "findings": 0, "finding_categories": ["missing"], "unparsed": 1,
}  # fmt: skip
_CLAIM = {"night": str(NIGHT), "began_at": 1.5, "sample": [1, 7], "deep": None, "margin_seconds": 900}
_RECORD = {"run_id": RUN, "refused": None, "notes": {"repairable_rows": 1, "is_listed": True}, "written_at": 1.5}
_STAGE = {"stage": "sample", "run_id": RUN, "state": "complete", "refused": None, "counts": {"verified": 1}, "left": 0}
_SUMMARY = {
    "night": str(NIGHT), "pair": "pair", "state": "complete", "verdict": "All is well", "left": 0, "exit_code": 0,
    "seconds": 1.5, "finished_at": "2026-11-25T02:00:00Z",
    "stages": [_STAGE | {"rows": 3, "report_html": "s3://b/r"}], "summary": "s3://b/s",
}  # fmt: skip
_MANIFEST = {
    "version": 1, "pair": "pair", "number": 1, "manifest": "s3://bucket/manifests/pair=pair/000001-0123456789ab.csv",
    "prefixes": ["a/"], "rows": 1, "size_bytes": 3, "taken": ["0000000000000-1-3-ab.json"],
}  # fmt: skip
_ROW = backlog.BacklogRow("source-of-ours", "a b", "v", 3, "etag", "too large")
_WHO = {"host": "h", "pid": 1, "batch_job_id": None, "since": "s", "id": "launch", "what": "w", "spec_version": 1}

READERS: list[tuple[str, Callable[[bytes], object], list[bytes]]] = [
    ("archive index", _index, [INDEX]),
    ("archive directory", _directory, [_json([["a.tar.zst", _ETAG, ARCHIVE.to_dict()]])]),
    ("backlog", _runtime("backlog/pair=pair/0000000000000-1-3-ab.json", _backlog), [_json(_ROW._asdict())]),
    ("backlog manifest", _runtime("manifests/pair=pair/000001.json", _manifest), [_json(_MANIFEST)]),
    ("night claim", _reader(claim_name("pair", NIGHT), lambda ledger: _book(ledger).claim(_CLAIM)), [_json(_CLAIM)]),
    ("night record", _reader(record_name("pair", NIGHT, Stage.SAMPLE, 1), _records), [_json(_RECORD)]),
    ("night summary", _reader(summary_name("pair", NIGHT), _summary), [_json(_SUMMARY)]),
    ("night message", _runtime(summary_name("pair", NIGHT), _night), [_json(_SUMMARY)]),
    ("report message", _runtime(f"runs/{RUN}/report.json", _ended), [_json(_REPORT), _json(_RECONCILED)]),
    ("start", _runtime(f"starts/{JOB}.json", _start), [_json(_START)]),
    ("launch", _reader(f"runs/{RUN}/launches/000000.json", _launches), [_json(_WHO)]),
    ("lease", _reader(f"runs/{RUN}/leases/00000/000000.json", _leases), [_json(_WHO | {"launch": "launch"})]),
    ("submission", _reader(f"runs/{RUN}/batch/000.json", _submissions), [_json(_SUBMISSION)]),
    ("job record", _reader(f"runs/{RUN}/{_JOB_RECORD}", _job), [_json({"job_id": "j", "spec_version": 1})]),
    ("proof", _proof, [Proof(RUN, 1.5, "bucket", "k", "v", "e", {"offset": 1}).encode().encode()]),
]  # fmt: skip
"""Name, reader, something well-formed."""
EXPIRED_ROWS = _reader(f"{TOMBSTONES}bucket/{RUN}/0-9-0-done.parquet", _expired)
