"""Signatures are what botocore's own signer makes of the same request."""

from __future__ import annotations

import datetime
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from jobs.s3.encoded_words import encode
from jobs.s3.http.signing import EMPTY_SHA256, Credentials, Signer

TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map("x-amz-meta-{}".format)
BLANKS = " \t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
VALUES = st.lists(st.sampled_from(BLANKS) | TEXT, max_size=8).map("".join)


def signed_by_botocore(
    credentials: Credentials, epoch_seconds: float, region: str, method: str, path: str, query: str, headers: dict
) -> str:
    url = f"https://bucket.example{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers={**headers, "X-Amz-Content-SHA256": EMPTY_SHA256})
    request.context["client_config"] = None
    moment = datetime.datetime.fromtimestamp(int(epoch_seconds), datetime.UTC)
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=moment.replace(tzinfo=None)),
        mock.patch.object(S3SigV4Auth, "payload", return_value=EMPTY_SHA256),
    ):
        S3SigV4Auth(BotoCredentials(*credentials), "s3", region).add_auth(request)
    return request.headers["Authorization"]


def signed_by_us(signer: Signer, *request: Any) -> dict[str, str]:
    """The headers of a request that is signed."""
    lines = signer.head(*request).decode("utf-8", "surrogateescape").split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines)


@given(
    key=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40),
    parameters=st.dictionaries(st.sampled_from(["versionId", "uploads", "partNumber", "tagging"]), TEXT),
    metadata=st.dictionaries(NAMES, VALUES.map(encode), max_size=4),
    token=st.none() | st.just("token/+="),
    epoch_seconds=st.floats(0, 4e9),
    region=st.sampled_from(["us-east-1", "cn-north-1"]),
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
)
def test_a_signature_is_botocores(
    key: str,
    parameters: dict[str, str],
    metadata: dict[str, str],
    token: str | None,
    epoch_seconds: float,
    region: str,
    method: str,
) -> None:
    credentials = Credentials("AKID", "secret", token)
    path = "/" + quote(key, safe="/")
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    headers = {"Host": "bucket.example", **metadata}
    request = credentials, epoch_seconds, method, path, query
    ours = signed_by_us(Signer(region), *request, list(headers.items()))
    theirs = signed_by_botocore(credentials, epoch_seconds, region, method, path, query, headers)
    assert (ours["authorization"], ours.get("x-amz-security-token")) == (theirs, token)


@pytest.mark.parametrize("value", ["a  b", " a", "a ", " ", "a: b", "   "])
def test_spaces_within_a_value_are_one_and_around_it_none(value: str) -> None:
    credentials, headers = (
        Credentials("a", "one"),
        {"Host": "bucket.example", "x-amz-meta-a": value, "x-amz-meta-b": "c"},
    )
    ours = signed_by_us(Signer("us-east-1"), credentials, 0, "PUT", "/k", "", list(headers.items()))
    expected = signed_by_botocore(credentials, 0, "us-east-1", "PUT", "/k", "", headers)
    assert (ours["authorization"], ours["x-amz-meta-a"]) == (expected, value)


DESCRIBING = {
    "cache-control": "no-cache",
    "content-disposition": "attachment; filename=Łódź.pdf",
    "content-encoding": "gzip",
    "content-language": "pl",
    "expires": "never",
}
DECIDING = {
    "content-type": "a/b",
    "if-match": '"e"',
    "if-none-match": "*",
    "range": "bytes=0-1",
    "x-amz-meta-a": "b",
    "x-amz-copy-source": "/bucket/k",
}


def test_only_what_decides_is_signed() -> None:
    """A proxy may change what describes an object. Nobody may drop a condition or add a header of S3's own."""
    headers = {"Host": "bucket.example", **DESCRIBING, **DECIDING}
    ours = signed_by_us(Signer("us-east-1"), Credentials("a", "one"), 0, "PUT", "/k", "", list(headers.items()))
    signed = ours["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert set(signed) == {"host", *DECIDING, "x-amz-content-sha256", "x-amz-date"}
    assert DESCRIBING.items() <= ours.items()
    decisive = {"Host": "bucket.example", **DECIDING}
    expected = signed_by_botocore(Credentials("a", "one"), 0, "us-east-1", "PUT", "/k", "", decisive)
    assert ours["authorization"] == expected


def test_the_key_changes_with_the_day_and_with_the_credentials() -> None:
    signer = Signer("us-east-1")
    headers = {"Host": "bucket.example"}
    for credentials, day in [
        (Credentials("a", "one"), 0),
        (Credentials("a", "one"), 86_400),
        (Credentials("b", "two"), 86_400),
        (Credentials("a", "one"), 86_401),
    ]:
        ours = signed_by_us(signer, credentials, day, "GET", "/k", "", list(headers.items()))
        expected = signed_by_botocore(credentials, day, "us-east-1", "GET", "/k", "", headers)
        assert ours["authorization"] == expected
