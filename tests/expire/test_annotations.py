"""Expire and annotations: no original goes whose copy lacks some of its annotations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobs.core.model import ObjectRef
from jobs.core.outcome import Outcome, Status
from jobs.errors import Denied, StoreError, Unavailable
from tests.doubles.memory_store import Request
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
        (copy,) = packed(store, [ref])
    else:
        copy = replica(store, ref)
        annotate(store, ObjectRef(copy.bucket, copy.key), texts)
    return one(store, row_of(store, 0, ref, copy), **options)


@pytest.mark.parametrize(
    "texts",
    [{}, {"labels": b"cat"}, {**TEXTS, "labels": b"dog"}, None],
    ids=["none at the copy", "one at the copy", "another text", "in an archive"],
)
def test_an_original_with_annotations_that_its_copy_lacks_is_kept(texts: dict[str, bytes] | None) -> None:
    store = shop(versioned=False)
    outcome = expired(store, texts)
    assert (outcome.status, outcome.detail) == (Status.BLOCKED, "annotations"), outcome
    assert store.contents() == {("k", "null"): b"content"}


@pytest.mark.parametrize("more", [{}, {"own": b"of the copy's own"}])
def test_an_original_whose_copy_has_its_annotations_goes(more: dict[str, bytes]) -> None:
    store = shop(versioned=False)
    assert expired(store, TEXTS | more).status is Status.DONE
    assert store.contents() == {}


@pytest.mark.parametrize("texts", [{}, None], ids=["a replica", "an archive"])
def test_annotations_that_are_skipped_keep_nothing(texts: dict[str, bytes] | None) -> None:
    store = shop(versioned=False)
    assert expired(store, texts, ignores_annotations=True).status is Status.DONE


@pytest.mark.parametrize("error", [Denied, Unavailable])
def test_an_original_whose_annotations_nobody_lists_is_kept(
    error: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.s3.retries.backoff_seconds", lambda attempt, jitter: 0.0)

    async def refuse(request: Request) -> Any:
        raise error("ListObjectAnnotations", str(request.place), "No", "no", 503)

    assert expired(shop(versioned=False, on={"list_annotations": refuse}), TEXTS).status is Status.BLOCKED
