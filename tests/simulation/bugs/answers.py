"""Planted in what answers of S3 are taken for: errors in a 200, expired credentials, bytes that have rotted."""

from __future__ import annotations

from typing import Any

import jobs.errors
import jobs.replicate.job
import jobs.s3.compare_bytes
import jobs.s3.http.transport
import jobs.s3.list_pages
import jobs.s3.rest_store
import jobs.s3.wire
import jobs.verify.job
from jobs.core.outcome import Status
from jobs.errors import Denied, StoreError, Unavailable
from jobs.s3.store import Page, Written
from jobs.s3.wire import Malformed
from tests.simulation.bugs.bug import Bug, Replacements


def _expired(kind: type[StoreError]) -> Replacements:
    known: dict[str, type[StoreError]] = jobs.errors.__dict__["_BY_CODE"]
    return [(jobs.errors, "_BY_CODE", known | {"ExpiredToken": kind})]


def _expired_is_denied() -> Replacements:
    return _expired(Denied)


def _expired_is_tried_again() -> Replacements:
    return _expired(Unavailable)


def _status_decides() -> Replacements:
    def is_failure(response: Any, *, is_content: bool) -> bool:
        return not 200 <= response.status < 300

    return [(jobs.s3.http.transport, "is_failure", is_failure)]


def _error_is_a_page() -> Replacements:
    real = jobs.s3.list_pages.parse_page

    def parse_page(body: bytes, *, is_versions: bool) -> Page:
        try:
            return real(body, is_versions=is_versions)
        except Malformed:
            return Page([], [], None)

    return [*_status_decides(), (jobs.s3.rest_store, "parse_page", parse_page)]


def _error_is_a_copy() -> Replacements:
    real = jobs.s3.wire.parse_result

    def parse_result(operation: str, headers: Any, body: bytes) -> Written:
        try:
            return real(operation, headers, body)
        except Malformed:
            return Written("")

    return [*_status_decides(), (jobs.s3.wire, "parse_result", parse_result)]


def _damage_is_not_looked_for() -> Replacements:
    async def damage_of(side: Any, budget: Any) -> str:
        return ""

    return [(module, "damage_of", damage_of) for module in (jobs.s3.compare_bytes, jobs.replicate.job)]


def _damaged_is_verified() -> Replacements:
    real = jobs.verify.job._judged

    def judged(row: Any, source_etag: Any, destination: Any, verdict: Any, checksum: Any) -> Any:
        outcome = real(row, source_etag, destination, verdict, checksum)
        return outcome._replace(status=Status.VERIFIED) if verdict.is_source_damaged else outcome

    return [(jobs.verify.job, "_judged", judged)]


BUGS = [
    Bug("expired-is-denied", "expired credentials are a missing permission", 400, _expired_is_denied),
    Bug("expired-is-tried-again", "expired credentials may be accepted later", 400, _expired_is_tried_again),
    Bug("error-is-a-page", "an error in a 200 is an empty last page", 1_000, _error_is_a_page),
    Bug("error-is-a-copy", "an error in a 200 is a copy", 400, _error_is_a_copy),
    Bug("error-is-a-part", "an error in a 200 is a part, or a whole upload", 1_000, _error_is_a_copy, "large copies"),
    Bug("damage-is-not-looked-for", "which side is damaged is not asked", 4_000, _damage_is_not_looked_for),
    Bug("damaged-is-verified", "the copy of a damaged source is verified", 400, _damaged_is_verified),
]
