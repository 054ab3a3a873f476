"""The script on this machine: it gives what it expects, and finds each planted difference."""

from __future__ import annotations

import pytest

from tests.acceptance import archives, copies, failures, report
from tests.acceptance.__main__ import STEPS, main
from tests.acceptance.local import PLANTS, local_site
from tests.acceptance.script import Result, Step, play
from tests.acceptance.site import NotShown

ABOUT = {"name": "here", "where": "this machine", "started_at": "2026-11-27T08:00:00+00:00", "version": "1"}


def said(results: list[Result], steps: list[Step]) -> str:
    return report.text(report.document(ABOUT, results, [step.name for step in steps], ""))


PARTS = {"copies": copies.STEPS, "archives": archives.STEPS, "failures": failures.STEPS}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_script_gives_on_this_machine_what_is_expected_of_aws(tmp_path, capsys, part):
    """Each part is a test, so that none takes too long. `make acceptance ARGS=--local` plays all."""
    names = [argument for step in PARTS[part] for argument in ("--steps", step.name)]
    code = main(["--local", "--folder", str(tmp_path), *names])
    text = capsys.readouterr().out
    assert code == 0, text
    assert f"{len(PARTS[part])} steps as on this machine, 0 different, 0 not shown, 0 not tried" in text
    assert (tmp_path / "report-local.txt").read_text().strip() in text


FOUND = {
    "forgetful": (["conditions"], 60, "✗ conditions", "west: content: expected 'first', was 'second'"),
    "lenient": (["role denied"], 60, "✗ role denied", "copies: expected 0, was 1"),
    "deaf": (["events"], 5, "✗ events", "the copy s3://sealift-acceptance-hot/copies/events/1.txt: it did not come"),
}


def test_each_plant_is_looked_for():
    assert FOUND.keys() == PLANTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("plant", FOUND)
def test_a_planted_difference_is_found_and_named(tmp_path, plant):
    names, seconds, heading, sentence = FOUND[plant]
    steps = [step for step in STEPS if step.name in names]
    with local_site(tmp_path, limit_seconds=seconds, plant=plant) as site:
        text = said(play(site, steps), steps)
    assert "1 different" in text
    assert heading in text
    assert sentence in text


def test_every_step_is_played_here():
    assert [step for part in PARTS.values() for step in part] == list(STEPS)


def test_names_of_steps_are_their_own_and_each_expects_something():
    assert len({step.name for step in STEPS}) == len(STEPS)
    assert all(step.expected and step.minutes > 0 for step in STEPS)


def test_a_step_that_breaks_off_keeps_no_other_from_its_turn(site):
    def breaks(_):
        raise KeyError("packed")

    def cannot(_):
        raise NotShown("S3 takes two days")

    steps = [
        Step("breaks", "…", breaks, {"a": 1}, minutes=1),
        Step("cannot", "…", cannot, {"a": 1}, minutes=1),
        Step("differs", "…", lambda _: {"a": 2, "b": 3}, {"a": 1, "c": 4}, minutes=1),
        Step("same", "…", lambda _: {"a": 1}, {"a": 1}, minutes=1),
    ]
    results = play(site, steps)
    assert [len(result.differences) for result in results] == [1, 0, 3, 0]
    assert results[2].differences == [
        "a: expected 1, was 2",
        "c: expected 4, was None",
        "b: expected None, was 3",
    ]
    made = report.document(ABOUT, results[:3], [step.name for step in steps], "")
    assert [step["state"] for step in made["steps"]] == ["different", "not shown", "different", "not tried"]
    assert not report.is_clean(made)
    assert "– same: not tried" in report.text(made)


def test_a_report_that_ended_early_is_not_clean(site):
    steps = [Step("same", "…", lambda _: {"a": 1}, {"a": 1}, minutes=1)]
    results = play(site, steps)
    assert report.is_clean(report.document(ABOUT, results, ["same"], ""))
    assert not report.is_clean(report.document(ABOUT, results, ["same"], "SIGTERM"))


def test_an_unknown_step_is_refused(capsys):
    assert main(["--local", "--steps", "nothing"]) == 2
    assert "No step is called 'nothing'" in capsys.readouterr().out
