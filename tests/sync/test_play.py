"""`jobs.sync.table`, played: each small history of both sides.

The judge sees the buckets alone (`faults` in `world.py`). `tests/simulation/one_key.py` plays two workers and crashes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from jobs.sync.table import Overwrite, Rules
from tests.sync.world import Version, World, faults, run

RULES = [
    Rules(all_versions, mirrors, overwrite, keeps_versions)
    for all_versions, keeps_versions in ((True, True), (False, True), (False, False))
    for mirrors in (False, True)
    for overwrite in Overwrite
]
RULES += [rules._replace(is_replay=True) for rules in RULES if not rules.mirrors_deletes and rules.keeps_versions]


def histories(contents: str, longest: int) -> Iterator[str]:
    for length in range(longest + 1):
        yield from map("".join, itertools.product(contents, repeat=length))


def made(contents: str, first_id: int, dates: Sequence[int]) -> tuple[Version, ...]:
    """`A`, `B` have MD5 ETags, `o`, `z` opaque ones; `a` is an archived `A`, `z` is archived, too."""
    return tuple(
        Version(first_id + place, content.replace("a", "A"), at, is_readable=content not in "az")
        for place, (content, at) in enumerate(zip(contents, dates, strict=False))
    )


def worlds(
    source_contents: str, copy_contents: str, longest: int, dates: Sequence[Sequence[int]], keeps: bool
) -> Iterator[World]:
    for source, copies, copied_at in itertools.product(
        histories(source_contents, longest), histories(copy_contents, longest if keeps else 1), dates
    ):
        yield World(made(source, 1, (2, 4, 6)), made(copies, 50, copied_at), keeps)


AFTER, BETWEEN, EQUAL = (7, 8, 9), (3, 5, 7), (2, 4, 6)


def judge_alone(world: World, rules: Rules) -> None:
    """One run ends rightly, and a second one writes nothing."""
    after, ended = run(world, rules)
    wrong = [*faults(after, ended, rules), *covered(world, after, rules)]
    again, _ = run(after, rules)
    if again != after and any(each.content == "z" for each in (*world.source, *world.copies)):
        after, (again, _) = again, run(again, rules)  # the first look took an unprovable copy for another version's
    if again != after:
        wrong.append(f"the second look wrote {again.copies[len(after.copies) :]}")
    made_of = [each.of for each in after.copies if each.of]
    if not world.copies and all(each.is_readable for each in world.source) and made_of != sorted(set(made_of)):
        wrong.append(f"out of order, or twice: {made_of}")
    assert not wrong, (world, rules, after.copies, ended, wrong)


def covered(before: World, after: World, rules: Rules) -> Iterator[str]:
    """`never` covers no object that is of no source version, and none at all where one copy is kept up to date."""
    top, contents = before.copies[-1] if before.copies else None, [each.content for each in before.source]
    if rules.overwrite is Overwrite.NEVER and top is not None and not top.is_marker and after.copies[-1] != top:
        is_unknown = top.content not in contents and "z" not in contents and top.is_readable
        if is_unknown or (not rules.all_versions and not rules.mirrors_deletes):
            yield f"{top} was covered by {after.copies[-1]}"


def name(rules: Rules) -> str:
    words = {"all": rules.all_versions, "mirror": rules.mirrors_deletes, "unkept": not rules.keeps_versions}
    words["replay"] = rules.is_replay
    return "-".join([rules.overwrite, *(word for word, is_so in words.items() if is_so)])


@pytest.mark.parametrize("rules", RULES, ids=name)
def test_each_history_with_archived_and_opaque_versions_ends_rightly(rules):
    for world in worlds("AaozM", "AaozM", 2, (AFTER,), rules.keeps_versions):
        judge_alone(world, rules)


@pytest.mark.parametrize("rules", RULES, ids=name)
def test_each_small_history_ends_rightly(rules):
    for world in worlds("AMB", "ABMX", 2, (AFTER, BETWEEN, EQUAL), rules.keeps_versions):
        judge_alone(world, rules)


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES, ids=name)
def test_each_history_of_three_ends_rightly(rules):
    for world in worlds("AMB", "ABMX", 3, (BETWEEN,), rules.keeps_versions):
        judge_alone(world, rules)
