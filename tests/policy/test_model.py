"""The policy's words, what they mean for objects, and how runs and events agree on whose an object is."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.coverage import explain, match, scope
from jobs.policy.model import Archive, ArchiveRule, Destination, Ledger, Pair, Policy, Source
from jobs.policy.reader import read_value
from jobs.policy.rules import Finding, find_mistakes
from jobs.policy.words import (
    Age,
    Bucket,
    Count,
    Dollars,
    Folder,
    Hour,
    KmsKey,
    OneIn,
    Prefix,
    Share,
    Size,
    TimeZone,
    age_text,
)

EAST, WEST = "us-east-1", "us-west-2"
LEDGER = Ledger(bucket="ledger", region=EAST)


def make_pair(name: str, bucket: str, *prefixes: str, exclude: tuple[str, ...] = (), rules: tuple = ()) -> Pair:
    """A pair with a hot bucket of its own."""
    archive = Archive(bucket=f"{name}-archives", region=EAST, rules=rules) if rules else None
    return Pair(
        name=name,
        source=Source(
            bucket=bucket,
            region=EAST,
            prefixes=tuple(map(Prefix, prefixes)) or ("",),
            exclude=exclude,
        ),
        destination=Destination(bucket=f"{name}-hot", region=WEST, prefix="copies/"),
        archive=archive,
    )


def make_policy(*pairs: Pair) -> Policy:
    return Policy(version=1, ledger=LEDGER, pairs=pairs)


def parsed(kind, text):
    findings: list[Finding] = []
    value = read_value(text, kind, (), findings)
    if findings:
        raise ValueError(findings[0].expected)
    return value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Size, "0 B", 0),
        (Size, "100 MiB", 104_857_600),
        (Size, "1.5GiB", 1_610_612_736),
        (Size, "10 MB", 10_000_000),
        (Age, "30d", 2_592_000),
        (Age, "2w", 1_209_600),
        (Age, "90m", 5_400),
        (OneIn, "1/30", 30),
        (Share, "50%", 0.5),
        (Share, "12.5%", 0.125),
        (Dollars, 49.5, 49.5),
        (Count, 7, 7),
        (Hour, "23:59", "23:59"),
        (Bucket, "a.b-c", "a.b-c"),
    ],
)
def test_words_mean_what_people_write(kind, text, value):
    assert parsed(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Size, ""),
        (Size, "12 parsecs"),
        (Size, "5G"),
        (Size, "-1 MiB"),
        (Age, "30"),
        (Age, "30d\n"),
        (Age, "٣d"),
        (Age, None),
        (OneIn, "1/१0"),
        (OneIn, "2/30"),
        (OneIn, 30),
        (Share, "0.5"),
        (Share, "101%"),
        (Dollars, True),
        (Dollars, float("nan")),
        (Count, True),
        (Count, 1.5),
        (Hour, "2:00"),
        (Hour, "02:00\n"),
        (Bucket, "ab"),
        (Bucket, "a" * 64),
        (Bucket, "192.168.1.1"),
        (Bucket, "a..b"),
        (Bucket, "xn--a"),
        (Bucket, "a-s3alias"),
        (Bucket, "a_b"),
        (Prefix, "s3://bucket/a"),
        (Folder, "/"),
        (KmsKey, "arn:aws:kms:us-east-1:1:key/x"),
        (TimeZone, "CET+1 h"),
    ],
)
def test_words_refuse_what_they_are_not(kind, text):
    with pytest.raises(ValueError, match=r"."):
        parsed(kind, text)


@given(st.integers(0, 999_999))
def test_ages_are_written_so_that_they_read_back(seconds):
    assert parsed(Age, age_text(seconds)) == seconds


KEYS = st.text("ab/", max_size=6)
PREFIX_LISTS = st.lists(st.text("ab/", max_size=3), min_size=1, max_size=3, unique=True)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Two or three pairs over one or two buckets, with nested prefixes; only those that the rules accept."""
    count = draw(st.integers(1, 3))
    made = []
    for name in string.ascii_lowercase[:count]:
        exclude = draw(st.lists(st.text("ab/", min_size=1, max_size=4), max_size=2, unique=True))
        bucket = draw(st.sampled_from(["one", "two"]))
        made.append(make_pair(f"pair-{name}", bucket, *draw(PREFIX_LISTS), exclude=tuple(exclude)))
    return make_policy(*made)


def is_sound(policy: Policy) -> bool:
    return not any("source" in finding.steps for finding in find_mistakes(policy))


@given(policies().filter(is_sound), st.sampled_from(["one", "two", "three"]), KEYS)
def test_runs_and_events_agree_on_whose_an_object_is(policy, bucket, key):
    owner = match(policy, bucket, key)
    owners = [pair for pair in policy.pairs if pair.source.bucket == bucket and scope(policy, pair).contains(key)]
    assert owners == ([owner] if owner else [])


@given(policies(), st.sampled_from(["one", "two", "pair-a-hot", "x"]), st.text())
def test_explain_answers_for_every_object(policy, bucket, key):
    answer = explain(policy, bucket, key)
    assert answer.policy is match(policy, bucket, key)
    assert answer.reason
    assert answer.source == f"s3://{bucket}/{key}"
    if answer.policy:
        assert answer.copy == f"s3://{answer.policy.destination.bucket}/copies/{key}"


@given(policies(), st.text(), st.text())
def test_two_keys_of_a_pair_never_share_a_copy(policy, one, other):
    for pair in policy.pairs:
        assert (pair.copy_key(one) == pair.copy_key(other)) == (one == other)


def test_the_longest_prefix_wins_also_when_it_leaves_out():
    wide, narrow = make_pair("wide", "one"), make_pair("narrow", "one", "scans/", exclude=("scans/tmp/",))
    policy = make_policy(wide, narrow)
    assert match(policy, "one", "other") is wide
    assert match(policy, "one", "scans/a") is narrow
    assert match(policy, "one", "scans/tmp/a") is None
    assert "leaves out" in explain(policy, "one", "scans/tmp/a").reason
    assert scope(policy, wide) == (("",), ("scans/",))


def test_a_prefix_inside_anothers_inside_ones_own_is_refused():
    policy = make_policy(make_pair("outer", "one", "a/", "a/b/c/"), make_pair("inner", "one", "a/b/"))
    (finding,) = find_mistakes(policy)
    assert finding.steps == ("pairs", 0, "source", "prefixes", 1)
    assert "outside a/b/, which exclude or another pair takes" in finding.expected


RULES = (
    ArchiveRule(name="small", older_than=90 * 86_400, smaller_than=1000, prefix="a/"),
    ArchiveRule(name="rest", older_than=10, smaller_than=5000, tags={"claim": "none"}),
)


def test_a_key_is_told_which_archive_rules_may_take_it():
    policy = make_policy(make_pair("pair", "one", rules=RULES))
    assert explain(policy, "one", "a/1").archive_rules == ("small", "rest")
    assert explain(policy, "one", "b/1").archive_rules == ("rest",)
