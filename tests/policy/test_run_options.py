"""A run over a whole pair takes the pair's keys, all of them, each once, and puts them where the policy says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobs.core.enums import AnnotationRule, Encryption, StorageClass
from jobs.core.model import Location, ObjectVersion, Route
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.policy.coverage import Scope
from jobs.policy.model import Destination, Ledger, Pair, Policy, Source
from jobs.policy.run_options import copy_options, globs, prefix_map, prefixes_below, sides
from tests.doubles.selecting import plain_filter_of

ARN = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"
texts = st.text("ab/*?[]!é-", max_size=6)
scopes = st.builds(
    lambda inside, outside: Scope(tuple(inside), tuple(each for each in outside if each)),
    st.lists(texts, min_size=1, max_size=4, unique=True),
    st.lists(texts, max_size=3, unique=True),
)


def pair(**destination: object) -> Pair:
    hot = Destination(bucket="hot", region="eu-west-1", **destination)  # type: ignore[arg-type]  # words
    return Pair(name="docs", source=Source(bucket="docs", region="us-east-1"), destination=hot)


def policy(*pairs: Pair, account: str | None = None) -> Policy:
    ledger = Ledger(bucket="ledger", region="us-east-1")
    return Policy(version=1, ledger=ledger, pairs=pairs, account=account)


@given(scopes, texts, st.lists(texts, max_size=20))
def test_what_is_listed_and_selected_is_exactly_the_scope_and_each_key_once(
    scope: Scope, prefix: str, bucket: list[str]
) -> None:
    wanted = [key for key in bucket if scope.contains(key) and key.startswith(prefix)]
    include, exclude = globs(scope)
    selection = Selection(prefix=prefix, include=include, exclude=exclude)
    try:
        listed = [key for each in prefixes_below(scope, prefix) for key in bucket if key.startswith(each)]
    except UsageError:
        assert wanted == []
        return
    assert sorted(key for key in listed if plain_filter_of(selection, key) is None) == sorted(wanted)


@given(scopes, texts, texts)
def test_the_map_of_a_pair_says_what_copy_key_says_both_ways(scope: Scope, folder: str, key: str) -> None:
    docs = pair(prefix=folder)
    there = docs.copy_key(key) if scope.contains(key) else None
    assert prefix_map(docs, scope).destination_of(key) == there
    assert prefix_map(docs, scope).source_of(docs.copy_key(key)) == (key if there is not None else None)


def test_a_run_puts_copies_where_the_pair_says() -> None:
    docs = pair(prefix="delivery/")
    source, destination = sides(policy(docs), docs)
    target = Route(source.location, destination.location).target_of(ObjectVersion(0, "a/b c"))
    assert (target.bucket, target.key) == ("hot", docs.copy_key("a/b c"))
    assert (source.location, source.region, destination.region) == (Location("docs"), "us-east-1", "eu-west-1")


def test_a_run_names_the_owners_of_both_buckets() -> None:
    docs = pair(account="222233334444")
    docs = replace(docs, source=replace(docs.source, account="111122223333"))
    source, destination = sides(policy(docs, account="111122223333"), docs)
    assert (source.owner, destination.owner) == ("111122223333", "222233334444")
    _, ours = sides(policy(docs, account="222233334444"), docs)
    assert ours.owner == "222233334444"


@pytest.mark.parametrize("prefix", ["other/", "scans/incoming/", "scans/incoming/today", "sc-"])
def test_a_prefix_that_the_pair_does_not_protect_is_refused(prefix: str) -> None:
    scope = Scope(("scans/", "signatures/"), ("scans/incoming/",))
    with pytest.raises(UsageError, match="protects no keys"):
        prefixes_below(scope, prefix)
    assert prefixes_below(scope, "s") == ("scans/", "signatures/")
    assert prefixes_below(scope, "scans/2026/") == ("scans/2026/",)


@pytest.mark.parametrize(
    ("destination", "options"),
    [
        ({}, ("keep", None, None, "copy", True, None)),
        ({"storage_class": StorageClass.STANDARD_IA}, ("STANDARD_IA", None, None, "copy", True, None)),
        ({"encryption": Encryption.KMS, "kms_key": "create"}, ("keep", None, None, "copy", True, None)),
        ({"encryption": Encryption.KMS, "kms_key": ARN}, ("keep", "aws:kms", ARN, "copy", True, None)),
        ({"encryption": Encryption.KMS_TWICE}, ("keep", "aws:kms:dsse", None, "copy", True, None)),
        ({"annotations": AnnotationRule.SKIP}, ("keep", None, None, "skip", True, None)),
    ],
)
def test_copies_have_the_class_and_the_key_of_the_pair(
    destination: dict[str, object], options: tuple[str, str | None, str | None, str, bool, None]
) -> None:
    assert tuple(copy_options(pair(**destination)).values()) == options
