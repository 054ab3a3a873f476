"""policy.json of a policy that a test writes down."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml

from jobs.policy.reader import parse_policy
from jobs.policy.resolved import ResolvedPolicy, encode_policy


def resolved(document: dict[str, Any] | bytes) -> bytes:
    """What `sealift policy check --write` writes for a document, or for the bytes of a YAML file."""
    data = document if isinstance(document, bytes) else yaml.safe_dump(document).encode()
    policy = parse_policy(data, "policy.yaml")
    return encode_policy(ResolvedPolicy(file="policy.yaml", sha256=hashlib.sha256(data).hexdigest(), policy=policy))
