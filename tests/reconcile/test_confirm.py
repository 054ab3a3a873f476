"""Confirmation: what a HEAD says, what it cannot say, and rows that S3 does not answer for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.category import Category
from jobs.core.evidence import compare as compare_heads
from jobs.core.model import Attributes, Checksum, ObjectInfo
from jobs.errors import AuthenticationFailed, NoSuchBucket, Unavailable, store_error
from jobs.reconcile import confirm
from jobs.reconcile.confirm import Suspects
from jobs.reconcile.reconcile import EvidenceFiles, Reconciliation
from jobs.s3.store import Guard
from tests.doubles.memory_store import MemoryStore, Request
from tests.reconcile.scene import OLD, compare, counts, differences, evidence, judge, row


class Bucket(MemoryStore):
    """One side's bucket. HEADs of the keys in `poison` end in an error of that status and code."""

    def __init__(self, name: str, poison: dict[str, tuple[int, str]], *, is_up: bool = True, versioned: bool = False):
        async def head(request: Request) -> Any:
            if request.place.key in poison:
                status, code = poison[request.place.key]
                raise store_error("HeadObject", str(request.place), code, "", status)
            return await request()

        async def listing(request: Request) -> Any:
            if not is_up:
                raise store_error("ListObjectsV2", name, "InternalError", "", 500)
            return await request()

        ids = iter(f"{name}-{number}" for number in range(99))
        super().__init__(clock=lambda: OLD, new_id=ids.__next__, on={"head": head, "list_objects": listing})
        self.name = name
        self.create_bucket(name, versioned=versioned)

    def hold(self, key: str, content: str) -> str | None:
        written = asyncio.run(self.put(self.name, key, content.encode(), Attributes(), guard=Guard()))
        return written.version_id


def asked(
    folder: Path, source: Any, destination: Any, ours: Bucket, theirs: Bucket, joined: Any = None, **options: Any
) -> Reconciliation:
    suspects = Suspects(ours, "src", theirs, "dst", 1000)
    return compare(folder, source, destination, joined={"suspects": suspects} | (joined or {}), **options)


@pytest.mark.parametrize("poison", [(400, ""), (400, "InvalidArgument"), (500, "InternalError"), (403, "AccessDenied")])
def test_a_row_that_s3_does_not_answer_for_stays_a_finding_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: tuple[int, str]
) -> None:
    monkeypatch.setattr(confirm, "TRIES", 1)
    ours, theirs = Bucket("src", {"poison": poison}), Bucket("dst", {})
    for key in ("poison", "lost", "there"):
        ours.hold(key, "x")
    theirs.hold("there", "x")
    answer = asked(tmp_path, [row(key, "x") for key in ("poison", "lost", "there")], [row("z", "")], ours, theirs)
    assert answer.confirmed == (4, 1, 2, 1, 0)
    assert counts(answer) == {"missing": 2, "same": 1, "excluded": 1}
    assert set(differences(answer)) == {"poison", "lost"}


@pytest.mark.parametrize(
    ("poison", "is_up", "error"),
    [
        ((500, "InternalError"), False, Unavailable),
        ((403, "ExpiredToken"), True, AuthenticationFailed),
        ((404, "NoSuchBucket"), True, NoSuchBucket),
    ],
)
def test_where_no_other_row_would_fare_better_the_reconciliation_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: tuple[int, str], is_up: bool, error: type[Exception]
) -> None:
    monkeypatch.setattr(confirm, "TRIES", 1)
    with pytest.raises(error):
        asked(tmp_path, [row("a", "x")], [row("z")], Bucket("src", {"a": poison}, is_up=is_up), Bucket("dst", {}))


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_head_does_not_dismiss_what_checksums_at_rest_proved(tmp_path: Path, is_replaced: bool) -> None:
    """The bytes at rest differ, although both ETags are equal MD5s: only a new object changes that."""
    ours, theirs = Bucket("src", {}), Bucket("dst", {})
    for side in (ours, theirs):
        side.hold("a", "y" if is_replaced else "x")
    etag = row("a", "x")["ETag"]
    known = EvidenceFiles(
        [evidence(tmp_path / "s.parquet", ("a", "null", etag, "SHA256", "v", False, OLD + 1))],
        [evidence(tmp_path / "d.parquet", ("a", "null", etag, "SHA256", "w", False, OLD + 1))],
    )
    answer = asked(tmp_path, [row("a", "x")], [row("a", "x")], ours, theirs, joined={"evidence": known})
    assert counts(answer) == ({"same": 1} if is_replaced else {"different": 1})


CHECKSUMS = st.builds(Checksum, st.sampled_from(["SHA256", "CRC32"]), st.sampled_from(["a", "b"]), st.booleans())
INFOS = st.builds(
    ObjectInfo,
    st.integers(1, 2),
    st.sampled_from(["0" * 32, "1" * 32, f"{'0' * 32}-2", "opaque"]),
    st.just(OLD),
    st.none(),
    st.just("STANDARD"),
    st.lists(CHECKSUMS, max_size=3, unique_by=lambda each: each[::2]).map(tuple),
    st.builds(Attributes, sse=st.sampled_from([None, "", "AES256", "aws:kms"])),
)


@given(INFOS, INFOS)
def test_a_confirmation_says_of_two_heads_what_a_verification_says(source: ObjectInfo, destination: ObjectInfo) -> None:
    judged = judge(confirm.described(source), confirm.described(destination), horizon=None).category
    expected = {True: {Category.SAME}, None: {Category.UNVERIFIABLE}, False: {Category.DIFFERENT, Category.STALE}}
    assert judged in expected[compare_heads(source, destination).same]


@pytest.mark.parametrize(
    ("contents", "there", "category"),
    [
        (("one", "two"), "one", "stale"),
        (("xxx", "one", "two"), "one", "stale"),
        (("one", "two"), "own", "different"),
        (("two",), "one", "different"),  # the older version is gone
        (("two", "one", "two"), "two", None),
    ],
)
def test_a_copy_of_an_older_version_on_top_is_stale_whatever_the_times_say(
    tmp_path: Path, contents: tuple[str, ...], there: str, category: str | None
) -> None:
    """Such a request came late. Only the copy that was seen may be replaced."""
    ours, theirs = Bucket("src", {}, versioned=True), Bucket("dst", {}, versioned=True)
    for content in contents:
        ours.hold("a", content)
    theirs.hold("a", there)
    newer = row("a", there, LastModifiedDate=OLD + 60)
    answer = asked(tmp_path, [row("a", contents[-1])], [newer], ours, theirs)
    assert counts(answer) == ({category: 1} if category else {"same": 1})
    repair = pq.read_table(answer.manifest_parquet).to_pylist()
    assert [(each["etag"], each["condemned_etag"]) for each in repair] == (
        [(row("a", contents[-1])["ETag"], newer["ETag"])] if category == "stale" else []
    )


def test_a_delete_marker_that_a_head_finds_is_no_object_of_the_source(tmp_path: Path) -> None:
    """It counted as one, so that a night did not see that all objects of its source were deleted."""
    ours, theirs = Bucket("src", {}, versioned=True), Bucket("dst", {})
    for bucket in (ours, theirs):
        bucket.hold("a", "x")
    asyncio.run(ours.delete("src", "a"))
    answer = asked(tmp_path, [row("z")], [row("a", "x"), row("z")], ours, theirs)
    assert (counts(answer)["extra"], answer.source_rows) == (1, 1)
