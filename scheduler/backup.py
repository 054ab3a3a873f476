"""The backup function: copies each object version that S3's events name.

    S3 → SQS → backup ─→ destination
                      ├→ <ledger>/journal/…  what became of each event, one object a batch
                      ├→ <ledger>/backlog/…  what is too large, too slow or archived: rows of a run
                      └→ <ledger>/removed/…  versions that are gone for good, which explain late events

Events of one key are handled together, in order. Keys are handled in parallel. A message is done
when all of its events are. Other messages are returned in `batchItemFailures`: they come again, and
go to the dead-letter queue at last (`redelivery` says when). A mistake in the policy or the ledger
fails the invocation, and with it every message: nothing is lost.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.backup.events import EventKind, ObjectEvent, order_of, parse_message
from jobs.backup.job import Backup, BackupOptions, KeyProgress, KeyResult, Unfinished
from jobs.core.enums import Deletes
from jobs.core.model import LATEST_SECONDS, NULL_VERSION, Listed, ObjectRef, ObjectVersion, Route
from jobs.core.outcome import Status
from jobs.core.pace import backoff_seconds
from jobs.core.selection import is_sealift_object
from jobs.errors import (
    ArchivedObject,
    Conflict,
    Denied,
    PreconditionFailed,
    Redirected,
    SealiftError,
    StoreError,
    Unavailable,
    UsageError,
)
from jobs.ledger.journal import SETTLED, Ending, Entry, file_name, to_lines
from jobs.policy.coverage import match
from jobs.policy.model import Pair, Policy
from jobs.policy.run_options import sides
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import KEEP
from jobs.s3.lookup import find
from scheduler import backlog, removed_versions
from scheduler.backlog import BacklogRow
from scheduler.event_metrics import publish_metrics
from scheduler.log import say
from scheduler.redelivery import postpone
from scheduler.runtime import Runtime, current_runtime

KEYS_IN_FLIGHT = 32
TRIES = 6
BUFFER_BYTES = 48 * 1024 * 1024
RESERVE_SECONDS = 10.0
RESERVE_SHARE = 0.2
"""The time reserved for the backlog and the journal: these seconds, or this share of the time if
that is less.
"""

_WANTS_COPY = (EventKind.CREATED, EventKind.RESTORE_COMPLETED)
_ARCHIVED = "archived: a run takes it once it is restored"
_TOO_SLOW = "slower than the time that was left"


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The function's entry point. Raises SealiftError if no message can be handled. SQS then keeps
    them all.
    """
    runtime = current_runtime()
    return runtime.run(handle(runtime, event, context.get_remaining_time_in_millis() / 1000, context.aws_request_id))


async def handle(
    runtime: Runtime, event: Mapping[str, Any], remaining_seconds: float, request_id: str
) -> dict[str, Any]:
    """Handle a batch without Lambda. Returns the messages that failed, as an event source mapping
    expects them.

    Raises PolicyError, StoreError, ConfigError if all have failed, UsageError if `event` is not a
    batch of messages.
    """
    messages = event.get("Records")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise UsageError("this is no batch of SQS messages", advice="put a queue between the events and this function")
    try:
        policy = await runtime.policy()
        answer = await _Batch(runtime, policy, remaining_seconds, request_id).handle(messages)
    except SealiftError as error:
        say("error", "refused", request=request_id, error=str(error), messages=len(messages))
        await asyncio.to_thread(postpone, messages, {str(message["messageId"]) for message in messages})
        raise
    failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
    await asyncio.to_thread(postpone, messages, failed)
    return answer


@dataclass(slots=True)
class _Delivery:
    """An event, the message that brought it, its pair, and in the end its line of the journal."""

    message_id: str
    event: ObjectEvent
    pair: Pair | None = None
    entry: Entry | None = None


@dataclass(slots=True)
class _Batch:
    """The messages of one invocation."""

    runtime: Runtime
    policy: Policy
    remaining_seconds: float
    request_id: str
    deliveries: list[_Delivery] = field(default_factory=list)
    to_backlog: dict[str, list[tuple[_Delivery, BacklogRow]]] = field(default_factory=lambda: defaultdict(list))
    jobs: dict[str, Backup] = field(default_factory=dict)
    unknown_buckets: set[str] = field(default_factory=set)
    removals_known: dict[tuple[str | None, ...], bool] = field(default_factory=dict)

    async def handle(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        reserve = min(RESERVE_SECONDS, self.remaining_seconds * RESERVE_SHARE)
        deadline = loop.time() + self.remaining_seconds - reserve
        groups: dict[tuple[str, str], list[_Delivery]] = defaultdict(list)
        for message in messages:
            for delivery in self._parse(message):
                self.deliveries.append(delivery)
                if delivery.entry is None:
                    groups[delivery.event.bucket, delivery.event.key].append(delivery)
        gate = asyncio.Semaphore(KEYS_IN_FLIGHT)
        await asyncio.gather(*(self._handle_key(group, gate, deadline) for group in groups.values()))
        await self._write_backlog()
        await self._write_journal()
        ended = [(each.pair, each.event, each.entry) for each in self.deliveries if each.entry]
        publish_metrics(self.policy.name, ended, self.runtime.clock())
        failed = {each.message_id for each in self.deliveries if each.entry is None or each.entry.status not in SETTLED}
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}

    def _parse(self, message: Mapping[str, Any]) -> list[_Delivery]:
        message_id = str(message["messageId"])
        try:
            return [self._assign_pair(_Delivery(message_id, event)) for event in parse_message(message["body"])]
        except UsageError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001  the other messages are independent of it
            reason = _unforeseen(error)
        say("error", "unreadable", message=message_id, error=reason)
        delivery = _Delivery(message_id, ObjectEvent(EventKind.OTHER, "unreadable", ""))
        self._finish(delivery, Ending.FAILED, f"message {message_id}: {reason}")
        return [delivery]

    def _assign_pair(self, delivery: _Delivery) -> _Delivery:
        """Find the event's pair. Finish events that need no copy."""
        event = delivery.event
        delivery.pair = match(self.policy, event.bucket, event.key)
        if event.kind is EventKind.TEST:
            self._finish(delivery, Ending.SKIPPED, "a test message")
        elif delivery.pair is None:
            if any(pair.source.bucket == event.bucket for pair in self.policy.pairs):
                self._finish(delivery, Ending.SKIPPED, "no pair covers the key")
            else:
                reason = f"{event.bucket} is no pair's source: add a pair, or stop its notifications"
                if event.bucket not in self.unknown_buckets:
                    say("error", "unknown bucket", bucket=event.bucket, message=delivery.message_id)
                self.unknown_buckets.add(event.bucket)
                self._finish(delivery, Ending.FAILED, reason)
        elif is_sealift_object(event.key):
            self._finish(delivery, Ending.SKIPPED, "an object of Sealift's own, which belongs where it is")
        elif event.kind is EventKind.OTHER:
            self._finish(delivery, Ending.SKIPPED, "an event that no copy depends on")
        return delivery

    async def _handle_key(self, group: list[_Delivery], gate: asyncio.Semaphore, deadline: float) -> None:
        """Finish all events of one key, whatever happens on the way."""
        progress, has_begun = KeyProgress(), False
        group.sort(key=lambda delivery: order_of(delivery.event.sequencer))
        try:
            async with asyncio.timeout_at(deadline), gate:
                has_begun = True
                await self._back_up(group, progress)
        except TimeoutError:
            for delivery in group:
                self._finish_late(delivery, progress, can_wait=has_begun and not progress.owes_newest)
        except (Denied, Redirected) as error:
            self._finish_all(group, Ending.DENIED, str(error))
        except SealiftError as error:
            self._finish_all(group, Ending.FAILED, str(error))
        except Exception as error:  # noqa: BLE001  a bug of ours: the other keys are still copied
            self._finish_all(group, Ending.FAILED, _unforeseen(error))

    async def _back_up(self, group: list[_Delivery], progress: KeyProgress) -> None:
        pair = group[0].pair
        assert pair is not None
        mirrors = pair.deletes is Deletes.MIRROR
        rows: dict[int, _Delivery] = {}
        removed: set[tuple[str | None, str | None]] = set()
        for number, delivery in enumerate(group):
            event = delivery.event
            if event.removes_bytes and (event.version_id, event.sequencer) not in removed:
                removed.add((event.version_id, event.sequencer))
                await removed_versions.remember(self.runtime, event)
            if event.kind in _WANTS_COPY:
                if (event.size_bytes or 0) > pair.thresholds.lambda_max_size:
                    self._finish_in_backlog(delivery, self._too_large(delivery), await self._find_version(pair, event))
                else:
                    rows[number] = delivery
            elif not mirrors:
                self._finish(delivery, Ending.RETAINED, "")
        if not rows and not any(
            delivery.entry is None and delivery.event.kind not in _WANTS_COPY for delivery in group
        ):
            return
        settled = await self._settle(pair, group[0].event.key, rows, progress)
        for number, delivery in rows.items():
            await self._finish_row(delivery, number, group, settled)
        self._finish_deletes(group, settled)

    def _finish_deletes(self, group: Sequence[_Delivery], settled: KeyResult) -> None:
        """Finish the events that want no copy. What could not be put on top is handed over."""
        unfinished, is_in_backlog = settled.unfinished, False
        for delivery in group:
            if delivery.entry is None:
                if unfinished is None:
                    self._finish(delivery, Ending.DELETED if settled.is_marked else Ending.SAME, "")
                else:
                    self._finish_in_backlog(delivery, self._why_unfinished(delivery, unfinished), unfinished.version)
                    is_in_backlog = True
        if unfinished is None or not unfinished.has_copy or is_in_backlog:
            return
        if not self._waits(group[-1], unfinished.version):
            # A version without a copy has an event of its own. This one's event is over.
            self._add_to_backlog(group[-1], self._why_unfinished(group[-1], unfinished), unfinished.version)

    def _waits(self, delivery: _Delivery, version: Listed) -> bool:
        """True if an event of this batch has put the version into the backlog of the event's pair."""
        assert delivery.pair is not None
        waiting = self.to_backlog.get(delivery.pair.name, ())
        return any((row.key, row.version_id) == (version.key, version.version_id) for _, row in waiting)

    def _why_unfinished(self, delivery: _Delivery, unfinished: Unfinished) -> str:
        return _ARCHIVED if unfinished.is_archived else self._too_large(delivery)

    def _too_large(self, delivery: _Delivery) -> str:
        assert delivery.pair is not None
        return f"larger than {delivery.pair.thresholds.lambda_max_size}"

    async def _settle(self, pair: Pair, key: str, rows: Mapping[int, _Delivery], progress: KeyProgress) -> KeyResult:
        """Settle the key. Retry what may pass, for as long as there is time."""
        job = self._job_of(pair)
        wanted = [_row(number, delivery.event) for number, delivery in rows.items()]
        for attempt in range(1, TRIES + 1):
            try:
                await self.runtime.try_conditions(job.destination, job.route.destination)
                return await job.settle(key, wanted, progress)
            except ArchivedObject:
                raise
            except (Unavailable, Conflict, PreconditionFailed):
                if attempt == TRIES:
                    raise
                await asyncio.sleep(backoff_seconds(attempt, random.random()))
        raise AssertionError("the last try returns or raises")

    async def _find_version(self, pair: Pair, event: ObjectEvent) -> Listed | None:
        """The event's version, with S3's own date. None if it is gone, or S3 does not answer.

        The date of an event may be much later: that of a restore, or of the end of an upload in
        parts, which S3 dates by its beginning.
        """
        ref = ObjectRef(event.bucket, event.key, event.version_id)
        try:
            info = await find(self._job_of(pair).source, ref)
        except StoreError:
            return None
        version_id = event.version_id or NULL_VERSION
        if info is None or (info.version_id or NULL_VERSION) != version_id or event.etag not in (None, info.etag):
            return None
        return Listed(
            event.key, version_id, False, False, info.size_bytes, info.etag, info.last_modified, info.storage_class
        )

    def _job_of(self, pair: Pair) -> Backup:
        return self.jobs.get(pair.name) or self.jobs.setdefault(pair.name, self._job(pair))

    def _job(self, pair: Pair) -> Backup:
        hot = pair.destination
        # A key that Terraform makes is the bucket's default, which S3 takes by itself.
        key = hot.kms_key if hot.kms_key is not None and hot.kms_key.region is not None else None
        options = BackupOptions(
            storage_class=hot.storage_class.value if hot.storage_class else KEEP,
            sse=hot.encryption.value if key else None,
            kms_key_id=key,
            annotations=hot.annotations,
            mirrors_deletes=pair.deletes is Deletes.MIRROR,
            limit_bytes=int(pair.thresholds.lambda_max_size),
        )
        ours, theirs = sides(self.policy, pair)
        source, destination = self.runtime.pair(ours, theirs)
        return Backup(source, destination, Route(ours.location, theirs.location), options, ByteBudget(BUFFER_BYTES))

    async def _finish_row(
        self, delivery: _Delivery, number: int, group: Sequence[_Delivery], settled: KeyResult
    ) -> None:
        version = _version_of(delivery.event, settled.history or ())
        if number in settled.left:
            self._finish_in_backlog(delivery, self._too_large(delivery), version)
            return
        outcome = settled.outcomes[number]
        if outcome.status is Status.ARCHIVED:
            self._finish_in_backlog(delivery, _ARCHIVED, version)
        elif outcome.status is Status.MISSING:
            reason = await self._why_gone(delivery.event, group, settled)
            ending = Ending.SUPERSEDED if reason else Ending.MISSING
            self._finish(delivery, ending, reason or "the object is gone, and nothing says that it was deleted")
        elif outcome.status is Status.DAMAGED:
            self._finish(delivery, Ending.FAILED, outcome.reason)
        else:
            self._finish(delivery, Ending(outcome.status.value), outcome.reason)
            assert delivery.entry is not None
            delivery.entry = delivery.entry.with_outcome(outcome)

    async def _why_gone(self, event: ObjectEvent, group: Sequence[_Delivery], settled: KeyResult) -> str:
        """Why the event's version is gone: what is known to have come after it, else empty."""
        for version in settled.history or ():
            is_later = event.event_time is not None and version.last_modified > event.event_time
            is_other = event.version_id is None and not version.is_delete_marker and version.etag != event.etag
            if is_later or is_other:
                what = "a delete marker" if version.is_delete_marker else "a newer object"
                return f"gone: {what} came after it"
        for delivery in group:
            if removed_versions.is_removal_of(delivery.event, event):
                return "gone: it was deleted afterwards"
        removal = (event.bucket, event.key, event.version_id, event.sequencer)
        if removal not in self.removals_known:
            self.removals_known[removal] = await removed_versions.is_known(self.runtime, event)
        return "gone: it was deleted afterwards" if self.removals_known[removal] else ""

    def _finish_late(self, delivery: _Delivery, progress: KeyProgress, *, can_wait: bool) -> None:
        if delivery.entry is not None:
            return
        if can_wait and delivery.event.kind in _WANTS_COPY:
            self._finish_in_backlog(delivery, _TOO_SLOW)
        elif can_wait and progress.newest is not None:
            self._finish_in_backlog(delivery, _TOO_SLOW, progress.newest)
        else:
            self._finish(delivery, Ending.FAILED, "the time was over")

    def _finish_in_backlog(self, delivery: _Delivery, reason: str, version: Listed | None = None) -> None:
        """Hand over the event's own version, or `version` of its key."""
        self._finish(delivery, Ending.HANDED_OVER, reason)
        self._add_to_backlog(delivery, reason, version)

    def _add_to_backlog(self, delivery: _Delivery, reason: str, version: Listed | None = None) -> None:
        assert delivery.pair is not None
        row = BacklogRow.of(delivery.event, reason)
        if version is not None:
            has_date = 0 <= version.last_modified <= LATEST_SECONDS  # servers that keep files may say 1969
            row = row._replace(
                version_id=version.version_id,
                size_bytes=version.size_bytes,
                etag=version.etag,
                last_modified=version.last_modified if has_date else row.last_modified,
            )
        self.to_backlog[delivery.pair.name].append((delivery, row))

    async def _write_backlog(self) -> None:
        """Write the backlog. Events that cannot be written there have failed."""
        for pair, left in self.to_backlog.items():
            try:
                await backlog.add(self.runtime, pair, [row for _, row in left])
            except SealiftError as error:
                for delivery, _ in left:
                    self._finish(delivery, Ending.FAILED, f"not handed over: {error}")

    async def _write_journal(self) -> None:
        entries = [delivery.entry for delivery in self.deliveries if delivery.entry is not None]
        if entries:
            name = file_name(self.runtime.clock(), f"{self.request_id}-{secrets.token_hex(4)}")
            await self.runtime.write_once(name, to_lines(entries))

    def _finish_all(self, group: Sequence[_Delivery], ending: Ending, reason: str) -> None:
        say("warning", ending.value, bucket=group[0].event.bucket, key=group[0].event.key, reason=reason)
        for delivery in group:
            if delivery.entry is None:
                self._finish(delivery, ending, reason)

    def _finish(self, delivery: _Delivery, ending: Ending, reason: str) -> None:
        event, pair = delivery.event, delivery.pair
        delivery.entry = Entry(
            recorded_at=self.runtime.clock(),
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


def _version_of(event: ObjectEvent, history: Sequence[Listed]) -> Listed | None:
    """The event's version as a listing shows it, with S3's own date."""
    for each in history:
        is_named = each.version_id == (event.version_id or NULL_VERSION) and not each.is_delete_marker
        if is_named and (event.version_id or event.etag in (None, each.etag)):
            return each
    return None


def _row(number: int, event: ObjectEvent) -> ObjectVersion:
    return ObjectVersion(
        number,
        event.key,
        event.version_id,
        size_bytes=event.size_bytes,
        etag=event.etag,
        last_modified=event.event_time,
    )
