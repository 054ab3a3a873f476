"""RestStore and who asks: credentials that S3 does not accept, a wrong clock, and refusals without a code."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from jobs import errors
from jobs.s3.rest_store import RestStore
from tests.doubles.scripted_server import REF, Reply, Script, ask, copy, error_body

HEADERS = {"ETag": '"e"'}


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "ExpiredToken", "renew"),
        (400, "InvalidToken", "renew"),
        (400, "TokenRefreshRequired", "renew"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", "clock"),
    ],
)
def test_who_is_not_accepted_hears_what_to_renew(script: Script, status: int, code: str, advice: str) -> None:
    script.reply = Reply(status, body=error_body(code))
    with pytest.raises(errors.AuthenticationFailed, match=advice) as caught:
        ask(script, copy)
    assert caught.value.code == code
    assert script.endpoint in str(caught.value)
    assert not isinstance(caught.value, errors.Denied)
    assert len(script.seen) <= 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", errors.AuthenticationFailed),
        (400, "InvalidToken", errors.AuthenticationFailed),
        (403, "InvalidAccessKeyId", errors.AuthenticationFailed),
        (403, "AccessDenied", errors.Denied),
        (400, "InvalidRequest", errors.Rejected),
        (403, "InvalidObjectState", errors.ArchivedObject),
    ],
)
def test_a_refusal_of_head_is_asked_again_with_a_body(
    script: Script, status: int, code: str, kind: type[errors.StoreError]
) -> None:
    """Expired credentials end the run. By the status alone they would be each row's own fault."""
    script.reply = Reply(status, body=error_body(code))
    with pytest.raises(kind) as caught:
        ask(script, lambda store: store.head(REF))
    assert type(caught.value) is kind
    assert (caught.value.operation, caught.value.code) == ("HeadObject", code)
    assert [(seen.method, seen.headers.get("range"), seen.path) for seen in script.seen] == [
        ("HEAD", None, "/bucket/a%20key?versionId=v1"),
        ("GET", "bytes=0-0", "/bucket/a%20key?versionId=v1"),
    ]


BUSY, EXPIRED, MISSING = (
    Reply(status, body=error_body(code))
    for status, code in ((503, "SlowDown"), (400, "ExpiredToken"), (404, "NoSuchKey"))
)


@pytest.mark.parametrize(
    ("first", "reply", "error", "methods"),
    [
        ([Reply(403), Reply(206, HEADERS, b"x")], Reply(headers=HEADERS), None, "HEAD GET HEAD"),
        ([Reply(403), Reply(416, body=error_body("InvalidRange"))], Reply(headers=HEADERS), None, "HEAD GET HEAD"),
        # Others may have renewed the credentials, and then the key is missing. The last request is for the bucket.
        ([Reply(403), MISSING], Reply(404), errors.NotFound, "HEAD GET HEAD GET"),
        ([Reply(400), BUSY, BUSY], EXPIRED, errors.AuthenticationFailed, "HEAD GET GET HEAD GET"),
    ],
    ids=["readable", "empty", "missing by now", "busy"],
)
def test_a_refusal_of_head_that_is_over_or_has_no_code_yet_is_asked_again(
    script: Script, first: list[Reply], reply: Reply, error: type[errors.StoreError] | None, methods: str
) -> None:
    script.first, script.reply = list(first), reply
    with pytest.raises(error) if error else nullcontext():
        ask(script, lambda store: store.head(REF), is_paced=True)
    assert [seen.method for seen in script.seen] == methods.split()


def test_a_signature_that_fails_for_one_key_is_that_keys_matter(script: Script) -> None:
    """Servers and proxies spell odd keys in their own ways. The secret key is right: another request was accepted."""

    async def run(store: RestStore) -> None:
        await store.get(REF)
        script.reply = Reply(403, body=error_body("SignatureDoesNotMatch"))
        await copy(store)

    script.reply = Reply(headers=HEADERS)
    with pytest.raises(errors.Denied) as caught:
        ask(script, run)
    assert caught.value.code == "SignatureDoesNotMatch"
