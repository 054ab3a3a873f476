"""What the doctor asks of roles is what Terraform allows them: a system that works gives no false alarm."""

from __future__ import annotations

import pytest

from jobs.doctor.queues import DEAD, EVENT, UNDELIVERED, system_queues
from jobs.doctor.roles import needs
from jobs.doctor.system import FUNCTIONS, System
from jobs.policy.model import Policy
from jobs.policy.reader import read_policy
from tests.terraform.iam import Answer, decide
from tests.terraform.world import MODULE, State

pytestmark = pytest.mark.slow

ROLES = dict.fromkeys(("enqueue", "submit", "follow"), "fn-control") | {"backup": "fn-backup"}
ROLES |= dict.fromkeys(("nightly", "backfill"), "job-orchestrate")


def policy_of(name: str) -> Policy:
    minimal = MODULE / "examples" / "minimal" / "policy.yaml"
    return read_policy(str(minimal if name == "minimal" else MODULE.parent / "policy.example.yaml"))


@pytest.mark.parametrize("name", ["example", "minimal"])
def test_the_queues_that_are_looked_at_are_made(name: str, request: pytest.FixtureRequest) -> None:
    world: State = request.getfixturevalue(name)
    made = {(each["name"], each["region"]) for each in world.all_values("aws_sqs_queue")}
    queues = system_queues(policy_of(name), EVENT, DEAD, UNDELIVERED)
    looked_at = {(queue.name, queue.region) for queue in queues if queue.account is None}
    assert {each for each in made if each[0].endswith("-undelivered")} <= looked_at <= made


@pytest.mark.parametrize("name", ["example", "minimal"])
def test_each_role_may_do_what_the_doctor_asks_and_not_what_it_must_not(name: str, request: pytest.FixtureRequest):
    world: State = request.getfixturevalue(name)
    policy = policy_of(name)
    system = System(policy, policy.pairs)
    made = {each["name"] for each in world.all_values("aws_batch_job_definition")}
    assert made == {f"{policy.name}-{job}" for job in system.jobs}
    asked, wrong = 0, list[str]()
    for user in (*FUNCTIONS, *system.jobs):
        statements = world.statements(f"{policy.name}-{ROLES.get(user, f'job-{user}')}")
        for need in needs(system, user):
            wanted = {Answer.DENIED, Answer.SILENT} if need.must_not else {Answer.ALLOWED}
            for action in need.actions:
                answer = decide(statements, action, need.resource, need.context)
                wrong += [f"{user}: {action} on {need.resource} is {answer}"] * (answer not in wanted)
                asked += 1
    assert wrong == []
    assert asked > 90
