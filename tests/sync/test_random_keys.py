"""Random histories of both sides, writers, kills between any two requests, late and doubled events."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from jobs.core.model import ObjectRef
from jobs.s3.sessions import open_store
from tests.doubles.examples import examples
from tests.doubles.served_store import ServedStore
from tests.doubles.servers import Server
from tests.sync.key_world import KeyWorld, Moment, run
from tests.sync.scene import make_store

bodies = st.sampled_from([b"aaa", b"bbb", b"ccc", b"longer"])
metadata = st.sampled_from([{}, {}, {"colour": "red"}])
places = st.integers(0, 5)
moments = st.integers(1, 12)
others = st.sampled_from(["put", "put same", "mark", "remove", "foreign", "foreign mark", "second"])


class Keys(RuleBasedStateMachine):
    def __init__(self, make: Callable[..., dict[str, Any]]):
        super().__init__()
        self.make = make

    @initialize(
        is_versioned=st.sampled_from([True, True, False]),
        keeps_versions=st.sampled_from([True, True, True, False]),
        all_versions=st.booleans(),
        mirrors_deletes=st.booleans(),
        overwrite=st.sampled_from(["older", "older", "always", "never"]),
        storage_class=st.sampled_from(["keep", "STANDARD"]),
        default_checksum=st.sampled_from(["CRC64NVME", None]),
        is_opaque=st.sampled_from([False, False, True]),
        step_seconds=st.sampled_from([10.0, 0.2]),
        parts=st.sampled_from([0, 0, 4]),
    )
    def begin(self, all_versions: bool, is_versioned: bool, keeps_versions: bool, parts: int, **world: Any) -> None:
        names = ("mirrors_deletes", "overwrite", "storage_class")
        options = {name: world.pop(name) for name in names} | {"all_versions": all_versions and keeps_versions}
        if parts:
            options["multipart_threshold_bytes"] = parts
        made = self.make(is_versioned, keeps_versions, **world)
        self.world = KeyWorld(options, is_versioned, keeps_versions, **made)

    @rule(body=bodies, metadata=metadata)
    def put(self, body: bytes, metadata: dict[str, str]) -> None:
        run(self.world.put(body, metadata))

    @rule()
    def mark(self) -> None:
        run(self.world.mark())

    @rule(place=places)
    def remove(self, place: int) -> None:
        run(self.world.remove(place))

    @rule(body=bodies)
    def put_foreign(self, body: bytes) -> None:
        run(self.world.put_foreign(body))

    @rule()
    def mark_foreign(self) -> None:
        run(self.world.mark_foreign())

    @precondition(lambda self: self.world.pending)
    @rule(pick=places)
    def deliver(self, pick: int) -> None:
        run(self.world.deliver(pick))

    @precondition(lambda self: self.world.done)
    @rule(pick=places)
    def deliver_again(self, pick: int) -> None:
        event = self.world.done[pick % len(self.world.done)]
        run(self.world.handle([event] if event is not None else []))

    @precondition(lambda self: self.world.pending)
    @rule(pick=places, left=moments, is_after=st.booleans())
    def deliver_and_die(self, pick: int, left: int, is_after: bool) -> None:
        run(self.world.deliver(pick, Moment(left, is_after=is_after, kills=True)))

    @precondition(lambda self: self.world.pending)
    @rule(pick=places, left=moments, what=others, body=bodies, place=places)
    def deliver_beside(self, pick: int, left: int, what: str, body: bytes, place: int) -> None:
        world = self.world

        async def second() -> None:
            other = world.pending[place % len(world.pending)]
            await world.handle([other] if other is not None else [])

        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "put": lambda: world.put(body, {}),
            "put same": lambda: world.put(world.source[-1].data if world.source else body, {}),
            "mark": world.mark,
            "remove": lambda: world.remove(place),
            "foreign": lambda: world.put_foreign(body),
            "foreign mark": world.mark_foreign,
            "second": second,
        }
        run(world.deliver(pick, Moment(left, acts[what])))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            run(self.world.check())


def in_memory(is_versioned: bool, keeps_versions: bool, is_opaque: bool, **store: Any) -> dict[str, Any]:
    made = make_store(versioned=is_versioned, kept=keeps_versions, **store)
    return {"store": made, "is_opaque": is_opaque}


def play(count: int, make: Callable[..., dict[str, Any]] = in_memory) -> None:
    how = settings(max_examples=count, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(partial(Keys, make), settings=how)  # type: ignore[arg-type]  # a factory will do


def test_any_history_ends_as_its_source_or_with_a_code() -> None:
    play(examples(60))


@pytest.mark.slow
@pytest.mark.hypothesis
def test_any_history_ends_as_its_source_or_with_a_code_at_length() -> None:
    play(examples(10_000))


@pytest.mark.slow
def test_any_history_on_a_real_server_ends_as_its_source_or_with_a_code(seaweed: Server) -> None:
    """Each has a key of its own there."""
    client, buckets = seaweed.client(), {keeps: (f"sync-source-{keeps}", f"sync-copies-{keeps}") for keeps in (0, 1)}
    for bucket in (*buckets[0], *buckets[1]):
        client.create_bucket(Bucket=bucket)
    for bucket in buckets[True]:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with mock.patch.dict(os.environ, seaweed.environment()):
        server = open_store(seaweed.endpoint, None, None, max_in_flight=8)

    def make(is_versioned: bool, keeps_versions: bool, **_: Any) -> dict[str, Any]:
        key = uuid.uuid4().hex
        here = ObjectRef(buckets[is_versioned][0], f"in/{key}")
        there = ObjectRef(buckets[keeps_versions][1], f"out/{key}")
        return {"store": ServedStore(server, [here[:2], there[:2]]), "here": here, "there": there}

    play(200, make)
    run(server.close())
