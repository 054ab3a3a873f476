"""Batch: who waits for whom, with which vCPUs, for how long, and under which share."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.config import Settings
from jobs.policy.reader import read_policy
from jobs.runs.placement import BatchOptions, choose_placement
from scheduler.settings import FunctionSettings
from tests.terraform.world import ROOT

WAITING = {"nightly", "backfill"}
"""Jobs that do nothing but plan, and wait for workers."""


@pytest.fixture(params=["example", "hosts", "minimal"])
def world(request) -> Any:
    return request.getfixturevalue(request.param)


def environments(state) -> dict[str, list[dict[str, Any]]]:
    """Queue → its compute environments, in order."""
    made = {values["arn"]: values for values in state.all_values("aws_batch_compute_environment")}
    return {
        values["name"]: [
            made[each["compute_environment"]]
            for each in sorted(values["compute_environment_order"], key=lambda each: each["order"])
        ]
        for values in state.all_values("aws_batch_job_queue")
    }


def kinds(state) -> dict[str, list[str]]:
    """Queue → the types of its compute environments."""
    return {
        name.partition("-")[2]: [each["compute_resources"][0]["type"] for each in made]
        for name, made in environments(state).items()
    }


def functions(state) -> dict[str, FunctionSettings]:
    return {
        name: FunctionSettings.from_environment(values["environment"][0]["variables"])
        for name, values in state.all("aws_lambda_function").items()
    }


def jobs(state) -> dict[str, Settings]:
    return {
        job: Settings.from_environment(
            {each["name"]: each["value"] for each in json.loads(values["container_properties"])["environment"]}
        )
        for job, values in state.all("aws_batch_job_definition").items()
    }


def test_nobody_holds_vcpus_that_he_waits_for(world):
    """A night waits for workers. In their compute environment it would wait for itself."""
    queues = environments(world)
    starting = {str(settings.batch_queue) for settings in functions(world).values()}
    working = {str(queue) for job in jobs(world).values() for queue in (job.batch_queue, job.batch_queue_on_demand)}
    assert starting <= set(queues)
    assert working <= set(queues)
    held = {each["arn"] for name in starting for each in queues[name]}
    assert not held & {each["arn"] for name in working for each in queues[name]}


def test_on_demand_comes_behind_spot_where_that_is_wanted(hosts, example):
    assert kinds(hosts) == {"spot": ["SPOT", "EC2"], "on-demand": ["EC2"], "orchestrators": ["EC2"]}
    assert kinds(example) == {"spot": ["FARGATE_SPOT"], "on-demand": ["FARGATE"], "orchestrators": ["FARGATE"]}


def test_every_pair_s_night_finds_room(world):
    policy = read_policy(str(ROOT / "policy.example.yaml"))
    (queue,) = {str(settings.batch_queue) for settings in functions(world).values()}
    (environment,) = environments(world)[queue]
    (resources,) = environment["compute_resources"]
    assert resources["type"] in ("FARGATE", "EC2")  # Spot would end a backfill of days again and again
    nights = len(world.all("aws_scheduler_schedule", "nightly"))
    assert resources["max_vcpus"] >= nights * policy.batch.vcpus


def test_only_workers_have_the_policy_s_timeout(world):
    for job, values in world.all("aws_batch_job_definition").items():
        assert values["timeout"] == ([] if job in WAITING else [{"attempt_duration_seconds": 12 * 3600}]), job


def test_the_program_is_not_the_first_process(world):
    """As PID 1 it would get no SIGTERM before it handles one."""
    for values in world.all_values("aws_batch_job_definition"):
        assert json.loads(values["container_properties"])["linuxParameters"]["initProcessEnabled"] is True


def test_every_submission_names_a_share_where_queues_are_fair(world):
    """Batch refuses a job without one there, and one with a share elsewhere."""
    queues = {values["name"]: values["scheduling_policy_arn"] for values in world.all_values("aws_batch_job_queue")}
    for function in functions(world).values():
        assert bool(function.batch_share) == bool(queues[function.batch_queue])
    for job, settings in {**jobs(world), "person": Settings.from_environment(world.output("environment"))}.items():
        for options in (BatchOptions(), BatchOptions(on_demand=True)):
            placement = choose_placement(options, settings, job)
            assert bool(placement.share) == bool(queues[placement.queue])
