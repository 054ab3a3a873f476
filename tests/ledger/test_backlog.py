"""What is taken of a backlog: exact whatever waits, and no larger than what a day brings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Attributes, Listed, Location, ObjectRef
from jobs.errors import LedgerError
from jobs.ledger.backlog import SETTLED_SECONDS, Manifest, Taken, read_backlog
from jobs.s3.store import ABSENT
from tests.doubles.memory_store import MemoryStore, Request

PLACE = Location("ledger", "l/")
NOW = 1_700_000_000.0
OWN = "s3://ledger/l/manifests/pair=p/000001-0123456789ab.csv"


def name_of(at: float, number: int) -> str:
    return f"{int(at * 1000):013d}-1-10-{number:06x}.json"


def listed(name: str, at: float) -> Listed:
    return Listed(name, None, True, False, 2, "e", at, "STANDARD")


async def publish(store: MemoryStore, taken: Taken) -> None:
    """Write a manifest that has taken this."""
    body = msgspec.json.encode(Manifest("p", 1, OWN, 1, 1, 1.0, taken.before, sorted(taken.names)))
    await store.put(ObjectRef("ledger", "l/manifests/pair=p/000001.json"), body, Attributes(), guard=ABSENT)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add late", "take", "expire", "stray"]),
        st.integers(0, 40) | st.just(SETTLED_SECONDS // 3600),  # hours until then
        st.integers(0, 2**8 - 1),  # which of the waiting ones
        st.sampled_from([0.0, -50 * 86_400.0, 50 * 86_400.0]),  # how wrong the clock of the one who takes is
    ),
    max_size=30,
)


@given(STEPS)
def test_an_object_is_taken_exactly_if_a_manifest_took_it(steps: list[tuple[str, int, int, float]]) -> None:
    taken, at = Taken(), NOW
    present, done = dict[str, float](), set[str]()
    for number, (what, hours, pick, wrong) in enumerate(steps):
        at += hours * 3600.0
        if what == "add":
            present[name_of(at, number)] = at
        elif what == "add late":  # as late as a function's time allows, behind what others have added since
            present[name_of(at - 900, number)] = at
        elif what == "stray":
            present[f"{'0' if pick % 2 else 'x'}{number}"] = at
        elif what == "expire":
            present = {name: since for name, since in present.items() if at - since < 90 * 86_400}
        else:
            seen = [listed(name, since) for name, since in sorted(present.items()) if name > taken.start]
            waiting = [each.key for each in seen if not taken.has(each.key) and "-" in each.key]
            own = [name for place, name in enumerate(waiting) if pick >> place % 8 & 1]
            taken = taken.with_these(own, seen, at + wrong)
            done |= set(own)
        stamped = {name for name in present if "-" in name}
        assert {name for name in stamped if taken.has(name)} == done & stamped
    waits = min((name for name in present if name not in done and "-" in name), default="9")
    assert all(name > min(waits, taken.start) for name in taken.names)


def test_what_settled_is_not_named_any_more() -> None:
    names = [name_of(NOW + hours * 3600, hours) for hours in range(72)]
    present = [listed(name, int(name[:13]) / 1000) for name in names]
    taken = Taken().with_these(names, present, NOW + 72 * 3600)
    assert 24 <= len(taken.names) <= 25
    assert all(map(taken.has, names))


async def test_a_wait_behind_more_objects_than_are_listed_is_seen() -> None:
    """`status` lists twenty pages. It said nothing of what waits where more objects than that were taken before."""
    requests = list[str]()

    async def short_page(request: Request) -> Any:
        requests.append(request.arguments["prefix"])
        request.arguments["max_keys"] = 10
        return await request()

    store = MemoryStore(on={"list_objects": short_page})
    store.create_bucket("ledger", versioned=False)
    names = [name_of(NOW + number * 60, number) for number in range(300)]
    for name in [*names, last := name_of(NOW + 10 * 86_400, 300)]:
        await store.put(ObjectRef("ledger", f"l/backlog/pair=p/{name}"), b"{}", Attributes(), guard=ABSENT)
    present = [listed(name, int(name[:13]) / 1000) for name in [*names, last]]
    taken = Taken().with_these(names, present, NOW + 10 * 86_400)
    await publish(store, taken)
    requests.clear()
    found = await read_backlog(store, PLACE, "p")
    assert ([each.name for each in found], len(requests)) == ([last], 2)


async def test_an_altered_number_hides_nothing_that_is_yet_to_come() -> None:
    store = MemoryStore()
    store.create_bucket("ledger", versioned=False)
    await publish(store, Taken(9_999_999_999_999))
    with pytest.raises(LedgerError, match="yet to come: the ledger was altered"):
        await read_backlog(store, PLACE, "p")
