"""Credentials that expire, renewed in a background thread.

botocore fetches new ones where the old ones are used, which may take seconds. The event loop must
not wait for that: requests are signed with the last ones, which hold for minutes to come.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

from jobs.core.pace import backoff_seconds
from jobs.s3.http.signing import Credentials

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 30.0
"""After a renewal. Some credentials hold for less than botocore's 15 minutes of advance."""
WAIT_SECONDS = 20.0
SURE_SECONDS = 16 * 60
"""Credentials that are valid for longer are not renewed: botocore renews them 15 minutes before."""


class RefreshedCredentials:
    """botocore's refreshing credentials. The first ones are had at once, so a refused role raises
    here.

    A renewal that fails is tried again, with full jitter. Until then the last ones are used. S3
    refuses them once they have expired. Other stores may share the source (`jobs.credentials`):
    what one of them has renewed counts for all.
    """

    def __init__(self, source: Any):
        self._source, self._last = source, frozen(source)
        self._thread: threading.Thread | None = None
        self._failures, self._look_at, self._renew_at = 0, 0.0, 0.0

    def __call__(self) -> Credentials:
        """The credentials to sign with now."""
        if time.monotonic() >= self._look_at and not self._is_renewing():
            self._look_at = time.monotonic() + LOOK_SECONDS
            if self._source.refresh_needed():
                if time.monotonic() >= self._renew_at:
                    self._thread = threading.Thread(target=self._renew, name="credentials", daemon=True)
                    self._thread.start()
            elif not self._source.refresh_needed(SURE_SECONDS):
                self._last = frozen(self._source)
        return self._last

    async def has_newer(self, used: Credentials) -> bool:
        """Whether there are other credentials than these, after a wait for those on their way."""
        ends_at = time.monotonic() + WAIT_SECONDS
        while self() == used and (self._is_renewing() or self._failures) and time.monotonic() < ends_at:
            await asyncio.sleep(0.05)
        return self._last != used

    def _is_renewing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _renew(self) -> None:
        try:
            self._last = frozen(self._source)
        except Exception:  # noqa: BLE001  providers raise anything, and the next try may succeed
            self._failures += 1
            self._look_at = self._renew_at = time.monotonic() + backoff_seconds(self._failures, random.random())
        else:
            self._failures, self._renew_at = 0, time.monotonic() + PAUSE_SECONDS


def frozen(source: Any) -> Credentials:
    """Botocore's credentials as they are now. They may be fetched for it."""
    now = source.get_frozen_credentials()
    return Credentials(now.access_key, now.secret_key, now.token)
