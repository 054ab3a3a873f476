"""Night of a pair: reconcile, repair, replica, slice, deep, and one summary."""

from __future__ import annotations

import shlex
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from msgspec import structs

from jobs.errors import ExitCode
from jobs.nights.calendar import NIGHTS_REMEMBERED, Stage, due_after
from jobs.nights.documents import Claim, Emptied, Known, StageResult, Summary
from jobs.nights.pair_state import ask_state
from jobs.nights.stages import Stages
from jobs.nights.verdicts import is_well, next_steps, verdict
from jobs.policy.run_options import named_places, sides
from jobs.reports.document import iso_time

READ_DAYS = 360
"""How long a read of bytes counts where the policy asks for none."""
CHANGED_PLACES = "since the policy gave the pair other buckets or prefixes after this night had begun"


async def run_night(stages: Stages, *, now: float, margin_seconds: float | None) -> Summary:
    """Start or continue a night that has not ended, and return its summary.

    `now`: epoch seconds. `margin_seconds`: a difference is in flight if it is younger than a report
    less this. None: the default, which for a replica is the time that S3 may take. The summary of a
    night that cannot continue now is not in the ledger.
    """
    night, pair, verify, places = stages.night, stages.pair, stages.pair.verify, _places(stages)
    earlier = await night.earlier(NIGHTS_REMEMBERED)
    ours = Claim(
        night=night.night.isoformat(),
        began_at=now,
        margin_seconds=margin_seconds,
        slice=due_after(night.night, int(verify.rota), Stage.SLICE, earlier),
        deep=due_after(night.night, int(verify.deep), Stage.DEEP, earlier) if verify.deep else None,
        places=places,
    )
    claim, known, emptied = await night.write("/claim.json", ours), Known(), None
    stages = replace(stages, claim=claim)
    again = f"Check by the policy of now: sealift nightly --pair {pair.name} --night {claim.night} --again"
    results = [StageResult(stage=Stage.RECONCILE, refused=CHANGED_PLACES, advice=again)]
    if claim.places == places:  # else what was done so far says nothing of these
        results = [await stages.reconcile()]
        emptied = _find_emptied(stages, results[0], earlier)
        if emptied is None:
            async for result in _other_stages(stages, claim, results[0]):
                results.append(result)
                if not result.is_over:
                    break
        if results[-1].is_over:
            known = await _compact_and_ask(stages, claim, results[0])
    return await _end(stages, claim, results, known, emptied)


async def _other_stages(stages: Stages, claim: Claim, reconciled: StageResult) -> AsyncIterator[StageResult]:
    yield await stages.repair(reconciled)
    if stages.pair.replica is not None:
        yield await stages.replica()
    yield await stages.verify(Stage.SLICE, claim.slice, reconciled)
    if claim.deep is not None:
        yield await stages.verify(Stage.DEEP, claim.deep, reconciled)


async def _compact_and_ask(stages: Stages, claim: Claim, compared: StageResult) -> Known:
    """Compact the state, and read what it says of the pair."""
    from jobs.ledger.state_files import compact, service_name

    ledger, pair = stages.ledger, stages.pair
    copies = [sides(stages.policy, each)[1].location for each in stages.policy.pairs]
    await compact(ledger, stages.night.name, prefixes=copies)
    days = int(pair.verify.deep or READ_DAYS)
    source, hot = map(service_name, sides(stages.policy, pair))
    return await ask_state(ledger, pair, (source, hot), stages.scope, claim.began_at, days, compared)


async def _end(
    stages: Stages, claim: Claim, results: Sequence[StageResult], known: Known, emptied: Emptied | None
) -> Summary:
    """The summary, in the ledger if the night has ended. Its page is made from the one that came first.

    Exit code 3: the night is done, and something is left to people, or nothing was compared. Code 2
    would say that nothing was started. A night that stopped has its run's code.
    """
    from jobs.nights.page import write_page  # jinja2 loads here

    night, pair, is_over = stages.night, stages.pair, results[-1].is_over
    places = named_places(stages.policy, pair)
    summary = Summary(
        pair=str(pair.name),
        night=claim.night,
        source=places["source"],
        destination=places["destination"],
        state="complete" if is_over else "unfinished",
        left=max(known.left, emptied.objects if emptied else 0),
        exit_code=results[-1].exit_code,
        began_at=datetime.fromtimestamp(int(claim.began_at), UTC),
        finished_at=datetime.fromtimestamp(int(time.time()), UTC),
        stages=results,
        known=known,
        emptied=emptied,
        summary=night.uri(".json"),
        report_html=night.uri(".html") if is_over else None,
        ledger=str(night.ledger.location),
    )
    summary = structs.replace(summary, verdict=verdict(summary), next_steps=list(next_steps(summary)))
    if not is_over:
        return summary
    code = ExitCode.DONE if is_well(summary) else ExitCode.FINDINGS
    ended = await night.write(".json", structs.replace(summary, exit_code=int(code)))
    await write_page(night, ended)
    return ended


def _find_emptied(stages: Stages, stage: StageResult, earlier: Sequence[Summary]) -> Emptied | None:
    """The last night in which the source had objects, if it has none now.

    `earlier`: the latest first. The first one that compared decides. A night that found the source
    emptied passes that on, until objects are there again.
    """
    last = next((each for each in earlier if not each.stages[0].refused), None)
    if stage.source_objects or last is None:
        return None
    objects = last.stages[0].source_objects
    if last.emptied or not objects:
        return last.emptied
    # A delete that was mirrored hides a copy, and the version below it is still there.
    source, destination = sides(stages.policy, stages.pair)
    words = ["--source", str(destination.location), "--destination", str(source.location)]
    restore = shlex.join(["sealift", "restore", *words, "--as-of", iso_time(last.finished_at.timestamp())])
    return Emptied(last.night, objects, restore)


def _places(stages: Stages) -> list[str]:
    """Return the buckets and prefixes that a night is about."""
    pair, scope = stages.pair, stages.scope
    places = [str(side.location) for side in sides(stages.policy, pair)]
    return [*places, str(pair.replica and pair.replica.bucket), *sorted(scope.prefixes), "-", *sorted(scope.excluded)]
