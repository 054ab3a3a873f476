"""The policy file: the example is right, every mistake is told with its place, and nothing else ever happens."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.enums import StorageClass
from jobs.core.model import Attributes, ObjectRef
from jobs.errors import ExitCode, PolicyError
from jobs.policy.model import Policy
from jobs.policy.reader import load_policy, parse_policy, read_policy, resolve_policy
from jobs.policy.resolved import MAX_BYTES, decode_policy, encode_policy
from jobs.s3.store import UNGUARDED
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
from tests.policy.schema import FILE, as_text, make_schema

EXAMPLE = Path(__file__).resolve().parents[2] / "policy.example.yaml"
TEXT = EXAMPLE.read_text()
SCHEMA_DOCUMENT = make_schema()
SCHEMA = jsonschema.Draft202012Validator(SCHEMA_DOCUMENT)
OURS, OTHER = "111122223333", "222233334444"
KEY_WEST = "arn:aws:kms:us-west-2:111122223333:key/0a1b2c3d"


def example() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(TEXT)
    return document


def mistakes_of(text: str) -> list[str]:
    with pytest.raises(PolicyError) as raised:
        parse_policy(text.encode(), "policy.yaml")
    assert raised.value.exit_code is ExitCode.CONFIG
    return [str(mistake) for mistake in raised.value.mistakes]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The example with other values at places such as `pairs.1.destination.bucket`; None removes the name."""
    document = example()
    for path, value in changes.items():
        *steps, last = path.split(".")
        here: Any = document
        for step in steps:
            here = here[int(step)] if isinstance(here, list) else here[step]
        if value is None:
            del here[last]
        else:
            here[last] = value
    return document


def test_the_example_is_read_as_it_says():
    policy = read_policy(str(EXAMPLE))
    scans, customs, _ = policy.pairs
    assert (policy.name, policy.ledger.uri) == ("parcels", "s3://example-ledger/sealift")
    assert scans.copy_key("scans/1Z.jpg") == "delivery/scans/1Z.jpg"
    assert scans.archive is not None
    assert [rule.target_size for rule in scans.archive.rules] == [1024**3, 4 * 1024**3]
    assert customs.destination.storage_class is StorageClass.GLACIER_IR
    assert policy.pair("customs") is customs
    assert policy.pair("nobody") is None
    assert [pair.source.notifications for pair in policy.pairs] == ["replace", "eventbridge", "eventbridge"]


def test_pairs_override_the_defaults_field_by_field():
    scans, customs, tracking = read_policy(str(EXAMPLE)).pairs
    assert [pair.limits.max_cost for pair in (scans, customs)] == [40.0, 120.0]
    assert customs.limits.max_objects == 50_000_000
    assert (customs.nightly.hour, customs.nightly.time_zone) == ("22:30", "America/New_York")
    assert tracking.thresholds.lambda_max_size == 64 * 1024**2
    assert tracking.thresholds.backlog_age == 3_600
    assert (scans.deletes, customs.deletes) == ("retain", "mirror")


def test_buckets_are_the_systems_unless_they_say_another_account():
    document = changed({"pairs.1.destination.account": OTHER, "account": OURS})
    assert not list(SCHEMA.iter_errors(document))
    policy = parse_policy(yaml.safe_dump(document).encode(), "policy.yaml")
    scans, customs, _ = policy.pairs
    assert scans.replica
    assert scans.archive
    sides = (scans.source, scans.destination, scans.replica, scans.archive, customs.source, customs.destination)
    assert [each.account for each in sides] == [OURS, OURS, OURS, OURS, OURS, OTHER]
    assert [policy.is_foreign(each) for each in sides] == [False, False, False, False, False, True]
    assert {pair.destination.account for pair in read_policy(str(EXAMPLE)).pairs} == {None}


def test_a_resolved_policy_says_the_same_as_the_file_and_names_its_bytes():
    resolved = resolve_policy(str(EXAMPLE))
    data = encode_policy(resolved)
    assert parse_policy(data, "policy.json") == read_policy(str(EXAMPLE)) == resolved.policy
    document = json.loads(data)
    assert (document["format"], document["file"]) == (1, EXAMPLE.name)
    assert document["sha256"] == hashlib.sha256(EXAMPLE.read_bytes()).hexdigest()
    rule = document["policy"]["pairs"][0]["archive"]["rules"][0]
    assert (rule["older_than"], rule["smaller_than"]) == (90 * 86_400, 128 * 1024)


@pytest.mark.parametrize(
    "path", sorted(EXAMPLE.parent.glob("terraform/examples/*/policy.yaml")), ids=lambda path: path.parent.name
)
def test_the_resolved_policies_of_examples_are_what_check_writes(path):
    """sealift policy check FILE --write policy.json"""
    assert path.with_suffix(".json").read_bytes() == encode_policy(resolve_policy(str(path)))


def test_a_resolved_policy_of_another_release_is_read_and_one_that_is_not_valid_is_refused():
    document = json.loads(encode_policy(resolve_policy(str(EXAMPLE))))
    document["policy"]["pairs"][0] |= {"of_a_newer_release": 1}
    del document["policy"]["pairs"][0]["limits"]
    assert decode_policy(json.dumps(document).encode(), "p").pairs[0].limits.max_cost == 100
    misnamed = document["policy"] | {"name": "A"}
    changes: list[dict[str, Any]] = [{"format": 2}, {"policy": {}}, {"sha256": "x"}, {"policy": misnamed}]
    for change in changes:
        with pytest.raises(PolicyError, match="policy check"):
            decode_policy(json.dumps(document | change).encode(), "p")


SHAPE = [
    ("pairs.1.destination.bucket", "Customs", "a bucket name"),
    ("pairs.0.source.bucket", "s3://example-scans", "a bucket name"),
    ("pairs.1.nightly.time_zone", "Amerika/New_York", "an IANA time zone"),
    ("pairs.1.nightly.hour", "25:00", "a time from 00:00 to 23:59"),
    ("pairs.1.nightly.hour", 1350, "a time from 00:00 to 23:59"),
    ("pairs.0.destination.storage_class", "STANDARD_I", "did you mean STANDARD_IA?"),
    ("pairs.0.archive.rules.0.storage_class", "COLD", "one of STANDARD, "),
    ("pairs.0.deletes", "ignore", "one of mirror, retain"),
    ("pairs.0.source.notifications", "yes", "one of eventbridge, replace"),
    ("pairs.0.source.inventory", "yes", "true or false"),
    ("pairs.0.source.prefixes", "scans/", "a list"),
    ("pairs.0.source", ["example-scans"], "a section with bucket"),
    ("pairs.0.source.prefixs", ["a/"], "did you mean prefixes?"),
    ("pairs.0.source.bucket", None, "missing: write a bucket name"),
    ("pairs.0.destination", None, "missing: write a section with bucket, region"),
    ("pairs.0.archive.rules", None, "missing: write a list"),
    ("pairs.0.archive.rules.1.tags", {"claim": 1}, "a text"),
    ("pairs.0.archive.rules.1.older_than", "400 days", "a duration"),
    ("pairs.0.archive.rules.1.smaller_than", 2048, "a size"),
    ("pairs.1.verify.rota", "1/0", "1/N"),
    ("pairs.1.destination.kms_key", "alias/customs", "the ARN of a KMS key"),
    ("pairs.1.destination.object_lock.days", 0, "a whole number, 1 or more"),
    ("pairs.1.destination.prefix", "customs", "ends in /"),
    ("defaults.limits.max_cost", -1, "US dollars"),
    ("inventory.buckets", {"eu-centrall-1": "example-inventory"}, "a region"),
    ("inventory.buckets", ["a"], "a mapping"),
    ("alarms.emails", ["oncall"], "an e-mail address"),
    ("alarms.topic", "arn:aws:sqs:us-east-1:111122223333:q", "the ARN of an SNS topic"),
    ("batch.compute", "lambda", "one of fargate_spot"),
    ("batch.vcpus", 3, "one of 1, 2, 4, 8, 16"),
    ("alarms.night_hours", 169, "1 to 168"),
    ("batch.disk_gib", 10, "21 to 200"),
    ("pairs.0.source.prefixes", [], "at least one prefix"),
    ("pairs.0.archive.rules", [], "at least one rule"),
    ("defaults.thresholds.backlog_age", "61d", "at most 60d"),
    ("account", 111122223333, "the 12 digits of an account, in quotes"),
    ("pairs.1.destination.account", "11112222333", "the 12 digits of an account"),
    ("version", 2, "1, which this program reads"),
    ("ledger", None, "missing"),
    ("pairs", [], "at least one pair"),
]


@pytest.mark.parametrize(("path", "value", "expected"), SHAPE, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_told_with_its_place_and_the_schema_refuses_it(path, value, expected):
    document = changed({path: value})
    (mistake,) = mistakes_of(yaml.safe_dump(document))
    steps = path.split(".")
    place = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps)[1:]
    assert mistake.startswith(place), mistake
    assert expected in mistake
    if path != "pairs":
        assert "line " in mistake
    if steps[0] == "pairs" and len(steps) > 1 and steps[2] != "name":
        assert f"(pair {example()['pairs'][int(steps[1])]['name']}, line" in mistake
    if path not in ("pairs.1.nightly.time_zone", "defaults.thresholds.backlog_age"):  # the schema has texts
        assert list(SCHEMA.iter_errors(document))


CONTRADICTIONS = [
    ({"pairs.1.destination.bucket": "example-customs-us"}, "pairs[1].destination.bucket", "pair customs watches it"),
    ({"pairs.1.destination.bucket": "example-tracking"}, "pairs[1].destination.bucket", "the pair tracking watches it"),
    ({"pairs.1.replica": {"bucket": "example-scans", "region": "eu-central-1", "kms_key": "create"}},
     "pairs[1].replica.bucket", "the pair scans watches it"),
    ({"pairs.0.archive.bucket": "example-tracking"}, "pairs[0].archive.bucket", "a bucket that is no source"),
    ({"ledger.bucket": "example-scans"}, "ledger.bucket", "a bucket that is no source"),
    ({"drill": {"bucket": "example-inventory-fra", "region": "eu-central-1"}}, "drill.bucket", "of its own"),
    ({"drill": {"bucket": "example-scans", "region": "eu-central-1"}}, "drill.bucket", "of its own"),
    ({"inventory.buckets.us-east-1": "example-customs-us"}, "inventory.buckets.us-east-1", "no source"),
    ({"pairs.2.destination.prefix": "", "pairs.2.source.prefixes": ["delivery/"]},
     "pairs[2].destination.bucket", "the destination of scans writes to"),
    ({"pairs.0.archive.bucket": "example-hot-fra"}, "pairs[0].archive.bucket", "a place of its own"),
    ({"pairs.0.archive.bucket": "example-ledger", "pairs.0.archive.prefix": ""},
     "pairs[0].archive.bucket", "the ledger writes to"),
    ({"pairs.1.name": "scans"}, "pairs[1].name", "a name that no other pair has"),
    ({"pairs.0.archive.rules.1.name": "signatures"}, "pairs[0].archive.rules[1].name", "no other rule has"),
    ({"pairs.1.destination.kms_key": None}, "pairs[1].destination.kms_key", "the ARN of a key in eu-west-1"),
    ({"pairs.1.destination.kms_key": KEY_WEST}, "pairs[1].destination.kms_key", "a key in eu-west-1"),
    ({"pairs.1.destination.encryption": "AES256"}, "pairs[1].destination.encryption", "where a kms_key is given"),
    ({"pairs.0.archive.region": "us-east-1", "pairs.0.archive.kms_key": None},
     "pairs[0].archive.kms_key", "a key in us-east-1"),
    ({"pairs.1.replica": {"bucket": "example-third", "region": "us-east-1"}},
     "pairs[1].replica.kms_key", "the ARN of a key in us-east-1"),
    ({"pairs.1.replica": {"bucket": "example-third", "region": "us-east-1", "kms_key": KEY_WEST}},
     "pairs[1].replica.kms_key", "a key in us-east-1"),
    ({"pairs.1.destination.transitions": [{"days": 365, "storage_class": "STANDARD_IA"}]},
     "pairs[1].destination.transitions[0].storage_class", "below GLACIER_IR: GLACIER, DEEP_ARCHIVE"),
    ({"pairs.1.destination.storage_class": None, "pairs.1.destination.transitions": [
        {"days": 1, "storage_class": "INTELLIGENT_TIERING"}, {"days": 60, "storage_class": "STANDARD_IA"}]},
     "pairs[1].destination.transitions[1].storage_class", "below INTELLIGENT_TIERING: ONEZONE_IA"),
    ({"pairs.1.destination.storage_class": None, "pairs.1.destination.transitions": [
        {"days": 1, "storage_class": "DEEP_ARCHIVE"}, {"days": 400, "storage_class": "GLACIER"}]},
     "pairs[1].destination.transitions[1].storage_class", "below DEEP_ARCHIVE: none is"),
    ({"pairs.1.destination.storage_class": None,
      "pairs.1.destination.transitions": [{"days": 20, "storage_class": "STANDARD_IA"}]},
     "pairs[1].destination.transitions[0].days", "30 or more"),
    ({"pairs.2.destination.object_lock.days": 60},
     "pairs[2].destination.object_lock", "as the destination of scans says"),
    ({"pairs.2.destination.kms_key": "arn:aws:kms:eu-central-1:111122223333:key/a"},
     "pairs[2].destination.kms_key", "as the destination of scans says"),
    ({"pairs.2.source.bucket": "example-scans", "pairs.2.source.prefixes": ["scans/"],
      "pairs.2.source.notifications": "replace", "pairs.2.source.inventory": True},
     "pairs[2].source.prefixes[0]", "scans has it already"),
    ({"pairs.2.destination.region": "eu-west-1"}, "pairs[2].destination.region",
     "eu-central-1 as the destination of scans says"),
    ({"pairs.1.archive": {"bucket": "example-ledger", "region": "us-east-1", "prefix": "customs/",
      "rules": [{"name": "all", "older_than": "90d"}]}}, "pairs[1].archive.region", "eu-central-1 as the ledger says"),
    ({"pairs.0.source.exclude": ["scans"]}, "pairs[0].source.prefixes[0]", "outside scans, which exclude"),
    ({"pairs.0.source.exclude": [""]}, "pairs[0].source.prefixes[0]", "outside the bucket, which exclude"),
    ({"pairs.0.source.exclude": ["other/"]}, "pairs[0].source.exclude[0]", "inside one of the prefixes"),
    ({"pairs.0.archive.rules.0.prefix": "elsewhere/"}, "pairs[0].archive.rules[0].prefix", "keys of the pair"),
    ({"pairs.0.deletes": "mirror", "pairs.0.destination.noncurrent_days": 1}, "pairs[0].destination.noncurrent_days",
     "the grace of archive.expire"),
    ({"inventory.buckets.us-east-1": None}, "pairs[1].source.region", "add us-east-1"),
    ({"batch.memory_mib": 1024}, "batch.memory_mib", "4096 to 16384"),
    ({"batch.max_vcpus": 1}, "batch.max_vcpus", "at least vcpus"),
    ({"pairs.1.destination.account": OTHER}, "account", "the pair customs names the one of its destination"),
    ({"account": OURS, "pairs.0.destination.account": OTHER}, "pairs[2].destination.account",
     f"{OTHER} as the destination of scans says"),
    ({"account": OURS, "pairs.0.archive.bucket": "example-ledger", "pairs.0.archive.account": OTHER},
     "pairs[0].archive.account", f"{OURS} as the ledger says"),
    ({"account": OURS, "pairs.1.source.account": OTHER, "pairs.1.source.notifications": "replace"},
     "pairs[1].source.notifications", f"owners, {OTHER}"),
    ({"account": OURS, "pairs.1.source.account": OTHER}, "pairs[1].source.inventory", f"owners, {OTHER}"),
    ({"account": OURS, "pairs.0.destination.account": OTHER, "pairs.0.replica.account": "333344445555"},
     "pairs[0].replica.account", f"{OTHER}, whose the hot bucket is, or the system's account"),
    ({"account": OURS, "pairs.0.destination.account": OTHER,
      "pairs.0.replica.kms_key": "arn:aws:kms:eu-west-1:111122223333:alias/a"},
     "pairs[0].replica.kms_key", "the ARN of the key itself"),
    ({"account": OURS, "pairs.0.archive.account": OTHER, "pairs.0.archive.kms_key": None},
     "pairs[0].archive.kms_key", "the key that AWS manages is for its own account"),
    ({"account": OURS, "pairs.1.destination.account": OTHER,
      "pairs.1.destination.kms_key": "arn:aws:kms:eu-west-1:222233334444:alias/a"},
     "pairs[1].destination.kms_key", "the ARN of the key itself"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "place", "expected"), CONTRADICTIONS, ids=lambda value: str(value)[:60])
def test_values_that_may_not_stand_together_are_told(changes, place, expected):
    found = mistakes_of(yaml.safe_dump(changed(changes)))
    assert any(mistake.startswith(place) and expected in mistake for mistake in found), found


def test_a_class_may_move_wherever_lifecycle_moves_it():
    moves = [{"days": 30, "storage_class": "STANDARD_IA"}, {"days": 60, "storage_class": "INTELLIGENT_TIERING"}]
    moves += [{"days": 90, "storage_class": "ONEZONE_IA"}]
    document = changed({"pairs.1.destination.transitions": moves, "pairs.1.destination.storage_class": None})
    policy = parse_policy(yaml.safe_dump(document).encode(), "policy.yaml")
    assert len(policy.pairs[1].destination.transitions) == 3


def test_the_ledger_keeps_the_backlog_as_long_as_the_rules_say():
    storage = (EXAMPLE.parent / "terraform" / "storage.tf").read_text()
    kept = re.findall(r'id = "backlog".*? days = (\d+)', storage)
    assert kept == ["90"], "thresholds.backlog_age is at most 60d, and a run has the rest"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = TEXT.replace('hour: "03:30"', "hour: noon").replace("bucket: example-customs-us", "bucket: Customs")
    found = mistakes_of(text.replace("night_hours", "nite_hours"))
    places = ["defaults.nightly.hour", "pairs[1].source.bucket", "alarms.nite_hours"]
    assert [mistake.split(" ")[0] for mistake in found] == places
    lines = [int(mistake.split("line ")[1].split(")")[0]) for mistake in found]
    names = [text.splitlines()[line - 1].split(":")[0].strip(" -") for line in lines]
    assert names == ["hour", "bucket", "night_hours"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("just words", "a section with version"),
        ("- a\n- b", "a section with version"),
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("a: \x07", "not YAML"),
        ("? [a, b]\n: c", "not YAML"),
        ("version: 1\nversion: 1", "given twice: write it once"),
        ("a: &x 1\nb: *x", "an alias: write the value itself"),
        ("a: &x [*x]", "an alias: write the value itself"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!int text", "not YAML"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("{a: " * 100 + "1" + "}" * 100, "nested too deeply"),
    ],
)
def test_what_is_no_policy_at_all_is_refused(text, expected):
    found = mistakes_of(text)
    assert any(expected in mistake for mistake in found), found


def test_what_is_no_text_or_no_file_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="not UTF-8"):
        parse_policy(b"\xff\xfe", "p")
    (tmp_path / "large.yaml").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match="larger than"):
        read_policy(str(tmp_path / "large.yaml"))
    with pytest.raises(PolicyError, match="not readable"):
        read_policy(str(tmp_path))
    with pytest.raises(PolicyError, match="not readable"):
        read_policy(str(tmp_path / "none.yaml"))


async def test_a_policy_comes_from_s3_as_well():
    store = MemoryStore(buckets=["config"])
    await store.put(ObjectRef("config", "policy.yaml"), TEXT.encode(), Attributes(), guard=UNGUARDED)
    assert await load_policy("s3://config/policy.yaml", store) == read_policy(str(EXAMPLE))
    with pytest.raises(PolicyError, match="s3://config/none: the file: not there"):
        await load_policy("s3://config/none", store)


def places(value: Any, steps: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [steps] * bool(steps) + [place for name, each in inner for place in places(each, (*steps, name))]


PLACES = places(example())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([example()["pairs"][0], example()["defaults"], "create", "GLACIER", "30d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def outcome_of(text: bytes) -> Policy | PolicyError:
    """What reading gives: nothing but these two."""
    try:
        return parse_policy(text, "p")
    except PolicyError as error:
        return error


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES, st.booleans()), min_size=1, max_size=3))
def test_any_mutation_gives_a_policy_that_the_schema_takes_or_a_policy_error(mutations):
    document = example()
    for steps, value, removes in mutations:
        here: Any = document
        try:
            for step in steps[:-1]:
                here = here[step]
            if removes:
                del here[steps[-1]]
            else:
                here[steps[-1]] = copy.deepcopy(value)
        except (LookupError, TypeError):
            continue  # an earlier mutation has removed the place
    text = yaml.safe_dump(document, allow_unicode=True).encode(errors="replace")
    outcome = outcome_of(text)
    if isinstance(outcome, PolicyError):
        assert outcome.mistakes
        assert all(mistake.expected for mistake in outcome.mistakes)
    else:
        assert SCHEMA.is_valid(yaml.safe_load(text))


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 40), st.text(max_size=5))
def test_any_slip_of_the_keyboard_gives_a_policy_or_a_policy_error(place, length, typed):
    outcome = outcome_of((TEXT[:place] + typed + TEXT[place + length :]).encode(errors="replace"))
    assert isinstance(outcome, Policy) or outcome.mistakes


def test_the_schema_in_the_documents_is_the_models() -> None:
    assert FILE.read_text("utf-8") == as_text(), "python -m tests.policy.schema > docs/policy.schema.json"


def test_the_schema_is_one_and_takes_the_example():
    jsonschema.Draft202012Validator.check_schema(SCHEMA_DOCUMENT)
    SCHEMA.validate(example())


def test_the_schema_describes_every_field():
    sections = SCHEMA_DOCUMENT["$defs"]
    assert {"PolicyFile", "Pair", "Archive", "Verification"} <= set(sections)
    for name, section in sections.items():
        assert section["description"], name
        for field, described in section.get("properties", {}).items():
            assert "description" in described or "$ref" in described or "anyOf" in described, (name, field)


def test_reading_a_policy_loads_nothing_heavy():
    code = "import sys, jobs.policy.reader; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "yaml" in loaded
    assert not {"click", "rich", "pyarrow", "duckdb", "boto3", "botocore", "awscrt", "asyncio"} & set(loaded)
