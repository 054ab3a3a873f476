"""What answers a finding that later nights carry on: evidence about the object, and nothing less."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.nights.calendar import due
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import runs, write_policy
from tests.end_to_end.test_checksums_at_rest import upload_in_parts
from tests.end_to_end.test_nightly import NOW
from tests.end_to_end.test_nightly_odd import copied
from tests.end_to_end.test_pages_after_repairs import text
from tests.end_to_end.test_reconcile import settle
from tests.end_to_end.test_report_page import fetch

PART = 5 << 20
BODY = bytes(range(256)) * (PART // 256) + b"end"
WRONG = b"X" + BODY[1:]
FIRST, SECOND, THIRD = (datetime.now(UTC).date() - timedelta(days=ago) for ago in (3, 2, 1))
KEY = next(key for key in map("docs/big{}".format, range(99)) if due(FIRST, 3).contains(key))
"""Of the first night's slice. Its parts are cut alike, so neither a report nor a checksum compares it."""


def night(world: World, policy: str, day: date, *arguments: str) -> dict[str, Any]:
    settle()
    result = world.sealift(
        "nightly", "--pair", "docs", "--policy", policy, *NOW, "--night", f"{day}", *arguments, "--json"
    )
    assert not result.has_no_answer, result.stderr
    return result.document | {"code": result.code}


def put_copy(world: World, body: bytes) -> None:
    settle()
    upload_in_parts(world, world.destination, f"copies/{KEY}", body, PART)
    settle()


def wrong_in(summary: dict[str, Any]) -> list[tuple[str, int]]:
    return [(each["stage"], each["rows"]) for each in summary["unanswered"]]


@pytest.fixture
def policy(world: World, tmp_path: Path) -> str:
    """One copy is wrong, and the deep look of the first night has found it. The second night carries it on."""
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/3", "deep": "1/3"}})
    copied(world, *(f"k{number}" for number in range(12)))
    upload_in_parts(world, world.source, KEY, BODY, PART)
    put_copy(world, WRONG)
    found = night(world, policy, FIRST)
    assert [each["counts"].get("mismatched") for each in found["stages"] if each["stage"] == "deep"] == [1]
    carried = night(world, policy, SECOND)
    assert (carried["code"], carried["left"], wrong_in(carried)) == (3, 0, [("deep", 1)])
    return policy


def verify(world: World, *arguments: str) -> int:
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/copies/"]
    return world.sealift("verify", *sides, "--include", KEY, *arguments, "--json").code


def test_a_verification_by_hand_answers_a_finding_if_it_came_later_and_looked_as_deep(
    world: World, policy: str
) -> None:
    put_copy(world, BODY)
    assert wrong_in(night(world, policy, THIRD)) == [("deep", 1)]  # nobody has looked
    assert verify(world) == 3  # nothing is comparable without the bytes
    assert wrong_in(night(world, policy, THIRD, "--again")) == [("deep", 1)]
    assert verify(world, "--deep") == 0
    answered = night(world, policy, THIRD, "--again")
    assert (answered["code"], answered["unanswered"]) == (0, [])
    assert answered["verdict"].startswith("All is well")


def test_a_verification_that_came_before_the_finding_does_not_answer_it(world: World, policy: str) -> None:
    """The copy was right, was proven, and became wrong: its turn finds it again."""
    put_copy(world, BODY)
    assert verify(world, "--deep") == 0
    put_copy(world, WRONG)
    again = night(world, policy, FIRST, "--again")
    assert (again["code"], wrong_in(again)) == (3, [])
    assert "deep" in again["verdict"]
    assert [(found[0], found[1]) for found in wrong_in(night(world, policy, THIRD))] == [("deep", 1)]


def test_a_look_that_found_the_copy_wrong_since_outweighs_one_that_proved_it_before(world: World, policy: str) -> None:
    put_copy(world, BODY)
    assert verify(world, "--deep") == 0
    put_copy(world, WRONG)
    assert verify(world, "--deep") == 3
    assert wrong_in(night(world, policy, THIRD)) == [("deep", 1)]


def test_a_look_that_found_the_copy_wrong_by_another_spelling_of_its_key_counts_as_well(
    world: World, policy: str, tmp_path: Path
) -> None:
    """This server takes `docs//big` for `docs/big`, as `expire` knows."""
    put_copy(world, BODY)
    assert verify(world, "--deep") == 0
    put_copy(world, WRONG)
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"{world.source},{KEY.replace('/', '//')}\n")
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/copies/"]
    found = world.sealift("verify", *sides, "--manifest", str(manifest), "--deep", "--json")
    assert found.document["outcomes"]["mismatched"] == 1
    assert wrong_in(night(world, policy, THIRD)) == [("deep", 1)]


def test_a_proof_of_another_server_or_place_answers_nothing(world: World, policy: str) -> None:
    """The same keys, the same bucket of originals, and copies that are right, below another prefix."""
    upload_in_parts(world, world.destination, f"elsewhere/{KEY}", BODY, PART)
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/elsewhere/"]
    assert world.sealift("verify", *sides, "--include", KEY, "--deep", "--json").code == 0
    assert wrong_in(night(world, policy, THIRD)) == [("deep", 1)]


def test_a_retry_answers_a_finding_by_the_copy_that_it_made(world: World, policy: str) -> None:
    [found] = [run["run_id"] for run in runs(world) if run["outcomes"].get("mismatched")]
    settle()
    assert world.sealift("runs", "retry", found, "--json").code == 0
    answered = night(world, policy, THIRD)
    assert (answered["code"], answered["unanswered"]) == (0, [])


def test_a_wrong_copy_whose_original_was_deleted_is_a_finding_until_it_is_removed(world: World, policy: str) -> None:
    """No slice has the key any more, so no verification could answer."""
    world.client.delete_object(Bucket=world.source, Key=KEY)
    left = night(world, policy, THIRD)
    assert (left["code"], wrong_in(left)) == (3, [("deep", 1)])
    page = text(fetch(world, left["report_html"]))
    assert "Objects left to people 0 Wrong since earlier nights 1" in page
    copy = f"s3://{world.destination}/copies/{KEY}"
    assert f"Remove what nobody should restore: {copy} is wrong, and its original is gone" in left["next_steps"]
    world.client.delete_object(Bucket=world.destination, Key=f"copies/{KEY}")
    answered = night(world, policy, THIRD, "--again")
    assert (answered["code"], answered["unanswered"]) == (0, [])
    assert answered["verdict"].startswith("All is well")


def test_a_row_that_cannot_be_verified_does_not_keep_what_was_found_of_others(world: World, tmp_path: Path) -> None:
    """The whole slice was never proven, and so each night passed the finding on."""
    policy = write_policy(world, tmp_path, docs={"verify": {"rota": "1/1", "deep": None}})
    copied(world, "a", "b")
    for bucket, key, part in ((world.source, KEY, PART), (world.destination, f"copies/{KEY}", 6 << 20)):
        upload_in_parts(world, bucket, key, BODY + BODY, part)
    settle()
    world.client.put_object(Bucket=world.destination, Key="copies/docs/a", Body=b"X")
    first = night(world, policy, FIRST)
    sample = next(each for each in first["stages"] if each["stage"] == "sample")
    assert {name: count for name, count in sample["counts"].items() if count} == {
        "verified": 1, "mismatched": 1, "unverifiable": 1,
    }  # fmt: skip
    settle()
    copied(world, "a")
    second = night(world, policy, SECOND)
    assert (second["left"], second["unanswered"]) == (1, [])
    assert "found wrong" not in second["verdict"]


def test_status_names_what_the_last_night_carries_on_although_a_retry_mended_it_once(world: World, policy: str) -> None:
    """It became wrong again, a person dismissed the run that found it, and the night has not."""
    listed = world.sealift("runs", "list", "--json").document["runs"]
    [found] = [each["run_id"] for each in listed if each["outcomes"].get("mismatched")]
    assert world.sealift("runs", "retry", found, "--yes", "--json").code == 0
    put_copy(world, WRONG)
    assert verify(world, "--deep") == 3
    assert world.sealift("runs", "dismiss", "latest", "--reason", "x").code == 0
    assert wrong_in(night(world, policy, THIRD)) == [("deep", 1)]
    problems = world.sealift("status", "--policy", policy, "--json").document["problems"]
    assert any("docs: 1 object that deep found wrong" in each["problem"] for each in problems)
