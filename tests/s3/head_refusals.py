"""A refusal of HEAD, whose answer has no body: what each client asks then, and what the answer means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs import errors
from tests.doubles.scripted_server import REF, Reply, Script, error_body

HEAD_REFUSALS = [
    (400, "ExpiredToken", errors.AuthenticationFailed),
    (400, "InvalidToken", errors.AuthenticationFailed),
    (403, "InvalidAccessKeyId", errors.AuthenticationFailed),
    (403, "AccessDenied", errors.Denied),
    (400, "InvalidRequest", errors.Rejected),
    (403, "InvalidObjectState", errors.ArchivedObject),
]


def check_head_is_asked_again(
    script: Script, ask: Callable[..., Any], status: int, code: str, kind: type[errors.StoreError]
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
