"""The gathering of facts: every request that the doctor sends, and the permission that each needs.

Nothing is changed, but where the ledger is not at AWS: there the trial of conditions writes two objects, and removes
them. Requests to services go out from several threads. What cannot be read becomes an `Unread` fact.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobs.aws.account import Account, Identity, Key
from jobs.aws.batch_settings import BatchSettings, EcrImage, JobDefinition
from jobs.aws.bucket_settings import BucketPlace, BucketSettings
from jobs.aws.clients import Clients
from jobs.aws.event_settings import EventSettings, FunctionSettings, QueueSettings, RuleSettings, ScheduleSettings
from jobs.aws.readings import Reading, Unread, none_if_absent, read, refusal
from jobs.doctor import expected
from jobs.doctor.deliveries import encrypts, sends
from jobs.doctor.facts import (
    AccountFacts,
    BucketFacts,
    ConcurrencyFacts,
    DefinitionFacts,
    FunctionFacts,
    ImageFacts,
    InventoryFacts,
    JobQueueFacts,
    LedgerFacts,
    LetterFacts,
    NightFacts,
    PolicyFileFacts,
    QueueFacts,
    QuotaFacts,
    ReplicationFacts,
    RoleFacts,
    RuleFacts,
    ScheduleFacts,
    SourceFacts,
    WaitingFacts,
)
from jobs.doctor.gather_stored import gather_stored, read_policy_file
from jobs.doctor.needs import (
    Names,
    Need,
    needs,
    needs_of_execution,
    needs_of_replication,
    needs_of_rules,
    needs_of_schedules,
)
from jobs.errors import AuthenticationFailed, StoreError
from jobs.policy.model import Pair, Policy

T = TypeVar("T")
U = TypeVar("U")

THREADS = 8
METRIC_HOURS = 24


@dataclass
class Facts:
    """All facts of a system, by subject."""

    account: AccountFacts
    buckets: Sequence[BucketFacts] = ()
    sources: Sequence[SourceFacts] = ()
    replications: Sequence[ReplicationFacts] = ()
    inventories: Sequence[InventoryFacts] = ()
    queue: QueueFacts | None = None
    letters: Sequence[LetterFacts] = ()
    rules: Sequence[RuleFacts] = ()
    functions: Sequence[FunctionFacts] = ()
    policy_file: PolicyFileFacts | None = None
    concurrency: ConcurrencyFacts | None = None
    schedules: Sequence[ScheduleFacts] = ()
    job_queues: Sequence[JobQueueFacts] = ()
    quotas: Sequence[QuotaFacts] = ()
    definitions: Sequence[DefinitionFacts] = ()
    images: Sequence[ImageFacts] = ()
    roles: Sequence[RoleFacts] = ()
    ledger: LedgerFacts | None = None
    nights: Sequence[NightFacts] = ()
    waiting: Sequence[WaitingFacts] = ()


class _RoleUser(NamedTuple):
    """Who uses a role, Terraform's name of it, the ARN that is used, and what has to be asked."""

    user: str
    expected_name: str
    arn: Reading[str | None]
    needs: Callable[[Names], list[Need]]


def gather(policy: Policy, given: Policy) -> Facts:
    """All facts of the policy's system. `given`: the policy before it was narrowed to a pair.

    Must not be called in an event loop.

    Raises AuthenticationFailed if AWS does not accept the credentials at all, and ConfigError
    without credentials.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return _Gathering(policy, given, pool).run()


class _Gathering:
    """One gathering: clients of each region, and answers that several facts need."""

    def __init__(self, policy: Policy, given: Policy, pool: ThreadPoolExecutor):
        self.policy, self.given, self.pool = policy, given, pool
        self.home = str(policy.ledger.region)
        self._clients: dict[str, Clients] = {}
        self.now = time.time()

    def run(self) -> Facts:
        policy, name = self.policy, self.policy.name
        facts = Facts(self.account())  # alone: without credentials nothing else can be read
        self.identity = facts.account.identity
        stored = self.pool.submit(asyncio.run, gather_stored(policy, self.now))
        self.queue = self.read_queue(f"{name}-objects")
        functions = dict(zip(expected.FUNCTIONS, self.each(self.read_function, expected.FUNCTIONS), strict=True))
        job_names = expected.jobs(policy)
        definitions = dict(zip(job_names, self.each(self.read_definition, job_names), strict=True))
        facts.buckets = self.each(self.bucket, expected.bucket_plans(policy))
        facts.sources = self.each(self.source, expected.source_plans(policy))
        facts.replications = self.each(self.replication, expected.replication_plans(policy))
        facts.job_queues = self.each(partial(self.job_queue, functions["submit"]), expected.job_queue_plans(policy))
        facts.rules = self.each(partial(self.rule, functions), expected.rule_plans(policy))
        facts.queue = self.event_queue(functions["backup"])
        facts.letters = self.letters()
        facts.functions = self.each(self.function, functions.items())
        facts.policy_file = self.policy_file(functions["backup"])
        facts.concurrency = self.concurrency(functions)
        facts.schedules = self.each(self.schedule, [*policy.pairs, None])
        facts.quotas = self.quotas()
        facts.definitions = [self.definition(job, each) for job, each in definitions.items()]
        facts.images = self.each(self.image, sorted(_images(definitions.values())))
        facts.roles = self.roles(functions, definitions, facts)
        facts.waiting = self.each(self.waiting, policy.pairs)
        facts.ledger, nights, latest = stored.result()
        facts.nights = [replace(each, replicator=_replicator(each.pair, facts.replications)) for each in nights]
        facts.inventories = [self.inventory(plan, latest[plan.bucket]) for plan in expected.inventory_plans(policy)]
        return facts

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """The function's answers, asked at the same time."""
        return list(self.pool.map(function, items))

    # Clients

    def clients(self, region: str) -> Clients:
        return self._clients.setdefault(region, Clients(region))

    def s3(self, region: str) -> BucketSettings:
        return BucketSettings(self.clients(region))

    def events(self, region: str) -> EventSettings:
        return EventSettings(self.clients(region))

    def asked(self, region: str) -> Account:
        return Account(self.clients(region))

    # Subjects

    def account(self) -> AccountFacts:
        """Who asks. Raises ConfigError without credentials, where nothing else could be read."""
        identity: Reading[Identity]
        try:
            identity = self.asked(self.home).identity()
        except AuthenticationFailed:
            raise
        except StoreError as error:
            identity = refusal("sts", error)
        skew = read("s3", lambda: self.s3(self.home).clock_skew_seconds(str(self.policy.ledger.bucket)))
        return AccountFacts(identity, skew)

    def bucket(self, plan: expected.BucketPlan) -> BucketFacts:
        s3, bucket = self.s3(plan.region), plan.bucket
        place = self.place(plan.region, bucket)
        if place is None:
            return BucketFacts(plan, place)
        encryption = read("s3", lambda: s3.encryption(bucket))
        key: Reading[Key | None] = encryption if isinstance(encryption, Unread) else None
        if not isinstance(encryption, Unread) and encryption and encryption.key:
            key = self.read_key(plan.region, encryption.key)
        planned = plan.kms_key if plan.kms_key and plan.kms_key.startswith("arn:") else None
        return BucketFacts(
            plan,
            place,
            versioning=read("s3", lambda: s3.versioning(bucket)),
            encryption=encryption,
            key=key,
            planned_key=self.read_key(plan.region, planned) if planned else None,
            lock=read("s3", lambda: s3.lock(bucket)),
            ownership=read("s3", lambda: s3.ownership(bucket)),
            blocks_public=read("s3", lambda: s3.blocks_public(bucket)),
            lifecycle=read("s3", lambda: s3.lifecycle(bucket)),
        )

    def source(self, plan: expected.SourcePlan) -> SourceFacts:
        s3, bucket = self.s3(plan.region), plan.bucket
        place = self.place(plan.region, bucket)
        if place is None:
            return SourceFacts(plan, place)
        return SourceFacts(
            plan,
            place,
            read("s3", lambda: s3.versioning(bucket)),
            read("s3", lambda: s3.notifications(bucket)),
            self.queue,
        )

    def place(self, region: str, bucket: str) -> Reading[BucketPlace | None]:
        return read("s3", lambda: self.s3(region).find(bucket))

    def replication(self, plan: expected.ReplicationPlan) -> ReplicationFacts:
        dimensions = {"SourceBucket": plan.hot, "DestinationBucket": plan.replica, "RuleId": plan.rule_id}

        def figure(region: str, metric: str, statistic: str) -> Reading[float | None]:
            account = self.asked(region)
            return read(
                "cloudwatch",
                lambda: account.latest_metric("AWS/S3", metric, dimensions, statistic, METRIC_HOURS),
            )

        rules = read("s3", lambda: self.s3(plan.hot_region).replication(plan.hot))
        if plan.owner is not None:  # S3's metrics are in that account
            return ReplicationFacts(plan, rules, None, None, None)
        latency = figure(plan.replica_region, "ReplicationLatency", "Maximum")
        pending = figure(plan.replica_region, "OperationsPendingReplication", "Maximum")
        return ReplicationFacts(
            plan, rules, latency, pending, figure(plan.hot_region, "OperationsFailedReplication", "Sum")
        )

    def inventory(self, plan: expected.InventoryPlan, latest: Reading[float | None]) -> InventoryFacts:
        name = str(self.policy.name)
        setting = read("s3", lambda: self.s3(plan.region).inventory(plan.bucket, name))
        return InventoryFacts(plan, setting, latest, self.now)

    def event_queue(self, backup: Reading[FunctionSettings | None]) -> QueueFacts:
        queue = self.queue
        key: Reading[Key | None] = None
        key_policy: Reading[Mapping[str, object] | None] = None
        mappings: Reading[Any] = queue if isinstance(queue, Unread) else ()
        if not isinstance(queue, Unread) and queue is not None:
            arn = queue.arn
            mappings = read("lambda", lambda: self.events(self.home).mappings(arn))
            if (name := queue.key) is not None:
                key = self.read_key(self.home, name)
                key_id = name if isinstance(key, Unread) or key is None else key.arn
                key_policy = read("kms", lambda: self.asked(self.home).key_policy(key_id))
        dead = f"{self.policy.name}-objects-dead"
        identity = self.identity
        requests: Reading[Any] = identity if isinstance(identity, Unread) else sends(self.policy, identity)
        key_requests: Reading[Any] = identity if isinstance(identity, Unread) else encrypts(self.policy, identity)
        return QueueFacts(
            name=f"{self.policy.name}-objects",
            dead_name=dead,
            settings=queue,
            dead=self.read_queue(dead),
            key=key,
            key_policy=key_policy,
            requests=requests,
            key_requests=key_requests,
            mappings=mappings,
            backup=backup,
            oldest_seconds=self.queue_figure("ApproximateAgeOfOldestMessage"),
            oldest_seconds_max=60.0 * self.policy.alarms.oldest_event_minutes,
        )

    def queue_figure(self, metric: str) -> Reading[float | None]:
        """The latest figure that SQS has of the queue of events. It has none of an idle queue."""
        dimensions, account = {"QueueName": f"{self.policy.name}-objects"}, self.asked(self.home)
        return read("cloudwatch", lambda: account.latest_metric("AWS/SQS", metric, dimensions, "Maximum", 1))

    def function(self, named: tuple[str, Reading[FunctionSettings | None]]) -> FunctionFacts:
        name, account = f"{self.policy.name}-{named[0]}", self.asked(self.home)
        calls, failed = (
            read("cloudwatch", partial(account.latest_metric, "AWS/Lambda", metric, {"FunctionName": name}, "Sum", 24))
            for metric in ("Invocations", "Errors")
        )
        wanted = expected.environment(self.policy, "orchestrators")
        return FunctionFacts(name, named[1], wanted, calls, failed, is_of_queue=named[0] == "backup")

    def policy_file(self, backup: Reading[FunctionSettings | None]) -> PolicyFileFacts | None:
        """The file that functions read, as they say themselves."""
        if backup is None:
            return None
        if isinstance(backup, Unread):
            return PolicyFileFacts("the policy file", backup, self.given)
        uri = backup.environment.get("SEALIFT_POLICY", "")
        if not uri.startswith("s3://"):
            return None  # what the line on the function says
        return PolicyFileFacts(uri, asyncio.run(read_policy_file(uri, self.home)), self.given)

    def letters(self) -> list[LetterFacts]:
        name = self.policy.name
        dead = LetterFacts(
            f"{name}-objects-dead",
            self.read_queue(f"{name}-objects-dead"),
            "mend the cause, then run sealift events redrive",
        )
        return [dead, *self.each(self.undelivered, expected.undelivered_queues(self.policy))]

    def undelivered(self, plan: expected.UndeliveredQueue) -> LetterFacts:
        settings = read("sqs", lambda: self.events(plan.region).queue(plan.name, plan.account))
        return LetterFacts(plan.text(self.home), settings, "read them: sealift events list")

    def rule(
        self,
        functions: Mapping[str, Reading[FunctionSettings | None]],
        plan: expected.RulePlan,
    ) -> RuleFacts:
        settings = read("events", lambda: self.events(plan.region).rule(plan.name))
        identity = self.identity
        samples: Reading[tuple[Mapping[str, object], ...]] = (
            identity if isinstance(identity, Unread) else tuple(self.with_arn(each, identity) for each in plan.samples)
        )
        function = functions.get(plan.goal.removeprefix(f"{self.policy.name}-"))
        return RuleFacts(plan, settings, self.goal(functions, plan.goal), function, samples)

    def with_arn(self, sample: Mapping[str, Any], identity: Identity) -> Mapping[str, object]:
        """The sample with the ARN of its job queue instead of the name."""
        detail = dict(sample["detail"])
        if "jobQueue" in detail:
            place = f"arn:{identity.partition}:batch:{self.home}:{identity.account}"
            detail["jobQueue"] = f"{place}:job-queue/{detail['jobQueue']}"
        return {**sample, "detail": detail}

    def goal(self, functions: Mapping[str, Reading[FunctionSettings | None]], name: str) -> Reading[str]:
        """The ARN of a queue, a function or our region's bus."""
        if name == "bus":
            if isinstance(self.identity, Unread):
                return self.identity
            return f"arn:{self.identity.partition}:events:{self.home}:{self.identity.account}:event-bus/default"
        found: Any = self.queue if name.endswith("-objects") else functions[name.removeprefix(f"{self.policy.name}-")]
        return "" if found is None else found if isinstance(found, Unread) else str(found.arn)

    def concurrency(self, functions: Mapping[str, Reading[FunctionSettings | None]]) -> ConcurrencyFacts:
        limit = read("lambda", self.events(self.home).concurrency_limit)
        reserved = 0
        for each in functions.values():
            if isinstance(each, Unread):
                return ConcurrencyFacts(limit, each)
            reserved += (each.reserved or 0) if each else 0
        return ConcurrencyFacts(limit, reserved)

    def schedule(self, pair: Pair | None) -> ScheduleFacts:
        """The schedule of a pair's nights, or (None) of the question about backlogs."""
        name = "backlog" if pair is None else f"night-{pair.name}"
        found = read("scheduler", lambda: self.events(self.home).schedule(str(self.policy.name), name))
        if pair is None:
            enqueue = f"{self.policy.name}-enqueue"
            return ScheduleFacts(name, found, True, "rate(5 minutes)", "UTC", enqueue, None, self.now)
        nightly, function = pair.nightly, f"{self.policy.name}-submit"
        hour, zone = expected.cron(pair), str(nightly.time_zone)
        return ScheduleFacts(name, found, nightly.enabled, hour, zone, function, str(pair.name), self.now)

    def job_queue(self, submit: Reading[FunctionSettings | None], plan: expected.JobQueuePlan) -> JobQueueFacts:
        settings = BatchSettings(self.clients(self.home))
        has_share: Reading[bool] = False
        if submit is not None:
            has_share = submit if isinstance(submit, Unread) else bool(submit.environment.get("SEALIFT_BATCH_SHARE"))
        return JobQueueFacts(plan, read("batch", lambda: settings.queue(plan.name)), has_share)

    def quotas(self) -> list[QuotaFacts]:
        """One for each kind of compute environment that the policy makes."""
        settings, wanted = BatchSettings(self.clients(self.home)), dict[str, int]()
        for plan in expected.job_queue_plans(self.policy):
            if plan.kind:
                wanted[plan.kind] = wanted.get(plan.kind, 0) + plan.max_vcpus
        found = []
        for kind, vcpus in wanted.items():
            service, code, name = expected.QUOTAS[kind]
            value = read("servicequotas", partial(settings.quota, service, code))
            found.append(QuotaFacts(name, value, vcpus))
        return found

    def definition(self, job: str, found: Reading[JobDefinition | None]) -> DefinitionFacts:
        batch = self.policy.batch
        return DefinitionFacts(
            f"{self.policy.name}-{job}",
            found,
            int(batch.vcpus),
            int(batch.memory_mib),
            expected.environment(self.policy, "spot"),
        )

    def image(self, image: str) -> ImageFacts:
        parsed = EcrImage.parse(image)
        if parsed is None:
            return ImageFacts(image, Unread("ecr", "it lies in no registry of ECR"))
        settings = BatchSettings(self.clients(parsed.region))
        return ImageFacts(image, read("ecr", lambda: settings.has_image(parsed)))

    def roles(
        self,
        functions: Mapping[str, Reading[FunctionSettings | None]],
        definitions: Mapping[str, Reading[JobDefinition | None]],
        facts: Facts,
    ) -> list[RoleFacts]:
        """The roles that functions, jobs and replication use, by what these say themselves."""
        names, system, policy = self.names(facts.buckets), self.policy.name, self.policy
        users: list[_RoleUser] = []

        def add(user: str, name: str, arn: Reading[str | None], ask: Callable[[Names], list[Need]]) -> None:
            users.append(_RoleUser(user, f"{system}-{name}", arn, ask))

        role: Reading[str | None]
        for name, function in functions.items():
            if function is not None:
                role = function if isinstance(function, Unread) else function.role
                add(f"function {name}", f"fn-{name}", role, partial(needs, policy, name))
        starts: dict[tuple[str | None, str], JobDefinition] = {}
        for job, definition in definitions.items():
            if definition is not None:
                role = definition if isinstance(definition, Unread) else definition.job_role
                add(f"job {job}", f"job-{job}", role, partial(needs, policy, job))
                if not isinstance(definition, Unread):
                    starts.setdefault((definition.execution_role, definition.image), definition)
        for definition in starts.values():
            if image := EcrImage.parse(definition.image):
                ask = partial(needs_of_execution, image)
                add("start of jobs", "execution", definition.execution_role, ask)
        for role in {role for each in facts.schedules for role in _roles_of(each.settings)}:
            add("schedules", "scheduler", role, partial(needs_of_schedules, policy))
        bridges = [each.settings for each in facts.rules if each.plan.goal == "bus"]
        for role in {role for each in bridges for role in _roles_of(each)}:
            add("rules of other regions", "events", role, needs_of_rules)
        ours = [each for each in facts.replications if each.plan.owner is None]  # IAM judges no other account's roles
        for rules in {each.plan.hot: each.rules for each in ours}.values():
            for role in [rules] if isinstance(rules, Unread) else sorted({rule.role for rule in rules}):
                add("replication", "replication", role, partial(needs_of_replication, policy))
        return self.each(partial(self.role, names), users)

    def names(self, buckets: Sequence[BucketFacts]) -> Reading[Names]:
        if isinstance(self.identity, Unread):
            return self.identity
        keys = {
            each.plan.bucket: each.key.arn
            for each in buckets
            if each.key is not None and not isinstance(each.key, Unread)
        }
        return Names(self.identity.partition, self.identity.account, self.home, keys)

    def role(self, names: Reading[Names], user: _RoleUser) -> RoleFacts:
        """IAM's answers on one role."""
        arn = user.arn
        if isinstance(names, Unread):
            return RoleFacts(user.user, user.expected_name, names, ())
        if isinstance(arn, Unread) or arn is None:
            return RoleFacts(user.user, user.expected_name, arn, ())
        account, name = self.asked(self.home), arn

        def ask(group: Need, resources: Sequence[str]) -> Any:
            return none_if_absent(lambda: account.simulate(name, group.actions, resources, group.context))

        groups: dict[tuple[object, ...], list[Need]] = {}  # IAM answers few calls a second
        for need in user.needs(names):
            groups.setdefault((need.actions, *sorted(need.context.items()), need.must_not), []).append(need)
        answers = [
            (group[0].must_not, read("iam", partial(ask, group[0], sorted({need.resource for need in group}))))
            for group in groups.values()
        ]
        return RoleFacts(user.user, user.expected_name, arn, tuple(answers))

    def waiting(self, pair: Pair) -> WaitingFacts:
        dimensions = {"System": str(self.policy.name), "Pair": str(pair.name)}

        def figure(metric: str) -> Reading[float | None]:
            account = self.asked(self.home)
            return read(
                "cloudwatch",
                lambda: account.latest_metric("Sealift", metric, dimensions, "Maximum", 1),
            )

        return WaitingFacts(
            pair,
            figure("OldestUnhandledEventAge"),
            figure("BacklogAge"),
            60.0 * self.policy.alarms.oldest_event_minutes,
        )

    # Single readings

    def read_queue(self, name: str) -> Reading[QueueSettings | None]:
        return read("sqs", lambda: self.events(self.home).queue(name))

    def read_function(self, function: str) -> Reading[FunctionSettings | None]:
        name = f"{self.policy.name}-{function}"
        return read("lambda", lambda: self.events(self.home).function(name))

    def read_definition(self, job: str) -> Reading[JobDefinition | None]:
        settings = BatchSettings(self.clients(self.home))
        return read("batch", lambda: settings.definition(f"{self.policy.name}-{job}"))

    def read_key(self, region: str, name: str) -> Reading[Key | None]:
        place = name.split(":")[3] if name.startswith("arn:") else region
        return read("kms", lambda: self.asked(place).key(name))


def _roles_of(settings: Reading[ScheduleSettings | RuleSettings | None]) -> set[Reading[str | None]]:
    """The roles of a schedule, or of a rule's targets. None: a target without a role."""
    if settings is None:
        return set()
    if isinstance(settings, Unread):
        return {settings}
    return {settings.role} if isinstance(settings, ScheduleSettings) else set(settings.targets.values())


def _replicator(pair: Pair, replications: Iterable[ReplicationFacts]) -> Reading[str | None]:
    """The role of the rules of a pair's hot bucket."""
    rules = next((each.rules for each in replications if each.plan.hot == pair.destination.bucket), ())
    return rules if isinstance(rules, Unread) else next((rule.role for rule in rules), None)


def _images(definitions: Iterable[Reading[JobDefinition | None]]) -> set[str]:
    return {each.image for each in definitions if each is not None and not isinstance(each, Unread)}
