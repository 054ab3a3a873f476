"""Breaks: for each promise, changes of the program that break it. Each is planted at a seam, in memory."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from jobs.archives.model import Member
from jobs.archives.reader import MemberRead
from jobs.core.evidence import Verdict
from jobs.core.model import NULL_VERSION, Attributes, ObjectRef
from jobs.core.outcome import Evidence
from jobs.errors import ConfigError, ExitCode
from jobs.nights.summary import Ending
from jobs.rollback.rules import Found
from jobs.s3.store import UNGUARDED, CopySettings
from jobs.sync.table import Overwrite, Rules
from tests.doubles.changes import Change, answering, sending


class Break(NamedTuple):
    name: str
    """What the program does wrong now."""
    promise: str
    """The promise of the table in CONTRIBUTING.md that this breaks."""
    seam: str
    change: Change


def _at_any_time(original: Callable[..., Any], *args: Any) -> Any:
    """A delete may be sent, whoever owns the run."""

    async def wait() -> float:
        return math.inf

    return wait()


def _nothing(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do nothing at all, and return nothing."""

    async def wait() -> None:
        return None

    return wait() if inspect.iscoroutinefunction(original) else None


def _fold_files(select: str) -> Change:
    """Fold the outcomes as before, and take other rows of them. `select` is SQL over `whole`."""

    def alter(connection: Any) -> Any:
        kind = connection.execute("SELECT table_type FROM information_schema.tables WHERE table_name = 'folded'")
        is_view = kind.fetchone()[0] == "VIEW"
        connection.execute(f"ALTER {'VIEW' if is_view else 'TABLE'} folded RENAME TO whole")
        connection.execute(f"CREATE VIEW folded AS {select}")
        return connection

    return answering(alter)


_SAME = Verdict(True, Evidence.CHECKSUM)
_BYTES_SAME = Verdict(True, Evidence.CONTENT)
_always_overwrites = sending(rules=lambda rules: rules._replace(overwrite=Overwrite.ALWAYS))
_newest_version = sending(source=lambda ref: ref._replace(version_id=None))
_one_page = answering(lambda page: page._replace(next_marker=None))
_is_well = answering(lambda _: ExitCode.DONE)


def _null_version(ref: ObjectRef) -> ObjectRef:
    return ref._replace(version_id=ref.version_id and NULL_VERSION)


def _never(rules: Rules) -> Rules:
    return rules._replace(all_versions=False, overwrite=Overwrite.NEVER)


def _unproven_member(_: Any, member: Member, content: bytes) -> MemberRead:
    return MemberRead(member, content, Evidence.CHECKSUM)


def _no_size_is_large(batch: Any) -> Any:
    place = batch.schema.get_field_index("size_bytes")
    return batch.set_column(place, batch.schema.field(place), batch["size_bytes"].fill_null(2**40))


def _any_good_ends(sql: str) -> str:
    return sql.replace("goods[CASE", "goods[1 + 0 * CASE")


class _AnyBytes:
    is_refuted, evidence = False, Evidence.CHECKSUM


async def _all_may_go(_: Any, self: Any, going: Any, seen_at: float) -> Any:
    return {}, seen_at


async def _any_document(original: Any, *args: Any) -> float:
    try:
        return float(await original(*args))
    except ConfigError:
        return math.inf


BREAKS: tuple[Break, ...] = (
    Break("fold-drops-a-row", "accounted", "fold", _fold_files("FROM whole WHERE row > (SELECT min(row) FROM whole)")),
    Break("fold-takes-two-outcomes", "accounted", "fold", _fold_files("FROM whole UNION ALL (FROM whole LIMIT 1)")),
    Break("findings-end-well", "exit-codes", "exit code", _is_well),
    Break("copy-of-another-version", "pinned", "store.copy", _newest_version),
    Break("copy-of-another-etag", "pinned", "store.copy", sending(source_etag=None)),
    Break("part-of-another-version", "pinned", "store.copy_part", _newest_version),
    Break("any-source-is-the-named-one", "pinned", "named", answering(lambda _: True)),
    Break("read-of-another-etag", "pinned-reads", "store.get", sending(if_match=None)),
    Break("copy-without-condition", "guarded", "store.copy", sending(guard=UNGUARDED)),
    Break("parts-without-condition", "guarded", "store.complete_multipart", sending(guard=UNGUARDED)),
    Break("newer-is-replaced", "guarded", "step of a key", _always_overwrites),
    Break("older-stays-on-top", "in-order", "step of a key", sending(rules=_never)),
    Break("conditions-not-tried", "conditions-tried", "trial of a plan", sending(operations=())),
    Break("no-look-before-a-write", "conditions-tried", "look before a write", _nothing),
    Break("any-server-may-delete", "conditions-tried", "trial", answering(lambda _: [])),
    Break("deletes-in-any-state", "conditions-tried", "heeded deletes", _nothing),
    Break("unknown-is-same", "proven", "compare", answering(lambda v: _SAME if v.same is None else v)),
    Break(
        "other-metadata-is-same",
        "proven",
        "compare",
        answering(lambda v: _SAME if v.reason == "metadata_differs" else v),
    ),
    Break("different-is-same", "proven", "compare", answering(lambda v: _SAME if v.same is False else v)),
    Break(
        "alike-is-same",
        "proven",
        "list of copies",
        lambda fill, sorting, sql: fill(sorting, sql.replace("alike", "same")),
    ),
    Break("different-bytes-are-same", "proven-by-bytes", "compare bytes", answering(lambda _: _BYTES_SAME)),
    Break("weak-checksum-lets-go", "deleted-with-proof", "strong algorithm", answering(lambda _: True)),
    Break("any-bytes-are-the-copys", "deleted-with-proof", "bytes of a copy", answering(lambda _: _AnyBytes())),
    Break("any-object-is-a-copy", "deleted-with-proof", "copy of expire", answering(lambda _: "")),
    Break(
        "step-without-proof",
        "deleted-with-proof",
        "step of expire",
        sending(candidate=lambda each: (each.verdict and each._replace(verdict=_BYTES_SAME)) or each),
    ),
    Break("delete-of-another-etag", "deletes-are-exact", "store.delete", sending(if_match=None)),
    Break("delete-of-another-version", "deletes-are-exact", "store.delete", sending(ref=_null_version)),
    Break("mirrors-are-places", "copies-last", "mirrored deletes", _nothing),
    Break("copies-may-expire", "copies-last", "lifecycle", _nothing),
    Break("no-last-look", "looked-again", "last look", _all_may_go),
    Break("late-delete-is-sent", "looked-again", "last moment", _nothing),
    Break("metadata-may-differ", "deleted-with-proof", "carried", answering(lambda _: None)),
    Break("any-rank-will-do", "ranks", "ranks of places", answering(lambda _: "")),
    Break("foreign-places-pass", "ranks", "foreign places", answering(lambda _: [])),
    Break("replaced-place-counts", "ranks", "look at places", _any_document),
    Break("second-name-passes", "second-names", "shared documents", _nothing),
    Break("clock-ahead-ends-grace", "grace", "look at places", answering(lambda _: math.inf)),
    Break("any-share-goes", "share", "share", answering(lambda _: False)),
    Break(
        "undo-removes-any-version", "undo", "marker of an undo", lambda _, history, stone: (stone.marker_version_id, "")
    ),
    Break("rollback-covers-newer-writes", "rolled-back", "store.copy", sending(guard=UNGUARDED)),
    Break("each-key-is-as-planned", "rolled-back", "look of a rollback", answering(lambda _: (Found.AS_PLANNED, None))),
    Break("any-version-is-a-copy", "rolled-back", "compare", answering(lambda _: _SAME)),
    Break(
        "drill-removes-anywhere",
        "drilled",
        "removal of a drill",
        lambda remove, store, place, written: remove(store, place._replace(key=""), written),
    ),
    Break(
        "drill-removes-nothing",
        "drilled",
        "removal of a drill",
        lambda remove, store, place, written: remove(store, place, []),
    ),
    Break("drill-compares-nothing", "drilled", "compare bytes", answering(lambda _: _SAME)),
    Break("owner-never-looks", "one-owner", "look of the owner", _nothing),
    Break("deletes-of-a-former-owner", "one-owner", "check of the owner", _at_any_time),
    Break("expires-without-its-owner", "one-owner", "looks at others", lambda look, job, *_: look(job)),
    Break("checkpoint-is-lost", "resumable", "checkpoint", _nothing),
    Break("done-rows-are-done-again", "resumable", "checkpoints", answering(lambda _: [])),
    Break("memory-without-bound", "bounded", "memory", sending(count=1)),
    Break("requests-not-planned", "foreseeable", "planned requests", answering(lambda _: Counter())),
    Break("limit-not-heeded", "foreseeable", "limits of a plan", _nothing),
    Break("put-without-attributes", "faithful", "store.put", sending(attributes=Attributes())),
    Break("parts-without-attributes", "faithful", "store.create_multipart", sending(attributes=Attributes())),
    Break("copy-with-default-settings", "faithful", "store.copy", sending(settings=CopySettings())),
    Break("page-left-out", "whole-listings", "store.list_objects", _one_page),
    Break("versions-left-out", "whole-listings", "store.list_versions", _one_page),
    Break("failures-without-limit", "max-failures", "failures", _nothing),
    Break("rate-without-limit", "rates", "rate", answering(lambda _: 0.0)),
    Break("unknown-size-is-filtered", "filters", "filter", sending(batch=_no_size_is_large)),
    Break("ledger-is-overwritten", "written-once", "condition of the ledger", answering(lambda _: UNGUARDED)),
    Break("forged-run-is-taken", "forged-runs", "agreement", answering(lambda _: True)),
    Break("places-overlap", "places-apart", "places apart", _nothing),
    Break("any-owner-will-do", "bucket-owners", "owner of a bucket", answering(lambda _: [])),
    Break("line-break-in-a-request", "injection", "request head", _nothing),
    Break("answer-of-another-request", "own-answers", "idle connection", answering(lambda _: True)),
    Break("endless-answer", "own-answers", "size of an answer", _nothing),
    Break(
        "differences-are-same",
        "reconciled",
        "difference of inventories",
        answering(lambda j: j._replace(category="same")),
    ),
    Break("any-look-ends-a-finding", "findings", "rule of the state", answering(_any_good_ends)),
    Break("all-is-always-well", "nights", "all is well", answering(lambda judged: (Ending.WELL, *judged[1:]))),
    Break("unproven-member-is-read", "members-proven", "member of an archive", _unproven_member),
    Break("any-header-from-an-index", "members-proven", "attributes of a member", answering(lambda _: "")),
    Break("as-it-is-now", "as-of", "as it was", sending(at=float("inf"))),
    Break("event-is-lost", "events", "events of a message", answering(lambda events: events[:-1])),
    Break("backlog-is-lost", "events", "backlog", _nothing),
    Break("password-is-shown", "secrets", "masked address", lambda original, url: url),
    Break("page-runs-a-script", "escaped", "text of a page", lambda original, text: str(text)),
    Break("terminal-is-controlled", "escaped", "text of a terminal", lambda original, text: text),
    Break("error-without-advice", "errors-for-programs", "advice", answering(lambda _: "")),
)
