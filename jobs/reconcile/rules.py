"""Rules of reconciliation: what two reports make of a key or version. No I/O.

The rules are data, of which `code_sql` makes SQL. They use a few atoms, yes-or-no questions about a
pair. Content is compared as `compare` in `jobs.core.evidence` does, by what an inventory has.

ETags are comparable where both are MD5s of the content: 32 hex digits, not from a multipart upload,
not encrypted with KMS or a customer's key
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). What an inventory says:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html

A difference that is newer than the horizon (the older report's creationTimestamp less a margin) is
in flight. Equal objects are the same at any age. First the two sides are compared. The first line
that fits decides:

| what the reports say                    | category     | reason                                |
|-----------------------------------------|--------------|---------------------------------------|
| own                                     | excluded     |                                       |
| source gone, destination gone, current  | excluded     |                                       |
| source marker, destination marker       | same         |                                       |
| source marker, destination absent       | missing      | marker_differs                        |
| source absent, destination marker       | extra        | marker_differs                        |
| source marker                           | extra        | deleted: source                       |
| source absent                           | extra        | source_gone                           |
| destination marker                      | missing      | deleted: destination                  |
| destination absent                      | missing      | copy_missing                          |
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

`own`: an object of Sealift itself. `gone`: absent or a delete marker. `current`: not
`all_versions`. Differs means stale where the destination is older than the source, else different.
A different one may still be a copy of an older version: a request came late, or S3 dated the source
by the beginning of its upload. The repair looks what the copy was made from. Then the circumstances:

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

from collections.abc import Mapping
from typing import NamedTuple

from jobs.core.algorithms import ALGORITHMS
from jobs.core.category import FINDINGS, Category
from jobs.core.outcome import Evidence
from jobs.core.reasons import Reason
from jobs.core.selection import OWN_OBJECT

PLAIN_ENCRYPTION = ("SSE-S3", "NOT-SSE")
"""The values of EncryptionStatus with which an ETag can be an MD5."""

PENDING_SECONDS = 86_400.0
"""S3 may take so long to replicate an object. What is PENDING for longer is judged by what is
there."""

PENDING, FAILED = "PENDING", "FAILED"
"""The values of ReplicationStatus that matter (COMPLETED and REPLICA say nothing on the other
side)."""

COMPOSITE = "composite "
"""Begins the kind of a checksum of checksums. Those of one kind are comparable."""

REPLICATION_FAILED = "S3's replication of it FAILED"
"""A fact beside what was compared, in a row's detail."""


class Judgement(NamedTuple):
    """The category, and a reason (may be empty) with a detail that all pairs like this one share.

    `evidence`: what proves it.
    """

    category: Category
    reason: str = ""
    detail: str = ""
    is_finding: bool = False
    evidence: Evidence = Evidence.NONE


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
    _rule("own", Category.EXCLUDED),
    _rule("source gone, destination gone, current", Category.EXCLUDED),
    _rule("source marker, destination marker", Category.SAME),
    _rule("source marker, destination absent", Category.MISSING, Reason.MARKER_DIFFERS),
    _rule("source absent, destination marker", Category.EXTRA, Reason.MARKER_DIFFERS),
    _rule("source marker", Category.EXTRA, Reason.DELETED, "source"),
    _rule("source absent", Category.EXTRA, Reason.SOURCE_GONE),
    _rule("destination marker", Category.MISSING, Reason.DELETED, "destination"),
    _rule("destination absent", Category.MISSING, Reason.COPY_MISSING),
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

_PROOFS = {
    **dict.fromkeys(("checksums equal", "checksums differ"), Evidence.CHECKSUM),
    **dict.fromkeys(("ETags equal", "not ETags equal"), Evidence.MD5_ETAG),
}


def conclude(compared: Rule, circumstance: Rule, *, is_older: bool) -> Judgement:
    """Return the judgement of a rule of `COMPARISON` together with one of `CIRCUMSTANCE`.

    `is_older`: the destination's object is the older one.
    """
    category = circumstance.category or compared.category or (Category.STALE if is_older else Category.DIFFERENT)
    evidence = next((_PROOFS[atom] for atom in compared.when if atom in _PROOFS), Evidence.NONE)
    if circumstance.category is not None:
        return Judgement(category, circumstance.reason, circumstance.detail, evidence=evidence)
    detail = "; ".join(filter(None, (compared.detail, circumstance.detail)))
    return Judgement(category, compared.reason, detail, "FAILED" in circumstance.when or category in FINDINGS, evidence)


_OLDER = 8
_STEP = 16
"""A row's code is 16 × its line of `COMPARISON` + 8 if the destination is older + its circumstance."""
FOLDED = f"code % {_OLDER} <= {max(n for n, rule in enumerate(CIRCUMSTANCE) if {'same', 'excluded'} & {*rule.when})}"
"""SQL: a row that is the same or excluded, as the lists say."""

IN_ARCHIVE, UNPROVEN_IN_ARCHIVE = 0xFFFE, 0xFFFF
"""The codes of keys whose copy is in an archive alone."""
PACKED_UNPROVEN = "its copy is in an archive, and no MD5 says that it is the same"


def judgements() -> dict[int, Judgement]:
    """Return the judgement of every code."""
    packed = {
        IN_ARCHIVE: Judgement(Category.SAME, Reason.IN_ARCHIVE),
        UNPROVEN_IN_ARCHIVE: Judgement(Category.UNVERIFIABLE, Reason.NOTHING_COMPARABLE, PACKED_UNPROVEN),
    }
    return packed | {
        number * _STEP + is_older * _OLDER + place: conclude(rule, circumstance, is_older=is_older)
        for number, rule in enumerate(COMPARISON)
        for is_older in (False, True)
        for place, circumstance in enumerate(CIRCUMSTANCE)
    }


def is_sealed_sql(encryption_status: str) -> str:
    """Return SQL for the column `is_sealed`."""
    return f"{encryption_status} NOT IN {PLAIN_ENCRYPTION}"


def code_sql(
    join: str,
    source: Mapping[str, str],
    destination: Mapping[str, str],
    keep: Mapping[str, str],
    *,
    horizon_us: int,
    all_versions: bool,
) -> str:
    """Return a SELECT of `code` (see `judgements`) and of `keep`: name → expression over `s` and `d`.

    `join` is a FROM clause that fully joins the aliases `s` and `d`. `source` and `destination`: the
    columns of a side as expressions over them, null where its report does not say. `joined` is the key,
    never null. `is_sealed`: encrypted so that the ETag is not an MD5. `modified_us`: epoch microseconds, as
    `horizon_us`. `replication`: as the report spells it.
    """
    atoms = _atoms(source, destination, horizon_us, all_versions=all_versions)
    by_rule = {
        category.value: f"rule IN {tuple(n for n, rule in enumerate(COMPARISON) if rule.category is category)}"
        for category in (Category.SAME, Category.EXCLUDED, Category.EXTRA)
    }
    statuses = {"FAILED": "has_failed", "PENDING": "is_pending", "young": "is_young"}
    return f"""
        SELECT (rule * {_STEP} + older + {_case(CIRCUMSTANCE, by_rule | statuses)})::USMALLINT AS code, * EXCLUDE
               (rule, older, {", ".join(statuses.values())})
        FROM (
            SELECT {_case(COMPARISON, atoms)} AS rule, CASE WHEN {atoms["older"]} THEN {_OLDER} ELSE 0 END AS older,
                   {", ".join(f"{atoms[atom]} AS {name}" for atom, name in statuses.items())},
                   {", ".join(f"{expression} AS {name}" for name, expression in keep.items())}
            FROM {join}
        )"""


def _case(rules: tuple[Rule, ...], atoms: Mapping[str, str]) -> str:
    """Return SQL for the number of the first rule that fits."""
    whens = [
        f"WHEN {' AND '.join(_atom(atom, atoms) for atom in rule.when) or 'true'} THEN {number}"
        for number, rule in enumerate(rules)
    ]
    return f"CASE {' '.join(whens)} END"


def _atom(atom: str, atoms: Mapping[str, str]) -> str:
    if atom.startswith("not "):
        return f"NOT coalesce({atoms[atom[4:]]}, false)"
    return f"({atoms[atom]})"


def _atoms(s: Mapping[str, str], d: Mapping[str, str], horizon_us: int, *, all_versions: bool) -> dict[str, str]:
    """Return each atom as SQL that is true, false or null (CASE takes null for false)."""

    def either(condition: str) -> str:
        return " OR ".join(f"coalesce({condition.format_map(side)}, false)" for side in (s, d))

    md5 = "(length({0}) = 32 AND NOT regexp_matches({0}, '[^0-9a-f]'))".format
    no_md5 = [f"coalesce({side[name]}, false) = false" for side in (s, d) for name in ("is_multipart", "is_sealed")]
    # The pattern is matched once where the ETags are equal, as nearly all are.
    md5s = [md5(s["etag"]), f"({s['etag']} = {d['etag']} OR {md5(d['etag'])})", *no_md5]
    known = ", ".join(f"'{composite}{name}'" for name in ALGORITHMS for composite in ("", COMPOSITE))
    comparable = f"{s['checksum_kind']} = {d['checksum_kind']} AND {s['checksum_kind']} IN ({known})"
    key = "coalesce(s.joined, d.joined)"
    recent = f"coalesce({s['modified_us']} > {horizon_us - int(PENDING_SECONDS * 1e6)}, true)"
    return {
        "own": f"(contains(s.joined, '.sealift/') OR (s.joined IS NULL AND contains(d.joined, '.sealift/'))) "
        f"AND regexp_matches({key}, '{OWN_OBJECT}')",
        "current": "false" if all_versions else "true",
        "source absent": "s.joined IS NULL",
        "destination absent": "d.joined IS NULL",
        "source marker": s["is_delete_marker"],
        "destination marker": d["is_delete_marker"],
        "source gone": f"s.joined IS NULL OR {s['is_delete_marker']}",
        "destination gone": f"d.joined IS NULL OR {d['is_delete_marker']}",
        "sizes differ": f"{s['size_bytes']} <> {d['size_bytes']}",
        "checksums equal": f"{comparable} AND {s['checksum_value']} = {d['checksum_value']}",
        "checksums differ": f"{comparable} AND {s['checksum_value']} <> {d['checksum_value']} "
        f"AND NOT starts_with({s['checksum_kind']}, '{COMPOSITE}')",
        "MD5s": " AND ".join(md5s),
        "ETags equal": f"{s['etag']} = {d['etag']}",
        "ETag absent": f"{s['etag']} IS NULL OR {d['etag']} IS NULL",
        "encryption known": f"{s['is_sealed']} IS NOT NULL AND {d['is_sealed']} IS NOT NULL",
        "encrypted": either("{is_sealed}"),
        "multipart": either("{is_multipart} OR contains({etag}, '-')"),
        "older": f"{d['modified_us']} < {s['modified_us']}",
        "FAILED": f"{s['replication']} = '{FAILED}'",
        "PENDING": f"{s['replication']} = '{PENDING}' AND {recent}",
        "young": either("{modified_us} > " + str(horizon_us)),
    }
