"""A world of nights for the state machine: two buckets, reports of S3, and `sealift nightly` over them.

The command is the real one, with DuckDB and all. All of its stores are one store in memory, and its
workers work in this process, on a loop without a clock. The oracle reads the buckets' contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import yaml
from msgspec.structs import replace

from jobs.cli import status
from jobs.cli.nightly import Nightly
from jobs.cli.options import Command
from jobs.cli.worker import work_here
from jobs.config import Settings
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Plan, RunSpec
from jobs.errors import ConfigError, Denied, SealiftError
from jobs.ledger.ledger import Ledger
from jobs.ledger.owner import claim_run
from jobs.ledger.state import OPEN
from jobs.ledger.views import accept, open_views
from jobs.reconcile.since_then import standing_rows
from jobs.runs import work
from jobs.runs.worker import Stops
from jobs.s3.store import UNGUARDED
from tests.doubles import one_duckdb
from tests.doubles.hooks import Killed
from tests.doubles.memory_buckets import Version
from tests.doubles.memory_store import MemoryStore, Request
from tests.inventory.samples import CURRENT, VERSIONS, deliver
from tests.simulation.engine.loop import LABEL, Loop, Mortal, run_at_once

AGE_SECONDS = 7_200.0
"""So much later is what comes after a change: nothing is in flight."""
SLICES = 2
FIRST_NIGHT = date(2026, 1, 5)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "SEALIFT_TUNING": "patience_seconds=0.001 processes=1",
}


@dataclass(eq=False)
class Machine(Mortal):
    """What runs a night. It freezes at a request, if that is not 0, before or after its effect, and may go on.

    `skew`: by how many seconds its clock is ahead of S3's. `task`: its work.
    """

    requests_left: int = 0
    is_after: bool = False
    skew: float = 0.0
    task: Any = None


@dataclass
class World:
    """Two buckets, a policy, and the nights.

    `dark`: keys whose copy's bytes are others under an unchanged ETag, which only reading finds.
    `is_stale`: a report is older than the last change. `accepted`: keys that a person has accepted as they are.
    `known`: those that were wrong in the last night, and are as they were.
    `quiet`: the summaries since the last change. `refused`: keys whose copies nobody may read. `skew`:
    by how many seconds the clocks of machines that end their night are ahead of S3's. `frozen`: machines.
    """

    folder: Path
    deletes: str
    is_versioned: bool
    has_inventory: bool
    night: date = FIRST_NIGHT
    dark: set[str] = field(default_factory=set)
    is_stale: bool = False
    accepted: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    quiet: list[dict[str, Any]] = field(default_factory=list)
    objects_before: int = 0
    refused: set[str] = field(default_factory=set)
    skew: float = 0.0

    def __post_init__(self) -> None:
        self.loop, self.frozen = Loop(None), list[Machine]()
        self.now = datetime.combine(self.night, time(4), UTC).timestamp()
        self.store = MemoryStore(clock=self.clock, on={"every": self._send})
        self.store.create_bucket("source", versioned=self.is_versioned)
        for bucket in ("hot", "ledger", "reports"):
            self.store.create_bucket(bucket)
        self.write_policy()

    def clock(self) -> float:
        """Each look at the clock is a second later, since in one second nobody knows what came first."""
        self.now += 1.0
        return self.now

    def own_clock(self) -> float:
        """The clock of the machine that looks at it."""
        machine: Any = LABEL.get()
        return self.clock() + (machine.skew if machine else 0.0)

    async def _send(self, request: Request) -> Any:
        """Freeze who sends the n-th request, before or after its effect."""
        if request.operation in ("get", "head") and request.place.key.removeprefix("copies/") in self.refused:
            raise Denied("GetObject", str(request.place), "AccessDenied", status=403)
        machine: Any = LABEL.get()
        machine.requests_left -= 1
        answer = await request() if machine.is_after else None
        if machine.requests_left == 0:
            machine.is_dead = True
            await asyncio.sleep(0)  # none of its tasks takes another step until it is not dead any more
        return answer if machine.is_after else await request()

    def write_policy(self) -> None:
        policy: dict[str, Any] = {
            "version": 1,
            "ledger": {"bucket": "ledger", "region": "us-east-1", "prefix": "l/"},
            "pairs": [
                {
                    "name": "pair",
                    "source": {"bucket": "source", "region": "us-east-1"},
                    "destination": {"bucket": "hot", "region": "us-east-1", "prefix": "copies/"},
                    "deletes": self.deletes,
                }
            ],
            "defaults": {"verify": {"rota": f"1/{SLICES}", "deep": f"1/{SLICES}"}},
        }
        if self.has_inventory:
            policy["inventory"] = {"buckets": {"us-east-1": "reports"}, "prefix": "inventory/"}
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(policy))

    # What happens at the buckets.

    def put(self, bucket: str, key: str, data: bytes) -> None:
        run_at_once(MemoryStore.put(self.store, ObjectRef(bucket, key), data, Attributes(), guard=UNGUARDED))
        self._changed(key)

    def copy(self, key: str) -> None:
        """As the backup function does it."""
        version = self.current("source", key)
        if version is not None:
            self.put("hot", f"copies/{key}", version.data)

    def delete(self, bucket: str, key: str) -> None:
        if self.current(bucket, key):
            run_at_once(MemoryStore.delete(self.store, ObjectRef(bucket, key)))
            self._changed(key)

    def rot(self, key: str) -> None:
        """The copy's bytes change and nothing tells of it."""
        copy, version = self.current("hot", f"copies/{key}"), self.current("source", key)
        if copy is not None and version is not None and copy.data == version.data and copy.data:
            copy.data = bytes([copy.data[0] ^ 1]) + copy.data[1:]
            self._changed(key)
            self.dark.add(key)

    def refuse(self, key: str) -> None:
        """Nobody may read the key any more, at neither side. What was accepted of it would stay so."""
        if key not in self.accepted | self.refused:
            self.refused.add(key)
            self._forget(key)

    def allow(self) -> None:
        """All keys can be read again."""
        self.refused.clear()
        self.quiet = []

    def deliver(self, bucket: str, absent: set[str], file_format: str, versions: bool) -> None:
        """S3 Inventory delivers a report of a bucket as it is now."""
        rows = []
        for key, there in self.store._buckets.named[bucket].versions.items():
            for version in there:
                is_latest = version is there[-1]
                if versions or (is_latest and not version.is_delete_marker):
                    rows.append(_row(key, version, is_latest))
        fields = [each for each in (VERSIONS if versions else CURRENT) if each not in absent]
        target, self.is_stale, self.quiet = self.folder / "reports", False, []
        self.now += AGE_SECONDS
        deliver(target, bucket, rows, fields=fields, file_format=file_format, created_at=self.now)
        for path in sorted(target.rglob("*")):
            if path.is_file():
                key = str(path.relative_to(target))
                run_at_once(
                    MemoryStore.put(
                        self.store, ObjectRef("reports", key), path.read_bytes(), Attributes(), guard=UNGUARDED
                    )
                )
                path.unlink()

    def _changed(self, key: str) -> None:
        self.dark.discard(key.removeprefix("copies/"))
        self._forget(key.removeprefix("copies/"))
        self.is_stale = self.has_inventory

    def _forget(self, key: str) -> None:
        self.accepted.discard(key)
        self.known.discard(key)
        self.quiet = []

    def accept(self) -> None:
        """A person accepts all that is known to be wrong. Ask for it where the last night has judged it all."""
        self.play(accept(Ledger(self.store, Location("ledger", "l/")), "true", "as it is meant", "somebody"))
        self.accepted |= self.known

    # The nights.

    def pass_night(self, deaths: Sequence[tuple[int, bool, float, bool]]) -> None:
        """The next night, started again each time that it froze. Checks what it says."""
        self.night += timedelta(days=1)
        self.now = max(self.now + AGE_SECONDS, datetime.combine(self.night, time(4), UTC).timestamp())
        missing = [key for key in self._keys() if self.current("hot", f"copies/{key}") is None]
        with self._kept():
            for requests, is_after, skew, wakes in deaths:
                with contextlib.suppress(ConfigError):  # it is told that its clock is wrong
                    self.start(machine=Machine(requests, is_after, skew))
                if wakes and self.frozen:
                    self.wake()
            summary = self.start()
        self._check(summary, missing, is_ahead=any(skew > AGE_SECONDS for _, _, skew, _ in deaths))
        self._check_readers(summary)
        self.quiet.append(summary)
        self.known = set() if self.is_stale else self._wrong()
        self.objects_before = len(self._keys())

    def start(self, *extra: str, machine: Machine | None = None) -> dict[str, Any]:
        """Start the night on a machine, and return what the command says. Empty if the machine froze."""
        arguments = ["--pair", "pair", "--policy", str(self.folder / "policy.yaml"), "--night", self.night.isoformat()]
        arguments += extra
        answers: list[dict[str, Any]] = []
        with (
            self.installed(),
            patch("jobs.interrupts.run", partial(self.play, machine=machine or Machine(skew=self.skew))),
            patch("jobs.cli.command.emit", lambda document, **how: answers.append(document)),
            contextlib.suppress(Killed),
        ):
            Command(Nightly, "nightly").main([*arguments, "--json"], standalone_mode=False)
        return answers[0] if answers else {}

    def play(self, work: Coroutine[Any, Any, Any], machine: Machine | None = None) -> Any:
        """The result of the work. Raises Killed if the machine froze."""
        machine, context = machine or Machine(), copy_context()
        context.run(LABEL.set, machine)
        with self.installed(), self.loop.running():
            machine.task = self.loop.create_task(work, context=context)
            self.loop.go_on(lambda: machine.task.done() or machine.is_dead)
        if machine.is_dead:
            self.frozen.append(machine)
            raise Killed
        return machine.task.result()

    def wake(self) -> None:
        """A frozen machine goes on, to its end."""
        machine, self.quiet = self.frozen.pop(0), []
        machine.is_dead = False
        with self._kept(), self.installed(), self.loop.running(), contextlib.suppress(SealiftError):
            self.loop.thaw()
            self.loop.go_on(machine.task.done)
            machine.task.result()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """What a night may do to the buckets."""
        before, source_before = self._all("hot"), self._all("source")
        yield
        assert self._all("source") == source_before, "a night changed the source"
        there = self._all("hot")
        assert all(there.get(each) == kept for each, kept in before.items()), "a night has lost a version"
        self._check_added(there.keys() - before.keys())

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """What is Sealift's own code works in this world."""
        with (
            patch("jobs.s3.rest_store.RestStore", lambda transport, **_: self.store),
            patch.object(work, "execute", self._execute),
            patch.dict(os.environ, ENVIRONMENT),
            patch.object(duckdb, "connect", one_duckdb.connect_to_shared),
            patch("jobs.tables.duck.Database.lock"),  # it would lock all of them
            patch("gc.freeze"),
            patch.object(tempfile, "tempdir", str(self.folder)),
            patch("time.time", self.own_clock),
        ):
            yield

    async def _execute(
        self, spec: RunSpec, plan: Plan, ledger: Ledger, settings: Settings, *_: Any
    ) -> Mapping[int, int]:
        """The worker of a run, in this process."""
        owner = await claim_run(ledger, spec.run_id, "another command")
        limits = replace(settings, in_flight=8, checkpoint_rows=3)
        return {0: await work_here(spec, plan, limits, ledger, owner.number, Stops())}

    # The oracle.

    def current(self, bucket: str, key: str) -> Version | None:
        """What a GET of the key finds."""
        versions = self.store._buckets.named[bucket].versions.get(key)
        return versions[-1] if versions and not versions[-1].is_delete_marker else None

    def _keys(self) -> list[str]:
        """The keys that the source has."""
        return [key for key in self.store._buckets.named["source"].versions if self.current("source", key)]

    def _all(self, bucket: str) -> dict[tuple[str, str, str], tuple[bytes, bool]]:
        """Every version of a bucket, with its bytes. Without versions the ETag names it."""
        named = self.store._buckets.named[bucket].versions
        return {(key, v.version_id, v.etag): (v.data, v.is_delete_marker) for key, vs in named.items() for v in vs}

    def _check_added(self, added: set[tuple[str, str, str]]) -> None:
        """What a night wrote is what the source has, and no delete marker."""
        for name, version_id, _ in added:
            versions = self.store._buckets.named["hot"].versions[name]
            version = next(each for each in versions if each.version_id == version_id)
            original = self.current("source", name.removeprefix("copies/"))
            assert not version.is_delete_marker, f"a night deleted {name}"
            assert original is not None, f"a night copied {name}, which the source does not have"
            assert version.data == original.data, f"a night copied other bytes of {name}"

    def _check(self, summary: dict[str, Any], missing: list[str], *, is_ahead: bool) -> None:
        """The verdict is what the buckets say. Of days by a clock that is ahead it may say too little."""
        is_well = summary["exit_code"] == 0
        assert is_well == (summary["ending"] in ("well", "nothing_found")), summary
        assert summary["ending"] != "well" or not any(each["counts"].get("in flight") for each in summary["stages"])
        assert not is_well or summary["known"]["left"] == 0, summary
        if self.is_stale:
            return
        keys = self._keys()
        wrong = self._wrong() - self.accepted
        if not keys:
            assert not is_well, "nothing was compared, and all is well"
            assert summary["ending"] == "emptied" or summary["known"]["left"] or not self.objects_before, summary
        else:
            known, right = summary["known"], {*keys} - self._wrong()
            same = [*filter(self._has_copy, {*keys} - self.dark)]
            assert is_well == (bool(same) and not wrong), f"{wrong} are wrong, and the night says {summary['verdict']}"
            assert is_ahead or known["read"] >= len(right), f"{known} of {keys}"
            assert {*summary["known"]["left_first"]} >= wrong, f"{wrong} are wrong, and the night names {known}"
            assert all(map(self._has_copy, missing)), f"of {missing}, which were missing, some still are"

    def _check_readers(self, summary: dict[str, Any]) -> None:
        """The page, `status`, `query` and `retry` say what the night says."""
        ledger = Ledger(self.store, Location("ledger", "l/"))

        async def ask() -> tuple[list[Any], list[Any], dict[str, Any]]:
            found = []
            for view in ("findings", "state"):
                async with open_views(ledger, [view]) as database:
                    rows = f"SELECT key, finding IS NULL FROM {view} WHERE {OPEN} ORDER BY ALL"
                    found.append(database.connection.execute(rows).fetchall())
            return found[0], found[1], await status._look(ledger, None)

        short, long, document = self.play(ask())
        assert short == long, "the short way and the long one differ"
        assert sum(each["objects"] for each in document["findings"]) == len(long)
        assert document["state"] == "wrong" or not long
        keys = {key for key, _ in long}
        assert {*summary["known"]["left_first"]} >= {key for key, is_blocked in long if not is_blocked}
        assert summary["exit_code"] or not keys, f"all is well, and {keys} are open"
        self._check_retries(ledger, summary, keys)
        page = self.store._buckets.named["ledger"].versions[summary["report_html"].removeprefix("s3://ledger/")][-1]
        assert (b'aria-label="nothing is wrong"' in page.data) is (summary["ending"] == "well")

    def _check_retries(self, ledger: Ledger, summary: dict[str, Any], keys: set[str]) -> None:
        """What `runs retry` takes is bad now."""
        for stage in summary["stages"]:
            if stage["stage"] not in ("repair", "slice", "deep") or not stage["run_id"]:
                continue
            report = self.play(ledger.report(stage["run_id"]))
            if report and report["failures"]:
                spec, folder = self.play(ledger.spec(stage["run_id"])), self.folder / stage["run_id"]
                folder.mkdir()
                _, standing = self.play(standing_rows(ledger, spec, report["finished_at"], folder, OPEN))
                taken = {key for each in standing["first_keys"].values() for key in each}
                assert taken <= keys | {*standing["first_keys"].get("unknown", ())}, f"{taken} of {keys}"

    def _wrong(self) -> set[str]:
        """The keys whose copies lack, differ, have rotted, or have no original where deletes are mirrored."""
        extra = self._extra() if self.deletes == "mirror" else []
        refused = {key for key in self.refused if self.current("source", key)}
        return {key for key in self._keys() if not self._has_copy(key)} | self.dark | {*extra} | refused

    def _extra(self) -> list[str]:
        hot = self.store._buckets.named["hot"].versions
        keys = [name.removeprefix("copies/") for name in hot if self.current("hot", name)]
        return [key for key in keys if self.current("source", key) is None]

    def _has_copy(self, key: str) -> bool:
        version, copy = self.current("source", key), self.current("hot", f"copies/{key}")
        return version is not None and copy is not None and version.data == copy.data


def _row(key: str, version: Version, is_latest: bool) -> dict[str, Any]:
    """As a report lists it."""
    row: dict[str, Any] = {"Key": key, "VersionId": version.version_id, "IsLatest": is_latest}
    row |= {"LastModifiedDate": version.last_modified, "IsDeleteMarker": version.is_delete_marker}
    if version.is_delete_marker:
        return row
    row |= {"Size": len(version.data), "ETag": version.etag, "StorageClass": "STANDARD"}
    return row | {"IsMultipartUploaded": False, "EncryptionStatus": "SSE-S3"}
