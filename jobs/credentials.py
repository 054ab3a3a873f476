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
from typing import Any, NamedTuple

from jobs.errors import ConfigError

LOCAL_KEY = "local"
"""How the access keys of `sealift local` begin, which makes one at each start."""


class Loan(NamedTuple):
    """Credentials for another process. `expires_at`: ISO 8601, None if they do not expire."""

    access_key: str
    secret_key: str
    token: str | None
    expires_at: str | None


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
    from botocore.credentials import DeferredRefreshableCredentials, RefreshableCredentials

    place = _place(profile)
    with _process.lock:
        found = _process.resolved.get(place)
        if found is None:
            found = session.get_credentials() if _process.lender is None else _borrow(_process.lender, profile)
            if isinstance(found, RefreshableCredentials):
                if isinstance(found, DeferredRefreshableCredentials):
                    found._refresh_using = _Renewal(found._refresh_using, profile)  # type: ignore[attr-defined]  # the stubs lack it
                _process.resolved[place] = found
    session.register_component("credential_provider", _Provider(found))
    return found


def lend(profile: str | None) -> Loan:
    """The profile's credentials, for another process. Fetches or renews them if needed.

    Raises ConfigError if there are none, or they cannot be fetched.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = resolve(open_session(profile), profile)
        if found is None:
            raise ConfigError("no AWS credentials were found")
        with _process.lending:  # a request during a renewal gets the new ones
            found.get_frozen_credentials()  # credentials of a role have an expiry once they are fetched
            expires_at = getattr(found, "_expiry_time", None)
            now = found.get_frozen_credentials()  # renewed meanwhile, they expire later than `expires_at`
    except (BotoCoreError, ClientError, EOFError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"AWS configuration{f' of profile {profile!r}' if profile else ''}: {error}") from error
    return Loan(now.access_key, now.secret_key, now.token, expires_at and expires_at.isoformat())


class _Renewal:
    """Renews credentials as botocore does, and asks for another MFA code where one is needed.

    botocore itself asks for the first code only, and then refuses to renew.
    """

    def __init__(self, fetch: Callable[[], dict[str, str | None]], profile: str | None):
        self._fetch, self._profile = fetch, profile

    def __call__(self) -> dict[str, str | None]:
        """The renewed credentials, in botocore's form."""
        from botocore.exceptions import RefreshWithMFAUnsupportedError

        try:
            return self._fetch()
        except RefreshWithMFAUnsupportedError:
            found: Any = open_session(self._profile).get_credentials()
            now = found.get_frozen_credentials()
            return _described(Loan(now.access_key, now.secret_key, now.token, found._expiry_time.isoformat()))


def _described(loan: Loan) -> dict[str, str | None]:
    return dict(zip(("access_key", "secret_key", "token", "expiry_time"), loan, strict=True))


class _Provider:
    """Gives a session's clients the credentials that are already resolved."""

    def __init__(self, found: Any):
        self._found = found

    def load_credentials(self) -> Any:
        """Return the credentials. Botocore calls this method."""
        return self._found


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
    if first.expires_at is None:
        return Credentials(first.access_key, first.secret_key, first.token)
    return RefreshableCredentials.create_from_metadata(_described(first), lambda: _described(fetch()), "lent")


def _place(profile: str | None) -> Hashable:
    """All that decides a profile's credentials: environment variables and the times of files."""
    names = sorted((name, value) for name, value in os.environ.items() if name == "HOME" or name.startswith("AWS_"))
    files = [("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")]
    return profile, *names, *(_changed_at(os.environ.get(name, default)) for name, default in files)


def _changed_at(file: str) -> int:
    try:
        return os.stat(os.path.expanduser(file)).st_mtime_ns
    except OSError:
        return 0
