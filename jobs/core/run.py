"""Runs: what was asked (RunSpec), the work (Plan), and the end (RunState)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Struct, structs

from jobs.core.model import LATEST_SECONDS, Location

SPEC_VERSION = 1
"""The version of spec.json, plan.json and report.json. A worker refuses another one."""


class RunState(StrEnum):
    """`complete`: every row has an outcome.

    `incomplete`: some have none yet. `failed`: and workers broke.
    """

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class Side(Struct, frozen=True):
    """The source or the destination: where, and how to reach it. None: as boto3 finds it.

    `owner`: the id of the account that has to own the bucket. None: any.
    """

    location: Location
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    owner: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        reach = {"endpoint": self.endpoint, "region": self.region, "profile": self.profile}
        return {"uri": str(self.location)} | reach | ({"owner": self.owner} if self.owner else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Side:
        """The inverse of `to_dict`."""
        reach = {name: value for name, value in data.items() if name != "uri"}
        return msgspec.convert({"location": Location.parse(data["uri"]), **reach}, cls)


class RunSpec(Struct, frozen=True):
    """What was asked of a run. Written once, never changed.

    `manifest` names where the rows came from. `options` are the job's own (JSON types only).
    """

    run_id: str
    job: str
    created_at: Annotated[float, msgspec.Meta(ge=0, le=LATEST_SECONDS)]
    source: Side
    destination: Side
    manifest: str
    options: Mapping[str, Any] = {}
    retry_of: str | None = None
    sealift_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        sides = {"source": self.source.to_dict(), "destination": self.destination.to_dict()}
        return {"spec_version": SPEC_VERSION, **structs.asdict(self), **sides, "options": dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_dict`."""
        sides = {name: Side.from_dict(data[name]) for name in ("source", "destination")}
        return msgspec.convert({**data, **sides}, cls, from_attributes=True)


class ShardSummary(Struct, frozen=True):
    """One shard of a plan: its rows and their bytes.

    `sha256`: of its file. A worker whose job deletes demands it.
    """

    rows: int
    size_bytes: int
    sha256: str = ""


class Plan(Struct, frozen=True):
    """What a run will take, known before it starts.

    `excluded`: rows left out, by the filter that did it. `requests`: by kind (`copy`, `head`,
    `get`, `put`, `list`, `tagging`, `part`, …). `dollars` by item, from the price table named by
    `price_table`. `seconds` to `seconds_most`: how long it takes, where `timed_by` is the id of the
    run that says the most, else empty. `savings`: what a compaction saves a month, and what it
    leaves alone. `restore`: what a restore has to thaw, in which tier and how long that takes.
    `expiry`: where an expire run finds originals and copies, and what share of what is there it may
    delete. `there`: how many rows are what by a list of the destination (`jobs.runs.there`), the
    number of shards at the end with rows that are done already, and since when (`at`, in epoch seconds).
    `rollback`: how many `keys` there are, and to how many what is done.
    """

    rows: int
    size_bytes: int
    shards: tuple[ShardSummary, ...]
    excluded: Mapping[str, int] = {}
    requests: Mapping[str, int] = {}
    dollars: Mapping[str, float] = {}
    price_table: str = ""
    seconds: float = 0.0
    seconds_most: float = 0.0
    timed_by: str = ""
    savings: Mapping[str, Any] = {}
    restore: Mapping[str, Any] = {}
    expiry: Mapping[str, Any] = {}
    there: Mapping[str, int] = {}
    rollback: Mapping[str, int] = {}

    @property
    def open_shards(self) -> range:
        """The shards that have rows to work at. Those of the others got outcomes with the plan."""
        return range(len(self.shards) - self.there.get("shards", 0))

    @property
    def open_rows(self) -> int:
        """The number of rows to work at."""
        return sum(self.shards[shard].rows for shard in self.open_shards)

    @property
    def total_dollars(self) -> float:
        """The sum of all items."""
        return sum(self.dollars.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the total."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document | {"total_dollars": self.total_dollars}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`. Keys that a newer Sealift has added are ignored."""
        return msgspec.convert(data, cls)


FROM_EVENTS = "from_events"
"""The option of a run over rows that the backup function left."""
WITHOUT_CONDITIONS = "unguarded"
"""The option of a run that may write where the destination's server ignores conditions.

In a request: True, if the user agreed. In a planned run that writes objects: the operations whose conditions are
ignored there, mostly none. A worker looks before each of these.
"""


OLD_VERSIONS = "old_versions"
"""The option of a planned run: rows of its manifest name versions, and the manifest does not say that
these were current.
"""


ROWS_SHA256 = "rows_sha256"
"""The option of a planned run: a digest of the rows that were named to it. None: it listed them. A file of the
same name may have others by the next run.
"""


PROVEN_BEFORE = "proven_before"
"""In `Plan.excluded`: rows that are left out, since the state knows that object and copy are the same."""
UNSIZED_ROWS = "unsized_rows"
"""The option of a planned run: how many rows of its manifest do not say their size. Its plan counts
no bytes for them.
"""


def run_of(manifest: str) -> str:
    """The id of the run that a manifest is from. Else empty."""
    kind, _, run_id = manifest.partition(":")
    named = re.search(r"/runs/([^/]+)/[^/]+\.parquet$", manifest)
    return run_id if kind in ("run", "proven") else named[1] if named else ""


def ignored_conditions(spec: RunSpec) -> list[str] | None:
    """The operations whose conditions a run's destination ignores. None: its plan did not try them."""
    ignored = spec.options.get(WITHOUT_CONDITIONS)
    return ignored if isinstance(ignored, list) else None


def is_destructive(spec: RunSpec) -> bool:
    """Whether the run's workers delete versions: only an expire run and the undo of a rollback have this option."""
    return bool(spec.options.get("delete"))


def continuation(run_id: str) -> str:
    """The command that goes on with a run. The ledger alone continues none that deletes."""
    return "the same `sealift expire` again" if "-expire-" in run_id else f"sealift runs retry {run_id}"


def run_digest(spec: RunSpec, plan: Plan) -> str:
    """The SHA-256 of a run's spec and plan, and so of its shards, whose own digests are in the
    plan.

    Who starts a worker passes it on the command line. The worker compares it with what the ledger
    says.
    """
    text = json.dumps([spec.to_dict(), plan.to_dict()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def worker_pins(spec: RunSpec, plan: Plan) -> tuple[str, ...]:
    """The digests on a worker's command line, which the ledger must match, of a run that deletes."""
    return ("--run-sha256", run_digest(spec, plan)) if is_destructive(spec) else ()
