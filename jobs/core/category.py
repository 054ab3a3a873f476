"""Categories: what a reconciliation says of a key or of a version. Pure."""

from __future__ import annotations

from enum import StrEnum


class Category(StrEnum):
    """What a key (or version) is. Every one in either report is exactly one of these."""

    SAME = "same"
    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    STALE = "stale"
    IN_FLIGHT = "in flight"
    UNVERIFIABLE = "unverifiable"
    EXCLUDED = "excluded"


FINDINGS = frozenset({Category.MISSING, Category.EXTRA, Category.DIFFERENT, Category.STALE})
"""The categories that say that something is wrong. What is in flight will be judged next time. What
is unverifiable is shown with its reason, and is a finding only where S3 itself says that its
replication FAILED."""

REPAIRABLE = frozenset({Category.MISSING, Category.STALE, Category.DIFFERENT})
"""The categories that a copy of the original mends. What has no original stays as it is."""
