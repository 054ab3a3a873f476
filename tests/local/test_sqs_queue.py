"""Queues in memory keep what they were given until somebody has it and says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.local.sqs_queue import Counts, MemoryQueue

HIDDEN = 30.0
_MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 20)),
        st.tuples(st.just("receive"), st.integers(1, 10)),
        st.tuples(st.just("delete"), st.integers(0, 50)),
        st.tuples(st.just("hide"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=60,
)


def pair(max_receives: int = 3) -> tuple[MemoryQueue, MemoryQueue]:
    dead = MemoryQueue("dead")
    return MemoryQueue("queue", hidden_seconds=HIDDEN, max_receives=max_receives, dead=dead), dead


def test_a_received_message_is_hidden_and_comes_again_until_it_is_deleted_by_its_latest_receipt() -> None:
    queue, _ = pair()
    queue.send("body", 0.0)
    (first,) = queue.receive(10, 1.0)
    receipt = first.receipt
    assert queue.receive(10, 30.9) == []
    assert queue.counts(30.9) == Counts(0, 1, 0)
    (again,) = queue.receive(10, 31.0)
    assert (again.body, again.received_count, again.first_received_at) == ("body", 2, 1.0)
    queue.delete(receipt)
    assert sum(queue.counts(31.0)) == 1, "an older receipt deletes nothing"
    queue.delete(again.receipt)
    assert queue.counts(31.0) == Counts(0, 0, 0)


def test_what_comes_too_often_is_a_dead_letter_and_blocks_nobody() -> None:
    queue, dead = pair(max_receives=2)
    queue.send("poison", 0.0)
    for at in (0.0, 30.0):
        assert [each.body for each in queue.receive(10, at)] == ["poison"]
    queue.send("fine", 40.0)
    assert [each.body for each in queue.receive(10, 60.0)] == ["fine"]
    assert dead.counts(60.0) == Counts(1, 0, 0)
    assert dead.move_to(queue, 61.0) == 1
    assert [(each.body, each.received_count) for each in queue.receive(10, 61.0)] == [("poison", 1)]


def test_a_delayed_message_waits_and_one_can_be_shown_at_once() -> None:
    queue, _ = pair()
    queue.send("late", 0.0, delay_seconds=5.0)
    assert (queue.receive(1, 4.9), queue.counts(4.9)) == ([], Counts(0, 0, 1))
    (late,) = queue.receive(1, 5.0)
    queue.hide(late.receipt, 6.0, 0.0)
    assert queue.next_visible_at() == 6.0
    assert len(queue.receive(1, 6.0)) == 1


@given(_MOVES)
def test_no_message_is_lost_held_twice_or_there_again_after_its_deletion(moves: list[tuple[str, int]]) -> None:
    queue, dead = pair()
    now, sent, deleted = 0.0, set[str](), set[str]()
    held: dict[str, tuple[str, float]] = {}  # receipt → message, until when it is hidden
    for name, number in moves:
        if name == "send":
            sent.add(queue.send(str(number), now, float(number % 3)).message_id)
        elif name == "receive":
            found = queue.receive(number, now)
            ids = [each.message_id for each in found]
            assert len(ids) == len(set(ids)) <= number
            assert not deleted & set(ids)
            assert not {message for message, until in held.values() if until > now} & set(ids)
            held = {key: each for key, each in held.items() if each[0] not in ids}
            held |= {each.receipt: (each.message_id, now + HIDDEN) for each in found}
        elif held and name in ("delete", "hide"):
            receipt = sorted(held)[number % len(held)]
            message, _ = held[receipt]
            is_dead = message in dead._messages
            if name == "hide":
                queue.hide(receipt, now, float(number))
                held[receipt] = (message, now + number)
            else:
                queue.delete(receipt)
                del held[receipt]
                if not is_dead:
                    deleted.add(message)
        else:
            now += number
        assert sum(queue.counts(now)) + sum(dead.counts(now)) == len(sent) - len(deleted)
