"""The only file of the simulator that meets Sealift's code: commands, the function, rows of the ledger, and its scale.

Stand-ins, for what is too slow or real: processes are the world's, stores its connections, DuckDB's sort and fold are
pure Python (a full schedule has the real ones), and no page is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import duckdb

from jobs.aws.clients import open_client
from jobs.cli import cli
from jobs.cli.command import Answer
from jobs.cli.options import Command
from jobs.config import Settings
from jobs.core import part_sizes
from jobs.core.elapsed import refuse_late
from jobs.core.evidence import compare
from jobs.core.model import Attributes, Checksum, Location, ObjectVersion, Route
from jobs.core.outcome import GOOD, Outcome
from jobs.core.reasons import Reason
from jobs.core.run import worker_pins
from jobs.errors import SealiftError, StoreError, store_error
from jobs.interrupts import run as run_in_a_loop
from jobs.interrupts import stopped_by_signals
from jobs.ledger.backlog import read_manifests
from jobs.ledger.owner import claim_run, process_began
from jobs.runs import local_executor
from jobs.runs.request import open_ledger, open_prompt_ledger
from jobs.s3 import downloads
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED
from jobs.sync.key import Sides, SyncOptions
from scheduler import backlog, backup
from scheduler.runtime import Runtime
from tests.doubles import one_duckdb
from tests.doubles.few_rows import CACHED, QUICK, outcomes_of, rows_of
from tests.doubles.plain_fold import fold
from tests.doubles.policies import resolved
from tests.simulation.engine.determinism import replaced, swaps_of
from tests.simulation.engine.loop import LABEL, run_at_once
from tests.simulation.row import Row
from tests.simulation.schedule import COPIES, DESTINATION, LEDGER, SOURCE
from tests.simulation.surface import PAIR, environment_of, policy_of

__all__ = ["UNGUARDED", "Attributes", "Checksum", "SealiftError", "StoreError", "compare", "refuse_late", "store_error"]

PART_BYTES = 4
"""The world is to scale: objects have tens of bytes, parts 4, ranges 8, where S3 and Sealift have 5 and 8 MiB."""
SCALE = {
    "MIN_PART_BYTES": PART_BYTES, "STREAM_PART_BYTES": 8, "RANGE_BYTES": 8, "CHUNK_BYTES": 32,
    "SMALL_BYTES": 32, "FRAME_BYTES": 4_096, "GROUP_ROWS": 2, "CHAIN_ROWS": 2,
}  # fmt: skip
FILE_RANGE_BYTES = 2_048
"""Tables of the ledger have some KiB, whatever the scale: two or three ranges."""
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where scratch folders are: a disk takes longer to make and remove them."""
_process: Any = LABEL.get


class Begun(Exception):
    """A command has come to the coroutine that does its work."""


NO_RULES = SimpleNamespace(
    get_bucket_lifecycle_configuration=lambda **_: {"Rules": []},
    meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_: None)),
    get_bucket_replication=lambda **_: {"ReplicationConfiguration": {"Rules": []}},
)
"""All that is asked of a client that is no store."""
_command = cache(Command)
"""What a command takes is the same each time: fifty options to make."""


class Program:
    """Sealift in a world. `extra`: more stand-ins, as (function, instead)."""

    extra: tuple[Any, ...] = ()

    def __init__(self, world: Any, connection: Any):
        self._world, self._connection = world, connection
        self._numbers = iter(range(1, 100_000))

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """All that is Sealift's own code works in the world."""
        schedule = self._world.schedule
        connect = one_duckdb.connect_unlocked if schedule.is_full else one_duckdb.connect_to_shared
        swaps: list[Any] = [
            *swaps_of(self._world), *CACHED, *([] if schedule.is_full else QUICK), *self.extra,
            (run_in_a_loop, _begin), (stopped_by_signals, _stopped_by), (open_prompt_ledger, open_ledger),
            (open_store, lambda *_, **__: self._connection), (open_client, lambda *_, **__: NO_RULES),
            (Command, _command), (process_began, lambda pid: None), (duckdb.connect, connect),
            (local_executor.execute, self._execute),
            (part_sizes.COPY_LIMIT_BYTES, 16), (part_sizes.PREFERRED_PART_BYTES, 8),
        ]  # fmt: skip
        with (
            tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder,
            patch.dict(os.environ, environment_of(schedule, f"{folder}/policy.json")),
            patch.object(tempfile, "tempdir", folder),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            replaced(swaps, SCALE),
            patch.object(downloads, "RANGE_BYTES", FILE_RANGE_BYTES),
        ):
            Path(folder, "policy.json").write_bytes(_resolved(policy_of(schedule)))
            yield

    async def command(self, *words: str) -> int:
        """Do what a command line says; the exit code."""
        try:
            code = cli.main(list(words), standalone_mode=False)
        except Begun as begun:
            ended = await begun.args[0]
            code = ended.code if isinstance(ended, Answer) else ended
        return int(code or 0)

    async def _execute(self, spec: Any, plan: Any, ledger: Any, settings: Any, display: Any, *_: Any) -> dict[int, int]:
        """The local executor: three attempts at a shard while they are killed or end with 75."""
        shards = plan.open_shards
        _process().run_id = spec.run_id
        owner = (await claim_run(ledger, spec.run_id, "another command")).number if shards else 0

        async def work(shard: int) -> int:
            words = f"worker {spec.run_id} --shard {shard} --owner {owner} --workers 1".split()
            for _ in range(3):
                name = f"worker {next(self._numbers)} of shard {shard}"
                work = partial(self.command, *words, *worker_pins(spec, plan))
                if (code := await self._world.spawn(name, _process().verb, work).ended) not in (75, -9):
                    break
            return int(code)

        return dict(zip(shards, await asyncio.gather(*map(work, shards)), strict=True))

    def runtime(self) -> Runtime:
        """A function's, which has just begun."""
        return Runtime(Settings.from_environment(), clock=_process().clock)

    async def handle(self, runtime: Runtime, bodies: dict[str, str], seconds: float) -> set[str]:
        """Give messages (id → body) to the backup function. Returns those that it has not done."""
        messages = [{"messageId": number, "body": body, "attributes": {}} for number, body in bodies.items()]
        answer = await backup.handle(runtime, {"Records": messages}, seconds, "request")
        return {each["itemIdentifier"] for each in answer["batchItemFailures"]}

    async def publish(self) -> list[list[str]]:
        """Make manifests of what waits; a command line for each manifest."""
        runtime = self.runtime()
        if waiting := await backlog.waiting(runtime, PAIR):
            await backlog.publish(runtime, PAIR, waiting, "due")
        found = await read_manifests(runtime.store(), runtime.ledger, PAIR, 1_000)
        return [f"replicate --pair {PAIR} --manifest {each.manifest} --yes --json".split() for each in found]

    def run_of(self, key: str) -> tuple[str, str]:
        """The run that an object of the ledger belongs to, and its name there."""
        run_id, _, name = key.removeprefix("l/runs/").partition("/") if key.startswith("l/runs/") else ("", "", key)
        return run_id, name

    def rows(self, run_id: str, checkpoints: list[str]) -> list[Row]:
        """What these checkpoints (keys of the ledger) say of each row of a run."""
        shards = self._world.keys(LEDGER, f"l/runs/{run_id}/shards/")
        chosen = fold([each for data in self._contents(checkpoints) for each in outcomes_of(data)])
        return [_row(row, chosen.get(row.row)) for data in self._contents(shards) for row in rows_of(data)]

    def _contents(self, keys: list[str]) -> list[bytes]:
        return [self._world.versions(LEDGER, key)[-1].data for key in keys]


def _row(row: ObjectVersion, of: Outcome | None) -> Row:
    """Not ended: without what an outcome says."""
    bare = Row(row.key, row.version_id, row.etag, row.is_delete_marker)
    if of is None:
        return bare
    if of.reason == Reason.NEWER_COPIED:  # what is said is said of the version that came after the row's
        bare = bare._replace(version_id=None, etag=of.etag)
    copy = of.destination_etag, of.destination_version_id
    return Row(*bare[:4], str(of.status), str(of.evidence), of.reason, *copy, of.status in GOOD)


@cache
def _resolved(text: str) -> bytes:
    return resolved(text.encode())


@contextlib.contextmanager
def _stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """A process says what SIGTERM does to it."""
    _process().stop = stop
    yield


def _begin(work: Coroutine[Any, Any, Any]) -> None:
    raise Begun(work)


def key_rows(memory: Any, *, all_versions: bool) -> list[ObjectVersion]:
    """The rows that a plan of now has for the source's keys."""
    pages = run_at_once(memory.list_versions(SOURCE, ""))
    rows = [ObjectVersion(at, *each[:8]) for at, each in enumerate(reversed(pages.entries))]
    return [row for row in rows if all_versions or (row.is_latest and not row.is_delete_marker)]


async def sync_key(store: Any, rows: Sequence[ObjectVersion], *, all_versions: bool, overwrite: str) -> list[Row]:
    """Do one key."""
    route = Route(Location(SOURCE), Location(DESTINATION, COPIES))
    options = SyncOptions.from_dict({"is_replay": True, "all_versions": all_versions, "overwrite": overwrite})
    outcomes = await Sides(store, store, route, options, ByteBudget(1_000)).process(rows)
    return [_row(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)]
