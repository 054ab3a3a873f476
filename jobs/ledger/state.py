"""What we know of each object: verdicts, and the one rule that makes a state of them. Pure SQL.

A verdict is what one look said of a source object and of one copy of it, at S3's own time of that
look. What a row of a run says, by the first line that fits:

| job       | status    | code                | proof | verdict | depth  |
|-----------|-----------|---------------------|-------|---------|--------|
| any       | left      |                     |       |         |        |
| any       | any       | newer_copied        |       |         |        |
| any       | damaged   |                     |       | bad     | bytes  |
| any       | different |                     |       | bad     | its    |
| verify    | missing   |                     |       | bad     | stored |
| replicate | changed   | destination_newer   |       | bad     | its    |
| replicate | changed   | destination_differs |       | bad     | its    |
| replicate | changed   | order_unknown       |       | bad     | its    |
| replicate | changed   | older_on_top        |       | bad     | its    |
| replicate | changed   | hidden_again        |       | bad     | its    |
| replicate | changed   | only_copy           |       | bad     | its    |
| replicate | changed   | marker_differs      |       | bad     | its    |
| any       | done      |                     | yes   | good    | its    |
| any       | same      |                     | yes   | good    | its    |
| any       | verified  |                     | yes   | good    | its    |
| any       | done      |                     | no    | good    | listed |
| any       | any       |                     |       | unknown | stored |

What was copied instead of a version that the row names is another object. Where it names none, and
the copy is proven, the verdict is about the newest object. `proof`: something comparable agrees, or
it is a delete marker, which has nothing to compare. A copy that was made and that nothing proves is
there, and no more is known: such a verdict has the code `nothing_comparable`, and counts as no check.
One of a proven copy that the run made has the code `done`, one of a look that compared tags and
annotations as well has `tags`, one by what an earlier run has proven of the bytes alone has `proven`.
`its`: `bytes` where both contents were read, or S3 computed checksums at rest, else `stored`; `listed`
where a list alone showed it. Jobs that make no copies say nothing of copies.

The state of a source object and of its copy at one place, from all verdicts about the two:

- A bad verdict counts, until a good one is later and at least as deep, or is about a newer copy: one
  that a run made, or a look at least as deep as the bad one. Where a copy was missing, a list that shows
  one that was written since will do. What may be damage of the source (`damaged`, `found_damaged`,
  `both_damaged`, `either_damaged`, and `bytes_lost` unless it is the copy's) no newer copy mends. Tags and
  annotations that differ are ended by a look that compares them, or a copy that a run made, other metadata
  by no look that is `proven`. In one second bad wins.
- An unknown one neither opens nor ends anything. It is `blocked` until a later good or bad one, where
  reading failed until one that has read; but for what only says that nothing could be compared yet:
  that one is there, and unchecked.
- A person may accept what is known of two objects. That ends as a bad verdict of that depth does, when
  either is another one, and when what is found reaches deeper than what was accepted. Who accepted that
  nobody could look has accepted no finding, and only bytes end it. Copies are the same where ETag and
  Last-Modified agree, unless two version ids differ: not every list names them.
- Where the source object is gone, what lists said of the two is over, and that a copy is missing. A
  copy that is still there keeps what else was found of it.
- A complete comparison of current objects says `gone` of one that the source does not list, unless
  looks found something wrong with a copy that is listed, or it was accepted: nothing is known of it
  any more, unless something was said later. A version may still be there: it leaves the state if
  nothing is open of it.

A comparison says what it found wrong, and of the rest only what the state does not have yet or has a
finding about: for all else its report says that it is the same.

Objects are the same by version id, else by ETag and Last-Modified, to the second. Without versions
only the newest object of a key is there. Where it has the ETag of the one before, it was written
again: what looks found of the copy stays, and looks at the newer one end it, too. An object of the destination
without a source has no ETag of one, and is itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.category import Category
from jobs.core.model import NULL_VERSION
from jobs.core.outcome import Evidence, Status
from jobs.core.reasons import FAILURES, Reason
from jobs.core.run import RunSpec
from jobs.errors import ConfigError
from jobs.s3.sessions import endpoint_of
from jobs.tables.duck import identifier, quoted

_TEXT, _TIME = "VARCHAR", "TIMESTAMP WITH TIME ZONE"
_SOURCE = {"source_service": _TEXT, "source_bucket": _TEXT, "key": _TEXT}
_OBJECT = {"version_id": _TEXT, "etag": _TEXT, "modified": _TIME}
_PLACE = {"copy_service": _TEXT, "copy_bucket": _TEXT, "copy_key": _TEXT}
_COPY = {"copy_version_id": _TEXT, "copy_etag": _TEXT, "copy_modified": _TIME}
VERDICT_TYPES: dict[str, str] = {
    **_SOURCE, **_OBJECT, **_PLACE, **_COPY,
    "at": _TIME, "depth": _TEXT, "verdict": _TEXT, "code": _TEXT, "detail": _TEXT, "run_id": _TEXT,
}  # fmt: skip
"""The columns of verdicts. Of an accepted one `detail` is why, and `run_id` who."""
STATE_TYPES: dict[str, str] = {
    **_SOURCE, **_OBJECT, **_PLACE, **_COPY,
    "checked_at": _TIME, "read_at": _TIME, "compared_at": _TIME,
    "finding": _TEXT, "finding_detail": _TEXT, "found_at": _TIME, "found_depth": _TEXT, "found_by": _TEXT,
    "accepted_by": _TEXT, "accepted_why": _TEXT, "accepted_at": _TIME, "blocked": _TEXT, "blocked_at": _TIME,
}  # fmt: skip
"""The columns of the state."""
DEPTHS = ("listed", "stored", "bytes")
BAD = "coalesce(finding, blocked) IS NOT NULL"
"""SQL: a row of the state that is not good."""
_GONE = (Reason.SOURCE_GONE, Reason.SOURCE_REPLACED, Reason.SOURCE_CHANGED)
OVER = f"""(coalesce(blocked IN ({", ".join(f"'{each}'" for each in _GONE)}), false)
    AND coalesce(found_depth = 'listed' OR finding = '{Reason.COPY_MISSING}', true))"""
"""SQL: one whose source object is gone, with nothing known of a copy but what lists said."""
OPEN = f"(accepted_at IS NULL AND {BAD} AND NOT {OVER})"
"""SQL: one that needs somebody."""

_DAMAGED = (Reason.DAMAGED, Reason.FOUND_DAMAGED, Reason.BOTH_DAMAGED, Reason.EITHER_DAMAGED, Reason.BYTES_LOST)
_DAMAGED_SOURCE = (Reason.DAMAGED, Reason.FOUND_DAMAGED)
_DIFFERS = (
    Reason.DESTINATION_NEWER, Reason.DESTINATION_DIFFERS, Reason.ORDER_UNKNOWN, Reason.OLDER_ON_TOP,
    Reason.HIDDEN_AGAIN, Reason.ONLY_COPY, Reason.MARKER_DIFFERS,
)  # fmt: skip
_THERE = (
    Reason.NOTHING_COMPARABLE, Reason.EVIDENCE_WEAK, Reason.UNKNOWN_ALGORITHM, Reason.TOO_NEW, Reason.REPLICATION,
    Reason.DELETE_RETAINED,
)  # fmt: skip
DOUBTS = f"verdict <> 'good' AND NOT (verdict = 'unknown' AND code IN ({', '.join(map(quoted, _THERE))}))"
"""SQL: a verdict that may be a finding, or end one."""
_OF_TAGS = "verdict = 'accepted' OR detail IN ('tags', 'annotations')"
"""SQL: metadata that only a look at tags and annotations ends. What was accepted does not say if it is of them."""
_KEY = ", ".join(_SOURCE)
AT_PLACE = f"{_KEY}, {', '.join(_PLACE)}"
"""SQL: what tells keys at their places apart."""
COMPLETE = "is_complete"
"""The option of a comparison that has read all current objects of both sides: what neither lists is gone."""


def has_verdicts(spec: RunSpec) -> bool:
    """Whether the rows of a run say something of copies."""
    return spec.job in ("replicate", "verify") and spec.source != spec.destination  # else it read archives


def service_name(side: Any) -> str:
    """The service of a side, as verdicts name it: empty for AWS."""
    try:
        endpoint = endpoint_of(side)
    except ConfigError:  # a profile that is not known here
        return str(side.endpoint or "")
    return endpoint.service if endpoint.partition is None else ""


def verdict_places(spec: RunSpec) -> dict[str, str]:
    """What all verdicts of a run say of the places of objects and copies."""
    return {
        "source_service": quoted(service_name(spec.source)),
        "source_bucket": quoted(spec.source.location.bucket),
        "copy_service": quoted(service_name(spec.destination)),
        "copy_bucket": quoted(spec.destination.location.bucket),
    }


def copy_key_sql(spec: RunSpec) -> str:
    """SQL for the key of a run's copy of `key`."""
    source, destination = quoted(spec.source.location.key), quoted(spec.destination.location.key)
    return f"{destination} || CASE WHEN starts_with(key, {source}) THEN substr(key, length({source}) + 1) ELSE key END"


def run_verdicts_sql(spec: RunSpec, outcomes: str) -> str:
    """SQL for the verdicts of a run's outcomes (a relation)."""
    job = quoted(spec.job)
    is_newer = f"reason = {quoted(Reason.NEWER_COPIED)}"
    failed = f"status = {quoted(Status.BLOCKED)} AND reason IN ({_listed(sorted(FAILURES))})"
    good = "'tags'" if spec.options.get("compares_tags") else "if(detail = 'proven', detail, reason)"
    unknown = f"CASE WHEN {failed} THEN 'bytes' ELSE 'stored' END" if spec.options.get("deep") else "'stored'"
    values = {
        "modified": "source_modified",
        "copy_key": copy_key_sql(spec),
        "copy_version_id": "destination_version_id",
        "copy_etag": "destination_etag",
        "depth": f"CASE WHEN status = 'damaged' THEN 'bytes' WHEN status = 'missing' "
        f"OR verdict = 'unknown' THEN {unknown} WHEN NOT proven AND verdict = 'good' THEN 'listed' ELSE depth END",
        "code": f"CASE WHEN NOT proven AND verdict = 'good' THEN {quoted(Reason.NOTHING_COMPARABLE)} "
        f"WHEN status = 'done' THEN status WHEN verdict = 'good' THEN {good} ELSE reason END",
    }
    rows = f"""(
            SELECT *, CASE
                WHEN status = 'left' OR ({is_newer} AND (NOT proven OR coalesce(version_id, '') <> '')) THEN NULL
                WHEN status IN ('damaged', 'different') OR (status = 'missing' AND {job} = 'verify')
                    OR (status = 'changed' AND {job} = 'replicate' AND reason IN ({_listed(_DIFFERS)})) THEN 'bad'
                WHEN status = 'done' OR (status IN ('same', 'verified') AND proven) THEN 'good'
                ELSE 'unknown' END AS verdict
            FROM (SELECT *, evidence <> {quoted(Evidence.NONE)} OR etag IS NULL AS proven FROM {outcomes})
        ) WHERE verdict IS NOT NULL"""
    return _verdicts_sql(spec, values, rows)


def comparison_verdicts_sql(spec: RunSpec, rows: str, listed_at: tuple[float, float]) -> str:
    """SQL for the verdicts of a comparison of two lists about some of its rows.

    `listed_at`: when the lists were made, in epoch seconds.
    """
    older, newer = map(_time, sorted(listed_at))
    values = {
        "etag": "source_etag",
        "modified": "source_last_modified",
        "copy_key": "destination_key",
        "copy_version_id": "destination_version_id",
        "copy_etag": "destination_etag",
        "copy_modified": "destination_last_modified",
        "at": f"CASE category WHEN {quoted(Category.SAME)} THEN {older} ELSE {newer} END",
        "depth": "'listed'",
        "verdict": f"CASE WHEN is_finding THEN 'bad' WHEN category = {quoted(Category.SAME)} THEN 'good' "
        "ELSE 'unknown' END",
        "code": "reason",
    }
    return _verdicts_sql(spec, values, rows)


def gone_sql(spec: RunSpec, objects: str, listed_at: float) -> str:
    """SQL for the verdicts that objects are gone: those that a complete comparison did not list.

    `objects`: a relation with the columns of verdicts about keys, objects and copies. `listed_at`: when
    the older list was made.
    """
    values = {"at": _time(listed_at), "depth": "'listed'", "verdict": "'gone'", "code": "''", "detail": "''"}
    return _verdicts_sql(spec, values, objects)


def _verdicts_sql(spec: RunSpec, values: Mapping[str, str], rows: str) -> str:
    values = {**verdict_places(spec), "run_id": quoted(spec.run_id), **values}
    columns = ", ".join(f"{values.get(name, identifier(name))} AS {identifier(name)}" for name in VERDICT_TYPES)
    return f"SELECT {columns} FROM {rows}"


def _time(seconds: float) -> str:
    return f"make_timestamptz({int(seconds * 1e6)})"


def state_sql(judged: str) -> str:
    """SQL for the state of what `judged_sql` makes of verdicts: a row for each object and its copy's place."""
    said = 'struct_pack(code, detail, "at", depth, run_id, copy, strength)'
    latest = f"arg_max({said}, (second, strength, code, run_id)) FILTER ({{}})".format
    its = "(coalesce({0}.etag, {0}.id), {0}.modified_s)".format
    same = f"{its('agreed.copy')} IS NOT DISTINCT FROM {its('copy')} AND coalesce(agreed.copy.id = copy.id, true)"
    return f"""
        WITH objects AS (
            SELECT {AT_PLACE}, own_id AS version_id, max(etag) AS etag, max(own_modified) AS modified_s,
                   {latest("is_open")} AS found, {latest(f"is_last AND code NOT IN ({_listed(_THERE)})")} AS stuck,
                   {latest("verdict = 'accepted' AND NOT is_ended")} AS agreed,
                   {latest("verdict = 'good'")} AS good,
                   coalesce(struct_extract(found, 'copy'), struct_extract(good, 'copy')) AS copy,
                   max("at") FILTER (verdict = 'good' AND code <> {quoted(Reason.NOTHING_COMPARABLE)}) AS checked_at,
                   max("at") FILTER (verdict = 'good' AND depth = 'bytes') AS read_at
            FROM {judged} GROUP BY {AT_PLACE}, own_id, oid
        ), answered AS (
            SELECT *, CASE WHEN {same} AND CASE WHEN found IS NULL THEN stuck IS NOT NULL
                ELSE agreed.strength > 0 AND (coalesce(copy.id, copy.etag) IS NULL OR found.strength <= agreed.strength)
                END THEN agreed END AS accepted
            FROM objects
        )
        SELECT {_KEY}, version_id, etag, make_timestamptz(modified_s * 1000000) AS modified,
               {", ".join(_PLACE)}, copy.id AS copy_version_id, copy.etag AS copy_etag,
               make_timestamptz(copy.modified_s * 1000000) AS copy_modified, checked_at, read_at,
               CASE WHEN good.strength > 1 AND good.code <> 'proven' THEN good."at" END AS compared_at,
               found.code AS finding, found.detail AS finding_detail, found."at" AS found_at,
               found.depth AS found_depth, found.run_id AS found_by,
               accepted.run_id AS accepted_by, accepted.detail AS accepted_why, accepted."at" AS accepted_at,
               stuck.code AS blocked, stuck."at" AS blocked_at
        FROM answered"""


def pruned_sql(judged: str) -> str:
    """SQL for those verdicts that can still matter, of what `judged_sql` makes of them, in the order of keys.

    They name a version where another verdict has its id.
    """
    values = {"version_id": "own_id", "modified": "make_timestamptz(own_modified * 1000000)"}
    columns = ", ".join(f"{values.get(name, identifier(name))} AS {identifier(name)}" for name in VERDICT_TYPES)
    return f"""
        SELECT {columns} FROM {judged}
        WHERE verdict IN ('good', 'accepted') OR is_open OR is_last
            OR (verdict = 'bad' AND (second = looked_at OR (second = tried_at AND depth = 'bytes')))
        QUALIFY row_number() OVER (PARTITION BY {AT_PLACE}, oid, verdict, depth, copy, code
                                   ORDER BY "at" DESC, run_id DESC) = 1
        ORDER BY {_KEY}, own_id"""


def judged_sql(verdicts: str) -> str:
    """SQL for the verdicts about objects that are there, as far as verdicts say it.

    Where all looks at a key found the same object and copy equal, there is nothing to judge: most are such keys. With
    `own_id`, `own_modified` and `oid`, which tell objects apart, `is_ended` where a good verdict
    ends it, `is_open` for a finding, and `is_last` where it is unknown since.
    """
    identity, looked = f"{AT_PLACE}, oid", "verdict IN ('good', 'bad')"
    is_sourceless = "own_id IS NULL AND etag IS NULL"
    same = f"source_service, version_id, etag, modified_s, {', '.join(_PLACE)}, copy"
    of_current = f"{looked} AND version_id IS NULL AND etag IS NOT NULL"

    def last(condition: str, value: str = "second", over: str = identity) -> str:
        return f"max({value}) FILTER ({condition}) OVER (PARTITION BY {over})"

    is_dated = "CASE WHEN own_id IS NULL AND etag IS NOT NULL THEN {} ELSE {} END".format
    content = f"""{AT_PLACE}, {is_dated("concat('e', etag)", "oid")} ORDER BY {is_dated("own_modified", 0)}
        RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"""  # the object itself, and it written again
    looks = [*map("verdict = 'good' AND strength >= {}".format, (1, 2, 3, "2 AND code <> 'proven'")), "code = 'tags'"]
    goods = ", ".join(last(look, over=content) for look in looks)
    newest = ", ".join(last(f"{look} OR code = 'done'", "copy.modified_s", content) for look in looks)
    needed = f"CASE code WHEN 'metadata_differs' THEN if({_OF_TAGS}, 5, 4) ELSE if(strength = 0, 3, strength) END"
    return f"""
        WITH seen AS (
            SELECT * REPLACE ({_own("version_id")} AS version_id, {_own("copy_version_id")} AS copy_version_id),
                   epoch_us("at") // 1000000 AS second,
                   coalesce(list_position([{_listed(DEPTHS)}], depth), 0) AS strength,
                   epoch_us(modified) // 1000000 AS modified_s,
                   struct_pack(id := {_own("copy_version_id")}, etag := copy_etag,
                               modified_s := epoch_us(copy_modified) // 1000000) AS copy
            FROM {verdicts}
        ), odd AS MATERIALIZED (
            SELECT source_bucket, key FROM (SELECT source_bucket, key, verdict, hash({same}) AS same FROM seen)
            GROUP BY ALL HAVING bool_or(verdict <> 'good') OR min(same) <> max(same)
        ), alike AS (
            SELECT *, max(version_id) OVER (PARTITION BY {_KEY}, etag, modified_s) AS id_of_both,
                   arg_max(version_id, coalesce(modified_s, 0)) OVER (PARTITION BY {_KEY}, etag) AS id_of_etag,
                   coalesce(max(modified_s) FILTER (version_id IS NOT NULL) OVER (PARTITION BY {_KEY}, etag),
                            max(modified_s) OVER (PARTITION BY {_KEY}, etag)) AS last_modified_s
            FROM seen SEMI JOIN odd USING (source_bucket, key)
        ), identified AS (
            SELECT *, CASE WHEN etag IS NULL THEN version_id ELSE coalesce(
                       version_id, id_of_both, CASE WHEN modified_s IS NULL THEN id_of_etag END) END AS own_id,
                   CASE WHEN etag IS NULL OR version_id IS NOT NULL THEN modified_s
                        ELSE coalesce(modified_s, last_modified_s) END AS own_modified,
                   CASE WHEN own_id IS NOT NULL THEN concat('v', own_id)
                        WHEN etag IS NOT NULL THEN concat('e', etag, '@', own_modified)
                        ELSE concat('c', coalesce(copy_version_id, copy_etag)) END AS oid
            FROM alike
        ), placed AS (
            SELECT *, [{goods}] AS goods, [{newest}] AS newest_copies,
                   {last(looked)} AS looked_at, {last(f"{looked} AND depth = 'bytes'")} AS tried_at,
                   {last("verdict NOT IN ('accepted', 'gone')")} AS last_at, {last("verdict = 'gone'")} AS gone_at,
                   {last(f"{of_current} AND own_modified >= 0", "(own_modified, etag)", AT_PLACE)} AS newest,
                   {last(of_current, over=AT_PLACE)} AS current_at,
                   {last(f"{looked} AND NOT ({is_sourceless})", over=AT_PLACE)} AS sourced_at,
                   {last(f"{looked} AND NOT ({is_sourceless})", over=f"{AT_PLACE}, copy_version_id")} AS owned_at
            FROM identified
        )
        SELECT *, version_id AS own_id, modified_s AS own_modified, '' AS oid,
               false AS is_ended, false AS is_open, false AS is_last
        FROM seen ANTI JOIN odd USING (source_bucket, key)
        UNION ALL BY NAME
        (SELECT *, coalesce(goods[{needed}] > second, false)
                  OR ((code NOT IN ({_listed(_DAMAGED)}) OR detail = 'copy') AND coalesce(
                      newest_copies[CASE code WHEN {quoted(Reason.COPY_MISSING)} THEN 1 ELSE {needed} END]
                      > coalesce(copy.modified_s, second), false)) AS is_ended,
               verdict = 'bad' AND NOT is_ended AS is_open,
               verdict = 'unknown'
                   AND second >= coalesce(CASE depth WHEN 'bytes' THEN tried_at ELSE looked_at END, second) AS is_last
        FROM placed
        WHERE verdict <> 'gone'
            AND (own_id IS NOT NULL OR NOT coalesce(
                CASE WHEN etag IS NULL
                     THEN CASE WHEN copy_version_id IS NULL THEN sourced_at ELSE owned_at END > last_at
                     WHEN own_modified IS NULL THEN current_at > last_at
                     ELSE newest[1] > own_modified AND NOT (
                         newest[2] = etag AND is_open AND depth <> 'listed' AND copy_etag IS NOT NULL
                         AND code NOT IN ({_listed(_DAMAGED_SOURCE)})) END, false))
        QUALIFY NOT (coalesce(gone_at > coalesce(last_at, second), false) AND (own_id IS NULL OR NOT bool_or(
            is_open OR is_last OR verdict = 'accepted') OVER (PARTITION BY {identity}))))"""


def _own(column: str) -> str:
    return f"nullif(nullif({column}, ''), {quoted(NULL_VERSION)})"


def _listed(values: Sequence[str]) -> str:
    return ", ".join(map(quoted, values))
