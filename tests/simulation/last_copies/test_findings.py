"""How the last good copy went: the shortest scene of each way that the simulator found."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.enums import ArchiveFormat
from jobs.replicate.decision import Overwrite
from tests.simulation.copies.schedule import Fault, Kind, Put
from tests.simulation.engine.campaign import play
from tests.simulation.engine.peculiar_memory import twin_of
from tests.simulation.last_copies.schedule import Act, LastCopySchedule, World

V, B, W, R, C = Act.VERIFY, Act.VERIFY_BACK, Act.VERIFY_ROUND, Act.REPLICATE, Act.COMPACT
E, X, Z, T, Q = Act.EXPIRE, Act.EXPIRE_BACK, Act.EXPIRE_ROUND, Act.EXPIRE_BOTH, Act.EXPIRE_AT_ONCE
M, F, U = Act.MEDDLE, Act.FORGE, Act.UNDO
MARK, PUT, REMOVE, LIFECYCLE = 0, 8, 16, 24
"""Dice that pick what is done to a copy."""
ONE = (Put("a", 20, 7),)
TWO = (Put("a", 20, 7), Put("b/c", 40, 8))
PLAIN: dict[str, Any] = {"is_source_versioned": False, "is_destination_versioned": False}
ONE_BUCKET: dict[str, Any] = {"is_one_bucket": True, "by_manifest": True}


def scene(world: World, *acts: Act, pick: int = 0, **given: Any) -> LastCopySchedule:
    known: dict[str, Any] = {"source": ONE, "is_in_order": True, "default_checksum": "CRC64NVME"} | given
    return LastCopySchedule(
        seed=1,
        world=world,
        steps=(),
        acts=acts,
        picks=(pick,) * len(acts),
        pauses_seconds=(90.0,) * len(acts),
        **known,
    )


FINDINGS = {
    "both sides in one run": scene(World.MUTUAL, V, B, T, **ONE_BUCKET),
    "both sides in one run, without versions": scene(World.MUTUAL, V, B, T, **ONE_BUCKET, **PLAIN),
    "one side after the other, the second one with versions": scene(
        World.MUTUAL, V, B, E, E, X, X, is_source_versioned=False
    ),
    "one side is hidden, the other one too": scene(World.MUTUAL, V, B, E, X),
    "what is hidden is no copy": scene(World.MUTUAL, V, B, E, X, X, is_destination_versioned=False),
    "both sides at once": scene(World.MUTUAL, V, B, Q, **PLAIN),
    "both sides, one known by a second name": scene(World.MUTUAL, V, B, E, X, alias_of="destination"),
    "both sides in one run, by a second name": scene(World.MUTUAL, V, B, T, alias_of="source", **ONE_BUCKET),
    "three sides, one after the other": scene(World.CYCLE, V, B, W, E, X, Z, is_one_bucket=True),
    "three sides in one run": scene(World.CYCLE, V, B, W, T, **ONE_BUCKET),
    "a copy below a marker": scene(World.HIDDEN, R, M, E, pick=MARK),
    "a copy below other content": scene(World.HIDDEN, R, M, E, pick=PUT),
    "a copy that a lifecycle rule will remove": scene(World.HIDDEN, R, M, E, pick=LIFECYCLE),
    "an archive below a marker": scene(World.HIDDEN, C, M, E, pick=MARK),
    "an archive below other content": scene(World.HIDDEN, C, M, E, pick=PUT),
    "an archive that a lifecycle rule will remove": scene(World.HIDDEN, C, M, E, pick=LIFECYCLE),
    "an original that is hidden, then its copy": scene(World.HIDDEN, R, E, M, E, pick=MARK),
    "the same object by another name": scene(World.ALIAS, V, E, alias_of="source"),
    "the same object by another name, without versions": scene(World.ALIAS, V, E, alias_of="source", **PLAIN),
    "another content with the same CRC": scene(World.WEAK, V, E, source=(Put("a", 20, 7),)),
    "a null version below an equal one": scene(
        World.NULL, V, E, all_versions=True, is_source_versioned=False, second=ONE
    ),
    "a forged tombstone": scene(World.TOMBSTONE, R, E, F, U),
    "a forged run whose copies are on another server": scene(World.PLACE, V, F, E, by_manifest=True),
    "never, on a server that ignores it": scene(
        World.CONDITION, R, ignored=frozenset({"copy"}), overwrite=Overwrite.NEVER, pick=1, **PLAIN
    ),
    "a server that heeds a condition only where nothing is": scene(
        World.CONDITION, R, E, ignored=frozenset({"delete of what is there"}), strike="edit"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINDINGS)
def test_the_last_good_copy_stays(name: str):
    assert play(FINDINGS[name]).model.violations == []


def test_two_sides_that_are_known_by_second_names_do_not_go_at_once():
    schedule = scene(World.MUTUAL, V, B, Q, alias_of="both")
    assert play(schedule).model.violations == []


@pytest.mark.parametrize(
    "schedule",
    [
        scene(World.HONEST, R, E), scene(World.HONEST, C, E), scene(World.HONEST, V, E), scene(World.HONEST, R, E, E),
        scene(World.HONEST, C, E, E, source=TWO), scene(World.HONEST, R, E, **PLAIN),
        scene(World.HONEST, C, E, source=TWO, **PLAIN), scene(World.HONEST, R, E, by_manifest=True, source=TWO),
    ],
)  # fmt: skip
def test_what_is_proven_by_a_copy_that_is_read_still_goes(schedule: LastCopySchedule):
    course = play(schedule)
    assert course.model.violations == []
    assert course.model.branches["world nothing is odd: expired"] == len(schedule.source) * schedule.acts.count(E)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_an_adversary_finds_other_bytes_with_the_same_crc(algorithm: str):
    from jobs.s3.checksums import full_object

    data = b"twenty bytes or more"
    twin = twin_of(data, algorithm)
    assert twin is not None
    assert twin != data
    assert full_object(algorithm, twin) == full_object(algorithm, data)
    assert twin_of(b"few", algorithm) is None


def test_a_delete_that_comes_late_is_held_to_what_its_worker_had_looked_at() -> None:
    """The copy goes while the delete is on its way. The row is looked at again and kept. Then the delete comes."""
    late = LastCopySchedule(
        seed=40630,
        source=(Put("b/c", 33, 8059),),
        default_checksum=None,
        is_in_order=True,
        faults=(Fault(63, Kind.LATE, 958489),),
        rows_per_shard=4,
        in_flight=2,
        checkpoint_rows=1,
        kind=ArchiveFormat.TAR_ZST,
        world=World.HIDDEN,
        steps=(),
        acts=(R, E, M),
        picks=(13694483, 5011436, 15207352),
        pauses_seconds=(90.0, 5.0, 90.0),
        strike="hide",
        is_one_bucket=True,
        by_manifest=True,
    )
    model = play(late).model
    assert model.violations == []
    assert model.known_limits == {"others took a last copy away after it was looked at": 1}


def test_others_may_hide_an_archive_of_which_only_a_header_is_damaged():
    """Seed 161,774: its content was proven, and the model called it no copy when others hid it beside the delete."""
    schedule = LastCopySchedule(
        seed=161774, source=(Put("b/c", 33, 3222),), world=World.TOMBSTONE, steps=(), acts=(C, E), strike="hide",
        picks=(11274790, 13898810), pauses_seconds=(5.0, 90.0), is_source_versioned=False, is_in_order=True,
        default_checksum="CRC64NVME", kind=ArchiveFormat.TAR_ZST, checkpoint_rows=1, in_flight=2,
        faults=(Fault(43, Kind.FLIP, 12445120),),
    )  # fmt: skip
    model = play(schedule).model
    assert model.violations == []
    assert model.known_limits["others took a last copy away after it was looked at"] == 1


@pytest.mark.parametrize("acts", [(R, Act.EXPIRE_LATE), (V, Act.EXPIRE_LATE), (V, Act.EXPIRE_LATE, E)])
def test_an_original_stays_whose_copy_is_found_wrong_between_the_plan_and_the_deletes(acts: tuple[Act, ...]) -> None:
    """The other one, of which nothing was found, goes: it is hidden, then removed."""
    model = play(scene(World.LATER, *acts, source=TWO, queue_seconds=90.0)).model
    assert model.violations == []
    counts = {name.rpartition(": ")[2]: count for name, count in model.branches.items() if "after the plan" in name}
    assert counts["found wrong"] == 1
    assert model.branches[f"world {World.LATER.value}: found wrong: kept"] == 1
    assert counts["expired"] == len(acts) - 1
