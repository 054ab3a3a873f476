"""RestStore against a server that answers by script: what each failure becomes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from jobs import errors
from jobs.core import elapsed
from jobs.core.model import ObjectRef
from jobs.s3.checksums import full_object
from jobs.s3.http import connection_pool
from jobs.s3.rest_store import RestStore
from jobs.s3.retries import PAUSE_SECONDS_MAX, retry
from jobs.s3.sessions import open_store
from jobs.s3.store import Restoring
from jobs.s3.transport import TRIES_PATIENT, TRIES_UNANSWERED, Transport
from tests.doubles.loopback import listening
from tests.doubles.scripted_server import COPIED, REF, Reply, Script, ask, copy, copy_part, error_body


@pytest.mark.parametrize("code", ["NoSuchBucket", "ExpiredToken", "PermanentRedirect", "AccessDenied"])
def test_content_that_looks_like_an_error_is_content(script: Script, code: str) -> None:
    text = error_body(code, "<Region>eu-west-1</Region>")
    script.reply = Reply(200, {"ETag": '"e1"'}, text)
    assert ask(script, lambda store: store.get_annotation(REF, "note")) == text
    assert ask(script, lambda store: store.get(REF)).data == text
    assert len(script.seen) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", errors.NotFound),
        (404, "NoSuchUpload", errors.NotFound),
        (404, "NoSuchBucket", errors.NoSuchBucket),
        (403, "AccessDenied", errors.Denied),
        (403, "InvalidObjectState", errors.ArchivedObject),
        (403, "RequestTimeTooSkewed", errors.AuthenticationFailed),
        (400, "IncompleteBody", errors.Unavailable),
        (400, "RequestTimeout", errors.Unavailable),
        (501, "NotImplemented", errors.Rejected),
        (409, "ConditionalRequestConflict", errors.Conflict),
        (412, "PreconditionFailed", errors.PreconditionFailed),
        (400, "BadDigest", errors.Unavailable),
        (400, "XAmzContentSHA256Mismatch", errors.Unavailable),
        (400, "XAmzContentChecksumMismatch", errors.Unavailable),
        (405, "MethodNotAllowed", errors.Rejected),  # of a gateway that only reads
        (400, "InvalidArgument", errors.Rejected),
        (500, "InternalError", errors.Unavailable),
        (503, "SlowDown", errors.Throttled),
        (503, "ServiceUnavailable", errors.Throttled),
        (503, "GlacierExpeditedRetrievalNotAvailable", errors.Rejected),
    ],
)
def test_an_error_answer_becomes_its_error(
    script: Script, status: int, code: str, kind: type[errors.StoreError]
) -> None:
    script.reply = Reply(status, body=error_body(code))
    with pytest.raises(kind, match=r"s3://bucket/b: ") as caught:
        ask(script, copy, is_paced=True)
    assert type(caught.value) is kind
    assert len(script.seen) <= 2  # whoever calls decides about more


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (202, "", Restoring.REQUESTED),
        (200, "", Restoring.READY),
        (409, "RestoreAlreadyInProgress", Restoring.UNDER_WAY),
        (403, "ObjectAlreadyInActiveTierError", Restoring.READY),
    ],
)
def test_a_restore_begins_or_was_asked_for_before(script: Script, status: int, code: str, answer: Restoring) -> None:
    script.reply = Reply(status, body=error_body(code) if code else b"")
    assert ask(script, lambda store: store.request_restore(REF, days=1, tier="Bulk")) is answer


def test_a_missing_bucket_is_found_by_the_first_head_that_finds_nothing(script: Script) -> None:
    """S3's 404 for a HEAD has neither a body nor a code."""
    script.first, script.reply = [Reply(404)], Reply(404, body=error_body("NoSuchBucket"))
    with pytest.raises(errors.NoSuchBucket):
        ask(script, lambda store: store.head(REF))

    async def heads(store: RestStore) -> int:
        for _ in range(3):
            with pytest.raises(errors.NotFound):
                await store.head(REF)
        return len(script.seen)

    script.seen.clear()
    script.first, script.reply = [Reply(404), Reply(200, body=b"<ListBucketResult/>")], Reply(404)
    assert ask(script, heads) == 4


def test_bytes_without_the_checksum_of_their_answer_are_asked_for_again(script: Script) -> None:
    """On the way a cache or a proxy may have altered them, and TCP's own checksum is weak."""
    checksum = full_object("CRC64NVME", b"whole").value
    headers = {"ETag": '"e"', "x-amz-checksum-crc64nvme": checksum, "x-amz-checksum-type": "FULL_OBJECT"}
    script.first, script.reply = [Reply(200, headers, b"whele")], Reply(200, headers, b"whole")
    with pytest.raises(errors.Unavailable, match="CRC64NVME"):
        ask(script, lambda store: store.get(REF))
    assert ask(script, lambda store: store.get(REF)).data == b"whole"


def test_a_delete_marker_by_its_version_is_not_found(script: Script) -> None:
    script.reply = Reply(405, body=error_body("MethodNotAllowed"))
    with pytest.raises(errors.NotFound):
        ask(script, lambda store: store.get(REF))


BUSY, SILENT, CUT = Reply(503, body=error_body("SlowDown")), Reply(0), Reply(200, {}, b"sho", length=5)


@pytest.mark.parametrize(
    ("reply", "tries"),
    [
        (Reply(500, body=error_body("InternalError")), TRIES_PATIENT),
        (BUSY, TRIES_PATIENT),
        (Reply(429, body=error_body("TooManyRequests")), TRIES_PATIENT),
        (Reply(400, body=error_body("IncompleteBody")), TRIES_PATIENT),
        (Reply(400, body=error_body("RequestTimeout")), TRIES_PATIENT),
        (SILENT, TRIES_UNANSWERED),
    ],
)
def test_who_has_no_pace_to_lower_is_patient_but_not_with_silence(
    script: Script, reply: Reply, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    script.reply = reply
    with pytest.raises(errors.Unavailable, match="ConnectionLost" if reply is SILENT else None):
        ask(script, copy)
    assert len(script.seen) == tries


@pytest.mark.parametrize(("asked", "waited"), [("3", 3.0), ("3600", PAUSE_SECONDS_MAX), ("soon", 0.0)])
def test_a_busy_server_has_the_time_that_it_asks_for(
    script: Script, asked: str, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    busy = Reply(503, {"Retry-After": asked}, error_body("SlowDown"))
    script.first, script.reply = [busy, busy], Reply(body=COPIED)
    ask(script, lambda store: retry(lambda: copy(store)), is_paced=True)
    assert waits == [0.0, waited], "the worker hears of it first"


@pytest.mark.parametrize("first", [[BUSY, SILENT, BUSY, SILENT, CUT], [CUT] * 5, [SILENT, SILENT, BUSY, SILENT]])
def test_who_is_patient_outlives_answers_that_break_off_and_silence_between_answers(
    script: Script, first: list[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    script.first, script.reply = list(first), Reply(200, {}, b"whole")
    assert ask(script, lambda store: store.get(REF)).data == b"whole"
    assert not script.first


def test_a_minute_of_silence_ends_sooner(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after one request alone: a kept connection may be dead."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr("jobs.s3.transport.time.perf_counter", count(step=40).__next__)
    script.reply = SILENT
    with pytest.raises(errors.Unavailable, match="ConnectionLost"):
        ask(script, lambda store: store.head(REF))
    assert len(script.seen) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, errors.Denied),
        (404, errors.NotFound),
        (405, errors.NotFound),
        (412, errors.PreconditionFailed),
        (400, errors.Rejected),
        (503, errors.Throttled),
        (500, errors.Unavailable),
    ],
)
def test_an_answer_to_head_has_no_body_but_a_status(script: Script, status: int, kind: type[errors.StoreError]) -> None:
    script.reply = Reply(status)
    with pytest.raises(kind) as caught:
        ask(script, lambda store: store.head(REF), is_paced=True)
    assert type(caught.value) is kind
    assert str(REF) in str(caught.value)


@pytest.mark.parametrize("status", [404, 405])
def test_a_delete_marker_says_so(script: Script, status: int) -> None:
    script.reply = Reply(status, {"x-amz-delete-marker": "true"})
    with pytest.raises(errors.NotFound) as caught:
        ask(script, lambda store: store.head(REF))
    assert caught.value.code == "DeleteMarker"


CUSTOMER_KEY = (
    b"<Error><Code>InvalidRequest</Code><Message>The object was stored using a form of Server Side Encryption. "
    b"The correct parameters must be provided to retrieve the object.</Message></Error>"
)


@pytest.mark.parametrize("request_", [copy, copy_part, lambda store: store.head(REF), lambda store: store.get(REF)])
def test_an_object_under_its_writers_own_key_is_an_error_of_its_own(
    script: Script, request_: Callable[[RestStore], Awaitable[Any]]
) -> None:
    script.reply = Reply(400, {}, CUSTOMER_KEY)
    with pytest.raises(errors.CustomerKeyNeeded, match=r"CustomerKeyNeeded.*SSE-C"):
        ask(script, request_)
    assert issubclass(errors.CustomerKeyNeeded, errors.Denied)  # the row's end, and not the run's


def second_delete(script: Script, first: list[Reply], reply: Reply, **named: Any) -> errors.StoreError:
    """Why the second delete on a connection is refused, where the server answers it by `first`, then by `reply`."""

    async def run(store: RestStore) -> errors.StoreError:
        await store.delete(REF)
        script.first, script.reply = list(first), reply
        with pytest.raises(errors.StoreError) as caught:
            await store.delete(REF, **named)
        return caught.value

    script.reply = Reply(204)
    return ask(script, run)


@pytest.mark.parametrize(
    ("first", "was_sent_once"),
    [
        ([], True),
        ([Reply(500, body=error_body("InternalError"))], False),
        ([Reply(0)], False),  # on a connection that was used before, which may have closed unseen
    ],
)
def test_a_refusal_says_whether_the_request_was_sent_once(
    script: Script, first: list[Reply], was_sent_once: bool
) -> None:
    """Else the first one, whose answer was lost, may have done what the second one was refused for."""
    refusal = second_delete(script, first, Reply(412, body=error_body("PreconditionFailed")), if_match="e")
    assert (type(refusal), refusal.was_sent_once) == (errors.PreconditionFailed, was_sent_once)


@pytest.mark.parametrize(
    ("send_by", "kind", "code", "sent"), [(-1.0, errors.Conflict, "TooLate", 0), (1.0, errors.Throttled, "SlowDown", 1)]
)
def test_a_delete_is_not_sent_after_its_last_moment_and_an_earlier_try_is_told(
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    send_by: float,
    kind: type[errors.StoreError],
    code: str,
    sent: int,
) -> None:
    for module in (elapsed, connection_pool):  # a minute goes by with each request
        monkeypatch.setattr(module, "elapsed_seconds", lambda: 60.0 * len(script.seen))
    script.reply = Reply(503, body=error_body("SlowDown"))
    with pytest.raises(kind) as late:
        ask(script, lambda store: store.delete(ObjectRef("bucket", "b"), send_by=send_by))
    assert (late.value.code, len(script.seen)) == (code, sent)
    assert late.value.__cause__ is not late.value  # who walks the causes of an error comes to an end


def test_a_delete_whose_first_answer_was_lost_is_not_told_as_unsent(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kept connection closed without an answer, then the token expired, and the new one came too late."""

    async def renewed(*_: Any) -> bool:
        return True

    monkeypatch.setattr(Transport, "_has_newer", renewed)
    for module in (elapsed, connection_pool):  # a minute goes by with each request
        monkeypatch.setattr(module, "elapsed_seconds", lambda: 60.0 * len(script.seen))
    late = second_delete(script, [SILENT], Reply(400, body=error_body("ExpiredToken")), send_by=150.0)
    assert (type(late), late.code, len(script.seen)) == (errors.Unavailable, "ExpiredToken", 3)


@pytest.mark.parametrize(
    ("scheme", "answer"), [("https", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("http", b"\x15\x03\x01\0\x02\x02\x46")]
)
def test_the_wrong_scheme_of_an_endpoint_is_configuration(scheme: str, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await writer.drain()

    other = "http" if scheme == "https" else "https"
    with listening(serve) as url:
        store = open_store(url.replace("http://", f"{scheme}://"), "us-east-1", None, max_in_flight=1)
        with pytest.raises(errors.ConfigError, match=f"write {other}://"):
            asyncio.run(store.head(REF))
