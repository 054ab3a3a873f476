"""Rules of writing below the ledger: which files may ever change. Pure.

The first pattern that fits a name, relative to the ledger, decides. A name that fits none is
written once. The bucket's policy has the same table (terraform/bucket_policies.tf), and
tests/terraform compares the two. No decision depends on a file that may change.

| files                    | may change                                                           |
|--------------------------|----------------------------------------------------------------------|
| runs/ … thawing/         | never                                                                |
| archives/….parquet       | a damaged index, by who names the ETag of the one that it replaces   |
| archives/….directory.json| always: it repeats what the indexes say                              |
| policy.json              | by Terraform only, no role of Sealift's may write it                 |
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase


class Change(StrEnum):
    """`never`: `If-None-Match: *`. `known`: that, or `If-Match`. `always`: without a condition."""

    NEVER = "never"
    KNOWN = "known"
    ALWAYS = "always"


_WRITTEN_ONCE = (
    "runs", "tombstones", "state", "nights", "journal", "backlog", "manifests", "starts", "told", "thawing",
)  # fmt: skip
LEDGER_FILES: tuple[tuple[str, Change], ...] = (
    *((f"{folder}/*", Change.NEVER) for folder in _WRITTEN_ONCE),
    ("archives/*.parquet", Change.KNOWN),
    ("archives/*.directory.json", Change.ALWAYS),
    ("policy.json", Change.ALWAYS),
)


def change_of(name: str) -> Change:
    """Whether the file of this name, relative to the ledger, may change."""
    return next((change for pattern, change in LEDGER_FILES if fnmatchcase(name, pattern)), Change.NEVER)
