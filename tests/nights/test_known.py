"""Which rows of the state a night counts: those of its pair, each object once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from jobs.ledger.state import STATE_TYPES
from jobs.nights.night import ask as ask_state
from jobs.nights.summary import Known
from jobs.policy.reader import parse_policy
from jobs.reports.document import iso_time
from tests.doubles import one_duckdb

DAY, NIGHT = 86_400, 100 * 86_400
POLICY = """
version: 1
ledger: {bucket: ledger, region: us-east-1}
pairs:
- name: pair
  verify: {deep: 1/30}
  source: {bucket: source, region: us-east-1, prefixes: [docs/]}
  destination: {bucket: hot, region: us-east-1, prefix: copies/}
  replica: {bucket: twin, region: us-west-2}
- name: drafts
  source: {bucket: source, region: us-east-1, prefixes: [docs/drafts/]}
  destination: {bucket: hot, region: us-east-1, prefix: other/}
"""


def row(key: str, **more: Any) -> dict[str, Any]:
    return {
        "source_service": "",
        "copy_service": "",
        "source_bucket": "source",
        "key": key,
        "etag": "e",
        "copy_bucket": "hot",
        "copy_key": f"copies/{key}",
    } | more


def of_replica(key: str, **more: Any) -> dict[str, Any]:
    return row(f"copies/{key}", source_bucket="hot", copy_bucket="twin", copy_key=f"copies/{key}", **more)


def bad(depth: str = "stored") -> dict[str, Any]:
    return {"finding": "size_differs", "found_depth": depth}


def ask(*rows: dict[str, Any], same: int = 0, differing: Sequence[str] = (), deleted: Sequence[str] = ()) -> Known:
    """What a night says after a comparison in which so many were the same, and these were not.

    `deleted`: only the destination has them.
    """
    policy = parse_policy(POLICY.encode(), "policy.yaml")
    with one_duckdb.connect_unlocked(":memory:") as connection:
        names = ", ".join(f"{name} {kind}" for name, kind in STATE_TYPES.items())
        connection.execute(f"CREATE TABLE state ({names})")
        for each in rows:
            values = [f"to_timestamp(${n})" if "TIME" in STATE_TYPES[k] else f"${n}" for n, k in enumerate(each, 1)]
            connection.execute(f"INSERT INTO state ({', '.join(each)}) VALUES ({', '.join(values)})", [*each.values()])
        connection.execute(
            "CREATE TABLE differences AS SELECT unnest($1::VARCHAR[]) AS key, now() AS source_last_modified, "
            "false AS is_delete_marker UNION ALL SELECT unnest($2::VARCHAR[]), NULL, false",
            [[*differing], [*deleted]],
        )
        compared = {
            "created_at": iso_time(NIGHT), "source_rows": same + len(differing), "categories": {"same": {"rows": same}}
        }  # fmt: skip
        return ask_state(connection, policy, policy.pairs[0], compared)


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ([row("docs/a", checked_at=NIGHT)], []),
        ([row("docs/a", **bad())], ["docs/a"]),
        ([row("docs/a", **bad(), accepted_at=NIGHT)], []),
        ([row("docs/a", **bad()), row("docs/a", **bad(), etag="f"), of_replica("docs/a", **bad())], ["docs/a"]),
        ([of_replica("docs/b", **bad()), row("docs/a", **bad())], ["docs/a", "docs/b"]),
        ([row("logs/a", **bad()), row("docs/drafts/a", **bad()), of_replica("docs/drafts/a", **bad())], []),
        ([row("docs/a", **bad(), copy_bucket="other"), row("docs/a", **bad(), copy_key="elsewhere/docs/a")], []),
        ([row("docs/a", **bad(), source_service="old"), row("docs/a", **bad(), copy_service="old")], []),
        ([row("docs/a", blocked="denied", blocked_at=NIGHT)], ["docs/a"]),
        ([row("docs/a", blocked="given_up", blocked_at=NIGHT - 1)], ["docs/a"]),
        ([row("docs/a", blocked="archived", blocked_at=NIGHT - 1)], ["docs/a"]),
        ([row("docs/a", **bad(depth="listed"), blocked="source_gone", blocked_at=NIGHT)], []),
        ([row("docs/a", **bad(), blocked="source_gone", blocked_at=NIGHT)], ["docs/a"]),
    ],
)
def test_a_night_leaves_what_is_open_of_its_pair(found: list[dict[str, Any]], left: list[str]) -> None:
    known = ask(*found)
    assert (known.left, [*known.left_first]) == (len(left), left)


def test_a_night_says_of_how_many_objects_what_is_proven() -> None:
    known = ask(
        row("docs/a", checked_at=NIGHT),
        row("docs/b", checked_at=1, read_at=NIGHT - 31 * DAY),
        row("docs/c", read_at=NIGHT - 29 * DAY),
        row("docs/c", read_at=NIGHT, modified=1),
        row("docs/d", **bad()),
        row("docs/e", **bad(), accepted_at=NIGHT),
        row("docs/new", read_at=NIGHT, modified=1),
        row("docs/new", etag="f", modified=2),
        row("docs/parts", checked_at=NIGHT),
        row("docs/x", etag=None),
        row("docs/y", copy_service="old", checked_at=NIGHT),
        of_replica("docs/a", checked_at=NIGHT),
        row("logs/a", read_at=NIGHT),
        same=10,
        differing=["docs/e", "docs/parts", "docs/unverifiable"],
    )
    assert (known.objects, known.checked, known.read, known.read_days) == (13, 10 - 1 + 1, 1, 30)
    assert (known.left, known.accepted) == (1, 1)


def test_copies_of_deleted_objects_prove_nothing_of_those_that_are_there() -> None:
    there, deleted = [f"docs/{n}" for n in range(10)], [f"docs/deleted{n}" for n in range(12)]
    known = ask(
        *(row(key, checked_at=NIGHT, read_at=NIGHT) for key in deleted),
        row("docs/0", checked_at=NIGHT),
        differing=there,
        deleted=deleted,
    )
    assert (known.objects, known.checked, known.read) == (10, 1, 0)
