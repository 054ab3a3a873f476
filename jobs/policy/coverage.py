"""Coverage: what a policy means for one object.

An object belongs to the pair with the longest prefix that its key begins with, of all pairs that
watch the bucket. If that pair excludes the key, no pair has it. `scope` says the same for a whole
pair, as prefixes in and out, so that runs and events never disagree.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from jobs.core.model import Location
from jobs.policy.model import Pair, Policy

KEY_BYTES_MAX = 1_024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


class Scope(NamedTuple):
    """A pair's keys: those that begin with one of `prefixes` and with none of `excluded`."""

    prefixes: tuple[str, ...]
    excluded: tuple[str, ...]

    def contains(self, key: str) -> bool:
        """Whether the key is the pair's."""
        return key.startswith(self.prefixes) and not (self.excluded and key.startswith(self.excluded))


class Explanation(Struct, frozen=True, kw_only=True):
    """What the policy means for an object, as `--json` shows it. Without a pair, only `source` and `reason` are set.

    `copy_problem`: why the copy cannot be made, whatever is tried. `archive_rules`: those that take it if their
    conditions hold, the first of them. `policy`: of the pair.
    """

    source: str
    reason: str
    pair: str | None = None
    copy: str | None = None
    copy_problem: str | None = None
    replica: str | None = None
    archive_rules: tuple[str, ...] = ()
    policy: Pair | None = None


def match(policy: Policy, bucket: str, key: str) -> Pair | None:
    """The pair that protects the key, or None. The most specific prefix decides."""
    pair, _, hidden = _find(policy, bucket, key)
    return None if hidden is not None else pair


def scope(policy: Policy, pair: Pair) -> Scope:
    """The keys for which `match` returns the pair. Prefixes of more specific pairs are excluded."""
    theirs = (
        prefix
        for other in policy.pairs
        if other is not pair and other.source.bucket == pair.source.bucket
        for prefix in other.source.prefixes
    )
    # A prefix of ours inside one of theirs inside one of ours is ours again, which no list of
    # exclusions can express. `jobs.policy.rules` refuses such a policy.
    inside = tuple(prefix for prefix in theirs if prefix.startswith(pair.source.prefixes))
    return Scope(tuple(pair.source.prefixes), (*pair.source.exclude, *inside))


def explain(policy: Policy, bucket: str, key: str) -> Explanation:
    """What the policy means for the object."""
    pair, prefix, hidden = _find(policy, bucket, key)
    here = str(Location(bucket, key))
    if pair is None:
        return Explanation(source=here, reason=_nobody(policy, bucket))
    if hidden is not None:
        return Explanation(source=here, reason=f"the pair {pair.name} leaves out keys that begin with {hidden!r}")
    copy_key = pair.copy_key(key)
    rules = pair.archive.rules if pair.archive else ()
    length = len(copy_key.encode("utf-8", "surrogatepass"))
    problem = f"its key would have {length:,} bytes, and S3 takes {KEY_BYTES_MAX:,}: shorten destination.prefix"
    return Explanation(
        source=here,
        pair=pair.name,
        reason=f"its longest matching prefix is {prefix!r}" if prefix else "the pair takes all keys of the bucket",
        copy=str(Location(pair.destination.bucket, copy_key)),
        copy_problem=problem if length > KEY_BYTES_MAX else None,
        replica=str(Location(pair.replica.bucket, copy_key)) if pair.replica else None,
        archive_rules=tuple(rule.name for rule in rules if key.startswith(rule.prefix)),
        policy=pair,
    )


def _find(policy: Policy, bucket: str, key: str) -> tuple[Pair | None, str, str | None]:
    """The pair with the longest prefix, that prefix, and the exclusion that hides the key."""
    found, longest = None, ""
    for pair in policy.pairs:
        if pair.source.bucket == bucket:
            for prefix in pair.source.prefixes:
                if key.startswith(prefix) and (found is None or len(prefix) > len(longest)):
                    found, longest = pair, prefix
    hidden = next((out for out in found.source.exclude if key.startswith(out)), None) if found else None
    return found, longest, hidden


def _nobody(policy: Policy, bucket: str) -> str:
    prefixes = [prefix for pair in policy.pairs if pair.source.bucket == bucket for prefix in pair.source.prefixes]
    if prefixes:
        return f"only keys of this bucket that begin with {', '.join(map(repr, prefixes))} are protected"
    for _, pair, name, side in policy.sections():
        if side.bucket == bucket:
            return f"the bucket is the {name} of the pair {pair.name}: it holds copies, and is no source"
    return "no pair has this bucket as its source"
