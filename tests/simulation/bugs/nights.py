"""Planted in the functions of the nights: what starts jobs, publishes manifests and tells people."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from types import SimpleNamespace
from typing import Any, cast

import jobs.aws.batch
import jobs.ledger.job_starts
import scheduler.backlog
import scheduler.enqueue
import scheduler.follow
import scheduler.submit
from jobs.aws.clients import publish
from jobs.core.model import Attributes
from jobs.errors import NotFound
from jobs.s3.store import UNGUARDED
from scheduler.backlog import BacklogRow, Published
from scheduler.batch_starts import Start, is_started, read_start
from scheduler.enqueue import Enqueued
from scheduler.follow import _did, _Follower
from scheduler.runtime import Runtime
from scheduler.submit import for_manifest
from tests.simulation.bugs.bug import Bug, Replacements

_NUMBERS = itertools.count()
_write_once = Runtime.write_once


def _is_claim(name: str) -> bool:
    return name.startswith("starts/") and not name.endswith(".submitted.json")


def _claim_nothing() -> Replacements:
    async def write_once(self: Runtime, name: str, data: bytes) -> bool:
        return True if _is_claim(name) else await _write_once(self, name, data)

    return [(Runtime, "write_once", write_once)]


def _unguarded(concerns: Any) -> Replacements:
    async def write_once(self: Runtime, name: str, data: bytes) -> bool:
        if not concerns(name):
            return await _write_once(self, name, data)
        place = self.place(name)
        await self.store().put(place.bucket, place.key, data, Attributes(), guard=UNGUARDED)
        return True

    return [(Runtime, "write_once", write_once)]


def _claim_unguarded() -> Replacements:
    return _unguarded(_is_claim)


def _number_unguarded() -> Replacements:
    return _unguarded(lambda name: name.startswith("manifests/") and name.endswith(".json"))


def _never_look() -> Replacements:
    return [(jobs.aws.batch.Batch, "find", lambda self, queue, name: None)]


def _submit_again() -> Replacements:
    """What boto3 would do by itself: try each request again."""
    return [(jobs.aws.batch.Batch, "_submitter", property(lambda self: self._client(jobs.aws.batch.READ_TRIES)))]


def _any_capitals() -> Replacements:
    def find(self: Any, queue: str, name: str) -> str | None:
        found = self._list(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
        return min(((each["createdAt"], each["jobId"]) for each in found), default=(0, None))[1]

    return [(jobs.aws.batch.Batch, "find", find)]


def _leave_the_loser() -> Replacements:
    return [(jobs.aws.batch.Batch, "terminate", lambda self, job_id, reason: None)]


def _ask_nobody() -> Replacements:
    async def claim_start(store: Any, ledger: Any, name: str, job_id: str) -> str:
        return job_id

    return [(jobs.ledger.job_starts, "claim_start", claim_start)]


def _publish_before_the_rows() -> Replacements:
    async def write(
        runtime: Runtime,
        pair: str,
        number: int,
        rows: Sequence[BacklogRow],
        prefixes: Sequence[str],
        more: Mapping[str, Any],
    ) -> Published | None:
        stem = f"manifests/pair={pair}/{number:06d}"
        name = f"{stem}-{next(_NUMBERS)}.csv"
        known = {"pair": pair, "number": number, "manifest": str(runtime.place(name)) if rows else None, **more}
        known |= {"version": 2, "prefixes": list(prefixes), "rows": len(rows), "size_bytes": 0, "token": name}
        if not await runtime.write_once(f"{stem}.json", json.dumps(known).encode()):
            return None
        if rows:
            await runtime.write_once(name, scheduler.backlog._to_csv(rows))
        return scheduler.backlog._published(known)

    return [(scheduler.backlog, "_write", write)]


def _forget_what_was_taken() -> Replacements:
    real = scheduler.backlog._write

    async def write(runtime: Runtime, pair: str, number: int, rows: Any, prefixes: Any, more: Any) -> Any:
        is_listed = prefixes or (rows and rows[0].reason == "asked for")
        return await real(
            runtime, pair, number, rows, prefixes, {**more, "taken": [], "taken_before": 0} if is_listed else more
        )

    return [(scheduler.backlog, "_write", write)]


def _leave_the_newest_out() -> Replacements:
    real = scheduler.backlog._write

    async def write(runtime: Runtime, pair: str, number: int, rows: Any, prefixes: Any, more: Any) -> Any:
        return await real(runtime, pair, number, rows[: max(1, len(rows) - 1)], prefixes, more)

    return [(scheduler.backlog, "_write", write)]


def _note_before_it_is_told() -> Replacements:
    async def tell(self: _Follower, name: str, subject: str, text: str, *more: Any) -> dict[str, Any]:
        if not await self.runtime.write_once(f"told/{name}.json", f"{next(_NUMBERS)}".encode()):
            return _did("told before", name)
        await cast(Any, scheduler.follow).asyncio.to_thread(publish, self.topic, subject, text)
        return _did("told", name)

    return [(_Follower, "_announce", tell), (_Follower, "_document", _read_anything)]


async def _read_anything(self: _Follower, name: str) -> Any:
    try:
        return json.loads(await self.runtime.read(name))
    except NotFound:
        return None


def _never_note() -> Replacements:
    async def write_once(self: Runtime, name: str, data: bytes) -> bool:
        return True if name.startswith("told/") else await _write_once(self, name, data)

    return [(Runtime, "write_once", write_once)]


def _tell_at_once() -> Replacements:
    async def appears(self: _Follower, marker: str) -> bool:
        return False

    return [(_Follower, "_appears", appears)]


def _one_note_for_all_ends() -> Replacements:
    real = _Follower._announce

    async def tell(self: _Follower, name: str, *arguments: Any) -> dict[str, Any]:
        found = scheduler.follow._RUN.fullmatch(name)
        return await real(self, found["run"] if found else name, *arguments)

    return [(_Follower, "_announce", tell)]


def _night_in_utc() -> Replacements:
    return [(scheduler.submit, "zoneinfo", SimpleNamespace(ZoneInfo=lambda name: UTC))]


def _children_count() -> Replacements:
    real = _Follower.follow

    async def follow(self: _Follower, job: Mapping[str, Any]) -> dict[str, Any]:
        return await real(self, {**job, "arrayProperties": {}, "jobId": job["jobId"].partition(":")[0]})

    return [(_Follower, "follow", follow)]


def _close_each_time() -> Replacements:

    def make(pair: str, job: str, once: str, command: tuple[str, ...]) -> Start:
        return Start(pair, job, f"{once}-{next(_NUMBERS)}" if job == "report" else once, command)

    return [(scheduler.follow, "Start", make)]


def _started_when_claimed() -> Replacements:
    async def started(runtime: Runtime, policy: Any, what: Start) -> bool:
        return await read_start(runtime, policy, what.name(policy)) is not None

    return [(scheduler.enqueue, "is_started", started)]


def _told_again(how_many: int, enough: Callable[[Iterable[bool]], bool]) -> Replacements:
    """Of so many of the latest manifests, those of which not `enough` runs have been started."""

    async def unstarted(runtime: Runtime, policy: Any, pair: Any) -> list[Published]:
        found = []
        for number in (await scheduler.backlog.numbers(runtime, pair.name))[-how_many:]:
            published = await scheduler.backlog.read_manifest(runtime, pair.name, number)
            if not enough([await is_started(runtime, policy, what) for what in for_manifest(pair, published)]):
                found.append(published)
        return found

    return [(scheduler.enqueue, "_unstarted", unstarted)]


def _announce_once() -> Replacements:
    return _told_again(1, all)


def _any_start_will_do() -> Replacements:
    return _told_again(100, any)


def _listed_alone() -> Replacements:
    """Five are told again when the backlog is looked at; who lists keys tells of these alone."""
    real = scheduler.enqueue.handle

    async def handle(runtime: Runtime, event: Mapping[str, Any], remaining_seconds: float = math.inf) -> Enqueued:
        found = await real(runtime, event, remaining_seconds)
        is_listed = event.get("keys") or event.get("prefixes")
        return found._replace(manifests=found.manifests[-1:]) if is_listed else found

    return [(scheduler.enqueue, "handle", handle), *_told_again(5, all)]


def _losers_count() -> Replacements:
    async def second(runtime: Runtime, name: str, job_id: str) -> bool:
        return False

    return [(scheduler.follow, "is_second", second)]


def _half_a_report() -> Replacements:
    real = scheduler.submit._latest

    class Whole:
        """A store in which each file of a report stands for two."""

        def __init__(self, store: Any):
            self._store = store

        async def list_objects(self, bucket: str, prefix: str, **named: Any) -> Any:
            found = await self._store.list_objects(bucket, prefix, **named)
            is_inside = prefix.endswith("manifest.") and found.entries
            return found._replace(entries=[found.entries[0]] * 2) if is_inside else found

    async def latest(runtime: Runtime, policy: Any, *where: str) -> Any:
        whole = Whole(runtime.store(where[1]))
        return await real(cast(Any, SimpleNamespace(store=lambda region: whole)), policy, *where)

    return [(scheduler.submit, "_latest", latest)]


def _one_side() -> Replacements:
    real = scheduler.submit._latest

    async def latest(runtime: Runtime, policy: Any, *where: str) -> Any:
        found = await real(runtime, policy, *where)
        return (found[0], "2023-11-15T00-00Z") if found else None

    return [(scheduler.submit, "_latest", latest)]


def _tell_of_dependents() -> Replacements:
    return [(scheduler.follow, "_BEHIND", "never")]


def _trust_the_sender() -> Replacements:
    return [(scheduler.submit, "_parse", lambda name, parse, value: parse(value))]


def _reconciled_quietly() -> Replacements:
    real = _Follower._start_ended

    async def ended(self: _Follower, started: Start, job: Mapping[str, Any]) -> dict[str, Any]:
        if (job.get("container") or {}).get("exitCode") == 3:
            return _did("ended", str(job["jobName"]))
        return await real(self, started, job)

    return [(_Follower, "_start_ended", ended)]


def _ids_are_names() -> Replacements:
    real = scheduler.submit._backfill

    def backfill(pair: Any, event: Any, request_id: str) -> Any:
        made = real(pair, event, request_id)
        return replace(made, once=made.once.removeprefix("id-"))

    return [(scheduler.submit, "_backfill", backfill)]


BUGS = [
    Bug("claim-nothing", "jobs are submitted that nobody has claimed", 100, _claim_nothing, "nights"),
    Bug("claim-unguarded", "claims are overwritten", 100, _claim_unguarded, "nights"),
    Bug("number-unguarded", "the number of a manifest is overwritten", 200, _number_unguarded, "nights"),
    Bug("never-look", "after a lost answer Batch is not asked for the job", 200, _never_look, "nights"),
    Bug("submit-again", "boto3 repeats submissions whose answer was lost", 200, _submit_again, "nights"),
    Bug("any-capitals", "another one's job is taken for our own", 100, _any_capitals, "nights"),
    Bug("leave-the-loser", "of two jobs of a name both go on", 400, _leave_the_loser, "nights"),
    Bug("ask-nobody", "a job does not ask whether it is the one of its name", 400, _ask_nobody, "nights"),
    Bug("publish-first", "a manifest is published before its rows", 100, _publish_before_the_rows, "nights"),
    Bug("forget-the-taken", "a listed manifest forgets what was taken", 2_000, _forget_what_was_taken, "nights"),
    Bug("leave-the-newest", "a manifest leaves its newest row out", 100, _leave_the_newest_out, "nights"),
    Bug("note-first", "it is noted that people are told before they are", 200, _note_before_it_is_told, "nights"),
    Bug("never-note", "it is not noted that people are told", 100, _never_note, "nights"),
    Bug("tell-at-once", "two who are told the same at once both tell it", 100, _tell_at_once, "nights"),
    Bug("one-note", "a run that had no report is not told of again", 400, _one_note_for_all_ends, "nights"),
    Bug("night-in-utc", "a night is the day's in UTC", 100, _night_in_utc, "nights"),
    Bug("children-count", "an array's children count as the job", 100, _children_count, "nights"),
    Bug("close-each-time", "each event of failed work starts a report", 100, _close_each_time, "nights"),
    Bug("started-when-claimed", "what was claimed counts as started", 2_000, _started_when_claimed, "nights"),
    Bug("announce-once", "only the latest manifest is told again", 100, _announce_once, "nights"),
    Bug("listed-alone", "behind five that a script has listed nobody looks", 2_000, _listed_alone, "nights"),
    Bug("any-start-will-do", "a manifest of which one run was started is done", 4_000, _any_start_will_do, "nights"),
    Bug("losers-count", "people are told of a job that was ended as the second", 400, _losers_count, "nights"),
    Bug("half-a-report", "a report without its checksum counts", 100, _half_a_report, "nights"),
    Bug("one-side", "reports of different days are reconciled", 100, _one_side, "nights"),
    Bug("tell-of-dependents", "people are told of a report that never began", 100, _tell_of_dependents, "nights"),
    Bug("trust-the-sender", "what is sent is not checked", 200, _trust_the_sender, "nights"),
    Bug("reconciled-quietly", "nobody hears what a reconciliation has found", 200, _reconciled_quietly, "nights"),
    Bug("ids-are-names", "a backfill takes the name of a manifest", 400, _ids_are_names, "nights"),
]
