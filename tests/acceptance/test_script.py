"""The script on this machine: it gives what it expects, and finds each planted difference."""

from __future__ import annotations

import contextlib

import pytest

from jobs.s3.annotations import NO_SUCH_NAME
from tests.acceptance import archives, copies, failures, in_aws, report
from tests.acceptance.__main__ import main
from tests.acceptance.script import Step, play
from tests.acceptance.site import EXAMPLE, NotShown, Places, Site
from tests.doubles.aws_recorder import Recorded
from tests.terraform.conftest import applied
from tests.terraform.replay import Replay

ABOUT = {"name": "here", "where": "this machine", "started_at": "2026-11-27T08:00:00+00:00", "version": "1"}


PARTS = {
    "copies": copies.STEPS,
    "archives": archives.STEPS,
    "in AWS": in_aws.STEPS,
    "failures": failures.STEPS,
}
PLAYED = [name for name in PARTS if name != "in AWS"]


STOLEN = "copies/stolen/"
"""In the keys of copies that a step tries to make, and may not."""

TRIAL = ".sealift/trial-"
"""In the keys of objects by which planners try whether a server heeds conditions. At AWS nothing is tried."""

HEARD = {
    "copies": {"replicate", "nightly", "verify"},
    "archives": {"compact", "expire"},
    "failures": {"replicate", "verify"},
}
"""Roles whose jobs a part starts, at least."""


@pytest.mark.slow
@pytest.mark.parametrize("part", PLAYED)
def test_the_script_gives_on_this_machine_what_is_expected_of_aws(tmp_path, tmp_path_factory, capsys, part):
    """Each part is a test, so that none takes too long. `make acceptance ARGS=--local` plays all.

    What jobs ask meanwhile is held against the policies of the plan that an acceptance applies.
    """
    names = [argument for step in PARTS[part] for argument in ("--steps", step.name)]
    heard: list[Recorded] = []
    code = main(["--local", "--folder", str(tmp_path), *names], heard)
    text = capsys.readouterr().out
    assert code == 0, text
    assert f"{len(PARTS[part])} steps as on this machine, 0 different, 0 not shown, 0 not tried" in text
    assert (tmp_path / "report-local.txt").read_text().strip() in text
    roles = {request.role.rpartition("-job-")[2] for request in heard}
    assert roles >= HEARD[part]
    assert {request.service for request in heard} == ({"s3", "batch"} if part != "failures" else {"s3"})
    policies = replay(tmp_path_factory)
    stolen = [request for request in heard if STOLEN in request.key]
    assert policies.refusals(each for each in heard if each not in stolen and not is_trial(each)) == {}
    if part == "failures":  # a step has this role write copies
        why = "s3:PutObject on sealift-acceptance-hot: silent by its role"
        assert f"sealift-acceptance-job-verify: {why}" in policies.refusals(stolen)


def is_trial(request: Recorded) -> bool:
    """Whether a request finds out what this server can, which nobody asks AWS."""
    asked = f"{request.key} {request.query.get('prefix')} {request.body!r}"
    return TRIAL in asked or request.query.get("annotationName") == NO_SUCH_NAME


def replay(tmp_path_factory) -> Replay:
    """The policies of the example that an acceptance applies."""
    state = applied(tmp_path_factory, "acceptance", None, "-var=object_annotations=true", root=EXAMPLE)[1]
    places = Places.of(EXAMPLE / "policy.yaml")
    regions = {values["bucket"]: values["region"] for values in state.all_values("aws_s3_bucket")}
    assert {places.near, places.far, places.hot, places.west, places.back} <= set(regions)
    return Replay(state, "123456789012", places.east_region, regions)


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
