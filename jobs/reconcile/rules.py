"""Rules of reconciliation: what two reports make of a key or version. No I/O.

The rules are data, of which `code_sql` makes SQL. They use a few atoms, yes-or-no questions about a
pair. What content proves is no rule of this module: SQL numbers the facts of a pair of rows, and
`compare` in `jobs.core.evidence` was asked once for each combination of them.

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
| MD5s differ, encryption known           | differs      | etag_differs                          |
| checksums equal                         | same         |                                       |
| MD5s equal                              | same         |                                       |
| MD5s differ                             | differs      | etag_differs: unless KMS encrypts it  |
| ETag absent                             | unverifiable | nothing_comparable: no ETag           |
| encrypted                               | unverifiable | nothing_comparable: no MD5: encrypted |
| multipart                               | unverifiable | nothing_comparable: no MD5: in parts  |
|                                         | unverifiable | nothing_comparable: no MD5            |

From `sizes differ` on the lines say what follows of `compare`: all that is comparable has to agree.
Where a report does not say how an object is encrypted, its ETag is perhaps no MD5. Then `compare` is
asked without ETags, and with them only if that decides nothing.

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

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from jobs.core.algorithms import ALGORITHMS
from jobs.core.category import FINDINGS, Category
from jobs.core.evidence import compare
from jobs.core.model import Checksum, ObjectInfo
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
    """A rule fits if all atoms of `when` hold, which commas part. The first one that fits decides.

    No category: stale or different, whichever the times say. Of a circumstance: it stays as it is.
    """

    when: str
    category: Category | None
    reason: str = ""
    detail: str = ""
    evidence: Evidence = Evidence.NONE


PRESENCE = (
    Rule("own", Category.EXCLUDED),
    Rule("source gone, destination gone, current", Category.EXCLUDED),
    Rule("source marker, destination marker", Category.SAME),
    Rule("source marker, destination absent", Category.MISSING, Reason.MARKER_DIFFERS),
    Rule("source absent, destination marker", Category.EXTRA, Reason.MARKER_DIFFERS),
    Rule("source marker", Category.EXTRA, Reason.DELETED, "source"),
    Rule("source absent", Category.EXTRA, Reason.SOURCE_GONE),
    Rule("destination marker", Category.MISSING, Reason.DELETED, "destination"),
    Rule("destination absent", Category.MISSING, Reason.COPY_MISSING),
)


def _object(*checksums: Checksum, size_bytes: int = 1) -> ObjectInfo:
    return ObjectInfo(size_bytes, "", 0.0, None, "", checksums)


_SUM = Checksum(next(iter(ALGORITHMS)), "a")
_VALUES = {
    "sizes differ": (_object(), _object(size_bytes=2)),
    "checksums equal": (_object(_SUM), _object(_SUM)),
    "checksums differ": (_object(_SUM), _object(_SUM._replace(value="b"))),
    "": (_object(), _object()),
}
"""Facts of a pair of rows, each with two objects as its example. The first fact that holds counts."""
_OPAQUE, _EQUAL, _OTHER = ("", ""), ("0" * 32, "0" * 32), ("0" * 32, "1" * 32)
_ETAGS = {
    "ETags equal, checksums equal": (_OPAQUE, _OPAQUE, ""),  # as nearly all are: the pattern is not matched
    "ETags equal, MD5s": (_EQUAL, _EQUAL, ""),
    "MD5s, encryption known": (_OTHER, _OTHER, ""),
    "MD5s": (_OPAQUE, _OTHER, "unless KMS encrypts it"),
    "ETag absent": (_OPAQUE, _OPAQUE, "no ETag"),
    "encrypted": (_OPAQUE, _OPAQUE, "no MD5: encrypted"),
    "multipart": (_OPAQUE, _OPAQUE, "no MD5: in parts"),
    "": (_OPAQUE, _OPAQUE, "no MD5"),
}
"""Facts of the ETags of a pair. Each has two examples of such ETags, what is sure of them and what holds unless
KMS encrypts, and the detail where the first example decides nothing. The first fact that holds counts."""


def _contents() -> Iterator[Rule]:
    """What `compare` says of each combination of `_VALUES` and `_ETAGS`."""
    categories = {True: Category.SAME, None: Category.UNVERIFIABLE}
    for values, (source, destination) in _VALUES.items():
        for etags, (*pairs, doubt) in _ETAGS.items():
            sure, likely = (compare(replace(source, etag=s), replace(destination, etag=d)) for s, d in pairs)
            verdict, detail = (likely, doubt) if sure.same is None else (sure, "")
            reason = Reason.ETAG_DIFFERS if verdict[:2] == (False, Evidence.MD5_ETAG) else verdict.reason
            yield Rule(f"{values}, {etags}", categories.get(verdict.same), reason, detail, sure.evidence)


COMPARISON = (*PRESENCE, *_contents())

CIRCUMSTANCE = (
    Rule("same, FAILED", Category.SAME, Reason.REPLICATION, FAILED),
    Rule("same", None),
    Rule("excluded", None),
    Rule("FAILED, not extra", None, detail=REPLICATION_FAILED),
    Rule("PENDING", Category.IN_FLIGHT, Reason.REPLICATION, PENDING),
    Rule("young", Category.IN_FLIGHT, Reason.TOO_NEW),
    Rule("", None),
)


_STATES = ("older", "FAILED", "PENDING", "young")
"""A row's code is 16 × its line of `COMPARISON`, and 2ⁿ for each of these that holds."""
_CODES = 1 << len(_STATES)


def conclude(compared: Rule, atoms: Collection[str]) -> Judgement:
    """Return the judgement of a rule of `COMPARISON` where these of `_STATES` hold.

    `older`: the destination's object is the older one.
    """
    category = compared.category or (Category.STALE if "older" in atoms else Category.DIFFERENT)
    facts = {"", category, "extra" if category is Category.EXTRA else "not extra", *atoms}
    circumstance = next(rule for rule in CIRCUMSTANCE if facts >= {*rule.when.split(", ")})
    if circumstance.category is not None:
        return Judgement(circumstance.category, circumstance.reason, circumstance.detail, evidence=compared.evidence)
    detail = "; ".join(filter(None, (compared.detail, circumstance.detail)))
    is_finding = category in FINDINGS or bool(circumstance.detail)
    return Judgement(category, compared.reason, detail, is_finding, compared.evidence)


_FOLDED = tuple(n for n, rule in enumerate(COMPARISON) if rule.category in (Category.SAME, Category.EXCLUDED))
FOLDED = f"code // {_CODES} IN {_FOLDED}"
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
        number * _CODES + bits: conclude(rule, [atom for n, atom in enumerate(_STATES) if bits >> n & 1])
        for number, rule in enumerate(COMPARISON)
        for bits in range(_CODES)
    }


def is_sealed_sql(encryption_status: str) -> str:
    """Return SQL for the column `is_sealed`."""
    return f"{encryption_status} NOT IN {PLAIN_ENCRYPTION}"


Columns = Mapping[str, str]
"""Name → SQL."""


def code_sql(join: str, s: Columns, d: Columns, keep: Columns, *, horizon_us: int, all_versions: bool) -> str:
    """Return a SELECT of `code` (see `judgements`) and of `keep`: name → expression over `s` and `d`.

    `join` is a FROM clause that fully joins the aliases `s` and `d`, source and destination. Here they are the
    columns of a side as expressions over them, null where its report does not say. `joined` is the key,
    never null. `is_sealed`: encrypted so that the ETag is not an MD5. `modified_us`: epoch microseconds, as
    `horizon_us`. `replication`: as the report spells it.
    """
    atoms = atoms_of(s, d, horizon_us, all_versions=all_versions)
    presence = _case([rule.when for rule in PRESENCE], atoms)
    bits = " + ".join(f"CASE WHEN {atoms[atom]} THEN {1 << n} ELSE 0 END" for n, atom in enumerate(_STATES))
    return f"""
        SELECT (coalesce({presence} * {_CODES}, {content_sql(atoms)}) + {bits})::USMALLINT AS code,
               {", ".join(f"{expression} AS {name}" for name, expression in keep.items())}
        FROM {join}"""


def content_sql(atoms: Columns) -> str:
    """Return SQL for the code of two objects (see `judgements`), whatever the circumstances."""
    return f"({len(PRESENCE)} + {_case(_VALUES, atoms)} * {len(_ETAGS)} + {_case(_ETAGS, atoms)}) * {_CODES}"


def _case(facts: Iterable[str], atoms: Columns) -> str:
    """Return SQL for the number of the first that fits, else null."""
    whens = (" AND ".join(f"({atoms[atom]})" for atom in each.split(", ")) for each in facts)
    return f"CASE {' '.join(f'WHEN {when} THEN {number}' for number, when in enumerate(whens))} END"


def _kinds(*, is_same: bool) -> tuple[str, ...]:
    """The kinds of checksums, as SQL names them, whose equal values prove that two objects are the same (`is_same`), or
    whose other values prove that they are not.
    """
    sums = {how + name: Checksum(name, "a", bool(how)) for name in ALGORITHMS for how in ("", COMPOSITE)}
    other = "a" if is_same else "b"
    verdicts = {kind: compare(_object(each), _object(each._replace(value=other))) for kind, each in sums.items()}
    return tuple(kind for kind, verdict in verdicts.items() if verdict.same is is_same)


def atoms_of(s: Columns, d: Columns, horizon_us: int = 0, *, all_versions: bool = False) -> dict[str, str]:
    """Return each atom as SQL that is true, false or null (CASE takes null for false)."""

    def either(condition: str) -> str:
        return " OR ".join(f"coalesce({condition.format_map(side)}, false)" for side in (s, d))

    md5 = "(length({0}) = 32 AND NOT regexp_matches({0}, '[^0-9a-f]'))".format
    no_md5 = [f"coalesce({side[name]}, false) = false" for side in (s, d) for name in ("is_multipart", "is_sealed")]
    # The pattern is matched once where the ETags are equal.
    md5s = [md5(s["etag"]), f"({s['etag']} = {d['etag']} OR {md5(d['etag'])})", *no_md5]
    kind = f"{s['checksum_kind']} = {d['checksum_kind']} AND {s['checksum_kind']}"
    recent = f"coalesce({s['modified_us']} > {horizon_us - int(PENDING_SECONDS * 1e6)}, true)"
    return {
        "": "true",
        "own": f"(contains(s.joined, '.sealift/') OR (s.joined IS NULL AND contains(d.joined, '.sealift/'))) "
        f"AND regexp_matches(coalesce(s.joined, d.joined), '{OWN_OBJECT}')",
        "current": "false" if all_versions else "true",
        "source absent": "s.joined IS NULL",
        "destination absent": "d.joined IS NULL",
        "source marker": s["is_delete_marker"],
        "destination marker": d["is_delete_marker"],
        "source gone": f"s.joined IS NULL OR {s['is_delete_marker']}",
        "destination gone": f"d.joined IS NULL OR {d['is_delete_marker']}",
        "sizes differ": f"{s['size_bytes']} <> {d['size_bytes']}",
        "checksums equal": f"{kind} IN {_kinds(is_same=True)} AND {s['checksum_value']} = {d['checksum_value']}",
        "checksums differ": f"{kind} IN {_kinds(is_same=False)} AND {s['checksum_value']} <> {d['checksum_value']}",
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
