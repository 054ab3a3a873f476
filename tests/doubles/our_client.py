"""A store on our own client, whichever one the environment names."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store


def open_rest_store(*arguments: Any, **options: Any) -> RestStore:
    """`open_store`, for tests that look at what only our client has."""
    with mock.patch.dict(os.environ, {"SEALIFT_CLIENT": "sealift"}):
        store = open_store(*arguments, **options)
    assert isinstance(store, RestStore)
    return store
