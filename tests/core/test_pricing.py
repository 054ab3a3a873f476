from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Location
from jobs.core.pricing import (
    GIB,
    RANGE_BYTES,
    Bill,
    Group,
    Histogram,
    PricedWork,
    far_per_gib,
    own_prices,
    part_rule,
)
from jobs.core.run import Plan, RunSpec, Side

README = Path(__file__).parents[2] / "README.md"
SMALL = Group("STANDARD", False, True, False, 1000, 4_000_000, 1000)
UNKNOWN = Group("STANDARD", False, False, False, 10, 0, 10)
LARGE = Group("STANDARD_IA", True, True, False, 2, 100 * GIB, 1600)
MARKERS = Group("STANDARD", False, False, True, 5, 0, 5)


def planned(work, *groups, keys=300):
    return Bill(work, Histogram(groups, keys)).of(Plan(0, 0, ()), processes=2)


IN_PARTS = "create 2, part 1600, complete 2, head 4, tagging 2"


@pytest.mark.parametrize(
    ("is_copying", "options", "groups", "expected"),
    [
        (True, {}, [SMALL], "copy 1000"),
        (True, {}, [UNKNOWN], "copy 10, head 20"),
        (True, {"object_lock": True}, [SMALL], "copy 1000, head 2000"),
        (True, {}, [LARGE], f"{IN_PARTS}, list 2"),
        (True, {}, [SMALL, LARGE], f"copy 1000, {IN_PARTS}, list 2"),
        (True, {"streamed": True}, [SMALL], "put 1000, head 2000, get 1000, tagging 1000, list 1000"),
        (True, {"streamed": True}, [LARGE], f"{IN_PARTS}, get 1600, list 2"),
        (True, {"all_versions": True}, [SMALL, MARKERS], "copy 1000, head 1010, list 600, delete 5"),
        (True, {"annotations": "skip"}, [LARGE], IN_PARTS),
        (True, {}, [SMALL._replace(there="other")], "copy 2000, head 2000"),
        (True, {}, [SMALL._replace(there="alike"), LARGE._replace(there="alike")], "copy 1000, head 2004"),
        (True, {"all_versions": True}, [SMALL._replace(there="alike")], "head 2000, list 600"),
        (False, {}, [SMALL, LARGE], "head 2004"),
        (False, {"deep": True}, [SMALL, LARGE], "head 2004, get 5200"),
        (False, {"compares_tags": True}, [SMALL], "head 2000, tagging 2000, list 1000"),
        (False, {"all_versions": True}, [SMALL, MARKERS], "head 2000, list 300"),
        (True, {}, [], ""),
    ],
)
def test_requests(is_copying, options, groups, expected):
    counts = {kind: int(count) for kind, _, count in (each.partition(" ") for each in expected.split(", ") if each)}
    assert planned(PricedWork(is_copying, **options), *groups).requests == counts


READ = {"gets": 0.000006, "lists": 0.00001, "retrieval": 1.0}


@pytest.mark.parametrize(
    ("is_copying", "options", "groups", "expected"),
    [
        (True, {}, [SMALL], {"puts": 0.005}),
        (True, {"storage_class": "keep"}, [SMALL], {"puts": 0.005}),
        (True, {"storage_class": "GLACIER_IR"}, [SMALL], {"puts": 0.02}),
        (True, {"sse": "aws:kms"}, [SMALL], {"puts": 0.005, "kms": 0.003}),
        (True, {"sse": "aws:kms:dsse"}, [SMALL], {"puts": 0.005, "kms": 0.006}),
        (True, {}, [LARGE], READ | {"puts": 0.01604}),
        (True, {"storage_class": "DEEP_ARCHIVE"}, [LARGE], READ | {"puts": 0.00811}),
        (True, {"cross_region": True}, [LARGE], READ | {"puts": 0.01604, "transfer": 2.0}),
        (False, {}, [SMALL], {"gets": 0.0008}),
        (False, {"cross_region": True}, [SMALL], {"gets": 0.0008}),
        (False, {"deep": True}, [LARGE], {"gets": 0.003204, "retrieval": 2.0}),
        (True, {"cross_region": True}, [LARGE._replace(there="alike")], {"gets": 0.000004}),
        (True, {"all_versions": True}, [MARKERS], {"lists": 0.0015, "gets": 0.000004}),
        (True, {}, [], {}),
    ],
)
def test_dollars(is_copying, options, groups, expected):
    assert planned(PricedWork(is_copying, **options), *groups).dollars == pytest.approx(expected)


def test_an_unknown_storage_class_is_priced_as_the_dearest():
    prices = own_prices()
    unknown = prices.of_class("FUTURE_CLASS")
    assert unknown.put_per_1000 == 0.05
    assert unknown.retrieval_per_gib == 0.03
    assert prices.of_class("STANDARD").put_per_1000 == 0.005


groups = st.builds(
    lambda cls, multipart, known, marker, rows, size: Group(
        cls, multipart, known, marker, rows, size, rows + size // RANGE_BYTES
    ),
    st.sampled_from(["STANDARD", "GLACIER_IR", "NEW"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**9),
    st.integers(0, 10**15),
)


@given(
    st.booleans(),
    st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("streamed", "deep", "all_versions")}),
    st.lists(groups, max_size=4),
    groups,
)
def test_more_rows_never_cost_less(is_copying, options, some, more):
    work = PricedWork(is_copying, **options)
    before, after = planned(work, *some, keys=10), planned(work, *some, more, keys=11)
    assert before.total_dollars <= after.total_dollars * 1.000001
    assert all(count <= after.requests[kind] for kind, count in before.requests.items())
    assert before.seconds <= after.seconds


@pytest.mark.parametrize(
    ("requests", "bytes_moved", "processes", "seconds"),
    [
        ({"copy": 1_600}, 0, 1, 1.0),
        ({"head": 3_200}, 0, 2, 1.0),
        ({"copy": 35_000}, 0, 100, 10.0),  # S3's own limit on one prefix
        ({"get": 1}, 340_000_000, 1, 1.0),
        ({}, 0, 1, 0.0),
    ],
)
def test_seconds(requests, bytes_moved, processes, seconds):
    bill = Bill(PricedWork(), Histogram((), 0))
    bill.requests.update(requests)
    bill.moved_bytes = bytes_moved
    assert bill.of(Plan(0, 0, ()), processes).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("is_copying", "options", "rule"),
    [
        (True, {}, (5_000_000_000, 64 * 1024**2)),
        (True, {"streamed": True}, (RANGE_BYTES, RANGE_BYTES)),
        (False, {"deep": True}, (RANGE_BYTES, RANGE_BYTES)),
        (False, {}, (5_000_000_000, 64 * 1024**2)),
    ],
)
def test_the_part_rule_of_a_job(is_copying, options, rule):
    assert part_rule(PricedWork(is_copying, **options)) == rule


def test_the_work_of_a_run_is_what_its_spec_says_and_nothing_else():
    side = Side(Location("bucket"))
    options = {"storage_class": "", "sse": None, "deep": True, "part_size_bytes": 7, "overwrite": "older"}
    spec = RunSpec("run", "replicate", 0.0, side, side, "manifest", options)
    assert PricedWork.of(spec, is_copying=True) == PricedWork(deep=True)


def test_the_table_that_comes_with_sealift_says_what_it_is():
    table = own_prices()
    assert table.name == "us-east-1 list prices of 2026-06 (USD)"
    assert "check https://aws.amazon.com/s3/pricing/" in table.source


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("`replicate`, within a region", PricedWork()),
        ("`replicate`, to another region", PricedWork(cross_region=True)),
        ("`verify`, by stored checksums", PricedWork(is_copying=False)),
        ("`verify --deep`, by all bytes", PricedWork(is_copying=False, deep=True)),
    ],
)
def test_readme_says_what_a_million_objects_cost(what, work):
    plan = planned(work, Group("STANDARD", False, True, False, 10**6, 10**6 * 1024**2, 10**6))
    requests = ", ".join(f"{count:,} {kind}" for kind, count in plan.requests.items())
    assert f"| {what} | {requests} | ${plan.total_dollars:.2f} |" in README.read_text()


@pytest.mark.parametrize(
    ("what", "lists"), [("`replicate` again, all copies are there", 1_000), ("`reconcile`, by two listings", 2_000)]
)
def test_readme_says_what_lists_of_a_million_objects_cost(what, lists):
    dollars = lists * own_prices().list_per_1000 / 1000
    assert f"| {what} | {lists:,} list | ${dollars:.2f} |" in README.read_text()


@pytest.mark.parametrize(
    ("options", "per_gib"),
    [
        ({"streamed": True}, 0.09),
        ({"streamed": True, "apart": False}, 0.0),
        ({"streamed": True, "apart": False, "cross_region": True}, 0.02),
        ({"cross_region": True}, 0.02),
    ],
)
def test_bytes_that_a_worker_carries_leave_aws_only_between_services(options, per_gib):
    assert far_per_gib(PricedWork(**options), own_prices()) == pytest.approx(per_gib)
