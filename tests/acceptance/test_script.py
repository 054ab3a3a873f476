"""The script on this machine: it gives what it expects, and finds each planted difference."""

from __future__ import annotations

import contextlib

import pytest

from tests.acceptance import archives, copies, failures, in_aws, report
from tests.acceptance.__main__ import main
from tests.acceptance.script import Step, play
from tests.acceptance.site import EXAMPLE, NotShown, Places, Site

ABOUT = {"name": "here", "where": "this machine", "started_at": "2026-11-27T08:00:00+00:00", "version": "1"}


PARTS = {
    "copies": copies.STEPS,
    "archives": archives.STEPS,
    "in AWS": in_aws.STEPS,
    "failures": failures.STEPS,
}
PLAYED = [name for name in PARTS if name != "in AWS"]


@pytest.mark.slow
@pytest.mark.parametrize("part", PLAYED)
def test_the_script_gives_on_this_machine_what_is_expected_of_aws(tmp_path, capsys, part):
    """Each part is a test, so that none takes too long. `make acceptance ARGS=--local` plays all."""
    names = [argument for step in PARTS[part] for argument in ("--steps", step.name)]
    code = main(["--local", "--folder", str(tmp_path), *names])
    text = capsys.readouterr().out
    assert code == 0, text
    assert f"{len(PARTS[part])} steps as on this machine, 0 different, 0 not shown, 0 not tried" in text
    assert (tmp_path / "report-local.txt").read_text().strip() in text


def test_steps_that_only_aws_can_show_say_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.acceptance.__main__.local_site", nowhere)
    names = [argument for step in in_aws.STEPS for argument in ("--steps", step.name)]
    assert main(["--local", "--folder", str(tmp_path), *names]) == 0
    text = capsys.readouterr().out
    assert "0 steps as on this machine, 0 different, 2 not shown, 0 not tried" in text
    for step in in_aws.STEPS:
        assert f"{step.name}: not shown\n    {step.only_in_aws}" in text
    assert not [step for part in PLAYED for step in PARTS[part] if step.only_in_aws]


@contextlib.contextmanager
def nowhere(folder, **_):
    """A site that no step reaches."""
    yield Site(Places.of(EXAMPLE / "policy.yaml"), {}, "workers", "orchestrators", "{job}", limit_seconds=0)


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


def test_an_unknown_step_is_refused(capsys):
    assert main(["--local", "--steps", "nothing"]) == 2
    assert "No step is called 'nothing'" in capsys.readouterr().out
