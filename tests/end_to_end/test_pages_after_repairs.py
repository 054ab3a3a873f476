"""Pages of comparisons after repairs: nobody is alarmed about what is repaired, or calmed about what is left."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy
from tests.end_to_end.test_nightly import NIGHT, NOW, counted, nightly, stage
from tests.end_to_end.test_nightly_advice import commands
from tests.end_to_end.test_nightly_odd import copied
from tests.end_to_end.test_reconcile import pair, settle
from tests.end_to_end.test_report_page import fetch


def text(page: str) -> str:
    """What a person reads, and the title."""
    shown = re.sub(r"<(style|script).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", shown))).replace("\N{NO-BREAK SPACE}", " ")


def tone(page: str) -> str:
    found = re.search(r'<header class="(\w+)">', page)
    assert found is not None
    return found[1]


def damaged(world: World) -> None:
    """One copy is lost, and the policy keeps a copy without an original."""
    copied(world, "a", "b", "c")
    settle()
    world.client.delete_object(Bucket=world.destination, Key="copies/docs/a")
    world.client.put_object(Bucket=world.destination, Key="copies/docs/kept", Body=b"deleted at the source")


def comparison(world: World, night: dict[str, Any]) -> str:
    return fetch(world, stage(night, "reconcile")["report_html"])


def test_the_comparison_of_a_night_is_about_what_the_nights_repair_left(world: World, tmp_path: Path) -> None:
    damaged(world)
    night = nightly(world, write_policy(world, tmp_path))
    assert (night["code"], counted(night, "reconcile")) == (0, {"same": 2, "missing": 1, "extra": 1})
    page = comparison(world, night)
    assert tone(page) == "good"
    words = text(page)
    assert "The only finding is repaired and verified" in words
    assert "What was found before the repair" in words
    assert "No finding: 1 extra, as the policy says of what is deleted at the source." in words
    assert "What to do now" not in words
    report = world.sealift("runs", "show", stage(night, "reconcile")["run_id"])
    assert (report.code, "The only finding is repaired" in report.stdout) == (0, True)


def test_the_comparison_of_a_night_stays_red_about_what_its_repair_left(world: World, tmp_path: Path) -> None:
    damaged(world)
    world.client.put_object(Bucket=world.destination, Key="copies/docs/b", Body=b"X")
    night = nightly(world, write_policy(world, tmp_path))
    assert (night["code"], night["left"]) == (3, 1)
    page = comparison(world, night)
    assert tone(page) == "bad"
    words = text(page)
    assert "1 of 2 findings still needs attention: 1 different. 1 is repaired and verified." in words
    assert f"What the night leaves to people is on its page: {night['report_html']}" in words
    report = world.sealift("runs", "show", stage(night, "reconcile")["run_id"]).stdout
    for command in commands(report):
        assert shlex.join(command) in words
    assert [each[:2] for each in commands(report)] == [["sealift", "backfill"], ["sealift", "nightly"]]
    assert "sealift runs show" not in words.partition("What the repair came to")[0]  # they lead in no circle
    of_night = text(fetch(world, night["report_html"]))
    assert "This page is written once, at the end of the night" in of_night
    assert night["left_first"] == ["docs/b"]
    assert "The object that is left docs/b" in of_night


def test_a_night_that_only_keeps_extra_copies_has_no_red_comparison(world: World, tmp_path: Path) -> None:
    damaged(world)
    copied(world, "a")
    night = nightly(world, write_policy(world, tmp_path))
    page = comparison(world, night)
    assert (night["code"], tone(page)) == (0, "good")
    assert "No finding: 3 same, 1 extra. What is extra stays, as the policy says." in text(page)
    assert "repaired" not in text(page).partition("Findings")[0]


def test_the_report_of_a_comparison_knows_what_was_repaired_since(world: World, tmp_path: Path) -> None:
    """The page in the ledger is written once. It says where to look, and `--html` makes one of now."""
    for key in ("a", "b"):
        world.put(key)
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"other")
    settle()
    first = world.sealift("reconcile", *pair(world), *NOW, "--json")
    run_id, uri = first.document["run_id"], first.document["report_html"]
    assert (first.code, tone(fetch(world, uri))) == (3, "bad")
    later = (
        f"What was repaired since is in sealift runs show {run_id} , and on the page that its --html or --open makes."
    )
    assert later in text(fetch(world, uri))
    settle()
    second = world.sealift("reconcile", *pair(world), *NOW, "--repair", "--yes", "--json").document
    told = world.sealift("runs", "show", run_id)
    line = f"since then   {second['run_id']} compared the same places: 1 of 2 findings still needs attention"
    assert line in told.stdout
    manifest = second["different_manifest"]
    settle()
    sides = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    copies = world.sealift("replicate", "--manifest", manifest, *sides, "--json").document
    assert copies["outcomes"] == {"copied": 1}
    verified = world.sealift("verify", "--manifest", manifest, *sides, "--json").document
    assert verified["outcomes"] == {"verified": 1}
    file = tmp_path / "now.html"
    report = world.sealift("runs", "show", second["run_id"], "--html", str(file))
    assert (report.code, "All 2 findings are repaired and verified" in report.stdout) == (0, True)
    assert (tone(file.read_text()), tone(fetch(world, second["report_html"]))) == ("good", "bad")


def test_a_repair_counts_for_the_copies_that_were_compared_and_until_they_are_found_wrong(world: World) -> None:
    """Copies in another bucket, and a look at copies that are gone by now, said that all is repaired."""
    for key in ("a", "b"):
        world.put(key)
    settle()
    compared = world.sealift("reconcile", *pair(world), *NOW, "--json").document
    elsewhere = f"{world.destination}-2"
    world.client.create_bucket(Bucket=elsewhere)
    rows = ["--manifest", compared["repair_manifest"], "--source", f"s3://{world.source}", "--json", "--destination"]
    for job in ("replicate", "verify"):
        assert world.sealift(job, *rows, f"s3://{elsewhere}").code == 0
    assert "repaired" not in world.sealift("runs", "show", compared["run_id"], "--json").document
    for job in ("replicate", "verify"):
        assert world.sealift(job, *rows, f"s3://{world.destination}").code == 0
    told = world.sealift("runs", "show", compared["run_id"])
    assert (told.code, "All 2 findings are repaired and verified" in told.stdout) == (0, True)
    world.client.delete_object(Bucket=world.destination, Key="a")
    assert world.sealift("verify", *rows, f"s3://{world.destination}").code == 3
    told = world.sealift("runs", "show", compared["run_id"])
    assert (told.code, "1 of 2 findings still needs attention: 1 missing" in told.stdout) == (3, True)


def test_a_night_that_ends_before_its_repair_has_the_page_of_its_comparison_later(world: World, tmp_path: Path) -> None:
    """An emptied source ends the night at once: its comparison has a page all the same."""
    copied(world, "a")
    policy = write_policy(world, tmp_path)
    assert nightly(world, policy)["code"] == 0
    world.client.delete_object(Bucket=world.source, Key="docs/a")
    night = nightly(world, policy, "--again")
    assert (night["code"], NIGHT in night["report_html"]) == (3, True)
    assert "extra" in text(comparison(world, night))
