"""No run writes to a server that ignores conditions, unless the user agreed, and its spec says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import worker
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import WITHOUT_CONDITIONS, Plan, RunSpec, RunState, ShardSummary, Side
from jobs.errors import ConfigError, Denied, PreconditionFailed, Unavailable
from jobs.reports.document import IGNORED_CONDITIONS, summarize
from jobs.runs import launch
from jobs.runs.request import Planned
from jobs.s3 import retries
from jobs.s3.condition_trial import OF_COPIES
from jobs.s3.operations import Operation
from jobs.s3.store import ABSENT, CopySettings
from tests.doubles.hooks import hang, ignore_guards, refuse
from tests.doubles.memory_store import MemoryStore

DESTINATION = Side(Location("hot", "copies/"))


DENY = refuse(Denied("PutObject", "k", "AccessDenied", "no", 403))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What is reached instead of any side: a server whose conditions nothing documents."""
    store = MemoryStore()
    store.heeds_conditions = False
    store.create_bucket("hot")
    for module in (launch, worker):
        monkeypatch.setattr(module, "open_side", lambda *_, **__: store)
    return store


def spec_of(**options: Any) -> RunSpec:
    return RunSpec("r", "replicate", 0.0, Side(Location("docs")), DESTINATION, "", options)


def tried(*, is_agreed: bool = False, operations: Sequence[Operation] = OF_COPIES, rows: int = 1) -> RunSpec:
    spec = spec_of(**({WITHOUT_CONDITIONS: True} if is_agreed else {}))
    planned = Planned(spec, Plan(rows, 0, (ShardSummary(rows, 0),)), Path())

    async def play() -> RunSpec:
        async with AsyncExitStack() as behind:
            return (await launch.try_conditions(planned, operations, behind)).spec

    return asyncio.run(play())


def report(spec: RunSpec) -> dict[str, Any]:
    return summarize(spec, Plan(0, 0, ()), RunState.COMPLETE, {}, 0, 0.0)


@pytest.mark.parametrize("is_agreed", [True, False])
def test_a_server_that_heeds_conditions_needs_no_agreement(server: MemoryStore, is_agreed: bool) -> None:
    spec = tried(is_agreed=is_agreed)
    assert spec.options[WITHOUT_CONDITIONS] == []
    assert IGNORED_CONDITIONS not in report(spec)
    _, destination = worker.open_sides(spec, 4)
    assert destination is server


def test_a_server_that_ignores_conditions_is_refused_by_the_names_of_the_operations(server: MemoryStore) -> None:
    server.hook(copy=ignore_guards)
    with pytest.raises(ConfigError, match=r"ignores conditions on CopyObject, .* --unguarded"):
        tried()


def test_what_the_user_agreed_to_is_in_spec_and_report_and_the_worker_looks_first(server: MemoryStore) -> None:
    server.hook(copy=ignore_guards)
    spec = tried(is_agreed=True)
    assert spec.options[WITHOUT_CONDITIONS] == report(spec)[IGNORED_CONDITIONS] == ["CopyObject"]
    _, destination = worker.open_sides(spec, 4)

    async def copy_twice() -> None:
        await server.put(ObjectRef("hot", "s"), b"s", Attributes(), guard=ABSENT)
        for _ in range(2):
            await destination.copy(ObjectRef("hot", "s"), None, ObjectRef("hot", "k"), CopySettings(), guard=ABSENT)

    with pytest.raises(PreconditionFailed):
        asyncio.run(copy_twice())


def test_where_nothing_can_be_tried_only_the_users_word_helps(server: MemoryStore) -> None:
    server.hook(put=DENY)
    with pytest.raises(ConfigError, match=r"permit .* s3://hot/copies/\.sealift/trial-\*"):
        tried()
    assert tried(is_agreed=True).options[WITHOUT_CONDITIONS] == list(OF_COPIES)


@pytest.mark.parametrize("which", ["copy", "every"])
def test_a_server_that_never_answers_a_trial_ends_the_command(
    server: MemoryStore, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Nor is it waited for while what the trial has made is removed."""

    server.hook(**{which: hang})
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(Unavailable):
        tried()


def test_nothing_is_tried_for_a_run_that_writes_nothing(server: MemoryStore) -> None:
    server.hook(every=DENY)
    assert tried(operations=()) == tried(rows=0) == spec_of()


@pytest.mark.parametrize("options", [{}, {WITHOUT_CONDITIONS: True}])
def test_a_worker_refuses_a_run_whose_plan_tried_nothing(server: MemoryStore, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="plan again"):
        worker.open_sides(spec_of(**options), 4)
    server.heeds_conditions = True
    worker.open_sides(spec_of(**options), 4)
