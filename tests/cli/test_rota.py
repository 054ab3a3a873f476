"""Rotating samples: N complete runs take every slice, whatever runs between them and is interrupted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.cli.options import read_options
from jobs.cli.verify import VerifyCommand, next_slice, rota_of, verify
from jobs.core.model import Location
from jobs.core.run import RunSpec, RunState, Side
from jobs.core.sampling import Rota
from jobs.errors import LedgerError
from jobs.ledger.ledger import Ledger
from tests.doubles.examples import examples

DAY = 86_400.0


@dataclass
class Runs:
    """A ledger of verify runs."""

    specs: dict[str, RunSpec] = field(default_factory=dict)
    states: dict[str, RunState] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    async def run_ids(self) -> list[str]:
        return sorted(self.specs)

    async def spec(self, run_id: str) -> RunSpec:
        if run_id in self.lost:
            raise LedgerError(f"no run {run_id}")
        return self.specs[run_id]

    async def report(self, run_id: str) -> dict[str, Any] | None:
        return {"state": self.states[run_id]} if run_id in self.states else None

    def next(self, rota: Rota, of: int) -> int:
        return asyncio.run(next_slice(cast("Ledger", self), rota, of))

    def start(self, rota: Rota, of: int, state: RunState | None) -> int:
        """A run of the rota, which ends like that (None: it is killed). Returns its slice."""
        number, run_id = self.next(rota, of), f"{len(self.specs):06d}-verify-x"
        side = Side(Location("b"))
        options = {"rota": {"question": rota.question, "times": rota.times}, "sample": [number, of]}
        self.specs[run_id] = RunSpec(run_id, "verify", rota.asked_at, side, side, "m", options)
        if state is not None:
            self.states[run_id] = state
        return number


def rota(deep: bool = False, prefix: str = "", of: int = 3, at: float = 0.0, **ages: float) -> Rota:
    return Rota({"deep": deep, "prefix": prefix, "of": of}, {name: at - age for name, age in ages.items()}, at)


rotas = st.tuples(st.booleans(), st.sampled_from(["a/", "b/"]), st.integers(1, 4), st.sampled_from([None, 1, 30]))
states = st.sampled_from([RunState.COMPLETE, RunState.COMPLETE, RunState.INCOMPLETE, RunState.FAILED, None])


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.tuples(rotas, states), max_size=30), rotas)
def test_n_complete_runs_of_a_rota_cover_every_key_whatever_else_runs_or_is_interrupted(
    history: list[tuple[tuple[bool, str, int, int | None], RunState | None]],
    chosen: tuple[bool, str, int, int | None],
) -> None:
    runs, complete = Runs(), list[int]()
    endings = [*history, *(((chosen, RunState.COMPLETE),) * chosen[2])]
    for at, ((deep, prefix, of, days), state) in enumerate(endings):
        ages = {} if days is None else {"newer_than": days * DAY}  # `--newer-than 30d`, some minutes later each time
        number = runs.start(rota(deep, prefix, of, at * 300.0, **ages), of, state)
        if (deep, prefix, of, days) == chosen and state is RunState.COMPLETE:
            complete.append(number)
    for first in range(len(complete) - chosen[2] + 1):
        assert sorted(complete[first : first + chosen[2]]) == list(range(chosen[2]))


def test_a_run_that_nobody_can_read_any_more_keeps_its_slice_and_stops_no_rota() -> None:
    runs, one = Runs(), rota()
    assert [runs.start(one, 3, RunState.COMPLETE) for _ in range(2)] == [0, 1]
    runs.lost = {max(runs.specs)}
    assert [runs.start(one, 3, RunState.COMPLETE) for _ in range(3)] == [1, 2, 0]


def test_a_run_that_is_finished_later_does_not_set_the_rota_back() -> None:
    runs, one = Runs(), rota()
    assert [runs.start(one, 3, state) for state in (None, RunState.COMPLETE, RunState.COMPLETE)] == [0, 0, 1]
    runs.states["000000-verify-x"] = RunState.COMPLETE
    assert runs.next(one, 3) == 2


def test_what_somebody_else_wrote_into_the_ledger_is_no_rota() -> None:
    runs = Runs()
    side = Side(Location("b"))
    for options in ({"rota": True}, {"rota": {"question": 1}}, {"rota": {"question": {}, "times": {}}, "sample": 7}):
        run_id = f"{len(runs.specs)}-verify-x"
        runs.specs[run_id] = RunSpec(run_id, "verify", 0.0, side, side, "m", options)
        runs.states[run_id] = RunState.COMPLETE
    assert runs.next(rota(), 3) == 0


def test_the_reports_of_another_day_ask_the_same_question() -> None:
    """Else a rota of daily reports would take its first slice each day."""

    def asked(*arguments: str) -> Rota:
        options: list[VerifyCommand] = []
        command = click.Command(
            "verify",
            params=verify.params,
            callback=lambda **values: options.append(read_options(VerifyCommand, values)),
        )
        command.main(["--sample", "1/3", "--rotate", "--destination", "s3://copies", *arguments], standalone_mode=False)
        return rota_of(options[0], None, Side(Location("copies")), 3)

    def report(day: int) -> tuple[str, ...]:
        folder = f"2026-11-{day:02d}T01-00Z/manifest.json"
        return (
            "--manifest",
            f"s3://reports/source/daily/{folder}",
            "--source-checksums",
            f"s3://checksums/{day}/manifest.json",
        )

    assert asked(*report(1)).continues(asked(*report(2)))
    assert not asked(*report(1)).continues(asked(*report(1)[:2]))
    assert not asked("--manifest", "s3://reports/1.csv").continues(asked("--manifest", "s3://reports/2.csv"))
    assert not asked(*report(1)[:2]).continues(asked("--manifest", report(2)[1].replace("daily", "weekly")))
