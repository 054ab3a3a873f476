"""Endpoints, regions and credentials, as boto3's rules say."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from jobs import errors
from jobs.s3 import refreshed_credentials, sessions
from jobs.s3.http.signing import Credentials
from jobs.s3.refreshed_credentials import RefreshedCredentials
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from tests.doubles.scripted_server import REF, Reply, Script, ask, error_body


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


def test_fips_and_dualstack_endpoints_are_taken_as_boto3_takes_them(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile agency]\nregion = us-gov-west-1\nuse_fips_endpoint = true\n"
        "aws_access_key_id = a\naws_secret_access_key = b\n"
    )
    assert str(open_store(None, None, "agency").transport.endpoint) == "https://s3-fips.us-gov-west-1.amazonaws.com"
    with mock.patch.dict(os.environ, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}):
        assert (
            str(open_store(None, "eu-west-1", None).transport.endpoint)
            == "https://s3.dualstack.eu-west-1.amazonaws.com"
        )
        with pytest.raises(errors.ConfigError, match="AWS_USE_DUALSTACK_ENDPOINT"):
            open_store("http://127.0.0.1:1", None, None)


def test_an_unknown_profile_is_a_config_error() -> None:
    with pytest.raises(errors.ConfigError, match="nobody"):
        open_store(None, None, "nobody")


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


@contextlib.contextmanager
def found_by_botocore(credentials: Any) -> Iterator[None]:
    """Botocore finds these credentials. The short cut for environments that decide alone is not taken."""
    with (
        mock.patch("jobs.s3.sessions._from_environment", return_value=None),
        mock.patch("botocore.session.Session.get_credentials", return_value=credentials),
    ):
        yield


def expire(credentials: Any) -> None:
    credentials._expiry_time = credentials._expiry_time.replace(year=2020)


def used(script: Script) -> list[str]:
    return [seen.headers["authorization"].split("Credential=")[1].split("/")[0] for seen in script.seen]


EXPIRED = Reply(400, body=error_body("ExpiredToken"))


def test_credentials_that_expire_are_renewed_while_a_request_waits(script: Script) -> None:
    script.reply = Reply(headers={"ETag": '"e"'})
    is_refused = threading.Event()

    def ids() -> Iterator[str]:
        yield "first"
        is_refused.wait(20)
        yield "second"

    class Refusal(list[Reply]):
        """Lets the renewal go on once the old credentials have been refused."""

        def pop(self, *_: Any) -> Reply:
            is_refused.set()
            return super().pop()

    credentials = refreshing(ids())

    async def run(store: RestStore) -> None:
        await store.get(REF)
        expire(credentials)
        script.first = Refusal([EXPIRED])
        await store.get(REF)
        await store.get(REF)

    with found_by_botocore(credentials), mock.patch.object(refreshed_credentials, "LOOK_SECONDS", 0.0):
        ask(script, run)
    assert used(script) == ["first", "first", "second", "second"]
    assert script.seen[0].headers["x-amz-security-token"] == "t"


def test_what_one_store_has_renewed_counts_for_those_that_share_it() -> None:
    """The source and the destination of a run, where only one of them came to renew."""
    shared = refreshing(iter(["first", "second"]))
    one, other = RefreshedCredentials(shared), RefreshedCredentials(shared)
    expire(shared)
    one()
    assert one._thread is not None
    one._thread.join()
    assert (other().access_key, other._thread) == ("second", None)


def test_credentials_that_nobody_renews_end_with_what_to_renew(script: Script) -> None:
    script.reply = EXPIRED
    credentials = refreshing(iter(["first"]))
    expire(credentials)
    with (
        mock.patch.object(refreshed_credentials, "WAIT_SECONDS", 0.1),
        mock.patch.object(refreshed_credentials, "frozen", side_effect=[Credentials("first", "s", "t"), OSError()]),
        found_by_botocore(credentials),
        pytest.raises(errors.AuthenticationFailed, match="renew"),
    ):
        ask(script, lambda store: store.get(REF))


@pytest.mark.parametrize("error", [OSError, KeyError, RuntimeError, AssertionError])
def test_a_renewal_neither_blocks_requests_nor_raises(error: type[Exception]) -> None:
    may_go_on, is_asked = threading.Event(), threading.Event()
    source = mock.Mock()

    def slow() -> Credentials:
        is_asked.set()
        may_go_on.wait(20)
        raise error

    with mock.patch.object(refreshed_credentials, "frozen", return_value=Credentials("first", "s")):
        credentials = RefreshedCredentials(source)
    source.get_frozen_credentials.side_effect = slow
    assert credentials().access_key == "first"
    assert is_asked.wait(20)
    assert credentials().access_key == "first"
    may_go_on.set()
    assert credentials._thread is not None
    credentials._thread.join()
    assert credentials().access_key == "first"


def test_a_role_that_is_refused_is_a_config_error() -> None:
    credentials = mock.Mock(spec=RefreshableCredentials)
    refusal: Any = {"Error": {"Code": "AccessDenied", "Message": "not you"}}
    credentials.get_frozen_credentials.side_effect = ClientError(refusal, "AssumeRole")
    with found_by_botocore(credentials), pytest.raises(errors.ConfigError, match="not you"):
        open_store(None, None, None)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"AWS_SESSION_TOKEN": "token"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_REGION": "eu-west-1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:3"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2", "AWS_CA_BUNDLE": "/some/ca.pem"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "True", "AWS_USE_FIPS_ENDPOINT": "false"},
    ],
)
def test_the_environment_alone_is_read_as_botocore_reads_it(extra: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    values = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"} | nowhere | extra
    with mock.patch.dict(os.environ, values, clear=True):
        short, long = sessions._from_environment(os.environ), sessions._from_botocore(None, needs_credentials=True)
        assert short is not None
        assert short[:5] == long[:5]
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
