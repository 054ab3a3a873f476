"""Rules of reconciliation: what two reports make of a key or version. No I/O.

The rules are data, of which `rules_sql` makes SQL. They use a few atoms, yes-or-no questions about
a pair. Content is compared as `compare` in `jobs.core.evidence` does, by what an inventory has.

ETags are comparable where both are MD5s of the content: 32 hex digits, not from a multipart upload,
not encrypted with KMS or a customer's key
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). What an inventory says:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html

A difference that is newer than the horizon (the older report's creationTimestamp less a margin) is
in flight. Equal objects are the same at any age. First the two sides are compared. The first line
that fits decides:

| what the reports say                    | category     | reason                                |
|-----------------------------------------|--------------|---------------------------------------|
| source absent, destination absent       | excluded     |                                       |
| source gone, destination gone, current  | excluded     |                                       |
| source marker, destination marker       | same         |                                       |
| destination absent, copy unnamed        | unverifiable | nothing_comparable: no version id     |
| source absent, copy unnamed             | unverifiable | nothing_comparable: no version id     |
| source marker, destination absent       | missing      | marker_differs                        |
| source absent, destination marker       | extra        | marker_differs                        |
| source marker                           | extra        | deleted: source                       |
| source absent                           | extra        | source_gone                           |
| destination marker                      | missing      | deleted: destination                  |
| destination absent                      | missing      | copy_missing                          |
| copy of older                           | stale        | older_on_top                          |
| sizes differ                            | differs      | size_differs                          |
| checksums differ                        | differs      | checksum_differs                      |
| not ETags equal, MD5s, encryption known | differs      | etag_differs                          |
| checksums equal                         | same         |                                       |
| ETags equal, MD5s                       | same         |                                       |
| MD5s                                    | differs      | etag_differs: unless KMS encrypts it  |
| ETag absent                             | unverifiable | nothing_comparable: no ETag           |
| encrypted                               | unverifiable | nothing_comparable: no MD5: encrypted |
| multipart                               | unverifiable | nothing_comparable: no MD5: in parts  |
|                                         | unverifiable | nothing_comparable: no MD5            |

All that is comparable has to agree. Content can be made to have the CRC of other content, so a
checksum that is equal does not outweigh MD5s that differ. Where a report does not say how an
object is encrypted, its ETag is perhaps no MD5, and refutes no checksum.

`gone`: absent or a delete marker. `current`: not `all_versions`. `copy of older`: the
destination's object is a copy of a version below the source's current one, whatever the times
say. A request that came late can put it there, and no report shows it. Differs means stale
where the destination is older than the source, else different. S3 dates an object that was
uploaded in parts by the beginning of its upload, so a newer destination may be a copy of the
object before it. Such a row of current objects is stale as well, and its reason says so: the
repair looks what the copy was made from. Then the circumstances:

| category and circumstance | becomes                 | reason                                  |
|---------------------------|-------------------------|-----------------------------------------|
| same, FAILED              | same                    | replication: FAILED                     |
| same                      | as it is                | as it is                                |
| excluded                  | as it is                | as it is                                |
| FAILED, not extra         | as it is, and a finding | as it is: S3's replication of it FAILED |
| PENDING                   | in flight               | replication: PENDING                    |
| young                     | in flight               | too_new                                 |
|                           | as it is                | as it is                                |

FAILED and PENDING are the source's replication status. PENDING holds for a day before the
horizon: after that S3 may replicate to another place than this one, or never. `young`: either
side is newer than the horizon.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from jobs.core.category import FINDINGS, Category
from jobs.core.model import Checksum
from jobs.core.reasons import Reason

PLAIN_ENCRYPTION = ("SSE-S3", "NOT-SSE")
"""The values of EncryptionStatus with which an ETag can be an MD5."""

PENDING_SECONDS = 86_400.0
"""S3 may take so long to replicate an object. What is PENDING for longer is judged by what is
there."""

PENDING, FAILED = "PENDING", "FAILED"
"""The values of ReplicationStatus that matter (COMPLETED and REPLICA say nothing on the other
side)."""


class Facts(NamedTuple):
    """What one report says of one object version, None where it does not say.

    `etag` has no quotes. `last_modified` is epoch seconds. `encryption_status` and
    `replication_status` are spelled as in the inventory. `checksums` come from evidence or a HEAD.
    `has_unnamed_copy`: by the version map, it was copied (of a destination: a version of this key
    was), and the server did not say the copy's version id. `is_older_copy`: the destination's
    object is no copy of the source's current version, and one of a version below it.
    """

    size_bytes: int | None = None
    etag: str | None = None
    is_multipart: bool | None = None
    encryption_status: str | None = None
    last_modified: float | None = None
    replication_status: str | None = None
    is_delete_marker: bool = False
    checksums: tuple[Checksum, ...] = ()
    has_unnamed_copy: bool = False
    is_older_copy: bool = False


class Judgement(NamedTuple):
    """The category, and a reason (may be empty) with a detail that all pairs like this one share.

    `is_undated`: nothing says which of the two is newer, as the source was uploaded in parts.
    """

    category: Category
    reason: str = ""
    detail: str = ""
    is_finding: bool = False
    is_undated: bool = False


class Age(IntEnum):
    """What the times say of the destination's object: the older one, or as new, or nothing."""

    NEWER = 0
    OLDER = 1
    UNKNOWN = 2


UNDATED = "which is newer is unknown, as the source was uploaded in parts"
REPLICATION_FAILED = "S3's replication of it FAILED"
"""Facts beside what was compared, in a row's detail."""


class Rule(NamedTuple):
    """A rule fits if all atoms of `when` hold (`not x`: does not hold).

    The first one that fits decides.
    """

    when: tuple[str, ...]
    category: Category | None
    reason: str = ""
    detail: str = ""


def _rule(when: str, category: Category | None, reason: str = "", detail: str = "") -> Rule:
    return Rule(tuple(atom.strip() for atom in when.split(",") if atom.strip()), category, reason, detail)


_DIFFERS = None  # stale or different, whichever the times say

COMPARISON = (
    _rule("source absent, destination absent", Category.EXCLUDED),
    _rule("source gone, destination gone, current", Category.EXCLUDED),
    _rule("source marker, destination marker", Category.SAME),
    _rule("destination absent, copy unnamed", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no version id"),
    _rule("source absent, copy unnamed", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no version id"),
    _rule("source marker, destination absent", Category.MISSING, Reason.MARKER_DIFFERS),
    _rule("source absent, destination marker", Category.EXTRA, Reason.MARKER_DIFFERS),
    _rule("source marker", Category.EXTRA, Reason.DELETED, "source"),
    _rule("source absent", Category.EXTRA, Reason.SOURCE_GONE),
    _rule("destination marker", Category.MISSING, Reason.DELETED, "destination"),
    _rule("destination absent", Category.MISSING, Reason.COPY_MISSING),
    _rule("copy of older", Category.STALE, Reason.OLDER_ON_TOP),
    _rule("sizes differ", _DIFFERS, Reason.SIZE_DIFFERS),
    _rule("checksums differ", _DIFFERS, Reason.CHECKSUM_DIFFERS),
    _rule("not ETags equal, MD5s, encryption known", _DIFFERS, Reason.ETAG_DIFFERS),
    _rule("checksums equal", Category.SAME),
    _rule("ETags equal, MD5s", Category.SAME),
    _rule("MD5s", _DIFFERS, Reason.ETAG_DIFFERS, "unless KMS encrypts it"),
    _rule("ETag absent", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no ETag"),
    _rule("encrypted", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no MD5: encrypted"),
    _rule("multipart", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no MD5: in parts"),
    _rule("", Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, "no MD5"),
)

CIRCUMSTANCE = (
    _rule("same, FAILED", Category.SAME, Reason.REPLICATION, FAILED),
    _rule("same", None),
    _rule("excluded", None),
    _rule("FAILED, not extra", None, detail=REPLICATION_FAILED),
    _rule("PENDING", Category.IN_FLIGHT, Reason.REPLICATION, PENDING),
    _rule("young", Category.IN_FLIGHT, Reason.TOO_NEW),
    _rule("", None),
)


def compared_category(compared: Rule, age: Age) -> Category:
    """Return the category of a rule of `COMPARISON`, with the age of the destination."""
    return compared.category or (Category.DIFFERENT if age is Age.NEWER else Category.STALE)


def conclude(compared: Rule, circumstance: Rule, age: Age) -> Judgement:
    """Return the judgement of a rule of `COMPARISON` together with one of `CIRCUMSTANCE`."""
    category = compared_category(compared, age)
    if circumstance.category is not None:
        return Judgement(circumstance.category, circumstance.reason, circumstance.detail)
    has_failed = "FAILED" in circumstance.when
    is_undated = age is Age.UNKNOWN and compared.category is None
    facts = compared.detail, UNDATED if is_undated else "", circumstance.detail
    detail = "; ".join(filter(None, facts))
    return Judgement(category, compared.reason, detail, has_failed or category in FINDINGS, is_undated)
