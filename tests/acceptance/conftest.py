"""A site that has no system behind it."""

from __future__ import annotations

import pytest

from tests.acceptance.local import POLICY
from tests.acceptance.site import Places, Site


@pytest.fixture
def site() -> Site:
    return Site(Places.of(POLICY), {}, "workers", "orchestrators", "definition-{job}", poll_seconds=0, limit_seconds=0)
