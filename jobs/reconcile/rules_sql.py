"""SQL rules: those of `jobs.reconcile.rules`, applied by DuckDB to a whole join.

A side of the join is a relation with some columns of `SIDE_COLUMNS`. An absent column is one that
the report does not have. `judge` applies them to pairs of facts of which no report says anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.core.algorithms import ALGORITHMS
from jobs.core.category import Category
from jobs.core.model import Checksum
from jobs.reconcile.rules import (
    CIRCUMSTANCE,
    COMPARISON,
    FAILED,
    PENDING,
    PENDING_SECONDS,
    PLAIN_ENCRYPTION,
    Age,
    Facts,
    Judgement,
    Rule,
    compared_category,
    conclude,
)

if TYPE_CHECKING:
    import duckdb

SIDE_COLUMNS = {
    "joined": "VARCHAR",
    "is_delete_marker": "BOOLEAN",
    "size_bytes": "BIGINT",
    "etag": "VARCHAR",
    "is_multipart": "BOOLEAN",
    "is_sealed": "BOOLEAN",
    "modified_us": "BIGINT",
    "replication": "VARCHAR",
    "checksum_kind": "VARCHAR",
    "checksum_value": "VARCHAR",
    "has_unnamed_copy": "BOOLEAN",
    "is_older_copy": "BOOLEAN",
}
"""The columns of a side that a judgement needs.

`joined` is the key, never null. `is_sealed`: encrypted so that the ETag is not an MD5.
`modified_us`: epoch microseconds. `replication`: PENDING, FAILED or null. `checksum_kind`:
`SHA256`, `composite SHA256`, … Checksums of one kind are comparable.
"""

COMPOSITE = "composite "
AGE_STEP = 16
_RULE_STEP = AGE_STEP * 4


def is_sealed_sql(encryption_status: str) -> str:
    """Return SQL that is true if the EncryptionStatus rules out an MD5 ETag, null where the report
    does not say.
    """
    return f"{encryption_status} NOT IN {PLAIN_ENCRYPTION}"


def replication_sql(replication_status: str) -> str:
    """Return SQL for the ReplicationStatus, null where it does not matter."""
    return f"CASE WHEN {replication_status} IN ('{PENDING}', '{FAILED}') THEN {replication_status} END"


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """`all_versions`: the rows are versions, not current objects. `horizon_us`: epoch microseconds, None:
    nothing is too new.
    """

    horizon_us: int | None
    all_versions: bool

    def select(
        self, join: str, source: Mapping[str, str], destination: Mapping[str, str], keep: Mapping[str, str]
    ) -> str:
        """Return a SELECT of `code` (see `judgements`) and of `keep`: name → expression over `s`
        and `d`.

        `join` is a FROM clause that fully joins the aliases `s` and `d`. `source` and `destination`
        are the columns that the sides have, as expressions over them.
        """
        atoms = _atoms(source, destination, self)
        kept = "".join(f", {expression} AS {name}" for name, expression in keep.items())
        by_rule = {
            category.value: "rule IN (" + ", ".join(map(str, _rules_of(category))) + ")"
            for category in (Category.SAME, Category.EXCLUDED, Category.EXTRA)
        }
        statuses = {"FAILED": "has_failed", "PENDING": "is_pending", "young": "is_young"}
        circumstance = _case(CIRCUMSTANCE, by_rule | statuses)
        return f"""
            SELECT (rule * {_RULE_STEP} + age * {AGE_STEP}
                    + {circumstance})::USMALLINT AS code{"".join(f", {name}" for name in keep)}
            FROM (
                SELECT {_case(COMPARISON, atoms)} AS rule,
                       CASE WHEN {atoms["older"]} THEN {Age.OLDER:d} WHEN {atoms["undated"]} THEN {Age.UNKNOWN:d}
                            ELSE {Age.NEWER:d} END AS age,
                       {atoms["FAILED"]} AS has_failed, {atoms["PENDING"]} AS is_pending, {atoms["young"]} AS is_young
                       {kept}
                FROM {join}
            )"""


def judgements() -> dict[int, Judgement]:
    """Return the judgement of every code."""
    return {
        number * _RULE_STEP + age * AGE_STEP + place: conclude(rule, circumstance, age)
        for number, rule in enumerate(COMPARISON)
        for age in Age
        for place, circumstance in enumerate(CIRCUMSTANCE)
    }


def judge(
    connection: duckdb.DuckDBPyConnection, pairs: Sequence[tuple[Facts | None, Facts | None]], options: RuleOptions
) -> list[int]:
    """Return the code of each pair: source and destination, None if it is not there."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {"VARCHAR": pa.string(), "BOOLEAN": pa.bool_(), "BIGINT": pa.int64()}
    schema = pa.schema([(name, types[kind]) for name, kind in _FACT_COLUMNS.items()])
    for place, name in enumerate(("facts_s", "facts_d")):
        rows = [_row(number, pair, place) for number, pair in enumerate(pairs) if pair[place] is not None]
        connection.register(name, pa.Table.from_pylist(rows, schema))
    join = (
        f"(SELECT number::VARCHAR AS number FROM range({len(pairs)}) numbers(number)) n "
        "LEFT JOIN facts_s s ON s.joined = n.number LEFT JOIN facts_d d ON d.joined = n.number"
    )
    sql = options.select(join, _columns("s"), _columns("d"), {"number": "n.number::BIGINT"})
    codes = connection.execute(f"SELECT code FROM ({sql}) ORDER BY number").fetchall()
    for name in ("facts_s", "facts_d"):
        connection.unregister(name)
    return [code for (code,) in codes]


_FACT_COLUMNS = {name: kind for name, kind in SIDE_COLUMNS.items() if name not in ("is_sealed", "replication")} | {
    "encryption_status": "VARCHAR",
    "replication_status": "VARCHAR",
}


def _columns(side: str) -> dict[str, str]:
    of_report = {
        "is_sealed": is_sealed_sql(f"{side}.encryption_status"),
        "replication": replication_sql(f"{side}.replication_status"),
    }
    return {name: f"{side}.{name}" for name in SIDE_COLUMNS} | of_report


def _row(number: int, pair: tuple[Facts | None, Facts | None], place: int) -> dict[str, Any]:
    facts = pair[place] or Facts()
    modified = facts.last_modified
    checksum = _comparable(*pair)[place] if None not in pair else None
    return facts._asdict() | {
        "joined": str(number),
        "modified_us": None if modified is None else int(modified * 1e6),
        "checksum_kind": checksum and f"{COMPOSITE if checksum.is_composite else ''}{checksum.algorithm}",
        "checksum_value": checksum and checksum.value,
    }


def _comparable(source: Facts | None, destination: Facts | None) -> tuple[Checksum | None, Checksum | None]:
    """The checksums of a pair that count: those that differ, else the first that are comparable."""
    found = [
        (one, other)
        for one in (source or Facts()).checksums
        for other in (destination or Facts()).checksums
        if one.algorithm in ALGORITHMS and (one.algorithm, one.is_composite) == (other.algorithm, other.is_composite)
    ]
    differing = [(one, other) for one, other in found if one != other and not one.is_composite]
    equal = [(one, other) for one, other in found if one == other]
    return next(iter(differing or equal), (None, None))


def _rules_of(category: Category) -> list[int]:
    return [number for number, rule in enumerate(COMPARISON) if compared_category(rule, Age.NEWER) is category]


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


def _atoms(source: Mapping[str, str], destination: Mapping[str, str], options: RuleOptions) -> dict[str, str]:
    """Return each atom as SQL that is true, false or null (CASE takes null for false)."""

    def s(name: str) -> str:
        return source.get(name, f"NULL::{SIDE_COLUMNS[name]}")

    def d(name: str) -> str:
        return destination.get(name, f"NULL::{SIDE_COLUMNS[name]}")

    def either(condition: str) -> str:
        names = ("etag", "is_multipart", "is_sealed", "modified_us")
        return " OR ".join(f"coalesce({condition.format(*map(side, names))}, false)" for side in (s, d))

    def plain(side: str) -> str:
        return f"coalesce({side}, false) = false"

    md5 = "(length({0}) = 32 AND NOT regexp_matches({0}, '[^0-9a-f]'))".format
    no_md5 = [plain(side(name)) for side in (s, d) for name in ("is_multipart", "is_sealed")]
    # The pattern is matched once where the ETags are equal, as nearly all are.
    md5s = [md5(s("etag")), f"({s('etag')} = {d('etag')} OR {md5(d('etag'))})", *no_md5]
    known = ", ".join(f"'{composite}{name}'" for name in ALGORITHMS for composite in ("", COMPOSITE))
    comparable = f"{s('checksum_kind')} = {d('checksum_kind')} AND {s('checksum_kind')} IN ({known})"
    horizon = options.horizon_us
    return {
        "current": "false" if options.all_versions else "true",
        "source absent": "s.joined IS NULL",
        "destination absent": "d.joined IS NULL",
        "source marker": s("is_delete_marker"),
        "destination marker": d("is_delete_marker"),
        "copy of older": d("is_older_copy"),  # only a confirmation sees it
        "copy unnamed": f"coalesce({s('has_unnamed_copy')}, false) OR coalesce({d('has_unnamed_copy')}, false)",
        "source gone": f"s.joined IS NULL OR {s('is_delete_marker')}",
        "destination gone": f"d.joined IS NULL OR {d('is_delete_marker')}",
        "sizes differ": f"{s('size_bytes')} <> {d('size_bytes')}",
        "checksums equal": f"{comparable} AND {s('checksum_value')} = {d('checksum_value')}",
        "checksums differ": f"{comparable} AND {s('checksum_value')} <> {d('checksum_value')} "
        f"AND NOT starts_with({s('checksum_kind')}, '{COMPOSITE}')",
        "MD5s": " AND ".join(md5s),
        "ETags equal": f"{s('etag')} = {d('etag')}",
        "ETag absent": f"{s('etag')} IS NULL OR {d('etag')} IS NULL",
        "encryption known": f"{s('is_sealed')} IS NOT NULL AND {d('is_sealed')} IS NOT NULL",
        "encrypted": either("{2}"),
        "multipart": either("{1} OR contains({0}, '-')"),
        "undated": "false"
        if options.all_versions
        else f"coalesce({s('is_multipart')}, false) OR contains({s('etag')}, '-')",
        "older": f"{d('modified_us')} < {s('modified_us')}",
        "FAILED": f"{s('replication')} = '{FAILED}'",
        "PENDING": f"{s('replication')} = '{PENDING}'" + _is_recent(s("modified_us"), horizon),
        "young": "false" if horizon is None else either("{3} > " + str(horizon)),
    }


def _is_recent(modified_us: str, horizon_us: int | None) -> str:
    """Return SQL behind a condition: and the object is not known to be older than S3 may take."""
    if horizon_us is None:
        return ""
    return f" AND coalesce({modified_us} > {horizon_us - int(PENDING_SECONDS * 1e6)}, true)"
