"""Planted in what Sealift makes of an answer: evidence, decisions, the order of versions."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import jobs.core.evidence
import jobs.core.histories
import jobs.replicate.decision
import jobs.replicate.job
import jobs.s3.compare_bytes
import jobs.s3.copying
import jobs.s3.multipart_copy
import jobs.s3.stored_checksums
import jobs.verify.job
from jobs.core.evidence import Verdict
from jobs.core.model import ObjectInfo
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.errors import NotFound, PreconditionFailed, Unavailable
from jobs.replicate.decision import Origin, Overwrite
from jobs.s3.copying import Copier
from jobs.s3.stored_checksums import Stored, stored_checksums
from tests.simulation.bugs.bug import Bug, Replacements


def _trust_a_lost_answer() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except Unavailable:
            return Outcome(row.row, row.key, row.version_id, Status.COPIED, etag=row.etag, destination_etag=row.etag)

    return [(Copier, "copy_simply", copy_simply)]


def _ignore_412() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except PreconditionFailed:
            return Outcome(row.row, row.key, row.version_id, Status.COPIED, etag=row.etag, destination_etag=row.etag)

    return [(Copier, "copy_simply", copy_simply)]


def _same_without_looking() -> Replacements:
    real = Copier.copy_simply

    async def copy_simply(self: Copier, row: Any, guard: Any, source: Any = None) -> Outcome:
        try:
            return await real(self, row, guard, source)
        except PreconditionFailed:
            return Outcome(
                row.row, row.key, row.version_id, Status.SAME, "", Evidence.MD5_ETAG, etag=row.etag,
                destination_etag=row.etag,
            )  # fmt: skip

    return [(Copier, "copy_simply", copy_simply)]


_OF_CHECKSUMS = (jobs.s3.multipart_copy, jobs.s3.compare_bytes, jobs.s3.stored_checksums, jobs.replicate.job)


def _compare_multipart_etags() -> Replacements:
    real = stored_checksums

    def stored(info: ObjectInfo) -> list[Stored]:
        digest, _, parts = info.etag.partition("-")
        if not parts:
            return real(info)
        plain = real(dataclasses.replace(info, etag=""))
        return [*plain, Stored("MD5", base64.b64encode(bytes.fromhex(digest)).decode(), Evidence.MD5_ETAG)]

    return [
        (jobs.core.evidence, "is_md5", bool),
        (jobs.replicate.job, "is_md5", bool),
        *((module, "stored_checksums", stored) for module in _OF_CHECKSUMS),
    ]


def _equal_size_is_equal() -> Replacements:
    def compare(source: Any, destination: Any, against: Any = None) -> Verdict:
        equal = source.size_bytes == destination.size_bytes
        return Verdict(equal, Evidence.CHECKSUM if equal else Evidence.NONE)

    return [(jobs.replicate.job, "compare", compare), (jobs.verify.attestation, "compare", compare)]


def _composite_differs() -> Replacements:
    real = jobs.core.evidence._comparable

    def comparable(source: Any, destination: Any) -> list[Any]:
        others = {each.algorithm: each.value for each in destination}
        made = jobs.core.evidence._Proof
        composite = [
            made(c.algorithm, others[c.algorithm] == c.value, Evidence.CHECKSUM)
            for c in source
            if c.algorithm in others
        ]
        return composite or real(source, destination)

    return [(jobs.core.evidence, "_comparable", comparable)]


def _deep_reads_nothing() -> Replacements:
    async def compare_and_blame(source: Any, destination: Any, budget: Any) -> tuple[Verdict, None]:
        return Verdict(True, Evidence.CONTENT), None

    return [(jobs.verify.job, "compare_and_blame", compare_and_blame)]


def _overwrite_what_is_newer() -> Replacements:
    from jobs.replicate.decision import decide as real

    def decide(row: Any, source: Any, destination: Any, verdict: Any, overwrite: Any = None, origin: Any = None) -> Any:
        return real(row, source, destination, verdict, Overwrite.ALWAYS, origin)

    return [(jobs.replicate.job, "decide", decide)]


def _date_of_an_upload_decides() -> Replacements:
    return [(jobs.replicate.decision, "is_multipart", lambda etag: False)]


def _origin_is_a_guess() -> Replacements:
    async def origin(self: Any, ref: Any, source: Any, destination: Any) -> Origin:
        return Origin.OLDER_VERSION

    return [(jobs.replicate.job.Replicate, "_origin", origin)]


def _origin_by_size() -> Replacements:
    async def compare_versions(self: Any, row: Any, there: Any, looks: Any) -> Verdict:
        return Verdict(True, Evidence.CHECKSUM)

    return [(jobs.replicate.job.Replicate, "_compare_versions", compare_versions)]


def _older_on_top() -> Replacements:
    return [(jobs.replicate.job, "first_missing", lambda alignment: 0)]


def _gone_versions_first() -> Replacements:
    return [(jobs.core.histories, "_place_of", lambda gone, rows, versions: 0)]


def _destination_gone() -> Replacements:
    return [(jobs.s3.copying, "_raced", lambda error: error)]


def _missing_is_same() -> Replacements:
    real = jobs.replicate.job.Replicate._refused

    def refused(self: Any, row: Any, error: Any) -> Outcome:
        outcome = real(self, row, error)
        return outcome._replace(status=Status.SAME) if isinstance(error, NotFound) else outcome

    return [(jobs.replicate.job.Replicate, "_refused", refused)]


BUGS = [
    Bug("trust-a-lost-answer", "a copy whose answer was lost is called copied", 400, _trust_a_lost_answer),
    Bug("ignore-412", "a refused copy is called copied", 400, _ignore_412),
    Bug("same-without-looking", "a refused copy is called the same", 400, _same_without_looking),
    Bug("compare-multipart-etags", "ETags of parts are compared as if they were MD5s", 400, _compare_multipart_etags),
    Bug("equal-size-is-equal", "objects of one size are the same", 400, _equal_size_is_equal),
    Bug("composite-checksums-differ", "composite checksums of other parts differ", 1_000, _composite_differs),
    Bug("deep-reads-nothing", "verify --deep believes without reading", 400, _deep_reads_nothing),
    Bug("overwrite-what-is-newer", "a newer destination is replaced", 400, _overwrite_what_is_newer),
    Bug("date-of-an-upload", "an upload that a copy overtook is older for ever", 4_000, _date_of_an_upload_decides),
    Bug("origin-is-a-guess", "any object there counts as a copy of an older version", 4_000, _origin_is_a_guess),
    Bug("origin-by-size", "an object of an older version's size counts as its copy", 4_000, _origin_by_size),
    Bug("older-on-top", "a missing version is put over newer ones", 400, _older_on_top),
    Bug("gone-versions-first", "versions gone from the source count as the oldest", 4_000, _gone_versions_first),
    Bug("404-is-the-source", "a 404 for the destination is taken for the source's", 2_000, _destination_gone),
    Bug("missing-is-same", "a source that is gone is called the same", 400, _missing_is_same),
]
