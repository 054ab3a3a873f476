"""RestStore against a server that answers by script: what goes over the wire, and what each failure becomes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from jobs import errors
from jobs.core.model import Attributes, Checksum, ObjectLock, ObjectRef
from jobs.s3 import sessions
from jobs.s3.rest import RestStore
from jobs.s3.sessions import boto_client, open_store
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings, Marker, PartDone
from jobs.s3.transport import TRIES_PATIENT, TRIES_UNANSWERED, Endpoint
from tests.servers import Server, free_ports

REF = ObjectRef("bucket", "a key", "v1")
COPIED = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass
class Reply:
    """What the server answers; `length`: a Content-Length that may lie. Status 0: it hangs up without a word."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


@dataclass
class Seen:
    """What the server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Script:
    """A server whose every answer is `reply`, once those of `first` are given, and that remembers what it saw."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.first: list[Reply] = []
        self.seen: list[Seen] = []
        self.hold: threading.Event | None = None
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.seen.append(Seen(self.command, self.path, headers, body))
                if script.hold is not None:
                    script.hold.wait(20)
                reply = script.first.pop(0) if script.first else script.reply
                if not reply.status:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                if reply.length is not None:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 (http.server's names)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    """No configuration but the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    with mock.patch.dict(os.environ, kept | files | CREDENTIALS, clear=True):
        yield


def ask(script: Script, request: Callable[[RestStore], Awaitable[Any]], **options: Any) -> Any:
    """Run one request on a store of its own."""

    async def run() -> Any:
        store = open_store(script.endpoint, options.pop("region", None), None, max_in_flight=4, **options)
        try:
            return await request(store)
        finally:
            await store.close()

    return asyncio.run(run())


def copy(store: RestStore) -> Awaitable[Any]:
    return store.copy(REF, "e1", "bucket", "b", CopySettings(), guard=ABSENT)


def complete(store: RestStore) -> Awaitable[Any]:
    return store.complete_multipart("bucket", "k", "u", [PartDone(1, "e")], guard=ABSENT)


def copy_part(store: RestStore) -> Awaitable[Any]:
    return store.copy_part(REF, "e1", 0, 5, "bucket", "k", "u", 1)


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_copy_is_pinned_and_guarded(script: Script) -> None:
    script.reply = Reply(body=COPIED)
    assert ask(script, copy).etag == "e"
    (seen,) = script.seen
    assert (seen.method, seen.path, seen.body) == ("PUT", "/bucket/b", b"")
    assert seen.headers["x-amz-copy-source"] == "/bucket/a%20key?versionId=v1"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e1"'
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["host"] == script.endpoint.removeprefix("http://")
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "x-amz-copy-source-if-match" in seen.headers["authorization"]
    assert "x-amz-request-payer" not in seen.headers


def test_a_delete_may_be_conditional(script: Script) -> None:
    script.reply = Reply(204)
    ask(script, lambda store: store.delete("bucket", "k", if_match="e1"))
    ask(script, lambda store: store.delete("bucket", "k", version_id="v1"))
    guarded, exact = script.seen
    assert (guarded.method, guarded.path, guarded.headers["if-match"]) == ("DELETE", "/bucket/k", '"e1"')
    assert (exact.path, "if-match" in exact.headers) == ("/bucket/k?versionId=v1", False)


def test_versions_are_deleted_by_one_request_and_each_has_its_answer(script: Script) -> None:
    script.reply = Reply(
        body=b"<DeleteResult><Deleted><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Deleted>"
        b"<Deleted><Key>m</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>2</DeleteMarkerVersionId></Deleted>"
        b"<Error><Key>held</Key><VersionId>3</VersionId><Code>AccessDenied</Code><Message>locked</Message></Error>"
        b"</DeleteResult>"
    )
    versions = [("a&b\n", "1"), ("m", "2"), ("held", "3"), ("forgotten", "4")]
    told = ask(script, lambda store: store.delete_versions("bucket", versions))
    (seen,) = script.seen
    assert (seen.method, seen.path) == ("POST", "/bucket/?delete=")
    assert seen.headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(seen.body).digest()).decode()
    assert b"<Object><Key>a&amp;b&#10;</Key><VersionId>1</VersionId></Object>" in seen.body
    assert b"Quiet" not in seen.body
    assert told[:2] == [None, None]
    assert isinstance(told[2], errors.Denied)
    assert isinstance(told[3], errors.Unavailable)  # nothing is known of it


def test_copy_settings_are_asked_for(script: Script) -> None:
    script.reply = Reply(body=COPIED)
    lock = ObjectLock("GOVERNANCE", "2099-01-01T00:00:00Z", legal_hold=True)
    settings = CopySettings(storage_class="STANDARD_IA", sse="aws:kms", kms_key_id="key", lock=lock)
    ask(script, lambda store: store.copy(REF, None, "bucket", "b", settings, guard=UNGUARDED))
    headers = script.seen[0].headers
    assert "x-amz-copy-source-if-match" not in headers
    assert "if-none-match" not in headers
    assert {name: value for name, value in headers.items() if "lock" in name or "server-side" in name} == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key",
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
        "x-amz-object-lock-legal-hold": "ON",
    }


def test_the_requester_pays_for_every_request_when_asked_to(script: Script) -> None:
    script.reply = Reply(body=COPIED, headers={"ETag": '"e"'})
    ask(script, copy, request_payer=True)
    ask(script, lambda store: store.head(REF), request_payer=True)
    ask(script, lambda store: store.put("bucket", "k", b"", Attributes(), guard=ABSENT), request_payer=True)
    assert [seen.headers["x-amz-request-payer"] for seen in script.seen] == ["requester"] * 3


def test_a_part_copy_names_its_range(script: Script) -> None:
    script.reply = Reply(body=b'<CopyPartResult><ETag>"e"</ETag></CopyPartResult>')
    ask(script, lambda store: store.copy_part(REF, "e1", 10, 20, "bucket", "k", "u/+=", 7))
    (seen,) = script.seen
    assert seen.path == "/bucket/k?partNumber=7&uploadId=u%2F%2B%3D"
    assert seen.headers["x-amz-copy-source-range"] == "bytes=10-19"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e1"'


def test_reads_ask_for_checksums_and_are_conditional(script: Script) -> None:
    script.reply = Reply(206, {"Content-Range": "bytes 2-3/10"}, b"xy")
    body = ask(script, lambda store: store.get(REF, start=2, end=4, if_match="e1"))
    assert (body.data, body.info.size_bytes) == (b"xy", 10)
    ask(script, lambda store: store.head(REF, part_number=3))
    get, head = script.seen
    assert (get.path, get.headers["range"], get.headers["if-match"]) == (
        "/bucket/a%20key?versionId=v1",
        "bytes=2-3",
        '"e1"',
    )
    assert head.path == "/bucket/a%20key?versionId=v1&partNumber=3"
    assert get.headers["x-amz-checksum-mode"] == head.headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_multipart_upload_says_which_checksum_it_will_have(script: Script) -> None:
    script.reply = Reply(body=b"<R><UploadId>u</UploadId></R>")
    attributes = Attributes(
        headers={"content-type": "x/y"}, metadata={"k": "v"}, tags={"a": "b"}, storage_class="GLACIER_IR"
    )
    upload_id = ask(
        script,
        lambda store: store.create_multipart("bucket", "k", attributes, checksum_algorithm="SHA256", is_composite=True),
    )
    (seen,) = script.seen
    assert (upload_id, seen.method, seen.path) == ("u", "POST", "/bucket/k?uploads=")
    expected = {
        "content-type": "x/y",
        "x-amz-meta-k": "v",
        "x-amz-tagging": "a=b",
        "x-amz-storage-class": "GLACIER_IR",
        "x-amz-checksum-algorithm": "SHA256",
        "x-amz-checksum-type": "COMPOSITE",
    }
    assert {name: seen.headers.get(name) for name in expected} == expected


def test_complete_demands_the_full_object_checksum(script: Script) -> None:
    script.reply = Reply(body=b'<R><ETag>"e-1"</ETag></R>')
    checksum = Checksum("CRC64NVME", "AAAAAAAAAAA=")
    ask(
        script,
        lambda s: s.complete_multipart("bucket", "k", "u", [PartDone(1, "e")], guard=ABSENT, checksum=checksum),
    )
    (seen,) = script.seen
    assert seen.headers["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="
    assert seen.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert b'<PartNumber>1</PartNumber><ETag>"e"</ETag>' in seen.body


def test_an_object_lock_brings_a_checksum_that_s3_demands(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    attributes = Attributes(lock=ObjectLock(legal_hold=True))
    ask(script, lambda store: store.put("bucket", "k", b"x", attributes, guard=ABSENT))
    assert "x-amz-checksum-crc64nvme" in script.seen[0].headers


def test_listings_ask_for_encoded_keys_and_go_on_where_they_stopped(script: Script) -> None:
    script.reply = Reply(body=b"<ListBucketResult></ListBucketResult>")
    ask(script, lambda store: store.list_objects("bucket", "p/ü", after=Marker("k"), delimiter="/"))
    ask(script, lambda store: store.list_objects("bucket", "", after=Marker("k", None, "t+k="), max_keys=5))
    ask(script, lambda store: store.list_versions("bucket", "", after=Marker("k", "v1")))
    assert [seen.path for seen in script.seen] == [
        "/bucket/?list-type=2&encoding-type=url&max-keys=1000&prefix=p%2F%C3%BC&delimiter=%2F&start-after=k",
        "/bucket/?list-type=2&encoding-type=url&max-keys=5&continuation-token=t%2Bk%3D",
        "/bucket/?versions=&encoding-type=url&max-keys=1000&key-marker=k&version-id-marker=v1",
    ]


# --- failures -------------------------------------------------------------------------------------------------------


def error_body(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>because</Message>{more}</Error>".encode()


@pytest.mark.parametrize("request_", [copy, copy_part, complete])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalError", errors.Unavailable),
        ("SlowDown", errors.Throttled),
        ("PreconditionFailed", errors.PreconditionFailed),
        ("SomethingNew", errors.Unavailable),
    ],
)
def test_an_error_in_the_body_of_a_200_is_an_error(
    script: Script, request_: Callable[[RestStore], Awaitable[Any]], code: str, kind: type[errors.StoreError]
) -> None:
    script.reply = Reply(200, body=error_body(code))
    with pytest.raises(kind) as caught:
        ask(script, request_)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", errors.NotFound),
        (403, "AccessDenied", errors.Denied),
        (403, "InvalidObjectState", errors.ArchivedObject),
        (403, "RequestTimeTooSkewed", errors.Denied),
        (409, "ConditionalRequestConflict", errors.Conflict),
        (412, "PreconditionFailed", errors.PreconditionFailed),
        (400, "BadDigest", errors.Unavailable),
        (400, "XAmzContentSHA256Mismatch", errors.Unavailable),
        (400, "InvalidArgument", errors.Rejected),
        (500, "InternalError", errors.Unavailable),
        (503, "SlowDown", errors.Throttled),
        (503, "ServiceUnavailable", errors.Throttled),
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


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_who_has_no_pace_to_lower_is_patient(
    script: Script, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    script.reply = Reply(status, body=error_body(code))
    with pytest.raises(errors.Unavailable):
        ask(script, copy)
    assert len(script.seen) == TRIES_PATIENT


BUSY, SILENT, CUT = Reply(503, body=error_body("SlowDown")), Reply(0), Reply(200, {}, b"sho", length=5)


@pytest.mark.parametrize("first", [[BUSY, SILENT, BUSY, SILENT, CUT], [CUT] * 5, [SILENT, SILENT, BUSY, SILENT]])
def test_who_is_patient_outlives_answers_that_break_off_and_silence_between_answers(
    script: Script, first: list[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    script.first, script.reply = list(first), Reply(200, {}, b"whole")
    assert ask(script, lambda store: store.get(REF)).data == b"whole"
    assert not script.first


def test_nobody_is_patient_with_silence(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    script.reply = SILENT
    with pytest.raises(errors.Unavailable, match="ConnectionLost"):
        ask(script, lambda store: store.get(REF))
    assert len(script.seen) == TRIES_UNANSWERED


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


@pytest.mark.parametrize(
    "reply",
    [
        Reply(301, {"x-amz-bucket-region": "eu-west-3"}),
        Reply(301, {"x-amz-bucket-region": "eu-west-3"}, error_body("PermanentRedirect")),
        Reply(400, {"x-amz-bucket-region": "eu-west-3"}),
        Reply(400, {}, error_body("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")),
    ],
)
def test_a_bucket_in_another_region_is_told_with_advice(script: Script, reply: Reply) -> None:
    script.reply = reply
    with pytest.raises(errors.Redirected, match=r"eu-west-3.*us-east-1.*--source-region"):
        ask(script, lambda store: store.get(REF))


def test_an_answer_that_breaks_off_is_unavailable(script: Script) -> None:
    script.reply = Reply(200, {}, b"short", length=10)
    with pytest.raises(errors.Unavailable):
        ask(script, lambda store: store.get(REF))


@pytest.mark.parametrize(
    "request_",
    [
        copy,
        complete,
        lambda store: store.list_objects("bucket", ""),
        lambda store: store.get_tags(REF),
        lambda store: store.is_versioned("bucket"),
        lambda store: store.create_multipart("bucket", "k", Attributes()),
    ],
)
def test_an_answer_that_is_no_answer_of_s3_is_unavailable(
    script: Script, request_: Callable[[RestStore], Awaitable[Any]]
) -> None:
    script.reply = Reply(200, {}, b"<html>a proxy's login page<br></html>")
    with pytest.raises(errors.Unavailable) as caught:
        ask(script, request_)
    assert caught.value.code == "MalformedAnswer"


def test_a_server_without_ranges_is_cut_to_the_range(script: Script) -> None:
    script.reply = Reply(200, {}, b"0123456789")
    assert ask(script, lambda store: store.get(REF, start=2, end=4)).data == b"23"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = open_store(endpoint, None, None, max_in_flight=1)
    with pytest.raises(errors.Unavailable, match=endpoint):
        asyncio.run(store.head(REF))


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            for _ in range(8):
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        store = open_store(f"http://127.0.0.1:{port}", None, None, max_in_flight=1)
        with pytest.raises(errors.Unavailable):
            asyncio.run(store.head(REF))


def test_a_cancelled_request_leaves_the_store_usable(script: Script) -> None:
    script.hold = threading.Event()
    script.reply = Reply(headers={"ETag": '"e"', "Content-Length": "3"})

    async def run(store: RestStore) -> Any:
        task = asyncio.create_task(store.head(REF))
        while not script.seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert script.hold is not None
        script.hold.set()
        return await store.head(REF)

    assert ask(script, run).size_bytes == 3


def test_a_store_may_be_used_from_one_event_loop_after_another(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    store = open_store(script.endpoint, None, None, max_in_flight=2)
    assert [asyncio.run(store.head(REF)).etag for _ in range(3)] == ["e"] * 3


# --- sessions -------------------------------------------------------------------------------------------------------


def test_aws_buckets_become_part_of_the_host_name_unless_they_have_dots() -> None:
    store = open_store(None, "eu-west-1", None)
    endpoint = store.transport.endpoint
    assert endpoint.address("logs") == ("logs.s3.eu-west-1.amazonaws.com", "/")
    assert endpoint.address("a.logs") == ("s3.eu-west-1.amazonaws.com", "/a.logs/")
    assert endpoint.is_tls
    assert Endpoint("h:1", False, "/s3").address("logs") == ("h:1", "/s3/logs/")


def test_endpoint_and_region_come_as_boto3_finds_them(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile office]\nregion = eu-north-1\nendpoint_url = http://office:1\n"
        "aws_access_key_id = a\naws_secret_access_key = b\n"
    )

    def found(endpoint: str | None = None, region: str | None = None, profile: str | None = None) -> tuple[str, str]:
        transport = open_store(endpoint, region, profile).transport
        return str(transport.endpoint), transport.region

    assert found() == ("https://s3.us-east-1.amazonaws.com", "us-east-1")
    assert found(profile="office") == ("http://office:1", "eu-north-1")
    with mock.patch.dict(os.environ, {"AWS_PROFILE": "office"}):
        assert found() == ("http://office:1", "eu-north-1")
    with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": "http://all:1", "AWS_DEFAULT_REGION": "eu-west-2"}):
        assert found() == ("http://all:1", "eu-west-2")
        with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL_S3": "http://s3:1"}):
            assert found() == ("http://s3:1", "eu-west-2")
            assert found("https://given/base/", "ap-south-1") == ("https://given/base", "ap-south-1")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:80", "ftp://host", "http://", "http://host:port", "http://u:p@host"])
def test_an_endpoint_that_is_no_url_is_a_config_error(endpoint: str) -> None:
    with pytest.raises(errors.ConfigError, match="expected http"):
        open_store(endpoint, None, None)


@pytest.mark.parametrize("open_", [open_store, boto_client])
def test_an_unknown_profile_is_a_config_error(open_: Callable[..., object]) -> None:
    with pytest.raises(errors.ConfigError, match="nobody"):
        open_(None, None, "nobody")


def test_no_credentials_are_a_config_error_with_advice() -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del os.environ[name]
    with pytest.raises(errors.ConfigError, match="AWS_ACCESS_KEY_ID"):
        open_store(None, None, None)


def test_botocore_loads_no_service_model() -> None:
    with mock.patch.object(Loader, "load_service_model", side_effect=AssertionError("a service model is loaded")):
        open_store(None, None, None)


def refreshing(ids: Iterator[str]) -> RefreshableCredentials:
    """Credentials that ask `ids` for the next ones when they have expired."""

    def refresh() -> dict[str, str]:
        try:
            access_key = next(ids)
        except StopIteration:
            raise OSError("the identity service is away") from None
        return {"access_key": access_key, "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00Z"}

    return RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")


def expire(credentials: Any) -> None:
    credentials._expiry_time = credentials._expiry_time.replace(year=2020)


def test_credentials_that_expire_are_asked_for_again(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    credentials = refreshing(iter(["first", "second"]))

    async def run(store: RestStore) -> None:
        await store.head(REF)
        expire(credentials)
        await store.head(REF)
        await store.head(REF)
        expire(credentials)
        await store.head(REF)  # nobody gives new ones: S3 is to say that these are too old

    with through_botocore(), mock.patch("botocore.session.Session.get_credentials", return_value=credentials):
        ask(script, run)
    used = [seen.headers["authorization"].split("Credential=")[1].split("/")[0] for seen in script.seen]
    assert used == ["first", "second", "second", "second"]
    assert script.seen[0].headers["x-amz-security-token"] == "t"


def test_a_role_that_is_refused_is_a_config_error() -> None:
    credentials = mock.Mock(spec=RefreshableCredentials)
    refusal: Any = {"Error": {"Code": "AccessDenied", "Message": "not you"}}
    credentials.get_frozen_credentials.side_effect = ClientError(refusal, "AssumeRole")
    with (
        through_botocore(),
        mock.patch("botocore.session.Session.get_credentials", return_value=credentials),
        pytest.raises(errors.ConfigError, match="not you"),
    ):
        open_store(None, None, None)


# --- a real server --------------------------------------------------------------------------------------------------


def test_64_mib_go_up_in_one_request_and_come_back_in_another(seaweed: Server) -> None:
    os.environ.update(seaweed.environment())
    seaweed.client().create_bucket(Bucket="large")
    data = os.urandom(64 * 1024 * 1024)

    async def run() -> tuple[str, bytes]:
        store = open_store(None, None, None, max_in_flight=4)
        await store.put("large", "k", data, Attributes(), guard=ABSENT)
        body = await store.get(ObjectRef("large", "k"), start=0, end=len(data))
        await store.close()
        return body.info.etag, body.data

    etag, back = asyncio.run(run())
    assert back == data
    assert etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def through_botocore() -> Any:
    """Not by the short cut for environments that decide alone."""
    return mock.patch("jobs.s3.sessions._from_environment", return_value=None)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"AWS_SESSION_TOKEN": "token"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_REGION": "eu-west-1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:3"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2", "AWS_CA_BUNDLE": "/some/ca.pem"},
    ],
)
def test_the_environment_alone_is_read_as_botocore_reads_it(extra: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    values = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"} | nowhere | extra
    with mock.patch.dict(os.environ, values, clear=True):
        short, long = sessions._from_environment(os.environ), sessions._from_botocore(None, needs_endpoint=True)
        assert short is not None
        assert short[:3] == long[:3]
        assert short.credentials() == long.credentials()
        assert short.credentials().secret_key == "secret"


@pytest.mark.parametrize(
    "name", ["AWS_PROFILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE"]
)
def test_whatever_else_has_a_say_botocore_is_asked(name: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\n")
    values = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": str(tmp_path)}
    with mock.patch.dict(os.environ, values, clear=True):
        assert sessions._from_environment(os.environ) is not None
        changed = {"AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": str(tmp_path / "config")}.get(name, "something")
        assert sessions._from_environment(os.environ | {name: changed}) is None
