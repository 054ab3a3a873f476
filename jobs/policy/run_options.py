"""Options of a run over a whole pair: prefixes, keys, copies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobs.core.enums import Encryption
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.core.run import Side
from jobs.errors import UsageError
from jobs.policy.coverage import Scope
from jobs.policy.model import Archive, Destination, Pair, Policy, Source


def sides(policy: Policy, pair: Pair) -> tuple[Side, Side]:
    """Source and destination of a run, so that its route agrees with `Pair.copy_key`.

    Each names the account that has to own its bucket.
    """
    source, hot = pair.source, pair.destination
    return (
        Side(Location(source.bucket), region=source.region, owner=source.account),
        Side(Location(hot.bucket, hot.prefix), region=hot.region, owner=hot.account),
    )


def packed_side(pair: Pair, archive: Archive) -> tuple[Source | Destination, str]:
    """The side that a pair's archives were packed from, and its prefix before the source's keys."""
    return (pair.source, "") if archive.side == "source" else (pair.destination, pair.destination.prefix)


def named_places(policy: Policy, pair: Pair) -> dict[str, Any]:
    """What the summary of a night calls the source and the destination of its pair."""
    return {
        "source": ", ".join(f"s3://{pair.source.bucket}/{prefix}" for prefix in pair.source.prefixes),
        "destination": str(sides(policy, pair)[1].location),
    }


def copy_options(pair: Pair) -> dict[str, Any]:
    """Storage class, encryption and annotations of the pair's copies, as a replicate run takes
    them.

    A copy that they replace has to stay, as an older version: the original may be what is wrong.
    `packed`: where archives hold copies that expire (`jobs.runs.there`).
    """
    hot, archive = pair.destination, pair.archive
    packed = None
    if archive is not None and archive.expire is not None and archive.side == "destination":
        packed = {"uri": archive.uri, "region": archive.region, "owner": archive.account}
    return {
        "storage_class": hot.storage_class.value if hot.storage_class else "keep",
        **encryption_options(hot),
        "annotations": hot.annotations.value,
        "keeps_replaced": True,
        "packed": packed,
    }


def encryption_options(bucket: Destination | Archive) -> dict[str, str | None]:
    """The encryption of what a run writes to a bucket.

    Where the policy names the bucket's own default (S3's keys, or the key that Terraform makes for
    the bucket), the run asks for nothing, so that the default applies.
    """
    if bucket.encryption is Encryption.S3 or bucket.kms_key == "create":
        return {"sse": None, "kms_key_id": None}
    return {"sse": bucket.encryption.value, "kms_key_id": bucket.kms_key and str(bucket.kms_key)}


def prefixes_below(scope: Scope, prefix: str = "") -> tuple[str, ...]:
    """The prefixes to list for the keys of a scope below `prefix`. None of them begins with
    another.

    Raises UsageError when the scope has no such keys.
    """
    related = [each for each in scope.prefixes if each.startswith(prefix) or prefix.startswith(each)]
    kept = _outermost(max(each, prefix, key=len) for each in related)
    if not kept or prefix.startswith(scope.excluded):
        raise UsageError(f"the pair protects no keys that begin with {prefix!r}", advice="see `sealift policy explain`")
    return kept


def globs(scope: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The scope as globs (`jobs.core.selection`) to include (none: all keys) and to exclude."""
    inside = () if "" in scope.prefixes else tuple(map(_begins_with, _outermost(scope.prefixes)))
    return inside, tuple(map(_begins_with, scope.excluded))


def prefix_map(pair: Pair, scope: Scope) -> PrefixMap:
    """The map from the pair's source keys to destination keys."""
    return PrefixMap(
        tuple((prefix, pair.copy_key(prefix)) for prefix in _outermost(scope.prefixes)), excluded=scope.excluded
    )


def replica_map(pair: Pair, scope: Scope) -> PrefixMap:
    """The map from the hot bucket's keys to the replica's, which are the same."""
    return PrefixMap(
        tuple((pair.copy_key(prefix), pair.copy_key(prefix)) for prefix in _outermost(scope.prefixes)),
        excluded=tuple(map(pair.copy_key, scope.excluded)),
    )


def _outermost(prefixes: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _begins_with(prefix: str) -> str:
    return "".join(f"[{each}]" if each in "*?[" else each for each in prefix) + "*"
