"""Each rule of Batch that Sealift builds on, asked of the local server by botocore's own client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.batch.account import Puppets, await_value, make_client, register, succeed
from tests.doubles.batch.engine import Environment
from tests.doubles.batch.runners import Exit
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


@pytest.mark.parametrize(
    ("of_job", "of_definition", "codes"),
    [
        ({"attempts": 5, "evaluateOnExit": RETRY_75}, {}, [75, 3]),
        ({"attempts": 3, "evaluateOnExit": [{"onExitCode": "9", "action": "EXIT"}]}, {}, [75, 3, 3]),  # no rule fits
        ({}, {"attempts": 2}, [75, 3]),
        ({"attempts": 1}, {"attempts": 2}, [75]),
    ],
)
def test_an_attempt_is_retried_by_the_job_s_strategy_or_its_definition_s(
    account: Account, of_job: dict[str, Any], of_definition: dict[str, Any], codes: list[int]
) -> None:
    register(account.client, "own", retryStrategy=of_definition)
    extra: dict[str, Any] = {"retryStrategy": of_job} if of_job else {}
    account.runner.script = lambda child: Exit(75 if child.environment["AWS_BATCH_JOB_ATTEMPT"] == "1" else 3)
    job_id = account.submit(jobDefinition="own", **extra)
    ended = account.await_status(job_id, "FAILED")
    assert [each["container"]["exitCode"] for each in ended["attempts"]] == codes


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
    account.client.terminate_job(jobId=first, reason="too large")
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
