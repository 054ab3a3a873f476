"""What was found wrong by bytes counts until something that looked at bytes answers it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.model import Location
from jobs.core.run import RunSpec, Side
from jobs.runs.replaced_runs import covers, find_repaired, scope_of

CREATED = "2026-11-20T10:00:00+00:00"


HERE, THERE = Side(Location("here")), Side(Location("there"))


def run(
    run_id: str,
    *,
    job: str = "verify",
    retry_of: str | None = None,
    sides: tuple[Side, Side] = (HERE, THERE),
    **options: Any,
) -> dict[str, Any]:
    """The summary of a complete run between two places. `found`: the outcomes of its failed row."""
    found = options.pop("found", None)
    default = f"run:{retry_of}" if retry_of else f"listing of {sides[0].location}"
    manifest = options.pop("manifest", default)
    spec = RunSpec(run_id, job, 0.0, *sides, manifest, {"filters": {}} | options)
    return {
        "run_id": run_id,
        "job": job,
        "state": "complete",
        "rows": 2,
        "outcomes": {"verified": 2} if found is None else {found: 1, "verified": 1},
        "failures": int(found is not None),
        "created_at": CREATED,
        "source": str(sides[0].location),
        "destination": str(sides[1].location),
        "pair": options.get("pair"),
        "retry_of": retry_of,
        "unread": 0,
        "silent_since": None,
        "scope": scope_of(spec),
    }


REPORT = {"uri": "s3://reports/m.json"}
HEAD: dict[str, Any] = {}
DEEP, AT_REST = {"deep": True}, {"destination_checksums": REPORT}


@pytest.mark.parametrize(
    ("found_by", "later", "is_answered"),
    [
        (DEEP, DEEP, True),
        (DEEP, HEAD, False),
        (DEEP, AT_REST, False),
        (AT_REST, AT_REST, True),
        (AT_REST, DEEP, True),
        (AT_REST, HEAD, False),
        (HEAD, HEAD, True),
        (HEAD, AT_REST, True),
    ],
)
def test_a_finding_is_answered_by_a_look_at_no_less(
    found_by: dict[str, Any], later: dict[str, Any], is_answered: bool
) -> None:
    old, new = run("1", found="different", **found_by), run("2", **later)
    assert covers(new, old) is is_answered


def test_a_retry_repairs_a_copy_and_never_a_damaged_source() -> None:
    retry = run("2", job="replicate", retry_of="1")
    assert find_repaired([retry, run("1", found="different", deep=True)], lambda job: job == "verify") == {"1"}
    assert find_repaired([retry, run("1", found="damaged", deep=True)], lambda job: job == "verify") == set()


@pytest.mark.parametrize("found", ["blocked", "unknown"])
def test_a_retry_repairs_nothing_that_a_deep_run_did_not_read(found: str) -> None:
    """It compared ETags alone, found them the same, and `status` named nothing any more."""
    retry = run("2", job="replicate", retry_of="1")
    assert find_repaired([retry, run("1", found=found, deep=True)], lambda job: job == "verify") == set()
    assert find_repaired([retry, run("1", found=found)], lambda job: job == "verify") == {"1"}
    copied = run("1", job="replicate", found=found)
    assert find_repaired([retry, copied], lambda job: job == "verify") == {"1"}
    assert covers(run("3", deep=True), run("1", found=found, deep=True))


def test_a_dry_run_answers_for_no_run_that_deletes() -> None:
    """It said that all rows would go, and `status` named the run no more that had failed to delete them."""
    proven: dict[str, Any] = {"job": "expire", "manifest": "proven by 0", "rows_sha256": ""}
    dry, real = run("2", delete=False, **proven), run("1", found="blocked", delete=True, **proven)
    assert not covers(dry, real)
    assert covers(run("2", delete=True, **proven), real)
    assert covers(dry, run("1", found="blocked", delete=False, **proven))


def below(source: str, destination: str) -> tuple[Side, Side]:
    return Side(Location("here", source)), Side(Location("there", destination))


@pytest.mark.parametrize(
    ("found_in", "looked_in", "is_answered"),
    [
        (below("a", "a"), below("a", "a"), True),
        (below("a/", "a/"), below("a", "a"), True),
        (below("a/", "x/a/"), below("", "x/"), True),
        (below("a", "a"), below("a/", "a/"), False),  # ab/ is in s3://here/a
        (below("a/", "a/"), below("b/", "b/"), False),
        (below("a/", "x/"), below("", ""), False),  # other copies
        ((HERE, THERE), (HERE, Side(Location("there"), endpoint="https://other.example")), False),
        ((HERE, Side(Location("there"), profile="other")), (HERE, THERE), False),
    ],
)
def test_a_finding_is_answered_by_a_look_at_the_same_copies(
    found_in: tuple[Side, Side], looked_in: tuple[Side, Side], is_answered: bool
) -> None:
    old, new = run("1", found="different", sides=found_in), run("2", sides=looked_in)
    assert covers(new, old) is is_answered


SAME: dict[str, Any] = {"rows_sha256": "aa"}
OTHER: dict[str, Any] = {"rows_sha256": "bb"}


@pytest.mark.parametrize(
    ("found_of", "looked_at", "is_answered"),
    [
        (SAME, SAME, True),
        (SAME, OTHER, False),
        (SAME, {}, False),  # of an older Sealift
        ({}, SAME, False),
        ({}, {}, False),
        ({"rows_sha256": ""}, {"rows_sha256": ""}, True),  # a listing of several prefixes
    ],
)
def test_a_manifest_of_the_same_name_answers_for_the_same_rows(
    found_of: dict[str, Any], looked_at: dict[str, Any], is_answered: bool
) -> None:
    old, new = run("1", found="different", manifest="m.csv", **found_of), run("2", manifest="m.csv", **looked_at)
    assert covers(new, old) is is_answered


@pytest.mark.parametrize("part", [{"bucket": "docs"}, {"tags": {"pack": "yes"}}])
def test_an_option_that_takes_a_part_of_the_rows_is_a_filter(part: dict[str, Any]) -> None:
    for job in ("restore", "compact"):
        narrow = run("1", job=job, found="blocked", **part)
        assert covers(run("2", job=job, **part), narrow)
        assert covers(run("2", job=job), narrow)
        assert not covers(run("2", job=job, **part), run("1", job=job, found="blocked"))
        assert not covers(run("2", job=job, bucket="others", tags={"pack": "no"}), narrow)


def test_a_manifest_of_the_same_name_and_rows_answers_with_the_same_filters_or_none() -> None:
    narrow: dict[str, Any] = {"manifest": "m.csv", "filters": {"sample": [1, 2]}} | SAME
    assert covers(run("2", manifest="m.csv", **SAME), run("1", **narrow))
    assert not covers(run("2", **narrow), run("1", manifest="m.csv", **SAME))


CURRENT: dict[str, Any] = {"old_versions": False}
OLD: dict[str, Any] = {"old_versions": True}


@pytest.mark.parametrize(
    ("named", "all_versions", "is_answered"),
    [
        (CURRENT, False, True),
        (OLD, False, False),
        (OLD, True, True),
        ({}, False, False),  # behind copies: nobody knows
    ],
)
def test_a_listing_of_current_objects_answers_for_no_old_version_that_a_manifest_named(
    named: dict[str, Any], all_versions: bool, is_answered: bool
) -> None:
    old = run("1", found="different", manifest="m.csv", **SAME, **named)
    assert covers(run("2", all_versions=all_versions), old) is is_answered
    assert covers(run("2", manifest="m.csv", **SAME, **named), old)


def test_a_listing_answers_for_a_listing() -> None:
    assert covers(run("2"), run("1", found="different"))
    assert covers(run("2"), run("1", found="different", manifest="listing of s3://here, listed an hour ago"))


ROTA: dict[str, Any] = {"archives": True, "sides": (THERE, THERE), "manifest": "archives in s3://there/"}


@pytest.mark.parametrize(
    ("found_in", "looked_at", "is_answered"),
    [([2, 30], [2, 30], True), ([2, 30], [3, 30], False), ([2, 30], None, True), (None, [2, 30], False)],
)
def test_a_slice_of_the_archives_answers_for_no_other_slice(
    found_in: list[int] | None, looked_at: list[int] | None, is_answered: bool
) -> None:
    same = ROTA | {"rows_sha256": ""}
    assert covers(run("2", **same, sample=looked_at), run("1", found="damaged", **same, sample=found_in)) is is_answered


FIRST, SECOND = "20261120T100000Z-verify-800aaa", "20261120T100000Z-verify-c00bbb"


@pytest.mark.parametrize(
    ("seconds", "is_answered"),
    [
        (0.2, True),
        (0.25, True),
        (0.3, False),
        (86400.0, False),
        ("soon", False),
        (10**400, False),
        (float("nan"), False),
    ],
)
def test_a_look_that_began_before_a_finding_does_not_answer_it(seconds: Any, is_answered: bool) -> None:
    """A run that was stopped finds things long after its id was made."""
    old = run(FIRST, found="different") | {"seconds": seconds}
    assert covers(run(SECOND), old) is is_answered
