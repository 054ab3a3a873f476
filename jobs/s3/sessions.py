"""Stores with boto3's configuration: endpoint, region, profile and credentials.

boto3's own rules apply (AWS_PROFILE, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the shared
configuration files, roles, container and instance credentials), through botocore's session. Its
S3 service model, which takes a third of a second to load, is not touched.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from msgspec.structs import replace

from jobs.credentials import open_session, resolve
from jobs.errors import ConfigError, SealiftWarning
from jobs.interrupts import raised
from jobs.s3.http.signing import Credentials

if TYPE_CHECKING:
    from jobs.core.run import Side
    from jobs.s3.http.endpoints import Endpoint
    from jobs.s3.rest_store import RestStore
    from jobs.s3.store import Store

DEFAULT_REGION = "us-east-1"
_REQUIRED = "when_required"
"""boto3's word for checksums that are neither sent nor asked for, but where S3 demands them."""


def open_store(
    endpoint: str | None,
    region: str | None,
    profile: str | None,
    *,
    max_in_flight: int = 256,
    request_payer: bool = False,
    is_paced: bool = False,
    owners: Mapping[str, str] | None = None,
) -> RestStore:
    """A store on the given endpoint, region and profile. What is None comes from boto3's own chain.

    `max_in_flight`: how many connections it may open. `request_payer`: pay for requests to
    Requester Pays buckets. `is_paced`: the caller heeds SlowDown itself, and is to hear of it soon.
    `owners`: bucket → id of the account that has to own it, else S3 refuses all requests for it.
    Raises ConfigError for an unknown profile, an
    endpoint that is no URL, or when there are no credentials.
    """
    from jobs.s3.rest_store import RestStore
    from jobs.s3.transport import TRIES_PACED, TRIES_PATIENT, Transport

    configured = _configuration(profile)
    region = region or configured.region or DEFAULT_REGION
    address = _endpoint(endpoint or configured.endpoint, region, configured)
    is_aws = address.partition is not None  # it takes all checksums, whatever a setting for another server says
    if not is_paced:  # a paced caller is a worker, and its planner was warned
        _warn_if_readable(address, configured)
    return RestStore(
        Transport(
            address,
            region,
            configured.credentials,
            max_in_flight=max_in_flight,
            request_payer=request_payer,
            ca_bundle=configured.ca_bundle,
            tries=TRIES_PACED if is_paced else TRIES_PATIENT,
            owners=owners,
        ),
        asks_checksums=configured.asks_checksums or is_aws,
        sends_checksums=configured.sends_checksums or is_aws,
    )


class StoreOptions(TypedDict, total=False):
    """How a store is used, as `open_store` says."""

    max_in_flight: int
    request_payer: bool
    is_paced: bool


def open_side(side: Side, *beside: Side, **options: Unpack[StoreOptions]) -> Store:
    """The store of a side, as `open_store` opens it.

    `beside`: sides whose buckets its copies read. Their owners are checked as well.
    """
    owners = {each.location.bucket: each.owner for each in (side, *beside) if each.owner}
    return open_store(side.endpoint, side.region, side.profile, owners=owners, **options)


@asynccontextmanager
async def side_store(side: Side, **options: Unpack[StoreOptions]) -> AsyncIterator[Store]:
    """`open_side`, closed at the end of the block."""
    store = open_side(side, **options)
    try:
        yield store
    finally:
        await store.close()


def endpoint_of(side: Side) -> Endpoint:
    """The endpoint that `open_side` would reach. Raises ConfigError."""
    configured = _configuration(side.profile, needs_credentials=False)
    region = side.region or configured.region or DEFAULT_REGION
    return _endpoint(side.endpoint or configured.endpoint, region, configured)


def are_apart(source: Side, destination: Side) -> bool:
    """Whether the sides are different services, wherever they were typed or configured.

    Then one bucket name means two buckets. Raises ConfigError for an invalid profile or
    endpoint.
    """
    is_typed_alike = replace(source, location=destination.location, owner=destination.owner) == destination
    return not is_typed_alike and endpoint_of(source).service != endpoint_of(destination).service


def account_of(side: Side) -> str:
    """What decides whose buckets a name means outside of AWS, where accounts have names of their own."""
    return side.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"


class _Configuration(NamedTuple):
    """What boto3's rules come to."""

    endpoint: str | None
    region: str | None
    ca_bundle: str | None
    is_fips: bool
    is_dualstack: bool
    asks_checksums: bool
    sends_checksums: bool
    credentials: Callable[[], Credentials]


def _configuration(profile: str | None, *, needs_credentials: bool = True) -> _Configuration:
    """What the environment alone decides, if it does, else what botocore finds. Raises ConfigError."""
    by_environment = _from_environment(os.environ) if profile is None else None
    return by_environment or _from_botocore(profile, needs_credentials=needs_credentials)


def _from_environment(values: Mapping[str, str]) -> _Configuration | None:
    """What botocore would find where the environment alone decides, without the third of a second
    it takes.

    None, so that botocore is asked, as soon as a profile or a configuration file has a say.
    """
    files = (
        values.get("AWS_CONFIG_FILE", "~/.aws/config"),
        values.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )
    key, secret = values.get("AWS_ACCESS_KEY_ID"), values.get("AWS_SECRET_ACCESS_KEY")
    has_more = any(values.get(name) for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION"))
    if not key or not secret or has_more or any(os.path.isfile(os.path.expanduser(file)) for file in files):
        return None
    ignored = _is_set(values, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    endpoint = None if ignored else values.get("AWS_ENDPOINT_URL_S3") or values.get("AWS_ENDPOINT_URL")
    region = values.get("AWS_DEFAULT_REGION") or values.get("AWS_REGION")
    token = values.get("AWS_SESSION_TOKEN") or values.get("AWS_SECURITY_TOKEN")
    fixed = Credentials(key, secret, token or None)
    return _Configuration(
        endpoint or None,
        region or None,
        values.get("AWS_CA_BUNDLE") or None,
        _is_set(values, "AWS_USE_FIPS_ENDPOINT"),
        _is_set(values, "AWS_USE_DUALSTACK_ENDPOINT"),
        values.get("AWS_RESPONSE_CHECKSUM_VALIDATION", "").lower() != _REQUIRED,
        values.get("AWS_REQUEST_CHECKSUM_CALCULATION", "").lower() != _REQUIRED,
        lambda: fixed,
    )


def _is_set(values: Mapping[str, str], name: str) -> bool:
    return values.get(name, "").lower() == "true"


def _from_botocore(profile: str | None, *, needs_credentials: bool) -> _Configuration:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = open_session(profile)
        return _Configuration(
            _configured_endpoint(session),
            session.get_config_variable("region") or os.environ.get("AWS_REGION"),
            session.get_config_variable("ca_bundle"),
            session.get_config_variable("use_fips_endpoint") or False,
            session.get_config_variable("use_dualstack_endpoint") or False,
            session.get_config_variable("response_checksum_validation") != _REQUIRED,
            session.get_config_variable("request_checksum_calculation") != _REQUIRED,
            _credentials(session, profile) if needs_credentials else _no_credentials,
        )
    except (BotoCoreError, ClientError, OSError, ValueError, KeyError, RuntimeError) as error:
        # ClientError: STS refused a role. The others are what providers let out.
        raise ConfigError(f"AWS configuration{f' of profile {profile!r}' if profile else ''}: {error}") from error


def _no_credentials() -> Credentials:
    raise AssertionError("nobody asked for credentials")


def _configured_endpoint(session: Any) -> str | None:
    """AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile's endpoint, as boto3 ranks them."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3")
    endpoint: str | None = provider.provide()
    return endpoint


def _endpoint(url: str | None, region: str, configured: _Configuration) -> Endpoint:
    """The endpoint of the URL. Without one, AWS's for the region."""
    from jobs.s3.http.endpoints import aws_endpoint, given_endpoint, masked

    if not url:
        return aws_endpoint(region, is_fips=configured.is_fips, is_dualstack=configured.is_dualstack)
    if configured.is_fips or configured.is_dualstack:
        named = "AWS_USE_FIPS_ENDPOINT" if configured.is_fips else "AWS_USE_DUALSTACK_ENDPOINT"
        raise ConfigError(
            f"endpoint {masked(url)!r}: {named} asks for one of AWS's", advice="set it for that side's profile alone"
        )
    return given_endpoint(url)


def _warn_if_readable(address: Endpoint, configured: _Configuration) -> None:
    """Warn of a session token that crosses a network in the clear, once for each endpoint."""
    from jobs.s3.http.endpoints import is_loopback

    if not address.is_tls and not is_loopback(address) and configured.credentials().token:
        message = (
            f"endpoint {address} is not encrypted: everyone on the way can read what is copied, "
            "and the session token of the temporary credentials; use https://"
        )
        warnings.warn(message, SealiftWarning, stacklevel=1)


def _credentials(session: Any, profile: str | None) -> Callable[[], Credentials]:
    """Fixed credentials once and for all. Those that expire are renewed in time."""
    from botocore.credentials import RefreshableCredentials

    from jobs.s3.refreshed_credentials import RefreshedCredentials, frozen

    with raised():  # a person may have to type a code
        found = resolve(session, profile)
        if isinstance(found, RefreshableCredentials):
            return RefreshedCredentials(found)
    if found is None:
        which = f"profile {profile!r} has none" if profile else "boto3's chain found none"
        raise ConfigError(
            f"no AWS credentials: {which}",
            advice="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile (AWS_PROFILE), or give this machine a role",
        )
    fixed = frozen(found)
    return lambda: fixed
