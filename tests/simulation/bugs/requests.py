"""Planted in what Sealift asks of S3: conditions, versions, tags, aborts, the byte budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import jobs.s3.multipart_copy
import jobs.s3.uploads
from jobs.core.model import Attributes, ObjectRef, ObjectVersion
from jobs.core.outcome import Outcome, Status
from jobs.core.pace import Pace
from jobs.ledger.uploads import ShardUploads
from jobs.replicate.job import Replicate
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.copying import Copier
from jobs.s3.multipart_copy import Transfer
from jobs.s3.store import ABSENT, UNGUARDED, AnnotationPage, Written
from jobs.s3.uploads import BegunUpload, CopyPlan
from tests.simulation.bugs.bug import Bug, Replacements
from tests.simulation.engine.processes import Connection


def _client(name: str, change: Callable[..., Awaitable[Any]]) -> Replacements:
    """A request of the client's, done otherwise: `change(ask, *arguments, **named)`."""
    real = Connection.__getattr__

    def get(self: Connection, asked: str) -> Any:
        ask = real(self, asked)
        if asked != name:
            return ask

        async def changed(*arguments: Any, **named: Any) -> Any:
            return await change(ask, *arguments, **named)

        return changed

    return [(Connection, "__getattr__", get)]


def _no_write_precondition() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        return await real(self, row, UNGUARDED if guard == ABSENT else guard, source)

    return [(Copier, "copy_simply", copy_simply)]


def _no_replace_precondition() -> Replacements:
    real = Copier.copy

    async def copy(self: Copier, row: Any, source: Any, guard: Any) -> Outcome:
        return await real(self, row, source, UNGUARDED if guard.etag else guard)

    return [(Copier, "copy", copy)]


def _no_copy_source_guard() -> Replacements:
    async def copy(ask: Any, source: Any, etag: Any, *rest: Any, **named: Any) -> Any:
        return await ask(source, None, *rest, **named)

    return _client("copy", copy)


def _no_part_guard() -> Replacements:
    async def get(ask: Any, ref: Any, **named: Any) -> Any:
        return await ask(ref, **named | {"if_match": None})

    def check(self: Any, size_bytes: int) -> None:
        """Nothing: checksums of the whole would see that the parts are of two objects."""

    return [*_client("get", get), (jobs.s3.multipart_copy._Digests, "check", check)]


def _complete_unguarded() -> Replacements:
    async def complete(ask: Any, *arguments: Any, **named: Any) -> Any:
        return await ask(*arguments, **named | {"guard": UNGUARDED})

    return _client("complete_multipart", complete)


def _copy_the_current_version() -> Replacements:
    async def copy(ask: Any, source: ObjectRef, etag: Any, *rest: Any, **named: Any) -> Any:
        return await ask(source._replace(version_id=None), None, *rest, **named)

    return _client("copy", copy)


def _no_tags() -> Replacements:
    async def get_tags(ask: Any, ref: Any) -> Any:
        return {}

    return _client("get_tags", get_tags)


def _no_annotations() -> Replacements:
    async def list_annotations(ask: Any, ref: Any, *, token: Any = None) -> AnnotationPage:
        return AnnotationPage([], None)

    return _client("list_annotations", list_annotations)


def _annotations_left_by_a_killed_attempt() -> Replacements:
    async def complete_annotations(
        self: Copier, ref: Any, source_etag: Any, size_bytes: int, copy: Any, copy_etag: str
    ) -> str:
        return ""

    return [(Copier, "complete_annotations", complete_annotations)]


def _forget_the_abort() -> Replacements:
    async def abort(ask: Any, *arguments: Any) -> None:
        return None

    return _client("abort_multipart", abort)


def _adopt_any_upload() -> Replacements:
    """Of the same key, whatever its source was. Other bytes are refused by their checksum."""

    async def take(self: ShardUploads, plan: CopyPlan) -> BegunUpload | None:
        if self._free is None:
            self._free = await self.unfinished()
        found = next((each for each in self._free if each.key == plan["key"]), None)
        if found is not None:
            self._free.remove(found)
        return found

    return [(ShardUploads, "take", take)]


def _no_look_at_what_overtook() -> Replacements:
    """Neither before an upload goes on nor after it is completed."""

    async def is_overtaken(transfer: Transfer, upload: BegunUpload) -> bool:
        return False

    async def look_at_copy(self: Copier, target: ObjectRef, written: Written, asked: Attributes) -> str:
        return ""

    return [(jobs.s3.multipart_copy, "_is_overtaken", is_overtaken), (Copier, "_look_at_copy", look_at_copy)]


def _leave_the_uploads() -> Replacements:
    async def abort(store: Any, upload: BegunUpload) -> None:
        return None

    return [(jobs.s3.uploads, "abort_upload", abort)]


def _no_budget() -> Replacements:
    def try_acquire(self: ByteBudget, size_bytes: int) -> int:
        return 0

    return [(ByteBudget, "try_acquire", try_acquire)]


def _budget_leaks() -> Replacements:
    real = ByteBudget.release

    def release(self: ByteBudget, size_bytes: int) -> None:
        real(self, size_bytes - 1 if size_bytes > 8 else size_bytes)

    return [(ByteBudget, "release", release)]


def _no_pace() -> Replacements:
    return [(Pace, "in_flight", property(lambda self: 1_000))]


def _histories_left() -> Replacements:
    async def replay(self: Replicate, rows: Sequence[ObjectVersion], *, is_last: bool) -> list[Outcome]:
        return [Outcome.of(row, Status.CHANGED, "a newer version is at the destination already") for row in rows]

    return [(Replicate, "_replay", replay)]


BUGS = [
    Bug("histories-left", "with all versions nothing is copied, for a reason that is not so", 400, _histories_left),
    Bug("no-write-precondition", "CopyObject without If-None-Match", 400, _no_write_precondition),
    Bug("no-replace-precondition", "an overwrite without If-Match", 4_000, _no_replace_precondition),
    Bug("no-copy-source-guard", "CopyObject without x-amz-copy-source-if-match", 1_000, _no_copy_source_guard),
    Bug("no-read-guard", "ranged GET without If-Match, and nothing checked at the end", 4_000, _no_part_guard),
    Bug("complete-unguarded", "CompleteMultipartUpload without its condition", 1_000, _complete_unguarded),
    Bug("copy-the-current-version", "CopyObject of whatever is current", 400, _copy_the_current_version),
    Bug("no-tags", "multipart copies lose their tags", 400, _no_tags),
    Bug("no-annotations", "copies in parts and streamed copies lose their annotations", 400, _no_annotations),
    Bug(
        "annotations-left-by-a-killed-attempt",
        "a copy that is found the same is not looked at for annotations",
        1_000,
        _annotations_left_by_a_killed_attempt,
    ),
    Bug("forget-the-abort", "a failed multipart upload is left", 400, _forget_the_abort),
    Bug(
        "adopt-any-upload",
        "a copy goes on with an upload of another source version",
        4_000,
        _adopt_any_upload,
        "large copies",
    ),
    Bug(
        "copies-below-the-top",
        "an upload that was overtaken goes on, and is not looked at",
        400,
        _no_look_at_what_overtook,
        "large copies",
    ),
    Bug("leave-the-uploads", "what a killed attempt began is left", 400, _leave_the_uploads, "large copies"),
    Bug("no-budget", "reads do not wait for the byte budget", 1_000, _no_budget),
    Bug("budget-leaks", "bytes are not given back", 400, _budget_leaks),
    Bug("no-pace", "no limit of rows in flight", 400, _no_pace),
]
