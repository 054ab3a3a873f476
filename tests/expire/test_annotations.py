"""Expire and annotations: no original goes whose copy lacks some of its annotations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.core.outcome import Outcome, Status
from jobs.errors import Denied, Unavailable
from tests.expire.scene import Shop, one, packed, replica, row_of, shop

TEXTS = {"labels": b"cat", "transcript": b"words"}


def annotate(store: Shop, ref: ObjectRef, texts: dict[str, bytes]) -> None:
    async def put() -> None:
        etag = (await store.head(ref)).etag
        for name, text in texts.items():
            await store.put_annotation(ref, name, text, object_etag=etag)

    asyncio.run(put())


def expired(store: Shop, texts: dict[str, bytes] | None, **options: Any) -> Outcome:
    """What becomes of an annotated original whose replica has these annotations (None: it is in an archive)."""
    ref = store.put_now("docs", "k", b"content")
    annotate(store, ref, TEXTS)
    if texts is None:
        (proof,) = packed(store, [ref])
    else:
        proof = replica(store, ref)
        annotate(store, ObjectRef(proof.bucket, proof.key, proof.version_id), texts)
    return one(store, row_of(store, 0, ref, proof), **options)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({}, "the original has annotations that the copy lacks: labels, transcript"),
        ({"labels": b"cat"}, "the original has annotations that the copy lacks: transcript"),
        ({**TEXTS, "labels": b"dog"}, "annotations of the original have other texts at the copy: labels"),
        (None, "the original has annotations, which no archive holds"),
    ],
    ids=["none at the copy", "one at the copy", "another text", "in an archive"],
)
def test_an_original_with_annotations_that_its_copy_lacks_is_kept(texts: dict[str, bytes] | None, reason: str) -> None:
    store = shop(versioned=False)
    outcome = expired(store, texts)
    assert (outcome.status, reason in outcome.reason) == (Status.KEPT, True), outcome
    assert store.contents() == {("k", "null"): b"content"}


@pytest.mark.parametrize("more", [{}, {"own": b"of the copy's own"}])
def test_an_original_whose_copy_has_its_annotations_goes(more: dict[str, bytes]) -> None:
    store = shop(versioned=False)
    assert expired(store, TEXTS | more).status is Status.EXPIRED
    assert store.contents() == {}


@pytest.mark.parametrize("texts", [{}, None], ids=["a replica", "an archive"])
def test_annotations_that_are_skipped_keep_nothing(texts: dict[str, bytes] | None) -> None:
    store = shop(versioned=False)
    assert expired(store, texts, ignores_annotations=True).status is Status.EXPIRED


def test_an_original_whose_annotations_nobody_may_list_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop(versioned=False)

    async def denied(ref: ObjectRef, *, token: str | None = None) -> Any:
        raise Denied("ListObjectAnnotations", str(ref), "AccessDenied", "no", 403)

    monkeypatch.setattr(store, "list_annotations", denied)
    outcome = expired(store, TEXTS)
    assert (outcome.status, "nobody knows whether the copy has its annotations" in outcome.reason) == (
        Status.KEPT,
        True,
    ), outcome


def test_a_server_that_does_not_answer_is_asked_again_by_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)
    store = shop(versioned=False)

    async def busy(ref: ObjectRef, *, token: str | None = None) -> Any:
        raise Unavailable("ListObjectAnnotations", str(ref), "SlowDown", "busy", 503)

    monkeypatch.setattr(store, "list_annotations", busy)
    with pytest.raises(Unavailable):
        expired(store, TEXTS)


def test_an_original_without_annotations_costs_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    store = shop(versioned=False)
    asked: list[ObjectRef] = []
    real = store.list_annotations

    async def list_annotations(ref: ObjectRef, *, token: str | None = None) -> Any:
        asked.append(ref)
        return await real(ref, token=token)

    monkeypatch.setattr(store, "list_annotations", list_annotations)
    ref = store.put_now("docs", "k", b"content")
    assert one(store, row_of(store, 0, ref, replica(store, ref))).status is Status.EXPIRED
    assert [each.bucket for each in asked] == ["docs"]
