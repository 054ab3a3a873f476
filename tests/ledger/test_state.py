"""The rule of the state: its table line by line, and against a plain reading of its sentences."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from datetime import datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.model import Location
from jobs.core.outcome import Evidence, Outcome, Status
from jobs.core.reasons import Reason, Why
from jobs.core.run import RunSpec, Side
from jobs.ledger import state
from jobs.ledger.state import DEPTHS, OPEN, VERDICT_TYPES, judged_sql, pruned_sql, run_verdicts_sql, state_sql
from jobs.tables.rows import write_outcomes
from tests.doubles.examples import examples
from tests.ledger.looks import BEGAN, SCHEMA, Seen, verdicts

JUDGED = f"({judged_sql('given')})"
DAMAGED = ("damaged", "bytes_lost")
ABSENT = Seen("bad", 10, code="copy_missing", copy_etag=None, copy_modified=None)
GONE = Seen("gone", 50, "listed", copy_modified=None, run_id="census")


@cache
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET TimeZone = 'UTC'; SET threads = 1")
    return made


def pruned(table: pa.Table) -> pa.Table:
    connection().register("given", table)
    return connection().sql(pruned_sql(JUDGED)).to_arrow_table()


def state_of(table: pa.Table) -> list[dict[str, Any]]:
    connection().register("given", table)
    rows = connection().sql(f"SELECT *, {OPEN} AS is_open FROM ({state_sql(JUDGED)})").to_arrow_table().to_pylist()
    for row in rows:
        row |= {name: int(at.timestamp()) - BEGAN for name, at in row.items() if isinstance(at, datetime)}
    return sorted(rows, key=by_object)


def said_by(spec: RunSpec, *outcomes: Outcome) -> list[dict[str, Any]]:
    connection().register("outcomes", pq.read_table(io.BytesIO(write_outcomes(outcomes))))
    return connection().sql(run_verdicts_sql(spec, "outcomes")).to_arrow_table().to_pylist()


def table_lines() -> list[list[str]]:
    rows = re.findall(r"^\|(.*)\|$", state.__doc__ or "", re.MULTILINE)
    lines = [[cell.strip() for cell in row.split("|")] for row in rows]
    return [line for line in lines if line[0] not in ("job",) and not line[0].startswith("-")]


@pytest.mark.parametrize("line", table_lines(), ids="-".join)
def test_each_line_of_the_table_is_what_a_row_says(line: list[str]) -> None:
    job, status, code, proof, verdict, depth = line
    fits = [job] if job != "any" else ["replicate", "verify"]
    if code == "newer_copied":
        status = "same"
    for each in fits:
        for evidence in [Evidence.NONE] if proof == "no" or status == "any" else [Evidence.CONTENT, Evidence.CHECKSUM]:
            ended = Status("blocked" if status == "any" else status)
            why: Why = Reason(code) if code else ""
            outcome = Outcome(0, "in/key", "v", ended, why, evidence, etag="e").ended(1.0, "a")
            where = Side(Location("originals", "in/")), Side(Location("copies", "out/"), "http://host:1")
            spec = RunSpec("run", each, 0.0, *where, "")
            rows = said_by(spec, outcome)
            if not verdict:
                assert rows == []
                continue
            its = "bytes" if evidence is Evidence.CONTENT else "stored"
            [row] = rows
            assert (row["verdict"], row["depth"]) == (verdict, its if depth == "its" else depth)
            assert (row["copy_service"], row["copy_key"]) == ("host:1", "out/key")
            assert list(row) == list(VERDICT_TYPES)
            if proof == "no":
                assert row["code"] == "nothing_comparable"
            elif verdict == "good":
                assert (row["code"] == "done") is (status == "done")


@pytest.mark.parametrize(("version_id", "evidence", "said"), [
    ("", Evidence.CHECKSUM, [("good", "new")]), ("", Evidence.NONE, []), ("v", Evidence.CHECKSUM, []),
])  # fmt: skip
def test_a_newer_object_that_was_copied_instead_of_a_listed_one_is_known(
    version_id: str, evidence: Evidence, said: list[tuple[str, str]]
) -> None:
    ended = Outcome(0, "key", version_id, Status.DONE, Reason.NEWER_COPIED, evidence, etag="new").ended(1.0, "a")
    spec = RunSpec("run", "replicate", 0.0, Side(Location("originals")), Side(Location("copies")), "")
    assert [(row["verdict"], row["etag"]) for row in said_by(spec, ended)] == said


ROT = Seen("bad", 10, "bytes", "content_differs")
WRONG = Seen("bad", 10, code="metadata_differs")
TAGS = WRONG._replace(detail="tags")
LISTED_WRONG = Seen("bad", 10, "listed", "size_differs")
DAMAGE = Seen("bad", 10, "bytes", "damaged")
LOST = DAMAGE._replace(code="bytes_lost")
STUCK = Seen("unknown", 10, "bytes", "given_up")
DENIED = Seen("unknown", 10, code="denied", copy_etag=None, copy_modified=None)
EXTRA = Seen("bad", 10, "listed", "source_gone", etag=None, modified=None, copy_id="c1")
NAMED_ROT, NAMED_GONE = ROT._replace(version_id="v1"), GONE._replace(version_id="v1")
EXTRA_GONE = GONE._replace(etag=None, modified=None, copy_id="c1")
OVER = Seen("unknown", 20, code="source_gone")
STALE = OVER._replace(at=30, modified=None)
OLD = WRONG._replace(etag="old", modified=5)
MADE = Seen("good", 20, code="done", copy_modified=15)
NEW = Seen("good", 20, "listed", "nothing_comparable", copy_modified=15)
AGAIN = Seen("good", 30, "listed", modified=15)
LISTED = Seen("good", 30, "listed")
LATER = Seen("good", 30, "listed", copy_modified=25)
AGREED = Seen("accepted", 20, run_id="ann")
AGREED_DENIED = AGREED._replace(depth=None, copy_etag=None, copy_modified=None)
AGREED_ABSENT = ABSENT._replace(verdict="accepted", at=20, run_id="ann")
AGREED_STUCK = STUCK._replace(verdict="accepted", at=20, depth=None, run_id="ann")
AGREED_ROT = ROT._replace(verdict="accepted", at=20, run_id="ann")


def known(row: dict[str, Any]) -> str:
    code = row["finding"] or row["blocked"] or "ok"
    state = "accepted" if row["accepted_by"] else "" if row["is_open"] or code == "ok" else "over"
    return f"{code} {state}{'' if row['checked_at'] else ' unchecked'}".replace("  ", " ").strip()


CASES: list[tuple[list[Seen], list[str]]] = [
    # what ends a finding
    ([ROT, Seen("good", 20, copy_modified=15)], ["content_differs"]),
    ([ROT, MADE], ["ok"]),
    ([Seen("good", 5, "bytes"), ABSENT._replace(depth="listed")], ["copy_missing"]),
    ([ROT, Seen("good", 20, "bytes", copy_modified=15)], ["ok"]),
    ([TAGS, Seen("good", 20, "bytes", copy_modified=15)], ["metadata_differs"]),
    ([TAGS, Seen("good", 20, code="tags")], ["ok"]),
    ([WRONG, Seen("good", 20, "bytes", code="proven", copy_modified=15)], ["metadata_differs"]),
    ([TAGS, MADE], ["ok"]),
    ([TAGS, AGREED._replace(code=TAGS.code), Seen("good", 30)], ["metadata_differs accepted"]),
    ([ABSENT, NEW], ["ok unchecked"]),
    ([DAMAGE, MADE], ["damaged"]),
    ([DAMAGE, Seen("good", 20, "bytes")], ["ok"]),
    ([LOST._replace(detail="source"), MADE], ["bytes_lost"]),
    ([LOST._replace(detail="copy"), MADE], ["ok"]),
    ([STUCK, Seen("good", 20)], ["given_up"]),
    ([STUCK, Seen("good", 20, "bytes")], ["ok"]),
    ([Seen("unknown", 10, code="nothing_comparable")], ["ok unchecked"]),
    # a copy without a source is itself
    ([EXTRA, Seen("good", 20, copy_id="c1")], ["ok"]),
    ([EXTRA, Seen("good", 20, copy_id="c2")], ["ok", "source_gone unchecked"]),
    # the source is written again with the same content, or another one
    ([ROT._replace(depth="stored"), AGAIN], ["content_differs unchecked", "ok"]),
    ([WRONG, AGAIN], ["metadata_differs unchecked", "ok"]),
    ([WRONG, AGAIN._replace(depth="stored")], ["ok"]),
    ([WRONG, AGAIN._replace(code="done", copy_modified=29)], ["ok"]),
    ([WRONG, AGAIN._replace(etag="another")], ["ok"]),
    ([WRONG._replace(code="damaged"), AGAIN], ["ok"]),
    ([OLD._replace(modified=None), Seen("good", 20)], ["ok"]),  # without a date it counts as older
    ([WRONG._replace(etag="new", modified=15), STALE], ["source_gone over unchecked", "metadata_differs unchecked"]),
    # known with and without its version
    ([LISTED_WRONG._replace(version_id="v1", modified=5), Seen("good", 20, modified=5)], ["ok"]),
    ([LISTED_WRONG._replace(version_id="v1", modified=5), Seen("good", 20, modified=None)], ["ok"]),
    ([LISTED_WRONG._replace(version_id="v1"), Seen("good", 20, modified=6)], ["ok", "size_differs unchecked"]),
    # neither list has it any more
    ([EXTRA, EXTRA_GONE], []),
    ([Seen("good", 10, "bytes", version_id="v1"), NAMED_GONE], []),
    ([ROT, Seen("good", 20), AGREED_ROT._replace(at=60), GONE], []),
    ([ROT, ROT._replace(at=50), GONE], ["content_differs unchecked"]),  # in the same second
    ([ROT._replace(etag="other"), GONE], ["content_differs unchecked"]),
    ([NAMED_ROT, NAMED_GONE], ["content_differs unchecked"]),  # a version may be there, not listed
    ([EXTRA, EXTRA_GONE._replace(copy_id="c2")], ["source_gone unchecked"]),
    # the source is gone: lists say no more
    ([LISTED_WRONG, OVER], ["size_differs over unchecked"]),
    ([WRONG, OVER], ["metadata_differs unchecked"]),
    ([ABSENT, OVER], ["copy_missing over unchecked"]),
    ([ABSENT, DENIED._replace(at=20)], ["copy_missing unchecked"]),
    ([ABSENT._replace(version_id="v1"), STALE._replace(version_id="v1")], ["copy_missing over unchecked"]),
    # a person accepts it
    ([WRONG, AGREED, WRONG._replace(at=30)], ["metadata_differs accepted unchecked"]),
    ([WRONG, AGREED, ROT._replace(at=30)], ["content_differs unchecked"]),
    ([WRONG, AGREED, WRONG._replace(at=30, copy_modified=25)], ["metadata_differs unchecked"]),
    ([WRONG, AGREED, Seen("good", 30)], ["ok"]),
    ([DENIED, AGREED_DENIED], ["denied accepted unchecked"]),
    ([STUCK, AGREED_STUCK, LISTED._replace(copy_id="c")], ["given_up accepted"]),
    ([STUCK, AGREED_STUCK._replace(copy_id="c"), LISTED], ["given_up accepted"]),
    ([STUCK, AGREED_STUCK._replace(copy_id="c"), LISTED._replace(copy_id="d")], ["given_up"]),
    ([STUCK, AGREED_STUCK, LISTED._replace(copy_id="c", copy_modified=25)], ["given_up"]),
    ([STUCK, AGREED_STUCK, LISTED._replace(version_id="v")], ["given_up accepted"]),
    ([DENIED, AGREED_DENIED, ABSENT._replace(at=30)], ["copy_missing unchecked"]),
    ([ABSENT, AGREED_ABSENT, ABSENT._replace(at=40)], ["copy_missing accepted unchecked"]),
    ([ABSENT, AGREED_ABSENT, ABSENT._replace(at=40, depth="bytes")], ["copy_missing accepted unchecked"]),
    ([ABSENT, AGREED_ABSENT, Seen("good", 30), ABSENT._replace(at=40)], ["copy_missing"]),
    ([ABSENT, AGREED_ABSENT, LATER, ABSENT._replace(at=40)], ["copy_missing"]),
    ([ROT, AGREED_ROT, Seen("good", 30), ROT._replace(at=40)], ["content_differs accepted"]),
    ([ROT, AGREED_ROT, Seen("good", 30, "bytes"), ROT._replace(at=40)], ["content_differs"]),
]


def test_what_is_known_of_an_object_after_some_looks() -> None:
    table = verdicts(*(each._replace(key=str(case)) for case, (seen, _) in enumerate(CASES) for each in seen))
    rows = state_of(table)  # one query: to plan it takes longest
    assert state_of(pruned(table)) == rows, "a generation forgets nothing that matters"
    for case, (seen, expected) in enumerate(CASES):
        assert sorted(known(row) for row in rows if row["key"] == str(case)) == sorted(expected), seen


def test_a_generation_keeps_what_a_later_look_said_otherwise() -> None:
    """A new copy ends what differs, and no damage of the source."""
    kept = pruned(verdicts(DAMAGE, ROT._replace(at=11))).cast(SCHEMA)
    [row] = state_of(pa.concat_tables([kept, verdicts(Seen("good", 20, code="done", copy_modified=15))]))
    assert row["finding"] == "damaged"


def test_what_a_deep_look_could_not_read_is_of_bytes() -> None:
    spec = RunSpec("run", "verify", 0.0, Side(Location("originals")), Side(Location("copies")), "", {"deep": True})
    ends = [Outcome(0, "key", "v", Status.BLOCKED, why).ended(1.0, "a") for why in (Reason.GIVEN_UP, Reason.ARCHIVED)]
    assert [row["depth"] for row in said_by(spec, *ends)] == ["bytes", "stored"]
    [row] = said_by(replace(spec, options={"compares_tags": True}), Outcome(0, "key", "v", Status.VERIFIED))
    assert row["code"] == "tags"
    [row] = said_by(spec, Outcome(0, "key", "v", Status.VERIFIED, Reason.CHECKSUMS_AT_REST, detail="proven"))
    assert row["code"] == "proven"


def plain(all_seen: list[Seen]) -> list[dict[str, Any]]:
    """The rule, read sentence by sentence."""
    objects: dict[tuple[str, str | None, str | None, int], list[Seen]] = defaultdict(list)
    for seen in all_seen:
        alike = [each for each in all_seen if (each.key, each.etag) == (seen.key, seen.etag) and each.version_id]
        ids = [(each.modified or 0, each.version_id) for each in alike if seen.modified in (None, each.modified)]
        version_id = seen.version_id or (max(ids)[1] if ids else None)
        modified = -1 if version_id else modified_of(seen, all_seen)
        objects[seen.key, version_id, None if version_id else seen.etag, modified].append(seen)
    current = [each for each in all_seen if each.verdict in ("good", "bad") and each.version_id is None]
    rows = []
    for (key, version_id, etag, modified), looks in objects.items():
        goods = [
            each
            for (*same, later), others in objects.items()
            if (*same, later) == (key, version_id, etag, modified)
            or (not version_id and etag and same == [key, None, etag] and later >= modified)
            for each in others
            if each.verdict == "good"
        ]
        newest, its_etag = max(
            ((modified_of(each, all_seen), str(each.etag)) for each in current if each.key == key), default=(-1, "")
        )
        written = max((each.modified for each in looks if each.modified is not None), default=None)
        gone_at = max((each.at for each in looks if each.verdict == "gone"), default=-1)
        looks = [each for each in looks if each.verdict != "gone"]
        said = [each.at for each in looks if each.verdict != "accepted"]
        own_goods = [each for each in looks if each.verdict == "good"]
        is_open = any(
            each.verdict == "accepted"
            or (each.verdict == "bad" and not is_ended(each, own_goods))
            or (each.verdict == "unknown" and is_last(each, looks))
            for each in looks
        )
        is_kept = bool(version_id) and is_open
        looks = [each for each in looks if is_kept or max(said, default=each.at) >= gone_at]
        last = max(said, default=10)
        is_undated = modified < 0 and any(each.key == key and each.at > last for each in current)
        if not looks:
            continue
        if version_id is not None or (modified >= newest if modified >= 0 else not is_undated):
            rows.append(plain_row(key, version_id, looks, goods, written if modified < 0 else modified))
        elif 0 <= modified < newest and its_etag == etag:
            kept = [each for each in looks if is_of_copy(each) and not is_ended(each, goods)]
            rows += [plain_row(key, version_id, kept, goods, modified)] if kept else []
    return sorted(rows, key=by_object)


def modified_of(seen: Seen, all_seen: list[Seen]) -> int:
    """When its object was written. Else the last of that content counts, one with an id if there is one."""
    if seen.modified is not None:
        return seen.modified
    alike = [each for each in all_seen if (each.key, each.etag) == (seen.key, seen.etag)]
    alike = [each for each in alike if each.version_id] or alike
    return max((each.modified for each in alike if each.modified is not None), default=-1)


def by_object(row: dict[str, Any]) -> tuple[str, ...]:
    return row["key"], str(row["version_id"]), str(row["etag"]), str(row["modified"])


def is_of_copy(seen: Seen) -> bool:
    is_found = seen.verdict == "bad" and seen.depth != "listed" and seen.copy_etag is not None
    return is_found and seen.code != "damaged"


def plain_row(
    key: str, version_id: str | None, looks: list[Seen], goods_of_content: list[Seen], modified: int | None
) -> dict[str, Any]:
    goods = [each for each in looks if each.verdict == "good"]
    open_ones = [each for each in looks if each.verdict == "bad" and not is_ended(each, goods_of_content)]
    finding = max(open_ones, key=lambda each: each.order, default=None)
    looked = [each for each in looks if each.verdict in ("good", "bad")]
    last = max([*goods, *open_ones], key=lambda each: each.order, default=None)
    unknown = [each for each in looks if each.verdict == "unknown" and each.code != "too_new"]
    stuck = [each for each in unknown if is_last(each, looked)]
    blocked = max(stuck, key=lambda each: each.order, default=None)
    agreed = [each for each in looks if each.verdict == "accepted" and not is_ended(each, goods_of_content)]
    accepted = max(agreed, key=lambda each: each.order, default=None)
    about = finding or last
    copy = about.copy if about else (None, None, None)
    is_unnamed = accepted is None or None in (accepted.copy_id, copy[0])
    is_accepted = (
        accepted is not None
        and (finding or blocked) is not None
        and (accepted.copy == copy or (copy[1] is not None and is_unnamed and accepted.copy[1:] == copy[1:]))
        and (finding is None or bool(accepted.depth))
        and (finding is None or copy[:2] == (None, None) or finding.strength <= accepted.strength)
    )
    return {
        "key": key,
        "version_id": version_id,
        "etag": looks[0].etag,
        "modified": modified,
        "checked_at": max((each.at for each in goods if each.code != "nothing_comparable"), default=None),
        "read_at": max((each.at for each in goods if each.depth == "bytes"), default=None),
        "finding": finding and finding.code,
        "found_at": finding and finding.at,
        "found_depth": finding and finding.depth,
        "found_by": finding and finding.run_id,
        "accepted_by": accepted.run_id if accepted and is_accepted else None,
        "blocked": blocked and blocked.code,
        "blocked_at": blocked and blocked.at,
    }


def is_last(unknown: Seen, looks: list[Seen]) -> bool:
    looked = [each for each in looks if each.verdict in ("good", "bad")]
    return all(unknown.at >= each.at for each in looked if unknown.depth != "bytes" or each.depth == "bytes")


def is_as_deep(good: Seen, bad: Seen) -> bool:
    needed = bad.strength if bad.depth else DEPTHS.index("bytes")
    return good.code == "tags" if bad.code == "metadata_differs" else good.strength >= needed


def is_ended(bad: Seen, goods: list[Seen]) -> bool:
    return any((good.at > bad.at and is_as_deep(good, bad)) or is_newer_copy(good, bad) for good in goods)


def is_newer_copy(good: Seen, bad: Seen) -> bool:
    if good.copy_modified is None or bad.code in DAMAGED:
        return False
    if not is_as_deep(good, bad) and good.code != "done" and bad.code != "copy_missing":
        return False
    return good.copy_modified > (bad.at if bad.copy_modified is None else bad.copy_modified)


NAMED: list[tuple[str | None, str, int | None]] = [("v1", "e1", 1), ("v2", "e2", 4), ("v3", "e1", 7)]
UNNAMED: list[tuple[str | None, str, int | None]] = [(None, "e1", 2), (None, "e4", 5)]
COPIES = [("c1", "e1", 3), ("c2", "e1", 6), (None, "e1", 6), (None, "e4", None), (None, None, None)]
CODES = {
    "good": ["", "tags", "done", "nothing_comparable"],
    "bad": ["size_differs", "copy_missing", "damaged", "metadata_differs"],
    "unknown": ["denied", "archived", "too_new"],
    "accepted": ["metadata_differs", "copy_missing", "damaged"],
    "gone": [""],
}


@st.composite
def worlds(draw: st.DrawFn) -> list[Seen]:
    """Looks at one key. In a mixed world some name the version and others do not."""
    is_mixed, named = draw(st.booleans()), draw(st.booleans())
    objects = [*NAMED, *UNNAMED] if is_mixed else NAMED if named else UNNAMED
    seen = []
    for number in range(draw(st.integers(1, 10))):
        verdict = draw(st.sampled_from(["good", "good", "good", "bad", "bad", "unknown", "accepted", "gone"]))
        version_id, etag, modified = draw(st.sampled_from(objects))
        if is_mixed and draw(st.integers(0, 3)) == 0:
            version_id, modified = None, modified if draw(st.booleans()) else None
        depths = [*DEPTHS, None] if verdict == "accepted" else DEPTHS
        code, depth = draw(st.sampled_from(CODES[verdict])), draw(st.sampled_from(depths))
        copy, at = draw(st.sampled_from(COPIES)), draw(st.integers(0, 9))
        key = "mixed" if is_mixed else "plain"
        seen.append(Seen(verdict, at, depth, code, version_id, etag, modified, *copy, f"run{number:02d}", key, "tags"))
    return seen


@settings(max_examples=examples(10), deadline=None)
@given(st.lists(worlds(), min_size=1, max_size=12))
def test_the_sql_says_what_the_sentences_say(found: list[list[Seen]]) -> None:
    numbered = [[each._replace(key=f"{each.key}{number:02d}") for each in seen] for number, seen in enumerate(found)]
    expected = sorted((row for seen in numbered for row in plain(seen)), key=by_object)
    flat = [each for seen in numbered for each in seen]
    whole = state_of(verdicts(*flat))
    assert [{name: row[name] for name in expected[0]} for row in whole] == expected
    assert state_of(pruned(verdicts(*flat))) == whole, "a generation forgets nothing that matters"
    halves = [(seen[: len(seen) // 2], seen[len(seen) // 2 :]) for seen in numbered if seen[0].key.startswith("plain")]
    halves = [(early, late) for early, late in halves if all(each.verdict != "gone" for each in early)]
    early, late = ([each for half in halves for each in half[number]] for number in (0, 1))
    if early and late:
        of_both = state_of(pa.concat_tables([pruned(verdicts(*early)).cast(SCHEMA), verdicts(*late)]))
        keys = {each.key for each in late}
        assert of_both == [row for row in whole if row["key"] in keys], "nor what matters later"
