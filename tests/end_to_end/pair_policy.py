"""A policy of two pairs over one test's buckets, and what their tests ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.doubles.servers import REGION
from tests.end_to_end.conftest import World


def write_policy(
    world: World,
    folder: Path,
    *,
    inventory: bool = False,
    docs: Mapping[str, Any] | None = None,
    keeps_versions: bool = True,
) -> str:
    """Two pairs, `docs` (without docs/tmp/) and `logs`, of one source and one destination bucket.

    The latter keeps versions, as every hot bucket has to.
    """
    if keeps_versions:
        versions = {"Status": "Enabled"}
        world.client.put_bucket_versioning(Bucket=world.destination, VersioningConfiguration=versions)
    hot = {"bucket": world.destination, "region": REGION}
    source = {"bucket": world.source, "region": REGION}
    pairs = [
        {
            "name": "docs",
            "source": source | {"prefixes": ["docs/", "drafts/"], "exclude": ["docs/tmp/"]},
            "destination": hot | {"prefix": "copies/"},
        }
        | ({"thresholds": {"backlog_rows": 1}} if "limits" in (docs or {}) else {})  # no more than any limit
        | dict(docs or {}),
        {"name": "logs", "source": source | {"prefixes": ["logs/"]}, "destination": hot | {"prefix": "elsewhere/"}},
    ]
    policy: dict[str, Any] = {
        "version": 1,
        "ledger": {"bucket": world.ledger, "region": REGION, "prefix": "runs/"},
        "pairs": pairs,
        "defaults": {"verify": {"rota": "1/3", "deep": "1/6"}},
    }
    if inventory:
        policy["inventory"] = {"buckets": {REGION: world.ledger}, "prefix": "reports/"}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(policy))
    return str(file)


def runs(world: World) -> list[dict[str, Any]]:
    """The runs of the ledger, the oldest first."""
    listed: list[dict[str, Any]] = world.sealift("runs", "list", "--json").document["runs"]
    return listed[::-1]
