"""The doctor's facts: for each subject what should be there, and what was read.

A `Reading` is a value or the reason why nobody knows it. Only `jobs.doctor.model.known` opens one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from jobs.aws.account import Decision, Identity, Key
from jobs.aws.batch_settings import JobDefinition, JobQueue
from jobs.aws.bucket_settings import (
    BucketEncryption,
    BucketLock,
    BucketPlace,
    InventorySetting,
    LifecycleRule,
    Notifications,
    ReplicationRule,
)
from jobs.aws.event_settings import FunctionSettings, QueueMapping, QueueSettings, RuleSettings, ScheduleSettings
from jobs.aws.readings import Reading
from jobs.doctor.evaluation import ServiceRequest
from jobs.doctor.expected import (
    BucketPlan,
    InventoryPlan,
    JobQueuePlan,
    ReplicationPlan,
    RulePlan,
    SourcePlan,
)
from jobs.policy.model import Pair, Policy
from jobs.s3.operations import Operation


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """Who asks, and how much this clock is ahead of S3's."""

    identity: Reading[Identity]
    skew_seconds: Reading[float]


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """A bucket of ours. `place`: None if it is not there, and then nothing else was read.

    `key`: the KMS key of its default encryption, None if that names none.
    """

    plan: BucketPlan
    place: Reading[BucketPlace | None]
    versioning: Reading[str] = ""
    encryption: Reading[BucketEncryption | None] = None
    key: Reading[Key | None] = None
    planned_key: Reading[Key | None] = None
    lock: Reading[BucketLock | None] = None
    ownership: Reading[str | None] = None
    blocks_public: Reading[bool] = False
    lifecycle: Reading[tuple[LifecycleRule, ...]] = ()


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A protected bucket. `queue`: the one that its events have to reach."""

    plan: SourcePlan
    place: Reading[BucketPlace | None]
    versioning: Reading[str] = ""
    notifications: Reading[Notifications | None] = None
    queue: Reading[QueueSettings | None] = None


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """One rule of S3's replication. Latency in seconds. None: no figure for a day."""

    plan: ReplicationPlan
    rules: Reading[tuple[ReplicationRule, ...]]
    latency_seconds: Reading[float | None]
    pending: Reading[float | None]
    failed: Reading[float | None]


@dataclass(frozen=True, slots=True)
class InventoryFacts:
    """One inventory. `latest`: when the listing of its last report began, in epoch seconds."""

    plan: InventoryPlan
    setting: Reading[InventorySetting | None]
    latest: Reading[float | None]
    now: float


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The queue of events. `requests`: S3's and EventBridge's. `key_requests`: of its key."""

    name: str
    dead_name: str
    settings: Reading[QueueSettings | None]
    dead: Reading[QueueSettings | None]
    key: Reading[Key | None]
    key_policy: Reading[Mapping[str, object] | None]
    requests: Reading[tuple[ServiceRequest, ...]]
    key_requests: Reading[tuple[ServiceRequest, ...]]
    mappings: Reading[tuple[QueueMapping, ...]]
    backup: Reading[FunctionSettings | None]
    oldest_seconds: Reading[float | None]
    oldest_seconds_max: float


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """A queue that should be empty."""

    name: str
    settings: Reading[QueueSettings | None]
    advice: str


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A rule of EventBridge. `goal`: the ARN that it has to send to. `samples` with real ARNs.

    `function`: the one that it calls, None if it calls none.
    """

    plan: RulePlan
    settings: Reading[RuleSettings | None]
    goal: Reading[str]
    function: Reading[FunctionSettings | None]
    samples: Reading[tuple[Mapping[str, object], ...]]


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """A function, the variables that it needs, and how many calls of a day failed.

    `is_of_queue`: the queue of events calls it, and keeps what it failed at.
    """

    name: str
    settings: Reading[FunctionSettings | None]
    environment: Mapping[str, str]
    calls: Reading[float | None]
    failed: Reading[float | None]
    is_of_queue: bool


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """A schedule, and what it should say. `now`: epoch seconds."""

    name: str
    settings: Reading[ScheduleSettings | None]
    is_wanted: bool
    expression: str
    time_zone: str
    function: str
    pair: str | None
    now: float


@dataclass(frozen=True, slots=True)
class PolicyFileFacts:
    """The policy file that functions and workers read, and the one that the doctor was given."""

    uri: str
    there: Reading[Policy]
    given: Policy


@dataclass(frozen=True, slots=True)
class ConcurrencyFacts:
    """The account's limit of invocations at once, and what functions have reserved of it."""

    limit: Reading[int]
    reserved: Reading[int]


@dataclass(frozen=True, slots=True)
class JobQueueFacts:
    """A job queue of Batch. `has_share`: jobs that functions start name a share."""

    plan: JobQueuePlan
    queue: Reading[JobQueue | None]
    has_share: Reading[bool]


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """A quota of vCPUs, and what the policy wants of it."""

    name: str
    value: Reading[float]
    wanted: int


@dataclass(frozen=True, slots=True)
class DefinitionFacts:
    """A job definition, and what the policy says of a worker."""

    name: str
    definition: Reading[JobDefinition | None]
    vcpus: int
    memory_mib: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image that job definitions name."""

    image: str
    is_there: Reading[bool]


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """The role that a function or a job really uses, and IAM's answers on what it needs.

    `arn`: None if function or job have no role. `decisions`: whether they must be refusals, and the
    decisions.
    """

    user: str
    expected_name: str
    arn: Reading[str | None]
    decisions: tuple[tuple[bool, Reading[tuple[Decision, ...] | None]], ...]


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The ledger: the operations on which its server ignores conditions."""

    ignored: Reading[tuple[Operation, ...]]


@dataclass(frozen=True, slots=True)
class EndedNight:
    """A night that ended. `ended_at`: epoch seconds by S3's clock.

    `proven`: the slice of keys that it proved, (number, of). None if it proved none.
    `unreplicated`: how many objects differed between the hot bucket and its replica. None if it did
    not compare them.
    """

    night: date
    ended_at: float
    exit_code: int
    verdict: str
    proven: tuple[int, int] | None
    unreplicated: int | None


@dataclass(frozen=True, slots=True)
class NightFacts:
    """A pair's last nights, the latest first.

    `replicator`: the ARN of the role by which S3 replicates. None: the hot bucket has no rule.
    """

    pair: Pair
    ended: Reading[tuple[EndedNight, ...]]
    hours_max: int
    now: float
    replicator: Reading[str | None] = None


@dataclass(frozen=True, slots=True)
class WaitingFacts:
    """What a pair has not copied yet: ages in seconds of the oldest event and backlog.

    None: CloudWatch has no figure of the last hour.
    """

    pair: Pair
    event_seconds: Reading[float | None]
    backlog_seconds: Reading[float | None]
    event_seconds_max: float
