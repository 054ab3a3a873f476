"""Notifications reach all keys below the policy's prefixes, by the rules of S3's own filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.doubles.event_filters import is_notified
from tests.terraform.conftest import applied
from tests.terraform.world import State, written

pytestmark = pytest.mark.slow

PREFIXES = ("dt=2026-11/", "My Scans/", "100% done/", "a+b/", "straße/", "plain/scans_1-2.3~/", "odd!'()*&$@:;,?/")


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> State:
    """A pair whose prefixes have characters that a filter writes otherwise than a key."""
    source = {"bucket": "example-odd", "region": "eu-central-1", "prefixes": list(PREFIXES)}
    policy = {
        "version": 1,
        "name": "odd",
        "ledger": {"bucket": "example-odd-ledger", "region": "eu-central-1"},
        "pairs": [
            {
                "name": "odd",
                "source": source | {"notifications": "replace"},
                "destination": {"bucket": "example-odd-copies", "region": "eu-central-1"},
            }
        ],
    }
    return applied(tmp_path_factory, "odd-prefixes", written(tmp_path_factory.mktemp("policy"), policy))[1]


def filters(state: State) -> list[Mapping[str, Any]]:
    (made,) = state.all_values("aws_s3_bucket_notification")
    return list(made["queue"])


@pytest.mark.parametrize("prefix", PREFIXES)
def test_s3_notifies_the_queue_of_every_key_below_a_prefix(odd: State, prefix: str):
    found = [each for each in filters(odd) if is_notified(each["filter_prefix"], f"{prefix}1.jpg")]
    assert len(found) == 1
    assert "s3:ObjectCreated:*" in found[0]["events"]


def test_and_of_no_other_key(odd: State):
    for key in ("dt", "dt%3D2026-11/1.jpg", "My+Scans/1.jpg", "a b/1.jpg", "plain/other/1.jpg"):
        assert not [each for each in filters(odd) if is_notified(each["filter_prefix"], key)], key
