"""Disproofs that nights carry on: copies proven wrong, until a later proof answers them. Pure.

A night compares everything, and verifies what it repaired and one slice of the keys. What only a
run that works on rows can see, later nights do not find again before the turn of that slice. So
each summary carries it on. Here a later verification of the whole slice answers it.
`jobs.nights.answers` looks for evidence about each of its objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jobs.core.display import shown
from jobs.core.outcome import GOOD, Status
from jobs.core.run import RunState
from jobs.core.sampling import Sample
from jobs.nights.calendar import Stage

FOUND = (Status.DIFFERENT, Status.DAMAGED)
"""The outcomes that prove a row wrong: its copy, or its source."""
_WHOLE = Sample(0, 1)


class Disproof(NamedTuple):
    """Copies that a stage of a night proved wrong.

    `found_at`: when that night ended, in ISO 8601. `rows`: how many. `sample`: the slice that they
    are in, JSON-ready. What was repaired may be in any: its slice is the whole.
    """

    night: str
    found_at: str
    stage: str
    run_id: str
    rows: int
    sample: list[int]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Disproof:
        """The disproof of a night's summary. Keys that a newer Sealift has added are ignored."""
        return cls(**{name: data[name] for name in cls._fields})


def disproofs_of(summary: Mapping[str, Any]) -> Iterator[Disproof]:
    """Yield those that a night found itself."""
    for stage in summary["stages"]:
        if stage["stage"] in (Stage.RECONCILE, Stage.REPLICA):  # their counts are of categories
            continue
        rows, sample = sum(stage["counts"].get(each, 0) for each in FOUND), stage.get("sample") or _WHOLE
        if rows and stage["run_id"]:
            yield Disproof(
                summary["night"], summary["finished_at"], stage["stage"], stage["run_id"], rows, list(sample)
            )


def is_as_deep(later: str, earlier: str) -> bool:
    """Return True if a stage looks at its rows as deep as another one: only one reads bytes."""
    return later == Stage.DEEP or earlier != Stage.DEEP


def is_answered(disproof: Disproof, stages: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if a later run judged the whole slice, as deep. It has findings of its own.

    | run of the later stage | its slice | as deep | its rows                   | answered |
    |------------------------|-----------|---------|----------------------------|----------|
    | complete               | same      | yes     | all proven, right or wrong | yes      |
    | complete               | same      | yes     | one unproven or changed    | no       |
    | complete               | same      | yes     | none                       | no       |
    | complete               | same      | no      | all proven, right or wrong | no       |
    | complete               | another   | yes     | all proven, right or wrong | no       |
    | incomplete             | same      | yes     | all proven, right or wrong | no       |
    """
    return any(
        stage["state"] == RunState.COMPLETE
        and stage.get("sample") == disproof.sample
        and is_as_deep(stage["stage"], disproof.stage)
        and _is_judged(stage["counts"])
        for stage in stages
    )


def _is_judged(counts: Mapping[str, int]) -> bool:
    statuses = {status for status, count in counts.items() if count}
    return bool(statuses) and not statuses - {*GOOD, *FOUND}


def open_disproofs(summaries: Sequence[Mapping[str, Any]], destination: str) -> list[Disproof]:
    """Return what the nights of a pair have found wrong and not proven since, the oldest first.

    `summaries`: in any order. Those of another `destination` than the pair's of now do not count.
    """
    found: dict[str, Disproof] = {}
    answered: set[str] = set()
    for summary in _by_end(summaries, destination):
        if "answered" in summary:
            answered |= set(summary["answered"])
            found |= {each["run_id"]: Disproof.from_dict(each) for each in summary["unanswered"]}
        else:
            found = {name: each for name, each in found.items() if not is_answered(each, summary["stages"])}
        found |= {each.run_id: each for each in disproofs_of(summary)}
    return [each for name, each in found.items() if name not in answered]


def answered_since(
    summaries: Sequence[Mapping[str, Any]], destination: str, unanswered: Iterable[Disproof]
) -> list[str]:
    """Return the ids of the runs that are answered: all that `summaries` name, but the `unanswered`.

    Only these leave the list. A night that ends beside another one has not read what it found.
    """
    read = _by_end(summaries, destination)
    known = {each.run_id for summary in read for each in disproofs_of(summary)}
    known |= {each["run_id"] for summary in read for each in summary.get("unanswered", ())}
    return sorted(known - {each.run_id for each in unanswered})


def _by_end(summaries: Sequence[Mapping[str, Any]], destination: str) -> list[Mapping[str, Any]]:
    chosen = [each for each in summaries if each.get("destination", destination) == destination]
    return sorted(chosen, key=lambda each: datetime.fromisoformat(each["finished_at"]))


def disproof_text(disproof: Disproof) -> str:
    """Return what was found, in a few words, without saying whether copy or original is wrong."""
    objects = "1 object" if disproof.rows == 1 else f"{disproof.rows:,} objects"
    return f"{objects} that {disproof.stage} found wrong on {disproof.night}"


def unanswered_text(disproofs: Sequence[Disproof]) -> str:
    """Return what nothing answered, as a sentence without its full stop."""
    is_one = sum(each.rows for each in disproofs) == 1
    return f"{' and '.join(map(disproof_text, disproofs))} {'was' if is_one else 'were'} not proven right since"


def orphan_step(copies: Sequence[str]) -> str:
    """Return what a person does about wrong copies whose original is gone."""
    first, others = shown(copies[0]), len(copies) - 1
    which = (
        f"{first} is wrong, and its original is gone"
        if not others
        else (f"{len(copies):,} copies are wrong, and their originals are gone, the first: {first}")
    )
    return f"Remove what nobody should restore: {which}"


def disproof_steps(pair: str, disproof: Disproof) -> list[str]:
    """Return what a person does: repair what was found, or verify that slice again."""
    again = f"sealift nightly --pair {pair} --night {disproof.night} --again"
    return [f"See what helps: sealift runs show {disproof.run_id}", f"Once mended, prove it: {again}"]
