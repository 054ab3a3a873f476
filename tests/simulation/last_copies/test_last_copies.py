"""The last good copy under thousands of schedules, each of whose worlds is reached and in each of which things go."""

from __future__ import annotations

from collections import Counter

from tests.simulation.engine.campaign import play
from tests.simulation.last_copies.books import LastCopies, name_of
from tests.simulation.last_copies.course import LastCopyCourse
from tests.simulation.last_copies.schedule import Act, World, make_last_copy_schedule
from tests.simulation.last_copies.test_findings import scene

SEEDS = 600


def test_each_world_is_reached_often_and_its_expiries_delete():
    """A campaign in which nothing is ever deleted proves nothing."""
    counts: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        model = play(make_last_copy_schedule(seed)).model
        assert model.violations == [], seed
        counts.update(model.branches)
    for world in World:
        assert counts[f"world {world.value}: played"] >= SEEDS // 40, (world, counts)
    deleted = {
        world: counts[f"world {world.value}: hidden"] + counts[f"world {world.value}: removed"] for world in World
    }
    for world in (
        World.HONEST,
        World.MUTUAL,
        World.CYCLE,
        World.HIDDEN,
        World.NULL,
        World.TOMBSTONE,
        World.MEMBER,
        World.LATER,
    ):
        assert deleted[world] >= SEEDS // 40, (world, deleted)
    for world in (World.ALIAS, World.WEAK, World.CONDITION):
        assert deleted[world] > 0, (world, deleted)
    assert sum(count for name, count in counts.items() if name.endswith(": kept")) > SEEDS // 10
    assert counts[f"world {World.LATER.value}: found wrong: kept"] > SEEDS // 100


def test_what_lies_below_a_marker_or_will_expire_or_has_another_name_is_not_readable():
    course = LastCopyCourse(scene(World.ALIAS, Act.VERIFY, alias_of="source"))
    course._fill()
    copies: LastCopies = course.model.copies
    [version] = course.world.versions("source", "a")
    assert copies.readable("a", version.data)
    assert len(copies._homes()) == 2  # the alias is no third bucket, nor is the ledger
    course.memory.let_expire(version)
    assert not copies.readable("a", version.data)
    course.memory.expiring.clear()
    course.doers.mark("source", "a")
    assert not copies.readable("a", version.data)
    assert name_of("copy/a") == name_of("x/a") == name_of("a")
