"""The backup function: copies each object version that S3's events name.

    S3 → SQS → backup ─→ destination
                      ├→ <ledger>/journal/…  what became of each event, one object a batch
                      └→ <ledger>/backlog/…  what is too large, too slow or archived: rows of a run

Events say which keys to look at, and which versions are wanted (`jobs.sync.key`). Those of one key
are handled together, keys in parallel. A version that the source no longer has was removed after its
event: S3 is consistent. A message is done when all of its events are. Other messages are returned
in `batchItemFailures`: they come again, and go to the dead-letter queue at last (`redelivery` says
when). A mistake in the policy or the ledger fails the invocation, and with it every message: nothing
is lost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from jobs.backup.events import EventKind, ObjectEvent, parse_message
from jobs.core.model import ObjectVersion, Route
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason
from jobs.core.selection import is_sealift_object
from jobs.errors import (
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
from jobs.policy.run_options import copy_options, sides
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.retries import Tries
from jobs.sync.edges import Version
from jobs.sync.key import KeyResult, Sides, SyncOptions, sync_key
from jobs.sync.look import places_of
from jobs.sync.table import WAITING
from scheduler import backlog
from scheduler.backlog import BacklogRow
from scheduler.event_metrics import publish_metrics
from scheduler.log import say
from scheduler.redelivery import postpone
from scheduler.runtime import Runtime, current_runtime

KEYS_IN_FLIGHT = 32
TRIES = Tries(6, passing=(Unavailable, Conflict, PreconditionFailed))
BUFFER_BYTES = 48 * 1024 * 1024
RESERVE_SECONDS = 10.0
RESERVE_SHARE = 0.2
"""The time reserved for the backlog and the journal: these seconds, or this share of the time if
that is less.
"""

_WANTS_COPY = (EventKind.CREATED, EventKind.RESTORE_COMPLETED)
_ENDINGS = {
    Status.DONE: Ending.COPIED,
    Status.SAME: Ending.SAME,
    Status.UNKNOWN: Ending.UNVERIFIABLE,
    Status.LEFT: Ending.RETAINED,
    Status.MISSING: Ending.SUPERSEDED,
    Status.CHANGED: Ending.CHANGED,
}
"""What the endings of rows are called of events. All others are failures."""


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
    names = {"messageId", "body"}
    if not isinstance(messages, list) or not all(
        isinstance(each, Mapping) and names <= each.keys() for each in messages
    ):
        raise UsageError("this is no batch of SQS messages", advice="put a queue between the events and this function")
    failed = {str(message["messageId"]) for message in messages}
    try:
        failed = await _Batch(runtime, await runtime.policy(), remaining_seconds, request_id).handle(messages)
    except SealiftError as error:
        say("error", "refused", request=request_id, error=str(error), messages=len(messages))
        raise
    finally:
        await asyncio.to_thread(postpone, messages, failed)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}


class _Delivery(Struct):
    """An event, the message that brought it, its pair, and in the end its line of the journal."""

    message_id: str
    event: ObjectEvent
    pair: Pair | None = None
    entry: Entry | None = None


class _Batch(Struct):
    """The messages of one invocation."""

    runtime: Runtime
    policy: Policy
    remaining_seconds: float
    request_id: str
    deliveries: list[_Delivery] = []
    to_backlog: dict[str, list[tuple[_Delivery, BacklogRow]]] = field(default_factory=lambda: defaultdict(list))
    sides: dict[str, Sides] = {}

    async def handle(self, messages: Sequence[Mapping[str, Any]]) -> set[str]:
        """Return the ids of the messages that have failed."""
        reserve = min(RESERVE_SECONDS, self.remaining_seconds * RESERVE_SHARE)
        deadline = asyncio.get_running_loop().time() + self.remaining_seconds - reserve
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
        return {each.message_id for each in self.deliveries if each.entry is None or each.entry.status not in SETTLED}

    def _parse(self, message: Mapping[str, Any]) -> list[_Delivery]:
        message_id = str(message["messageId"])
        try:
            return [self._assign_pair(_Delivery(message_id, event)) for event in parse_message(message["body"])]
        except Exception as error:  # noqa: BLE001  the other messages are independent of it
            detail = _told(error)
        say("error", "unreadable", message=message_id, error=detail)
        delivery = _Delivery(message_id, ObjectEvent(EventKind.OTHER, "unreadable", ""))
        self._finish(delivery, Ending.FAILED, Reason.GIVEN_UP, f"message {message_id}: {detail}")
        return [delivery]

    def _assign_pair(self, delivery: _Delivery) -> _Delivery:
        """Find the event's pair. Finish events that need no copy: tests, other kinds, Sealift's own objects."""
        event = delivery.event
        delivery.pair = match(self.policy, event.bucket, event.key)
        if event.kind is EventKind.TEST:
            self._finish(delivery, Ending.SKIPPED)
        elif delivery.pair is None:
            is_known = any(pair.source.bucket == event.bucket for pair in self.policy.pairs)
            self._finish(delivery, Ending.SKIPPED if is_known else Ending.FAILED, Reason.NO_PAIR)
            if not is_known:
                say("error", "unknown bucket", bucket=event.bucket, message=delivery.message_id)
        elif is_sealift_object(event.key) or event.kind is EventKind.OTHER:
            self._finish(delivery, Ending.SKIPPED)
        return delivery

    async def _handle_key(self, group: list[_Delivery], gate: asyncio.Semaphore, deadline: float) -> None:
        """Finish all events of one key, whatever happens on the way."""
        pair, key = group[0].pair, group[0].event.key
        assert pair is not None
        wanted = [each for each in group if each.event.kind in _WANTS_COPY]
        others = [each for each in group if each.event.kind not in _WANTS_COPY]
        if pair.deletes != "mirror":
            for delivery in others:
                self._finish(delivery, Ending.RETAINED)
            others = []
        if not wanted and not others:
            return
        try:
            async with asyncio.timeout_at(deadline), gate:
                self._finish_key(wanted, others, await self._sync(pair, key, wanted))
        except TimeoutError:
            for delivery in group:
                if delivery.entry is None and delivery.event.kind in _WANTS_COPY:
                    self._finish_in_backlog(delivery, Reason.TOO_SLOW)
                elif delivery.entry is None:
                    self._finish(delivery, Ending.FAILED, Reason.TOO_SLOW)
        except Exception as error:  # noqa: BLE001  also of a bug of ours: the other keys are still copied
            is_denied, detail = isinstance(error, Denied | Redirected), _told(error)
            ending, reason = (Ending.DENIED, Reason.DENIED) if is_denied else (Ending.FAILED, Reason.GIVEN_UP)
            say("warning", ending.value, bucket=group[0].event.bucket, key=key, reason=detail)
            for delivery in group:
                if delivery.entry is None:
                    self._finish(delivery, ending, reason, detail)

    async def _sync(self, pair: Pair, key: str, wanted: Sequence[_Delivery]) -> KeyResult:
        """Bring the key's copies up to date. Retry what may pass, for as long as there is time."""
        sides, rows = self._sides_of(pair), [_row(number, each.event) for number, each in enumerate(wanted)]

        async def sync() -> KeyResult:
            await self.runtime.try_conditions(sides.destination, sides.route.destination)
            return await sync_key(sides, key, rows, is_event=True)

        return await TRIES(sync)

    def _finish_key(self, wanted: Sequence[_Delivery], others: Sequence[_Delivery], result: KeyResult) -> None:
        """Finish the events by what became of their key. What has to wait goes to the backlog, named or not."""
        for number, delivery in enumerate(wanted):
            self._finish_row(delivery, result.outcomes[number])
        left, (status, reason, _) = result.left, result.top
        for delivery in others:
            if left is not None:
                self._finish_in_backlog(delivery, reason or "", left)
            elif status in (Status.BLOCKED, Status.DAMAGED) and reason not in WAITING:
                self._finish(delivery, _ending(status, reason), reason or "")
            else:
                self._finish(delivery, Ending.DELETED if result.is_marked else Ending.SAME)
        is_named = others or left is None or left in places_of([_row(-1, each.event) for each in wanted], [left])
        if left is not None and not is_named:
            self._add_to_backlog(wanted[-1], reason or "", left)

    def _finish_row(self, delivery: _Delivery, outcome: Outcome) -> None:
        if outcome.reason in WAITING:
            self._finish_in_backlog(delivery, outcome.reason)
            return
        self._finish(delivery, _ending(outcome.status, outcome.reason), outcome.reason)
        assert delivery.entry is not None
        if outcome.status is not Status.MISSING:
            delivery.entry = delivery.entry.with_outcome(outcome)

    def _sides_of(self, pair: Pair) -> Sides:
        if pair.name in self.sides:
            return self.sides[pair.name]
        of_events = {
            "all_versions": True,
            "compares_tags": True,
            "mirrors_deletes": pair.deletes == "mirror",
            "limit_bytes": int(pair.thresholds.lambda_max_size),
        }
        options = SyncOptions.from_dict(copy_options(pair) | of_events)
        ours, theirs = sides(self.policy, pair)
        source, destination = self.runtime.pair(ours, theirs)
        route = Route(ours.location, theirs.location)
        made = self.sides[pair.name] = Sides(source, destination, route, options, ByteBudget(BUFFER_BYTES))
        return made

    def _finish_in_backlog(self, delivery: _Delivery, reason: str, version: Version | None = None) -> None:
        """Hand over the event's own version, or `version` of its key."""
        self._finish(delivery, Ending.HANDED_OVER, reason)
        self._add_to_backlog(delivery, reason, version)

    def _add_to_backlog(self, delivery: _Delivery, reason: str, version: Version | None = None) -> None:
        assert delivery.pair is not None
        self.to_backlog[delivery.pair.name].append((delivery, BacklogRow.of(delivery.event, reason, version)))

    async def _write_backlog(self) -> None:
        """Write the backlog. Events that cannot be written there have failed."""
        for pair, left in self.to_backlog.items():
            try:
                await backlog.add(self.runtime, pair, [row for _, row in left])
            except SealiftError as error:
                for delivery, _ in left:
                    self._finish(delivery, Ending.FAILED, Reason.GIVEN_UP, _told(error))

    async def _write_journal(self) -> None:
        entries = [delivery.entry for delivery in self.deliveries if delivery.entry is not None]
        if entries:
            unique = f"{self.request_id}-{secrets.token_hex(4)}"
            await self.runtime.write_once(file_name(self.runtime.clock(), unique), to_lines(entries))

    def _finish(self, delivery: _Delivery, ending: Ending, reason: str = "", detail: str = "") -> None:
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
            detail=detail,
            size_bytes=event.size_bytes,
            etag=event.etag,
            destination_bucket=pair.destination.bucket if pair else None,
            destination_key=pair.copy_key(event.key) if pair else None,
            event_at=event.event_time,
        )


def _ending(status: Status, reason: str | None) -> Ending:
    return Ending.DENIED if reason == Reason.DENIED else _ENDINGS.get(status, Ending.FAILED)


def _told(error: Exception) -> str:
    if isinstance(error, SealiftError):
        return error.fact if isinstance(error, StoreError) else str(error)
    return f"unforeseen {type(error).__name__} ({error}): report this as a bug of Sealift"


def _row(number: int, event: ObjectEvent) -> ObjectVersion:
    about = event.version_id, True, False, event.size_bytes, event.etag, event.event_time
    return ObjectVersion(number, event.key, *about)
