"""Policies that a test writes down, and their policy.json."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from jobs.policy.model import Policy
from jobs.policy.reader import parse_policy
from jobs.policy.resolved import ResolvedPolicy, encode_policy


def resolved(document: dict[str, Any] | bytes) -> bytes:
    """What `sealift policy check --write` writes for a document, or for the bytes of a YAML file."""
    data = document if isinstance(document, bytes) else yaml.safe_dump(document).encode()
    policy = parse_policy(data, "policy.yaml")
    return encode_policy(ResolvedPolicy(file="policy.yaml", sha256=hashlib.sha256(data).hexdigest(), policy=policy))


def policy_of(*names: str, **terms: Any) -> Policy:
    """A policy of pairs with these names. Each has these terms, and a backlog that is due after half an hour."""
    terms = {"thresholds": {"backlog_age": "30m"}, **terms}
    pairs = [
        {"name": each, "source": {"bucket": each, "region": "us-east-1"}}
        | {"destination": {"bucket": f"{each}-hot", "region": "us-east-1"}, **terms}
        for each in names
    ]
    policy = {"version": 1, "ledger": {"bucket": "ledger", "region": "us-east-1"}, "pairs": pairs}
    return parse_policy(json.dumps(policy).encode(), "policy.yaml")  # YAML, too, and without aliases
