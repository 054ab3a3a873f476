"""The policy: which buckets are protected, and how.

`jobs.policy.reader` reads the YAML file into these types, with every default filled in, `jobs.policy.rules` finds
values that contradict each other, and `jobs.policy.resolved` is what Terraform and the functions read.

The names here are the names in the file. The second half of an `Annotated` is what the JSON Schema shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from jobs.core.enums import AnnotationRule, ArchiveFormat, Encryption, StorageClass
from jobs.errors import UsageError
from jobs.policy.words import (
    AccountId,
    Age,
    Bucket,
    Count,
    Dollars,
    Email,
    Folder,
    Hour,
    KmsKey,
    OneIn,
    PairName,
    Prefix,
    Region,
    Share,
    Size,
    SystemName,
    TimeZone,
    Topic,
)


def about(text: str, expected: str = "", **bounds: Any) -> Meta:
    """What the schema says of a field, and what of a value within `bounds` a message says."""
    return Meta(description=text, extra={"expected": expected} if expected else None, **bounds)


class Ledger(Struct, frozen=True, kw_only=True):
    """Where runs are recorded."""

    bucket: Annotated[Bucket, about("The ledger's bucket.")]
    region: Annotated[Region, about("The ledger's region; queues, functions and Batch live there too.")]
    prefix: Annotated[Folder, about("Runs lie below this prefix.")] = ""

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, as `--ledger` takes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class Inventory(Struct, frozen=True, kw_only=True):
    """Daily S3 Inventory of sources, destinations, replicas. S3 delivers within one region only."""

    buckets: Annotated[Mapping[Region, Bucket], about("For each region, the bucket that its reports are delivered to.")]
    prefix: Annotated[Folder, about("Reports lie below this prefix.")] = "inventory/"
    format: Annotated[Literal["Parquet", "ORC", "CSV"], about("The format of the reports.")] = "Parquet"


class Side(Struct, frozen=True, kw_only=True):
    """A bucket of a pair."""

    bucket: Annotated[Bucket, about("The bucket.")]
    region: Annotated[Region, about("Its region.")]
    account: Annotated[AccountId | None, about("Its owner, or S3 refuses each request. Default: the system's.")] = None


class Source(Side, frozen=True, kw_only=True):
    """The bucket whose objects are protected. Sealift never owns it."""

    prefixes: Annotated[
        tuple[Prefix, ...],
        about("Keys that begin with one of these are protected. Default: all.", "at least one prefix", min_length=1),
    ] = ("",)
    exclude: Annotated[tuple[Prefix, ...], about("Keys that begin with one of these are left out.")] = ()
    notifications: Annotated[
        Literal["eventbridge", "replace"],
        about("eventbridge: its owner turns that on. replace: Terraform sets its notifications, and only these."),
    ] = "eventbridge"
    inventory: Annotated[bool, about("Terraform sets a daily inventory of the bucket.")] = True


class ObjectLock(Struct, frozen=True, kw_only=True):
    """The bucket's default retention."""

    mode: Annotated[
        Literal["GOVERNANCE", "COMPLIANCE"], about("A permission lifts GOVERNANCE; nothing lifts COMPLIANCE.")
    ]
    days: Annotated[Count, about("How long each version is locked.")]


class Transition(Struct, frozen=True, kw_only=True):
    """A lifecycle transition of the hot bucket."""

    days: Annotated[Count, about("Days after an object was written.")]
    storage_class: Annotated[StorageClass, about("The class that it moves to.")]


class Destination(Side, frozen=True, kw_only=True):
    """The hot bucket: a versioned copy of the source. The copy's key is `prefix` and then the whole
    source key.
    """

    prefix: Annotated[Folder, about("Stands before the source's key.")] = ""
    storage_class: Annotated[StorageClass | None, about("The class of copies. Default: the source object's.")] = None
    encryption: Annotated[Encryption, about("How copies are encrypted at rest.")] = Encryption.S3
    kms_key: Annotated[KmsKey | None, about("create, or a key's ARN. Keys are regional.")] = None
    annotations: Annotated[AnnotationRule, about("Whether copies get their sources' annotations.")] = (
        AnnotationRule.COPY
    )
    object_lock: Annotated[ObjectLock | None, about("Default retention of copies.")] = None
    noncurrent_days: Annotated[Count | None, about("Noncurrent versions are removed after so many days.")] = None
    transitions: Annotated[tuple[Transition, ...], about("Lifecycle transitions, the earliest first.")] = ()


class Replica(Side, frozen=True, kw_only=True):
    """The twin that S3's own replication keeps of the hot bucket, with the same keys."""

    storage_class: Annotated[StorageClass | None, about("The class of replicas. Default: the hot object's.")] = None
    kms_key: Annotated[KmsKey | None, about("create, or a key's ARN in the replica's region.")] = None
    replication_time_control: Annotated[bool, about("99.99 % within 15 minutes, with metrics, at a price.")] = False
    delete_markers: Annotated[bool, about("Whether delete markers are replicated.")] = False

    @property
    def lag_seconds(self) -> float:
        """How long S3 may take: 15 minutes with replication time control, else up to a day or more.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-time-control.html
        """
        return 900 if self.replication_time_control else 86_400


class Thresholds(Struct, frozen=True, kw_only=True):
    """When work leaves the Lambda."""

    lambda_max_size: Annotated[Size, about("Larger objects go to the backlog.")] = 256 * 1024**2
    backlog_rows: Annotated[Count, about("So many rows of backlog start a run.")] = 10_000
    backlog_age: Annotated[
        Age,
        about(
            "A backlog as old as this starts a run.",
            "at most 60d: the ledger keeps rows of the backlog for 90 days",
            le=60 * 86_400,
        ),
    ] = 3_600


class Nightly(Struct, frozen=True, kw_only=True):
    """Reconcile, repair, verify, report: once a night."""

    enabled: Annotated[bool, about("Whether the night runs by itself.")] = True
    hour: Annotated[Hour, about("When, in the pair's time zone.")] = "03:30"
    time_zone: Annotated[TimeZone, about("An IANA time zone.")] = "UTC"


class Verification(Struct, frozen=True, kw_only=True):
    """How much of the pair is proven each night. Slices rotate, so all keys have their turn."""

    rota: Annotated[OneIn, about("This slice of the keys is compared by checksums each night.")] = 30
    deep: Annotated[OneIn | None, about("This slice is read on both sides and compared byte by byte.")] = 360


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of what starts by itself. A plan above them is refused. Of a backlog, a day takes what fits."""

    max_cost: Annotated[Dollars, about("US dollars a run, by the plan; of a backlog's runs, a day.")] = 100.0
    max_objects: Annotated[Count, about("Rows a run.")] = 100_000_000


class ArchiveRule(Struct, frozen=True, kw_only=True):
    """Which small cold objects are packed. All conditions must hold. The first matching rule
    applies.
    """

    name: Annotated[PairName, about("The rule's name, unique in its pair.")]
    older_than: Annotated[Age, about("Objects written longer ago.")]
    prefix: Annotated[Prefix, about("Keys at the source that begin with this.")] = ""
    smaller_than: Annotated[Size, about("Smaller objects only.")] = 1024**2
    tags: Annotated[Mapping[str, str], about("Objects with all of these tags.")] = field(default_factory=dict)
    storage_class: Annotated[StorageClass, about("The class of the archives.")] = StorageClass.GLACIER_IR
    format: Annotated[ArchiveFormat, about("The format of the archives.")] = ArchiveFormat.TAR_ZST
    target_size: Annotated[Size, about("About how large an archive becomes.")] = 1024**3


class Expire(Struct, frozen=True, kw_only=True):
    """Lets `sealift expire` delete originals whose archive is proven. Without this nothing is ever
    deleted.
    """

    grace: Annotated[Age, about("An original stays at least so long after it was proven.")] = 30 * 86_400
    max_share: Annotated[Share, about("A run that would delete more of a prefix is refused.")] = 0.5


class Archive(Side, frozen=True, kw_only=True):
    """Where small cold objects of the pair are packed, and which."""

    rules: Annotated[
        tuple[ArchiveRule, ...],
        about("Which objects are packed, in the order they are asked.", "at least one rule", min_length=1),
    ]
    prefix: Annotated[Folder, about("Archives lie below this prefix.")] = ""
    side: Annotated[Literal["source", "destination"], about("The side that is packed (and expired).")] = "source"
    encryption: Annotated[Encryption, about("How archives are encrypted at rest.")] = Encryption.S3
    kms_key: Annotated[KmsKey | None, about("create, or a key's ARN in the archive's region.")] = None
    object_lock: Annotated[ObjectLock | None, about("Default retention of archives.")] = None
    expire: Annotated[Expire | None, about("Whether originals may be deleted once packed and proven.")] = None

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, as `--destination` takes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class Terms(Struct, frozen=True, kw_only=True):
    """What pairs may share, in `defaults`. A pair overrides single fields."""

    deletes: Annotated[Literal["mirror", "retain"], about("What a delete at the source does to the copy.")] = "retain"
    thresholds: Thresholds = Thresholds()
    nightly: Nightly = Nightly()
    verify: Verification = Verification()
    limits: Limits = Limits()


class Pair(Terms, frozen=True, kw_only=True):
    """A source and its copy. Fields that a pair does not set come from `defaults`."""

    name: Annotated[PairName, about("The pair's name, as --pair takes it.")]
    source: Source
    destination: Destination
    replica: Replica | None = None
    archive: Archive | None = None

    def copy_key(self, key: str) -> str:
        """The key of the copy of a source key. Two keys never share one."""
        return self.destination.prefix + key


class Alarms(Struct, frozen=True, kw_only=True):
    """Who hears of it, and when. An alarm of CloudWatch with periods of an hour looks back a week:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    """

    emails: Annotated[tuple[Email, ...], about("Subscribed to the topic; each has to confirm once.")] = ()
    topic: Annotated[Topic | None, about("An SNS topic in the ledger's region. Default: Terraform makes one.")] = None
    oldest_event_minutes: Annotated[Count, about("An event unhandled for so long is an alarm.")] = 15
    night_hours: Annotated[int, about("No night for so long is an alarm.", "1 to 168, a week", ge=1, le=168)] = 26
    monthly_budget: Annotated[Dollars | None, about("Above this forecast of the month's cost is an alarm.")] = None


class Batch(Struct, frozen=True, kw_only=True):
    """The workers of runs on AWS Batch."""

    compute: Annotated[
        Literal["fargate_spot", "fargate"],
        about("Spot is cheaper and may be taken away: a worker then goes on elsewhere."),
    ] = "fargate_spot"
    vcpus: Annotated[Literal[1, 2, 4, 8, 16], about("vCPUs of a worker.")] = 2
    memory_mib: Annotated[Count, about("Memory of a worker.")] = 4096
    disk_gib: Annotated[int, about("Scratch space of a worker.", "21 to 200, as Fargate has it", ge=21, le=200)] = 50
    max_vcpus: Annotated[Count, about("vCPUs of all workers at once.")] = 128
    timeout_hours: Annotated[Count, about("A worker is stopped after so long.")] = 12


class Drill(Struct, frozen=True, kw_only=True):
    """Restores on trial, of each pair. What they restore is removed when it was compared."""

    bucket: Annotated[Bucket, about("The bucket that a sample is restored to, of its own: nothing else may name it.")]
    region: Annotated[Region, about("Its region.")]
    prefix: Annotated[Folder, about("Drills write below this prefix.")] = ""
    days: Annotated[int, about("A drill begins every so many days.", "1 to 365", ge=1, le=365)] = 7
    sample: Annotated[Count, about("So many objects of each place, chosen at random.")] = 300
    max_size: Annotated[Size, about("So many bytes of each place. Larger objects than a twentieth are left out.")] = (
        10 * 1024**3
    )


class Policy(Struct, frozen=True, kw_only=True):
    """All that is protected, with every value filled in."""

    version: Annotated[Literal[1], about("The version of this format: 1.")]
    ledger: Ledger
    pairs: Annotated[tuple[Pair, ...], about("Each protected source and its copy.", "at least one pair", min_length=1)]
    name: Annotated[SystemName, about("What queues, functions, roles and alarms are called after.")] = "sealift"
    account: Annotated[AccountId | None, about("The system's account, and that of each bucket by default.")] = None
    inventory: Inventory | None = None
    drill: Drill | None = None
    alarms: Alarms = Alarms()
    batch: Batch = Batch()

    def called(self, system: str | None) -> Policy:
        """The policy with the system's whole name: its own after a prefix of Terraform's.

        None, and the name of another system: its own is the whole one.
        """
        return replace(self, name=system) if system and system.endswith(self.name) else self

    def is_foreign(self, side: Side) -> bool:
        """Whether another account than the system's owns the bucket."""
        return side.account not in (None, self.account)

    def sections(self) -> Iterator[tuple[tuple[str | int, ...], Pair, str, Source | Destination | Replica | Archive]]:
        """Each part of a pair that names a bucket: its place in the file, its pair and its name."""
        for number, pair in enumerate(self.pairs):
            for section in ("source", "destination", "replica", "archive"):
                if (side := getattr(pair, section)) is not None:
                    yield ("pairs", number, section), pair, section, side

    def inventoried(self) -> Iterator[tuple[tuple[str | int, ...], Pair, Side]]:
        """The sections of the buckets that have an inventory. Empty without inventories."""
        for steps, pair, section, side in self.sections() if self.inventory else ():
            if {"source": pair.source.inventory, "archive": False}.get(section, True):
                yield steps, pair, side

    def pair(self, name: str) -> Pair | None:
        """The pair of this name."""
        return next((pair for pair in self.pairs if pair.name == name), None)

    def find_pair(self, name: object) -> Pair:
        """The pair of this name. Raises UsageError, with the names that there are."""
        if (pair := self.pair(str(name))) is not None:
            return pair
        names = ", ".join(each.name for each in self.pairs)
        raise UsageError(f"the policy has no pair {name!r}", advice=f"name one of {names}")


class PolicyFile(Policy, frozen=True, kw_only=True):
    """The whole file."""

    defaults: Terms = Terms()
