"""Credentials of profiles: resolved once in a process, and lent to the workers that it starts.

A role may need a code from a person's device (MFA), a sign-in, or a request to STS. So all sessions
of a process share the credentials that the first one has resolved. A worker on this machine borrows
them from its parent, through the pipes between the two (`jobs.runs.parent_pipe`). They are never in
a command line or a file. Credentials that do not expire are not shared: each session reads them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any, NamedTuple

from jobs.errors import ConfigError


class Loan(NamedTuple):
    """Credentials for another process, by botocore's names. `expiry_time`: ISO 8601, None if they do not expire."""

    access_key: str
    secret_key: str
    token: str | None
    expiry_time: str | None


Lender = Callable[[str | None], Loan]
"""Lends the credentials of a profile. None: the default ones. Raises ConfigError."""


class _Process:
    """What the sessions of this process share."""

    def __init__(self) -> None:
        self.lock, self.resolved = threading.Lock(), dict[Hashable, Any]()
        self.lender: Lender | None = None
        self.lending = threading.Lock()


_process = _Process()


def borrow_from(lender: Lender) -> None:
    """Have this process borrow all of its credentials from another one."""
    _process.lender = lender


def open_session(profile: str | None) -> Any:
    """Botocore's session of a profile, None: the default one. Raises ConfigError for an unknown one."""
    from botocore.exceptions import ProfileNotFound
    from botocore.session import Session

    session = Session(profile=profile)
    try:
        session.get_scoped_config()
    except ProfileNotFound as error:
        known = ", ".join(session.available_profiles) or "none"
        raise ConfigError(
            str(error),
            advice=f"name one of the profiles in ~/.aws/config (there: {known}), in the option that names it "
            "(such as --source-profile) or in AWS_PROFILE",
        ) from error
    return session


def resolve(session: Any, profile: str | None) -> Any:
    """Botocore's credentials of the profile, None if it has none.

    All clients of the session use them. Raises whatever botocore's providers raise.
    """
    from botocore.credentials import RefreshableCredentials

    place = profile, *sorted(name_and_value for name_and_value in os.environ.items() if name_and_value[0][:4] == "AWS_")
    with _process.lock:
        found = _process.resolved.get(place)
        if found is None:
            found = session.get_credentials() if _process.lender is None else _borrow(_process.lender, profile)
            if isinstance(found, RefreshableCredentials):
                _process.resolved[place] = found
    session.register_component("credential_provider", SimpleNamespace(load_credentials=lambda: found))
    return found


def lend(profile: str | None) -> Loan:
    """The profile's credentials, for another process. Fetches or renews them if needed.

    Raises ConfigError if there are none, or they cannot be fetched.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = resolve(open_session(profile), profile)
        if found is None:
            raise ConfigError("no AWS credentials were found", advice="set AWS_PROFILE, or AWS_ACCESS_KEY_ID")
        with _process.lending:  # a request during a renewal gets the new ones
            found.get_frozen_credentials()  # credentials of a role have an expiry once they are fetched
            expires_at = getattr(found, "_expiry_time", None)
            now = found.get_frozen_credentials()  # renewed meanwhile, they expire later than `expires_at`
    except (BotoCoreError, ClientError, EOFError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"AWS configuration{f' of profile {profile!r}' if profile else ''}: {error}") from error
    return Loan(now.access_key, now.secret_key, now.token, expires_at and expires_at.isoformat())


def _borrow(lender: Lender, profile: str | None) -> Any:
    """Botocore's credentials that the lender lends and renews."""
    from botocore.credentials import Credentials, RefreshableCredentials
    from botocore.exceptions import CredentialRetrievalError

    def fetch() -> Loan:
        try:
            return lender(profile)
        except ConfigError as error:
            raise CredentialRetrievalError(provider="the command that runs this worker", error_msg=error) from error

    first = fetch()
    if first.expiry_time is None:
        return Credentials(first.access_key, first.secret_key, first.token)
    return RefreshableCredentials.create_from_metadata(first._asdict(), lambda: fetch()._asdict(), "lent")
