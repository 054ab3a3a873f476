"""Each rule of Batch that Sealift builds on, asked of the local server by botocore's own client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.batch.account import Puppets, await_value, make_client, register, succeed
from tests.doubles.batch.engine import Environment
from tests.doubles.batch.runners import OUT_OF_MEMORY, Child, Exit, ProcessRunner
from tests.doubles.batch.server import BatchServer, batch_server

RETRY_75 = [
    {"onExitCode": "75", "action": "RETRY"},
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
]


@dataclass
class Account:
    server: BatchServer
    client: Any
    runner: Puppets

    def submit(self, name: str = "job", size: int | None = None, **extra: Any) -> str:
        asked: dict[str, Any] = {"jobName": name, "jobQueue": "spot", "jobDefinition": "sealift"} | extra
        if size is not None:
            asked["arrayProperties"] = {"size": size}
        job_id: str = self.client.submit_job(**asked)["jobId"]
        return job_id

    def describe(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.client.describe_jobs(jobs=[job_id])["jobs"][0]
        return job

    def await_status(self, job_id: str, *statuses: str) -> dict[str, Any]:
        return await_value(lambda: found if (found := self.describe(job_id))["status"] in statuses else None)


@pytest.fixture
def account() -> Iterator[Account]:
    runner = Puppets()
    with batch_server(runner, max_running=100, second_seconds=0.002) as server:
        client = make_client(server)
        server.add_queue("spot")
        register(client)
        yield Account(server, client, runner)


def test_a_plain_job_runs_with_its_environment_command_and_overrides(account: Account) -> None:
    job_id = account.submit(
        containerOverrides={
            "command": ["worker", "x"],
            "environment": [{"name": "OWN", "value": "1"}],
            "resourceRequirements": [{"type": "VCPU", "value": "0.5"}, {"type": "MEMORY", "value": "512"}],
        }
    )
    [puppet] = await_value(lambda: account.runner.started)
    child = puppet.child
    assert (child.command, child.vcpus, child.memory_mib, child.image) == (("worker", "x"), 0.5, 512, "sealift:1")
    assert {"FROM_DEFINITION": "yes", "OWN": "1", "AWS_BATCH_JOB_ID": job_id}.items() <= child.environment.items()
    assert child.environment["AWS_BATCH_JOB_ATTEMPT"] == "1"
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in child.environment
    puppet.exit = Exit(0)
    ended = account.await_status(job_id, "SUCCEEDED")
    assert ended["container"]["exitCode"] == 0
    assert ended["attempts"][0]["container"]["logStreamName"] == child.log_stream


def test_an_array_gives_each_child_its_index_and_counts_them_by_status(account: Account) -> None:
    job_id = account.submit(size=3)
    await_value(lambda: len(account.runner.started) == 3)
    assert sorted(each.child.environment["AWS_BATCH_JOB_ARRAY_INDEX"] for each in account.runner.started) == [*"012"]
    assert {each.child.job_id for each in account.runner.started} == {f"{job_id}:{index}" for index in range(3)}
    succeed(account.runner.of(0))
    account.runner.of(1)[0].exit = Exit(1)
    account.await_status(f"{job_id}:1", "FAILED")
    parent = account.await_status(job_id, "PENDING")
    summary = parent["arrayProperties"]["statusSummary"]
    assert {status: count for status, count in summary.items() if count} == {"RUNNING": 1, "SUCCEEDED": 1, "FAILED": 1}
    succeed(account.runner.started)
    ended = account.await_status(job_id, "FAILED")
    assert ended["statusReason"] == "Array Child Job failed"
    [failed] = account.client.list_jobs(arrayJobId=job_id, jobStatus="FAILED")["jobSummaryList"]
    assert (failed["arrayProperties"]["index"], failed["container"]["exitCode"]) == (1, 1)
    assert failed["statusReason"] == "Essential container in task exited"


def test_exit_75_is_retried_with_the_next_attempt_number_and_others_are_not(account: Account) -> None:
    account.runner.script = lambda child: Exit(75 if child.environment["AWS_BATCH_JOB_ATTEMPT"] == "1" else 3)
    job_id = account.submit(retryStrategy={"attempts": 5, "evaluateOnExit": RETRY_75})
    ended = account.await_status(job_id, "FAILED")
    assert [each["container"]["exitCode"] for each in ended["attempts"]] == [75, 3]


def test_what_no_rule_matches_is_retried(account: Account) -> None:
    account.runner.script = lambda child: Exit(1)
    rules = [{"onExitCode": "75", "action": "EXIT"}]
    job_id = account.submit(retryStrategy={"attempts": 3, "evaluateOnExit": rules})
    assert len(account.await_status(job_id, "FAILED")["attempts"]) == 3


def test_the_definition_s_retry_strategy_holds_unless_the_job_brings_one(account: Account) -> None:
    register(account.client, "stubborn", retryStrategy={"attempts": 2})
    account.runner.script = lambda child: Exit(1)
    first = account.submit(jobDefinition="stubborn")
    second = account.submit(jobDefinition="stubborn", retryStrategy={"attempts": 1})
    assert len(account.await_status(first, "FAILED")["attempts"]) == 2
    assert len(account.await_status(second, "FAILED")["attempts"]) == 1


def test_a_reclaimed_host_sends_sigterm_and_its_reason_is_retried(account: Account) -> None:
    job_id = account.submit(size=2, retryStrategy={"attempts": 2, "evaluateOnExit": RETRY_75})
    await_value(lambda: len(account.runner.started) == 2)
    account.runner.of(1)[0].stubborn = True  # killed: exit code 137 alone would not be retried
    account.server.engine.reclaim(account.server.job("job", 1))
    await_value(lambda: len(account.runner.of(1)) == 2)
    assert account.runner.of(1)[0].terminated
    succeed(account.runner.started)
    account.await_status(job_id, "SUCCEEDED")
    [first, _] = account.describe(f"{job_id}:1")["attempts"]
    assert first["statusReason"].startswith("Host EC2 (instance i-")
    assert first["container"]["exitCode"] == 137


def test_a_timeout_ends_the_attempt_and_is_not_retried(account: Account) -> None:
    strategy = {"attempts": 5, "evaluateOnExit": RETRY_75}
    job_id = account.submit(timeout={"attemptDurationSeconds": 60}, retryStrategy=strategy)
    ended = account.await_status(job_id, "FAILED")
    assert ended["statusReason"] == "Job attempt duration exceeded timeout"
    assert [each["container"]["exitCode"] for each in ended["attempts"]] == [75]


def test_out_of_memory_and_an_image_that_cannot_start_say_so(account: Account) -> None:
    account.runner.script = lambda child: Exit(137, OUT_OF_MEMORY)
    killed = account.await_status(account.submit(), "FAILED")
    assert (killed["container"]["exitCode"], killed["container"]["reason"]) == (137, OUT_OF_MEMORY)
    account.server.engine.faults.broken_images["sealift:1"] = "CannotPullContainerError: pull access denied"
    broken = account.await_status(account.submit(), "FAILED")
    assert broken["statusReason"] == "Task failed to start"
    assert broken["container"]["reason"].startswith("CannotPullContainerError")
    assert "exitCode" not in broken["container"]


def test_a_dependency_waits_for_the_whole_array_and_fails_with_it(account: Account) -> None:
    first = account.submit("first", 2)
    after = account.submit("after", dependsOn=[{"jobId": first}])
    await_value(lambda: len(account.runner.started) == 2)
    account.runner.started[0].exit = Exit(0)
    account.await_status(f"{first}:0", "SUCCEEDED")
    assert account.describe(after)["status"] == "PENDING"
    account.runner.of(1)[0].exit = Exit(0)
    await_value(lambda: len(account.runner.started) == 3)
    succeed(account.runner.started)
    account.await_status(after, "SUCCEEDED")
    account.runner.script = lambda child: Exit(1)
    doomed = account.submit("doomed", 2)
    never = account.submit("never", dependsOn=[{"jobId": doomed}])
    assert account.await_status(never, "FAILED")["statusReason"] == "Dependent Job failed"


def test_sequential_children_run_one_after_the_other(account: Account) -> None:
    job_id = account.submit(size=3, dependsOn=[{"type": "SEQUENTIAL"}])
    for index, code in enumerate((0, 0, 1)):
        await_value(lambda: len(account.runner.started) > index)  # noqa: B023  called at once
        [puppet] = account.runner.of(index)
        assert len(account.runner.started) == index + 1
        puppet.exit = Exit(code)
    account.await_status(job_id, "FAILED")


def test_terminating_an_array_ends_running_children_and_those_that_wait(account: Account) -> None:
    account.server.engine.max_running = 1
    strategy = {"attempts": 5, "evaluateOnExit": RETRY_75}
    job_id = account.submit(size=2, retryStrategy=strategy)
    [puppet] = await_value(lambda: account.runner.started)
    account.client.terminate_job(jobId=job_id, reason="enough")
    account.await_status(job_id, "FAILED")
    assert puppet.terminated
    assert len(account.runner.started) == 1
    reasons = [account.describe(f"{job_id}:{index}")["statusReason"] for index in range(2)]
    assert reasons == ["enough", "enough"]


def test_cancelling_leaves_running_children_alone(account: Account) -> None:
    account.server.engine.max_running = 1
    job_id = account.submit(size=2)
    [puppet] = await_value(lambda: account.runner.started)
    account.client.cancel_job(jobId=job_id, reason="enough")
    account.await_status(f"{job_id}:1", "FAILED")
    assert not puppet.terminated
    puppet.exit = Exit(0)
    assert account.await_status(f"{job_id}:0", "SUCCEEDED")
    account.await_status(job_id, "FAILED")


def test_a_child_can_be_started_twice(account: Account) -> None:
    account.server.engine.faults.twice = lambda job: job.index == 1
    job_id = account.submit(size=2)
    await_value(lambda: len(account.runner.started) == 3)
    one, other = account.runner.of(1)
    assert one.child == other.child
    succeed(account.runner.started)
    account.await_status(job_id, "SUCCEEDED")


def test_no_more_children_run_at_once_than_the_account_has_room_for(account: Account) -> None:
    account.server.engine.max_running = 2
    job_id = account.submit(size=10)

    def step() -> bool:
        assert len([each for each in account.runner.started if each.exit is None]) <= 2
        succeed(account.runner.started)
        return bool(account.describe(job_id)["status"] == "SUCCEEDED")

    await_value(step)
    assert len(account.runner.started) == 10


def test_jobs_are_found_by_name_whatever_their_case_and_state(account: Account) -> None:
    account.runner.script = lambda child: Exit(0)
    ids = [account.submit(name) for name in ("run-1-work", "run-1-report", "other")]
    account.await_status(ids[-1], "SUCCEEDED")

    def find(value: str) -> set[str]:
        asked = {"jobQueue": "spot", "filters": [{"name": "JOB_NAME", "values": [value]}]}
        return {each["jobId"] for each in account.client.list_jobs(**asked)["jobSummaryList"]}

    assert find("RUN-1-work") == {ids[0]}
    assert find("run-1*") == set(ids[:2])
    assert find("run-1") == set()
    assert account.client.list_jobs(jobQueue="spot")["jobSummaryList"] == []  # without a status: RUNNING only


def test_lists_come_in_pages(account: Account) -> None:
    account.runner.script = lambda child: Exit(0)
    job_id = account.submit(size=25)
    account.await_status(job_id, "SUCCEEDED")
    pages = account.client.get_paginator("list_jobs").paginate(
        arrayJobId=job_id, jobStatus="SUCCEEDED", PaginationConfig={"PageSize": 10}
    )
    sizes = [len(page["jobSummaryList"]) for page in pages]
    assert sizes == [10, 10, 5]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"jobQueue": "none"}, "JobQueue none not found"),
        ({"jobQueue": "closed"}, "not in ENABLED state"),
        ({"jobDefinition": "none"}, "does not exist or is not in ACTIVE status"),
        ({"jobDefinition": "sealift:9"}, "does not exist or is not in ACTIVE status"),
        ({"size": 1}, "between 2 and 10000"),
        ({"size": 10_001}, "between 2 and 10000"),
        ({"jobName": "a b"}, "valid pattern"),
        ({"jobName": "a" * 129}, "valid pattern"),
        ({"dependsOn": [{"jobId": "nobody"}]}, "does not exist"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "for array jobs"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
        ({"retryStrategy": {"evaluateOnExit": RETRY_75}}, "needs attempts"),
        ({"retryStrategy": {"attempts": 2, "evaluateOnExit": RETRY_75 * 2}}, "at most 5"),
        ({"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}]}}, "needs a condition"),
        ({"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onExitCode": "a", "action": "EXIT"}]}}, "no pattern"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
        ({"shareIdentifier": "night"}, "without a scheduling policy"),
        ({"schedulingPriorityOverride": 1}, "without a scheduling policy"),
        ({"containerOverrides": {"command": ["x" * 9_000]}}, "at most 8192"),
        ({"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": ""}]}}, "cannot start"),
        ({"parameters": {"a": "x" * 31_000}}, "30 KiB"),
    ],
)
def test_what_batch_refuses(account: Account, extra: dict[str, Any], said: str) -> None:
    account.server.add_queue("closed", state="DISABLED")
    with pytest.raises(ClientError, match=said) as raised:
        account.submit(**extra)
    assert raised.value.response["Error"]["Code"] == "ClientException"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_throttled_call_is_429_and_botocore_tries_it_again(account: Account) -> None:
    account.server.throttle["DescribeJobQueues"] = 2
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        account.client.describe_job_queues()
    [queue] = make_client(account.server, tries=3).describe_job_queues(jobQueues=["spot"])["jobQueues"]
    assert (queue["state"], queue["status"]) == ("ENABLED", "VALID")
    assert account.server.calls["DescribeJobQueues"] == 3


def test_at_most_100_jobs_are_described_at_once(account: Account) -> None:
    with pytest.raises(ClientError, match="at most 100"):
        account.client.describe_jobs(jobs=[str(number) for number in range(101)])
    assert account.client.describe_jobs(jobs=["nobody"])["jobs"] == []


def test_definitions_have_revisions_and_the_latest_counts(account: Account) -> None:
    register(account.client, image="sealift:2")
    account.submit()
    account.submit(jobDefinition="sealift:1")
    await_value(lambda: len(account.runner.started) == 2)
    assert sorted(each.child.image for each in account.runner.started) == ["sealift:1", "sealift:2"]
    found = account.client.describe_job_definitions(jobDefinitionName="sealift", status="ACTIVE")["jobDefinitions"]
    assert [each["revision"] for each in found] == [1, 2]


def test_a_subprocess_runs_the_command_and_says_how_it_ended(tmp_path: Any) -> None:
    runner = ProcessRunner(logs=tmp_path)
    child = Child("id:0", "name", "image", ("--version",), {"AWS_BATCH_JOB_ID": "id:0"}, 1, 512, "a/default/b")
    process = runner.start(child)
    assert await_value(process.poll) == Exit(0)
    assert "sealift" in (tmp_path / "a_default_b").read_text()
    killed = runner.start(child)
    killed.kill(OUT_OF_MEMORY)
    assert await_value(killed.poll) == Exit(137, OUT_OF_MEMORY)


def test_jobs_wait_for_the_vcpus_of_their_queue_s_environment(account: Account) -> None:
    account.server.engine.max_running = 100
    account.server.add_queue("small", environment=Environment(2))
    job_id = account.submit(size=3, jobQueue="small")
    await_value(lambda: len(account.runner.started) == 2)
    other = account.submit("elsewhere")  # in a queue with vCPUs of its own
    await_value(lambda: len(account.runner.started) == 3)
    assert account.runner.started[2].child.name == "elsewhere"
    assert account.describe(job_id)["arrayProperties"]["statusSummary"]["RUNNABLE"] == 1
    account.runner.of(0)[0].exit = Exit(0)
    await_value(lambda: account.runner.of(2))
    succeed(account.runner.started)
    account.await_status(job_id, "SUCCEEDED")
    account.await_status(other, "SUCCEEDED")


def test_a_job_that_does_not_fit_holds_back_all_behind_it(account: Account) -> None:
    account.server.add_queue("small", environment=Environment(1))
    large = {"resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}]}
    first = account.submit("first", jobQueue="small", containerOverrides=large)
    second = account.submit("second", jobQueue="small")
    third = account.submit("third")
    await_value(lambda: account.runner.started)
    assert [each.child.name for each in account.runner.started] == ["third"]
    assert [account.describe(id)["status"] for id in (first, second)] == ["RUNNABLE", "RUNNABLE"]
    account.client.cancel_job(jobId=first, reason="too large")
    await_value(lambda: len(account.runner.started) == 2)
    succeed(account.runner.started)
    for job_id in (second, third):
        account.await_status(job_id, "SUCCEEDED")


def test_a_higher_queue_of_an_environment_is_served_first(account: Account) -> None:
    environment = Environment(1)
    account.server.add_queue("low", environment=environment, priority=1)
    account.server.add_queue("high", environment=environment, priority=9)
    account.submit("running", jobQueue="low")
    await_value(lambda: account.runner.started)
    account.submit("later", jobQueue="low")
    account.submit("sooner", jobQueue="high")
    for count in (2, 3):
        succeed(account.runner.started)
        await_value(lambda: len(account.runner.started) == count)  # noqa: B023  called at once
    assert [each.child.name for each in account.runner.started] == ["running", "sooner", "later"]
    succeed(account.runner.started)
