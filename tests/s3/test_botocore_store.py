"""What only the store on botocore does. All else is in the contract and beside our client."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError

from jobs import errors
from jobs.config import Settings
from jobs.core.model import Attributes, ObjectLock, ObjectRef
from jobs.s3.botocore_store.failures import failure, is_bare
from jobs.s3.botocore_store.store import BotocoreStore
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from jobs.s3.store import UNGUARDED, Store
from tests.doubles.scripted_server import CREDENTIALS, REF, Reply, Script, error_body
from tests.s3.head_refusals import HEAD_REFUSALS, check_head_is_asked_again


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    with mock.patch.dict(os.environ, kept | files | CREDENTIALS | {"SEALIFT_CLIENT": "botocore"}, clear=True):
        yield


def ask(script: Script, request: Any, **options: Any) -> Any:
    async def run() -> Any:
        store = open_store(script.endpoint, None, None, max_in_flight=4, **{"is_paced": True, **options})
        try:
            return await request(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_the_environment_names_the_client() -> None:
    assert isinstance(open_store("http://127.0.0.1:1", None, None), BotocoreStore)
    assert Settings.from_environment({"SEALIFT_CLIENT": "botocore"}).client == "botocore"
    with mock.patch.dict(os.environ, {"SEALIFT_CLIENT": "sealift"}):
        assert isinstance(open_store("http://127.0.0.1:1", None, None), RestStore)
    with mock.patch.dict(os.environ):
        del os.environ["SEALIFT_CLIENT"]
        assert isinstance(open_store("http://127.0.0.1:1", None, None), RestStore)


def test_an_unknown_client_is_refused_by_name() -> None:
    with (
        mock.patch.dict(os.environ, {"SEALIFT_CLIENT": "curl"}),
        pytest.raises(errors.ConfigError, match=r"SEALIFT_CLIENT='curl': expected sealift or botocore"),
    ):
        open_store("http://127.0.0.1:1", None, None)


def test_a_profile_decides_about_endpoint_region_and_key(script: Script, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[profile office]\nregion = eu-north-1\nendpoint_url = {script.endpoint}\n"
        "aws_access_key_id = desk\naws_secret_access_key = b\n"
    )
    script.reply = Reply(headers={"ETag": '"e"'})
    asyncio.run(open_store(None, None, "office").head(REF))
    (seen,) = script.seen
    assert seen.path == "/bucket/a%20key?versionId=v1"
    assert "Credential=desk/" in seen.headers["authorization"]
    assert "/eu-north-1/s3/" in seen.headers["authorization"]


def test_aws_buckets_become_part_of_the_host_name() -> None:
    store: Any = open_store(None, "us-east-1", None)
    assert store.heeds_conditions
    assert store._client.meta.endpoint_url == "https://s3.us-east-1.amazonaws.com"


def test_the_requester_pays_for_every_request_when_asked_to(script: Script) -> None:
    script.reply = Reply(body=b"<VersioningConfiguration/>", headers={"ETag": '"e"'})
    ask(script, lambda store: store.is_versioned("bucket"), request_payer=True)
    ask(script, lambda store: store.head(REF), request_payer=True)
    assert [seen.headers["x-amz-request-payer"] for seen in script.seen] == ["requester"] * 2
    assert all("x-amz-request-payer" in seen.headers["authorization"] for seen in script.seen)


@pytest.mark.parametrize("body", [b"<html>a login page</html>", b"<Tagging/>", b"", b"no XML"])
def test_a_200_with_another_document_is_not_an_empty_page(script: Script, body: bytes) -> None:
    script.reply = Reply(body=body)
    with pytest.raises(errors.Unavailable) as caught:
        ask(script, lambda store: store.list_objects("bucket", ""))
    assert caught.value.code in ("MalformedAnswer", "InternalError")  # the second is botocore's for no XML
    assert len(script.seen) == 2  # botocore asked again


def test_versions_and_delete_markers_keep_their_order(script: Script) -> None:
    def entry(kind: str, key: str, version: str) -> str:
        fields = f"<Key>{key}</Key><VersionId>{version}</VersionId><LastModified>2026-11-25T00:00:00Z</LastModified>"
        return f"<{kind}>{fields}</{kind}>"

    rows = [("DeleteMarker", "a", "3"), ("Version", "a", "2"), ("DeleteMarker", "a", "1"), ("Version", "b%2B", "1")]
    body = "".join(entry(*row) for row in rows)
    script.reply = Reply(
        body=f"<ListVersionsResult><EncodingType>url</EncodingType>{body}</ListVersionsResult>".encode()
    )
    page = ask(script, lambda store: store.list_versions("bucket", ""))
    found = [(each.is_delete_marker, each.key, each.version_id) for each in page.entries]
    assert found == [(True, "a", "3"), (False, "a", "2"), (True, "a", "1"), (False, "b+", "1")]


def test_attributes_that_botocore_would_change_go_out_as_they_are(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    headers = {"expires": "never", "content-disposition": "attachment; filename=Łódź"}
    attributes = Attributes(headers, {"port": "Łódź"}, lock=ObjectLock(legal_hold=True))
    ask(script, lambda store: store.put("bucket", "k", b"content", attributes, guard=UNGUARDED))
    (seen,) = script.seen
    assert seen.headers["expires"] == "never"
    assert seen.headers["content-disposition"].encode("latin-1").decode() == headers["content-disposition"]
    assert seen.headers["x-amz-meta-port"] == "=?UTF-8?B?xYHDs2TFug==?="
    assert seen.headers["content-md5"]
    assert seen.body == b"content"


def test_a_header_of_the_answer_is_read_as_utf_8(script: Script) -> None:
    headers = {"ETag": '"e"', "x-amz-meta-Port": "Łódź".encode().decode("latin-1"), "Expires": "never"}
    script.reply = Reply(headers=headers)
    attributes = ask(script, lambda store: store.head(REF)).attributes
    assert attributes.metadata == {"port": "Łódź"}
    assert attributes.headers["expires"] == "never"


@pytest.mark.parametrize(
    "attributes", [Attributes(metadata={"a": "b\r\nx-amz-acl: public-read"}), Attributes({"expires": "0\nx: y"})]
)
def test_no_value_ends_its_line(script: Script, attributes: Attributes) -> None:
    with pytest.raises(errors.Rejected, match="InvalidHeader"):
        ask(script, lambda store: store.put("bucket", "k", b"", attributes, guard=UNGUARDED))
    assert script.seen == []


def test_a_body_that_breaks_off_is_read_again_where_nobody_else_would(script: Script) -> None:
    whole, cut = Reply(200, {"ETag": '"e"'}, b"whole"), Reply(200, {"ETag": '"e"'}, b"who", length=5)
    script.first, script.reply = [cut], whole
    with pytest.raises(errors.Unavailable, match="IncompleteBody"):
        asyncio.run(_get_once(script))
    script.first = [cut]
    assert ask(script, lambda store: store.get(REF)).data == b"whole"


async def _get_once(script: Script) -> Any:
    store = open_store(script.endpoint, None, None, is_paced=True)
    assert isinstance(store, BotocoreStore)
    store._tries = 1
    return await store.get(REF)


def test_a_cancelled_call_leaves_the_store_usable(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"', "Content-Length": "3"})

    async def run(store: Store) -> Any:
        task = asyncio.create_task(store.head(REF))
        while not script.seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await store.head(ObjectRef("bucket", "k"))

    assert ask(script, run).size_bytes == 3


PAGE = b"<html><body>log in to the network</body></html>"


@pytest.mark.parametrize(
    "request_",
    [
        lambda store: store.delete("bucket", "key", if_match="e"),
        lambda store: store.request_restore(REF, days=1, tier="Bulk"),
        lambda store: store.put("bucket", "key", b"data", Attributes(), guard=UNGUARDED),
        lambda store: store.put_part("bucket", "key", "upload", 1, b"data"),
    ],
    ids=["delete", "restore", "put", "part"],
)
def test_a_page_where_nothing_is_due_is_no_success(script: Script, request_: Any) -> None:
    script.reply = Reply(headers={"ETag": '"e"', "Content-Type": "text/html"}, body=PAGE)
    with pytest.raises(errors.Unavailable, match="MalformedAnswer"):
        ask(script, request_)


def test_two_etags_belong_to_no_body(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e", "f"'}, body=b"data")
    with pytest.raises(errors.Unavailable, match="two ETags"):
        ask(script, lambda store: store.get(REF))


def test_a_store_that_is_closed_sends_nothing_again(script: Script) -> None:
    script.hold = threading.Event()
    script.reply = Reply(503, body=b"<Error><Code>SlowDown</Code></Error>")

    async def run() -> list[threading.Thread]:
        store = open_store(script.endpoint, None, None, max_in_flight=4)
        before = set(threading.enumerate())
        request = asyncio.create_task(store.put("bucket", "key", b"data", Attributes(), guard=UNGUARDED))
        while not script.seen:
            await asyncio.sleep(0.01)
        request.cancel()
        await store.close()
        return [each for each in set(threading.enumerate()) - before if each.name.startswith("botocore")]

    threads = asyncio.run(run())
    script.hold.set()
    for thread in threads:
        thread.join(20)
    assert len(script.seen) == 1


@pytest.mark.parametrize(("status", "is_versioned"), [("Enabled", True), ("Suspended", False)])
def test_a_bucket_whose_versioning_is_suspended_keeps_no_versions(
    script: Script, status: str, is_versioned: bool
) -> None:
    body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
    script.reply = Reply(body=body)
    assert ask(script, lambda store: store.is_versioned("bucket")) is is_versioned


@pytest.mark.parametrize(("status", "code", "kind"), HEAD_REFUSALS)
def test_a_refusal_of_head_is_asked_again_with_a_body(
    script: Script, status: int, code: str, kind: type[errors.StoreError]
) -> None:
    check_head_is_asked_again(script, ask, status, code, kind)


@pytest.mark.parametrize("readable", [Reply(206, {"ETag": '"e"'}, b"x"), Reply(416, body=error_body("InvalidRange"))])
def test_a_refusal_of_head_that_is_over_is_forgotten(script: Script, readable: Reply) -> None:
    script.first, script.reply = [Reply(403), readable], Reply(headers={"ETag": '"e"'})
    assert ask(script, lambda store: store.head(REF)).etag == "e"
    assert [seen.method for seen in script.seen] == ["HEAD", "GET", "HEAD"]


def test_a_refusal_of_head_that_a_get_does_not_meet_stays(script: Script) -> None:
    script.first, script.reply = [Reply(403), Reply(206, {"ETag": '"e"'}, b"x")], Reply(403)
    with pytest.raises(errors.Denied):
        ask(script, lambda store: store.head(REF))
    assert [seen.method for seen in script.seen] == ["HEAD", "GET", "HEAD"]


def test_what_was_not_sent_is_not_explained(script: Script) -> None:
    with pytest.raises(errors.Rejected, match="nothing was sent"):
        ask(script, lambda store: store.head(ObjectRef("bucket", "")))
    assert not script.seen


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "ExpiredToken", "renew"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_credentials_that_are_not_accepted_come_with_advice(
    script: Script, status: int, code: str, advice: str
) -> None:
    script.reply = Reply(status, body=error_body(code))
    with pytest.raises(errors.AuthenticationFailed, match=advice) as caught:
        ask(script, lambda store: store.get_tags(REF))
    assert script.endpoint in str(caught.value)


@pytest.mark.parametrize("known", [Reply(body=b"<VersioningConfiguration/>"), Reply(404)])
def test_a_signature_that_fails_for_one_key_is_that_keys_matter(script: Script, known: Reply) -> None:
    """Servers and proxies spell odd keys in their own ways. The secret key is right."""
    script.first = [Reply(403, body=error_body("SignatureDoesNotMatch")), known]
    with pytest.raises(errors.Denied) as caught:
        ask(script, lambda store: store.get_tags(REF))
    assert caught.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, errors.AuthenticationFailed),
        ("ExpiredToken", 400, errors.AuthenticationFailed),
        ("Throttling", 400, errors.Unavailable),
        ("ServiceUnavailable", 503, errors.Unavailable),
    ],
)
def test_a_refusal_of_new_credentials_is_not_one_of_the_object(
    code: str, status: int, kind: type[errors.StoreError]
) -> None:
    """botocore renews credentials within the call that needs them, by a request to another service."""
    answer: Any = {"Error": {"Code": code, "Message": "because"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = failure("HeadObject", REF, ClientError(answer, "AssumeRole"), "eu-west-1", "here")
    assert type(error) is kind
    assert not is_bare(error)
