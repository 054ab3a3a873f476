"""The backup function: S3's events from SQS, each object version copied to its pair's destination.

    S3 → SQS → here ─→ destination
                    ├→ <ledger>/journal/…    what became of each event, one object a batch
                    ├→ <ledger>/backlog/…    what is too large, too slow or archived: rows of a run
                    └→ <ledger>/removed/…    object versions that are gone for good, so that a late event is understood

Events of one key are taken together, in order; keys in parallel. A message is done with when all of its
events are; the others are returned in `batchItemFailures` and come again, to the dead-letter queue at last. What
is wrong with the policy or the ledger fails the invocation, and with it every message: nothing is lost.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.backup.events import Kind, ObjectEvent, order_of, parse_message
from jobs.backup.job import Backup, BackupOptions, Progress, Settled
from jobs.core.enums import Deletes
from jobs.core.model import Location, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.core.pace import backoff_seconds
from jobs.errors import (
    ArchivedObject,
    Conflict,
    Denied,
    PreconditionFailed,
    Redirected,
    SealiftError,
    Unavailable,
    UsageError,
)
from jobs.ledger.journal import SETTLED, Ending, Entry, file_name, to_lines
from jobs.policy.coverage import match
from jobs.policy.model import Pair, Policy
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import KEEP
from scheduler import backlog, removed_versions
from scheduler.event_metrics import publish_metrics
from scheduler.log import say
from scheduler.runtime import Sandbox, here

KEYS_IN_FLIGHT = 32
TRIES = 6
BUFFER_BYTES = 48 * 1024 * 1024
RESERVE_SECONDS = 10.0
RESERVE_SHARE = 0.2
"""What is kept of the time for the backlog and the journal: so many seconds, or this share if that is less."""

_WANTS_COPY = (Kind.CREATED, Kind.RESTORE_COMPLETED)
_ARCHIVED = "archived: a run takes it once it is restored"


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point. Raises SealiftError when no message can be handled; SQS keeps them all then."""
    sandbox = here()
    return sandbox.run(handle(sandbox, event, context.get_remaining_time_in_millis() / 1000, context.aws_request_id))


async def handle(
    sandbox: Sandbox, event: Mapping[str, Any], remaining_seconds: float, request_id: str
) -> dict[str, Any]:
    """The same without Lambda: the messages that failed, as Lambda's event source mapping wants to have them.

    Raises PolicyError, StoreError, ConfigError: then all have failed; UsageError for what is no batch of messages.
    """
    messages = event.get("Records")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise UsageError("this is no batch of SQS messages: put a queue between the events and this function")
    try:
        policy = await sandbox.policy()
        return await _Batch(sandbox, policy, remaining_seconds, request_id).handle(messages)
    except SealiftError as error:
        say("error", "refused", request=request_id, error=str(error), messages=len(messages))
        raise


@dataclass(slots=True)
class _Told:
    """An event, the message that brought it, and in the end its line in the journal."""

    message_id: str
    event: ObjectEvent
    pair: Pair | None = None
    entry: Entry | None = None


@dataclass(slots=True)
class _Batch:
    """The messages of one invocation."""

    sandbox: Sandbox
    policy: Policy
    remaining_seconds: float
    request_id: str
    told: list[_Told] = field(default_factory=list)
    to_backlog: dict[str, list[tuple[_Told, str]]] = field(default_factory=lambda: defaultdict(list))
    jobs: dict[str, Backup] = field(default_factory=dict)
    unknown_buckets: set[str] = field(default_factory=set)
    removals_known: dict[tuple[str | None, ...], bool] = field(default_factory=dict)

    async def handle(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        reserve = min(RESERVE_SECONDS, self.remaining_seconds * RESERVE_SHARE)
        deadline = loop.time() + self.remaining_seconds - reserve
        groups: dict[tuple[str, str], list[_Told]] = defaultdict(list)
        for message in messages:
            for told in self._parse(message):
                self.told.append(told)
                if told.entry is None:
                    groups[told.event.bucket, told.event.key].append(told)
        gate = asyncio.Semaphore(KEYS_IN_FLIGHT)
        await asyncio.gather(*(self._take(group, gate, deadline) for group in groups.values()))
        await self._hand_over()
        await self._write_journal()
        publish_metrics([(each.pair, each.event, each.entry) for each in self.told if each.entry], self.sandbox.clock())
        failed = {each.message_id for each in self.told if each.entry is None or each.entry.status not in SETTLED}
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}

    def _parse(self, message: Mapping[str, Any]) -> list[_Told]:
        message_id = str(message["messageId"])
        try:
            return [self._placed(_Told(message_id, event)) for event in parse_message(message["body"])]
        except UsageError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001  whatever it is, the other messages have nothing to do with it
            reason = _unforeseen(error)
        say("error", "unreadable", message=message_id, error=reason)
        told = _Told(message_id, ObjectEvent(Kind.OTHER, "unreadable", ""))
        self._end(told, Ending.FAILED, f"message {message_id}: {reason}")
        return [told]

    def _placed(self, told: _Told) -> _Told:
        """With its pair; an event that nothing has to be done for gets its ending at once."""
        event = told.event
        told.pair = match(self.policy, event.bucket, event.key)
        if event.kind is Kind.TEST:
            self._end(told, Ending.SKIPPED, "a test message")
        elif told.pair is None:
            if any(pair.source.bucket == event.bucket for pair in self.policy.pairs):
                self._end(told, Ending.SKIPPED, "no pair covers the key")
            else:
                reason = f"{event.bucket} is no pair's source: add a pair, or stop its notifications"
                if event.bucket not in self.unknown_buckets:
                    say("error", "unknown bucket", bucket=event.bucket, message=told.message_id)
                self.unknown_buckets.add(event.bucket)
                self._end(told, Ending.FAILED, reason)
        elif event.kind is Kind.OTHER:
            self._end(told, Ending.SKIPPED, "an event that no copy depends on")
        return told

    async def _take(self, group: list[_Told], gate: asyncio.Semaphore, deadline: float) -> None:
        """Bring one key's events to their endings, whatever happens on the way."""
        progress, has_begun = Progress(), False
        group.sort(key=lambda told: order_of(told.event.sequencer))
        try:
            async with asyncio.timeout_at(deadline), gate:
                has_begun = True
                await self._settle(group, progress)
        except TimeoutError:
            for told in group:
                self._out_of_time(told, can_wait=has_begun and not progress.owes_newest)
        except (Denied, Redirected) as error:
            self._end_all(group, Ending.DENIED, str(error))
        except SealiftError as error:
            self._end_all(group, Ending.FAILED, str(error))
        except Exception as error:  # noqa: BLE001  a bug of ours with this key: the others are to be copied all the same
            self._end_all(group, Ending.FAILED, _unforeseen(error))

    async def _settle(self, group: list[_Told], progress: Progress) -> None:
        pair = group[0].pair
        assert pair is not None
        mirrors = pair.deletes is Deletes.MIRROR
        rows: dict[int, _Told] = {}
        removed: set[tuple[str | None, str | None]] = set()
        for number, told in enumerate(group):
            event = told.event
            if event.removes_bytes and (event.version_id, event.sequencer) not in removed:
                removed.add((event.version_id, event.sequencer))
                await removed_versions.remember(self.sandbox, event)
            if event.kind in _WANTS_COPY:
                if (event.size_bytes or 0) > pair.thresholds.lambda_max_size:
                    self._hand(told, f"larger than {pair.thresholds.lambda_max_size}")
                else:
                    rows[number] = told
            elif not mirrors:
                self._end(told, Ending.RETAINED, "")
        if not rows and not any(told.entry is None and told.event.kind not in _WANTS_COPY for told in group):
            return
        settled = await self._try(pair, group[0].event.key, rows, progress)
        for number, told in rows.items():
            await self._ended(told, number, group, settled)
        for told in group:
            if told.entry is None and told.event.kind not in _WANTS_COPY:
                self._end(told, Ending.DELETED if settled.is_marked else Ending.SAME, "")

    async def _try(self, pair: Pair, key: str, rows: Mapping[int, _Told], progress: Progress) -> Settled:
        """Settle the key, again after what may pass, for as long as there is time."""
        job = self.jobs.get(pair.name) or self.jobs.setdefault(pair.name, self._job(pair))
        wanted = [_row(number, told.event) for number, told in rows.items()]
        for attempt in range(1, TRIES + 1):
            try:
                return await job.settle(key, wanted, progress)
            except ArchivedObject:
                raise
            except (Unavailable, Conflict, PreconditionFailed):
                if attempt == TRIES:
                    raise
                await asyncio.sleep(backoff_seconds(attempt, random.random()))
        raise AssertionError("the last try returns or raises")

    def _job(self, pair: Pair) -> Backup:
        hot = pair.destination
        # A key that Terraform makes is the bucket's default, which S3 takes by itself.
        key = hot.kms_key if hot.kms_key is not None and hot.kms_key.region is not None else None
        options = BackupOptions(
            storage_class=hot.storage_class.value if hot.storage_class else KEEP,
            sse=hot.encryption.value if key else None,
            kms_key_id=key,
            mirrors_deletes=pair.deletes is Deletes.MIRROR,
            limit_bytes=int(pair.thresholds.lambda_max_size),
        )
        route = Route(Location(pair.source.bucket), Location(hot.bucket, hot.prefix))
        source, destination = self.sandbox.store(pair.source.region), self.sandbox.destination(hot.region)
        return Backup(source, destination, route, options, ByteBudget(BUFFER_BYTES))

    async def _ended(self, told: _Told, number: int, group: Sequence[_Told], settled: Settled) -> None:
        if number in settled.left:
            assert told.pair is not None
            self._hand(told, f"larger than {told.pair.thresholds.lambda_max_size}")
            return
        outcome = settled.outcomes[number]
        if outcome.status is Status.ARCHIVED:
            self._hand(told, _ARCHIVED)
        elif outcome.status is Status.MISSING:
            reason = await self._why_gone(told.event, group, settled)
            ending = Ending.SUPERSEDED if reason else Ending.MISSING
            self._end(told, ending, reason or "the object is gone, and nothing says that it was deleted")
        else:
            self._end(told, Ending(outcome.status.value), outcome.reason)
            assert told.entry is not None
            told.entry = told.entry.told(outcome)

    async def _why_gone(self, event: ObjectEvent, group: Sequence[_Told], settled: Settled) -> str:
        """What is known to have come after the event; empty when nothing is."""
        for version in settled.history or ():
            is_later = event.event_time is not None and version.last_modified > event.event_time
            is_other = event.version_id is None and not version.is_delete_marker and version.etag != event.etag
            if is_later or is_other:
                what = "a delete marker" if version.is_delete_marker else "a newer object"
                return f"gone: {what} came after it"
        for told in group:
            if removed_versions.explains(told.event, event):
                return "gone: it was deleted afterwards"
        asked = (event.bucket, event.key, event.version_id, event.sequencer)
        if asked not in self.removals_known:
            self.removals_known[asked] = await removed_versions.is_known(self.sandbox, event)
        return "gone: it was deleted afterwards" if self.removals_known[asked] else ""

    def _out_of_time(self, told: _Told, *, can_wait: bool) -> None:
        if told.entry is not None:
            return
        if can_wait and told.event.kind in _WANTS_COPY:
            self._hand(told, "slower than the time that was left")
        else:
            self._end(told, Ending.FAILED, "the time was over")

    def _hand(self, told: _Told, reason: str) -> None:
        assert told.pair is not None
        self._end(told, Ending.HANDED_OVER, reason)
        self.to_backlog[told.pair.name].append((told, reason))

    async def _hand_over(self) -> None:
        """Write the backlog; what cannot be written there has failed."""
        for pair, handed in self.to_backlog.items():
            rows = [backlog.BacklogRow.of(told.event, reason) for told, reason in handed]
            try:
                await backlog.add(self.sandbox, pair, rows)
            except SealiftError as error:
                for told, _ in handed:
                    self._end(told, Ending.FAILED, f"not handed over: {error}")

    async def _write_journal(self) -> None:
        entries = [told.entry for told in self.told if told.entry is not None]
        if entries:
            name = file_name(self.sandbox.clock(), f"{self.request_id}-{secrets.token_hex(4)}")
            await self.sandbox.write_once(name, to_lines(entries))

    def _end_all(self, group: Sequence[_Told], ending: Ending, reason: str) -> None:
        say("warning", ending.value, bucket=group[0].event.bucket, key=group[0].event.key, reason=reason)
        for told in group:
            if told.entry is None:
                self._end(told, ending, reason)

    def _end(self, told: _Told, ending: Ending, reason: str) -> None:
        event, pair = told.event, told.pair
        told.entry = Entry(
            recorded_at=self.sandbox.clock(),
            event=event.name,
            source_bucket=event.bucket,
            key=event.key,
            version_id=event.version_id,
            sequencer=event.sequencer,
            status=ending,
            reason=reason,
            size_bytes=event.size_bytes,
            etag=event.etag,
            destination_bucket=pair.destination.bucket if pair else None,
            destination_key=pair.copy_key(event.key) if pair else None,
            event_at=event.event_time,
        )


def _is_message(message: Any) -> bool:
    return isinstance(message, Mapping) and "messageId" in message and "body" in message


def _unforeseen(error: Exception) -> str:
    return f"unforeseen {type(error).__name__} ({error}): report this as a bug of Sealift"


def _row(number: int, event: ObjectEvent) -> ObjectVersion:
    return ObjectVersion(number, event.key, event.version_id, size_bytes=event.size_bytes, etag=event.etag)
