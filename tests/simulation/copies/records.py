"""What the ledger may be told: files written once, plans with all rows, checkpoints and reports that add up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jobs.core.model import Location, ObjectVersion
from jobs.core.outcome import Outcome
from jobs.ledger.ledger import Checkpoint
from tests.simulation.copies import tables
from tests.simulation.copies.facts import GOOD, Facts, stand
from tests.simulation.copies.schedule import LEDGER, SOURCE
from tests.simulation.copies.truth import Truth
from tests.simulation.engine.processes import Process, Request


@dataclass(slots=True)
class Attempt:
    """What the model knows of one worker: rows that it found settled, got from the job, and wrote down."""

    settled: set[int] | None = None
    returned: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    at_work: int = 0
    has_begun: bool = False


class Records:
    """Checks what is written to the ledger. By run and shard: `shards` has the rows, `settled` those with outcomes."""

    def __init__(self, facts: Facts, check: Callable[[str, Outcome], None] | None = None):
        """`check`: whether an outcome of a run can be true."""
        self.facts, self._check = facts, check or Truth(facts).check
        self.shards: dict[tuple[str, int], set[int]] = {}
        self.settled: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.attempts: dict[Process, Attempt] = defaultdict(Attempt)

    def written(self, request: Request) -> None:
        run_id, _, name = request.key.removeprefix("x/runs/").partition("/")
        data: bytes = request.arguments[2]
        if len(self.facts.world.versions(LEDGER, request.key)) > 1:
            self.facts.violate("the ledger is written once", f"{request.process.name} wrote {name} again")
        if name == "spec.json":
            self.facts.specs[run_id] = msgspec.json.decode(data)
        elif name == "plan.json":
            self._planned(run_id, msgspec.json.decode(data))
        elif name.startswith("outcomes/"):
            self._checkpointed(request.process, run_id, name, data)
        elif name == "report.json":
            self._reported(run_id, msgspec.json.decode(data))

    def _planned(self, run_id: str, plan: dict[str, Any]) -> None:
        rows: list[ObjectVersion] = []
        for shard, summary in enumerate(plan["shards"]):
            there = self.facts.world.versions(LEDGER, f"x/runs/{run_id}/shards/{shard:05d}.parquet")
            if not there:
                self.facts.violate("the plan is written last", f"shard {shard} of {run_id} is not there yet")
                continue
            some = tables.read_slice(there[0].data)
            self.facts.demand(len(some) == summary["rows"], "accounted", f"shard {shard} has {len(some)} rows")
            self.shards[run_id, shard] = {row.row for row in some}
            rows += some
        self.facts.rows[run_id] = rows
        self.facts.demand(
            sorted(row.row for row in rows) == list(range(plan["rows"])),
            "accounted",
            f"the plan of {run_id} says {plan['rows']} rows, its shards have {sorted(row.row for row in rows)}",
        )
        if self.facts.specs[run_id]["manifest"] == "listing":
            self._check_listed(run_id)

    def _check_listed(self, run_id: str) -> None:
        """Whatever the source has, and nobody else has changed, has a row."""
        named = {row.key for row in self.facts.rows[run_id]}
        for key in self.facts.world.keys(SOURCE):
            there = self.facts.world.versions(SOURCE, key)
            is_listed = bool(there) and not there[-1].is_delete_marker and (SOURCE, key) not in self.facts.touches
            self.facts.demand(key in named or not is_listed, "a plan has every object", f"{run_id} lacks {key}")

    def _checkpointed(self, process: Process, run_id: str, name: str, data: bytes) -> None:
        shard, file = int(name.split("/")[1]), name.split("/")[2]
        outcomes, checkpoint = tables.read_outcomes(data), Checkpoint.parse(shard, file)
        rows = {outcome.row for outcome in outcomes}
        bad = sum(outcome.status not in GOOD for outcome in outcomes)
        self.facts.demand(
            (checkpoint.rows, checkpoint.bad_rows) == (len(outcomes), bad), "accounted", f"{file} says wrong numbers"
        )
        self.facts.demand(
            rows <= self.shards.get((run_id, shard), set()), "accounted", f"{file} has rows of another shard"
        )
        attempt = self.attempts[process]
        self.facts.demand(
            not rows & attempt.written and len(rows) == len(outcomes), "accounted", f"{process.name} wrote a row twice"
        )
        attempt.written |= rows
        self.settled[run_id, shard] |= rows
        self.facts.outcomes[run_id].append(outcomes)
        for outcome in outcomes:
            self.facts.branches[
                f"{self.facts.specs[run_id]['job']} {outcome.status} {outcome.evidence}: {_words(outcome)}"
            ] += 1
            self._check(run_id, outcome)

    def _reported(self, run_id: str, report: dict[str, Any]) -> None:
        self.facts.reports[run_id] = report
        rows = {row.row: row for row in self.facts.rows[run_id]}
        for count in range(len(self.facts.outcomes[run_id]), -1, -1):
            chosen = stand(self.facts.outcomes[run_id][:count])
            tally = dict(sorted(Counter(str(each.status) for each in chosen.values()).items()))
            if tally == report["outcomes"]:
                break
        else:
            self.facts.violate("accounted", f"{run_id}'s report says {report['outcomes']}, no state of the ledger does")
            return
        self.facts.demand(
            set(chosen) == set(rows) and report["accounted"] == report["rows"] == len(rows),
            "accounted",
            f"{run_id} is reported complete with rows {sorted(chosen)} of {len(rows)}",
        )
        bad = {each.row for each in chosen.values() if each.status not in GOOD}
        self.facts.demand(
            report["failures"] == len(bad), "accounted", f"{run_id} has {len(bad)} bad rows, its report says not"
        )
        stem = Location.parse(report["failures_manifest"] or "s3://ledger/").key.removesuffix(".parquet")
        files = [self.facts.world.versions(LEDGER, f"{stem}.{kind}") for kind in ("parquet", "csv")]
        if bad:
            named = {(row.key, row.version_id) for row in tables.read_failures(files[0][0].data)} if files[0] else set()
            wanted = {(rows[row].key, rows[row].version_id) for row in bad if row in rows}
            self.facts.demand(
                named == wanted, "the failures are the report's", f"{run_id}: it names {named}, bad are {wanted}"
            )
            self.facts.demand(files[1], "the failures are there as CSV", run_id)


def _words(outcome: Outcome) -> str:
    return " ".join([word for word in outcome.reason.split() if "://" not in word][:4])
