"""The state's files: what readers take, what a compaction holds and removes, and what damage costs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import LedgerError, UsageError
from jobs.ledger import state_files
from jobs.ledger.claims import CLAIM_SECONDS
from jobs.ledger.ledger import Ledger
from jobs.ledger.state import BAD
from jobs.ledger.state_files import (
    Generation,
    compact,
    compact_if_due,
    fetch_files,
    summary,
)
from jobs.ledger.views import LOOKS, accept, open_views
from jobs.s3.store import ABSENT, UNGUARDED
from jobs.tables.rows import write_parquet
from tests.doubles.ledgers import make_ledger
from tests.ledger.looks import Seen, tell, verdicts

WRONG = Seen("bad", 10, code="size_differs", key="wrong")
RIGHT = Seen("good", 10, key="right")
DENIED = Seen("unknown", 10, code="denied", key="denied")


@pytest.fixture
def ledger() -> Ledger:
    return make_ledger("here")


def add(ledger: Ledger, name: str, *seen: Seen) -> None:
    asyncio.run(tell(ledger, name, *seen))


def rows(ledger: Ledger, view: str = "state", relation: str = "") -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with open_views(ledger, [view]) as database:
            sql = f"FROM ({relation or f'FROM {view}'}) ORDER BY key, etag"
            return database.connection.sql(sql).to_arrow_table().to_pylist()

    return asyncio.run(read())


def found(ledger: Ledger) -> list[tuple[str, str | None]]:
    """Key and finding of what is not good. The short way and the long one say the same."""
    short, long = (
        rows(ledger, "findings"),
        rows(ledger, relation=f"SELECT * EXCLUDE ({', '.join(LOOKS)}) FROM state WHERE {BAD}"),
    )
    assert short == long
    return [(row["key"], row["finding"] or row["blocked"]) for row in long]


def made(ledger: Ledger, **named: Any) -> Generation:
    return asyncio.run(compact(ledger, "test", **named))


def names(ledger: Ledger) -> list[str]:
    page = asyncio.run(ledger.store.list_objects("ledger", "here/state/"))
    return [entry.key.removeprefix("here/state/") for entry in page.entries]


def damage(ledger: Ledger, name: str, data: bytes = b"{}") -> None:
    asyncio.run(ledger.store.put(ObjectRef("ledger", f"here/state/{name}"), data, Attributes(), guard=UNGUARDED))


def test_a_ledger_whose_deltas_were_removed_and_whose_generations_are_gone_is_refused(ledger: Ledger) -> None:
    damage(ledger, "claims/000002/1.json")
    with pytest.raises(LedgerError):
        rows(ledger)


def test_an_empty_ledger_knows_nothing(ledger: Ledger) -> None:
    assert (rows(ledger), found(ledger), made(ledger).number) == ([], [], 0)
    assert asyncio.run(summary(ledger)).places == ()


def test_a_generation_and_the_deltas_after_it_say_what_all_deltas_said(ledger: Ledger) -> None:
    add(ledger, "run1", WRONG, RIGHT, DENIED)
    before = rows(ledger)
    assert found(ledger) == [("denied", "denied"), ("wrong", "size_differs")]
    assert [name[:5] for name in made(ledger).deltas] == ["run1-"]
    assert rows(ledger) == before
    add(ledger, "run2", Seen("good", 20, key="wrong"), Seen("bad", 20, code="size_differs", key="right"))
    assert found(ledger) == [("denied", "denied"), ("right", "size_differs")]
    assert made(ledger).number == 2
    assert found(ledger) == [("denied", "denied"), ("right", "size_differs")]
    assert made(ledger).number == 2, "nothing is newer"


def test_a_finding_that_came_late_is_weighed_against_what_the_generation_knows(ledger: Ledger) -> None:
    add(ledger, "run1", Seen("good", 20, key="mended"), Seen("good", 10, key="other"))
    made(ledger)
    add(ledger, "late", Seen("bad", 15, code="size_differs", key="mended"), DENIED._replace(key="other", at=5))
    assert found(ledger) == []


def test_a_name_that_is_taken_costs_no_verdict(ledger: Ledger) -> None:
    add(ledger, "run1", WRONG)
    add(ledger, "run1", RIGHT)
    add(ledger, "run1", RIGHT)
    assert [row["key"] for row in rows(ledger)] == ["right", "wrong"]
    assert len(names(ledger)) == 2


def test_what_is_counted_is_there_without_a_look_at_the_files(ledger: Ledger) -> None:
    deep = Seen("good", 12, "bytes", key="in/right")
    add(ledger, "run1", WRONG, RIGHT, DENIED, deep)
    made(ledger, prefixes=[Location("copies", "in/")])
    add(ledger, "run2", RIGHT)
    known = asyncio.run(summary(ledger))
    counts = {each.prefix: (each.objects, each.unchecked, each.unread) for each in known.places}
    assert counts == {"": (3, 2, 3), "in/": (1, 0, 0)}
    [inner] = [each for each in known.places if each.prefix]
    assert inner.oldest_checked == inner.oldest_read == 1_800_000_012


def test_only_what_two_generations_hold_is_removed(ledger: Ledger) -> None:
    asyncio.run(ledger.store.put(ObjectRef("ledger", "here/runs/run1/report.json"), b"{}", Attributes(), guard=ABSENT))
    for number in (1, 2, 3):
        add(ledger, f"run{number}", Seen("good", number, key=f"key{number}"))
        made(ledger)
    left = names(ledger)
    assert [name[:12] for name in left if name.startswith("deltas/")] == ["deltas/run3-"]
    assert {name.split("/")[1][:6] for name in left if name.startswith("generations/")} == {"000002", "000003"}
    assert [row["key"] for row in rows(ledger)] == ["key1", "key2", "key3"]
    asyncio.run(ledger.store.head(ObjectRef("ledger", "here/runs/run1/report.json")))


@pytest.mark.parametrize("what", ["the document", "the document is empty", "a file", "the document is gone"])
def test_a_damaged_generation_is_made_again_from_the_one_before(ledger: Ledger, what: str) -> None:
    for number in (1, 2):
        add(ledger, f"run{number}", Seen("bad", number, code="size_differs", key=f"key{number}"))
        made(ledger)
    before = rows(ledger)
    [document] = [name for name in names(ledger) if name.endswith("2.json")]
    if what == "a file":
        for name in names(ledger):
            if name.startswith("generations/000002/"):
                damage(ledger, name)
    elif what != "the document is gone":
        damage(ledger, document, b"{}" if what == "the document is empty" else b"{")
    else:
        asyncio.run(ledger.store.delete(ObjectRef("ledger", f"here/state/{document}")))
    assert rows(ledger) == before
    assert found(ledger) == [("key1", "size_differs"), ("key2", "size_differs")]
    store: Any = ledger.store
    store._buckets.clock = lambda: time.time() + CLAIM_SECONDS + 1
    again = made(ledger)
    assert again.number == (2 if what == "the document is gone" else 3)
    assert rows(ledger) == before
    assert any(name.startswith("deltas/run2-") for name in names(ledger)), "the one before does not hold it"


@pytest.mark.parametrize("name", ["../../../../mine", "000002/../../../../../mine", "000002/0123456789abcdef-findings"])
def test_a_file_that_no_generation_can_have_is_not_fetched(
    ledger: Ledger, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes to the ledger could overwrite files of who reads it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mine").write_bytes(b"mine")
    add(ledger, "run1", WRONG)
    made(ledger)
    damage(ledger, f"generations/{name}", b"theirs")
    file = {"name": name, "sha256": hashlib.sha256(b"theirs").hexdigest(), "first_key": "a", "last_key": "z"}
    damage(ledger, "generations/000002.json", msgspec.json.encode({"number": 2, "files": [file], "findings": [file]}))
    assert found(ledger) == [("wrong", "size_differs")]
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_fetched_file_lies_in_the_folder_whatever_its_name(ledger: Ledger, tmp_path: Path) -> None:
    damage(ledger, "../../mine", b"theirs")
    [path] = asyncio.run(fetch_files(ledger, ["state/../../mine"], tmp_path / "files"))
    assert (path.parent, path.read_bytes()) == (tmp_path / "files", b"theirs")


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_state_that_nobody_can_read_is_no_empty_one(ledger: Ledger, *, is_gone: bool) -> None:
    for number in (1, 2, 3):
        add(ledger, f"run{number}", Seen("bad", number, code="size_differs", key=f"key{number}"))
        made(ledger)
    for name in names(ledger):
        if is_gone and name.startswith("generations/"):
            asyncio.run(ledger.store.delete(ObjectRef("ledger", f"here/state/{name}")))
        elif name.endswith(".json") and name.startswith("generations/"):
            damage(ledger, name, b"{")
    for call in (rows, found, made):
        with pytest.raises(LedgerError, match="can be read"):
            call(ledger)


@pytest.mark.parametrize("data", [b"", b"garbage", write_parquet(verdicts(WRONG))])
def test_a_delta_that_was_altered_is_named_to_all_who_read_the_state(ledger: Ledger, data: bytes) -> None:
    """By its digest, which its name ends with: whatever is in its place, also verdicts."""
    add(ledger, "run1", WRONG)
    add(ledger, "run2", RIGHT)
    [name] = [each for each in names(ledger) if "run2" in each]
    damage(ledger, name, data)
    for call in (rows, lambda it: rows(it, "findings"), made):
        with pytest.raises(LedgerError, match=r"s3://ledger/here.*run2.* cannot be read.* or remove it if"):
            call(ledger)


def test_a_delta_of_the_first_releases_has_no_digest_in_its_name_and_counts(ledger: Ledger) -> None:
    damage(ledger, "deltas/run1.parquet", write_parquet(verdicts(WRONG)))
    assert found(ledger) == [("wrong", "size_differs")]
    assert made(ledger).deltas == ("run1.parquet",)
    assert found(ledger) == [("wrong", "size_differs")]


@pytest.mark.parametrize("table", [pa.table({"key": ["a"]}), verdicts(WRONG, WRONG._replace(key=None))])  # type: ignore[arg-type]
def test_a_forged_delta_breaks_no_reader(ledger: Ledger, table: pa.Table) -> None:
    """Other columns are an error of the ledger, and a verdict about no key is about nothing."""
    add(ledger, "run1", WRONG)
    digest = hashlib.sha256(write_parquet(table)).hexdigest()[:16]
    damage(ledger, f"deltas/run2-{digest}.parquet", write_parquet(table))
    for view in ("state", "findings"):
        with contextlib.suppress(LedgerError):
            assert [row["finding"] for row in rows(ledger, view)] == ["size_differs"]


def test_what_others_put_beside_the_state_is_none_of_it(ledger: Ledger) -> None:
    add(ledger, "run1", WRONG)
    made(ledger)
    for name in (
        "deltas/",
        "deltas/a.txt",
        "deltas/old/run0-0123456789abcdef.parquet",
        "generations/",
        "generations/000002/",
    ):
        damage(ledger, name, b"")
    for name in (
        "generations/000009.json",
        "generations/000008-notes",
        "generations/\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2",
    ):
        damage(ledger, name)
    assert found(ledger) == [("wrong", "size_differs")]
    assert made(ledger).number == 10
    assert {"deltas/", "deltas/a.txt", "generations/000002/", "generations/000008-notes"} <= {*names(ledger)}


def test_many_deltas_become_a_generation_without_a_night(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_files, "DELTAS_MAX", 2)
    for number in (1, 2):
        add(ledger, f"run{number}", WRONG)
        asyncio.run(compact_if_due(ledger, "run"))
        assert len([name for name in names(ledger) if name == "generations/000001.json"]) == number - 1


def test_one_compacts_at_a_time_and_another_goes_on_after_a_quarter_of_an_hour(ledger: Ledger) -> None:
    add(ledger, "run1", WRONG)
    store: Any = ledger.store

    async def both() -> list[Generation]:
        return list(await asyncio.gather(compact(ledger, "one"), compact(ledger, "other")))

    assert sorted(each.number for each in asyncio.run(both())) == [0, 1]
    add(ledger, "run2", RIGHT)
    asyncio.run(
        store.put(ObjectRef("ledger", "here/state/claims/000002/000001.json"), b"{}", Attributes(), guard=ABSENT)
    )
    assert made(ledger).number == 1, "another one is at it"
    assert found(ledger) == [("wrong", "size_differs")]
    store._buckets.clock = lambda: time.time() + CLAIM_SECONDS + 1
    assert made(ledger).number == 2


def test_a_person_accepts_what_a_condition_names(ledger: Ledger) -> None:
    add(ledger, "run1", WRONG, DENIED, RIGHT)
    assert asyncio.run(accept(ledger, "finding = 'size_differs'", " ours  is right ", "ann")) == 1
    [row] = [row for row in rows(ledger, "findings") if row["accepted_by"]]
    assert (row["key"], row["accepted_by"], row["accepted_why"]) == ("wrong", "ann", "ours is right")
    made(ledger)
    assert asyncio.run(accept(ledger, "true", "nobody may read it", "bob")) == 1
    assert all(row["accepted_by"] for row in rows(ledger, "findings"))
    assert asyncio.run(accept(ledger, "true", "again", "bob")) == 0


@pytest.mark.parametrize(
    "where", ["nonsense", "true) UNION (SELECT 1", "1; DROP TABLE x", "read_text('/etc/passwd') = ''"]
)
def test_a_condition_is_nothing_else(ledger: Ledger, where: str) -> None:
    add(ledger, "run1", WRONG)
    with pytest.raises(UsageError):
        asyncio.run(accept(ledger, where, "why", "ann"))
    with pytest.raises(UsageError):
        asyncio.run(accept(ledger, "true", "  ", "ann"))
