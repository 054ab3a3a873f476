"""Poison: a message that S3 never sends fails by itself, and every other message is handled as if it were not there."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from jobs.errors import Rejected, UsageError
from jobs.ledger.journal import from_document
from scheduler import backlog
from scheduler.backlog import BacklogRow
from tests.doubles.examples import examples
from tests.doubles.hooks import refuse
from tests.scheduler.event_samples import eventbridge, from_sns, message
from tests.scheduler.scene import Scene

DEEP = "[" * 900 + "]" * 900
OBJECT = ("Records", 0, "s3", "object")
SPELLED: list[tuple[tuple[str | int, ...], str]] = [
    ((*OBJECT, "key"), '"%FF"'),
    ((*OBJECT, "key"), '"\\ud800"'),
    ((*OBJECT, "key"), json.dumps("ä" * 513)),  # 1,026 bytes
    ((*OBJECT, "key"), "5"),
    ((*OBJECT, "key"), DEEP),
    ((*OBJECT, "sequencer"), "55"),
    ((*OBJECT, "sequencer"), '"../../x"'),
    ((*OBJECT, "sequencer"), json.dumps("A" * 1_000_000)),
    *(((*OBJECT, "size"), size) for size in ("1e999", "NaN", "9" * 400, "9" * 5_000, "-1", DEEP)),
    *(((*OBJECT, "versionId"), name) for name in (DEEP, '"v\\n,x"', '"../v"', json.dumps("v" * 2_000), "[]")),
    ((*OBJECT, "eTag"), json.dumps('"\r\nx: y"')),
    *((("Records", 0, "s3", "bucket", "name"), name) for name in ('"a\\nb"', '"\\udc80"', '{"name": "source"}')),
    *((("Records", 0, "eventTime"), time) for time in ('"9999-12-31T23:59:59-23:59"', '"0001-01-01T00:00:00"', "1.5")),
    (("Records", 0, "eventVersion"), json.dumps("\ud800" * 100_000)),
    (("Records",), '{"Records": []}'),
    (("Records",), "[" * 2_000 + "]" * 2_000),
]
"""Where a message holds what S3 never sends, as JSON may spell it."""
OTHERS: list[Any] = [
    " " * 1_000_000,
    None,
    {"Type": "Notification", "Message": {"Records": []}},
    from_sns({"Records": [{"s3": {"object": {"sequencer": 5}}}]}),
    eventbridge("source", "poison", sequencer=5),
    eventbridge("source", "\udfff"),
    eventbridge("source", "k") | {"detail": ["version"]},
]


def _spelled(event: dict[str, Any], path: tuple[Any, ...], text: str) -> str:
    owner: Any = event
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = "@here"
    return json.dumps(event).replace('"@here"', text)


def _with_body(body: Any, message_id: str) -> dict[str, Any]:
    return message("", message_id) | {"body": body if isinstance(body, str) or body is None else json.dumps(body)}


def check_ledger(scene: Scene) -> None:
    """Each line of the journal and of the backlog can be read by everybody."""
    for line in scene.lines("journal/"):
        from_document(line)
        json.dumps(line, ensure_ascii=False).encode()
    scene.runtime.run(_publish(scene))


async def _publish(scene: Scene) -> None:
    waiting = await backlog.waiting(scene.runtime, "pair")
    published = await backlog.publish(scene.runtime, "pair", waiting, "due") if waiting else None
    assert (published.rows if published else 0) <= sum(each.rows for each in waiting)


def test_malformed_messages_fail_alone(scene: Scene) -> None:
    before, twin, after = scene.put("before"), scene.put("poison"), scene.put("after")
    poison = [*(_spelled(copy.deepcopy(twin), *each) for each in SPELLED), *OTHERS]
    messages = [_with_body(each, f"poison {number}") for number, each in enumerate(poison)]
    batch = [message(before, "before"), *messages, message(twin, "twin"), message(after, "after")]
    assert set(scene.invoke({"Records": batch})) == {each["messageId"] for each in messages}
    assert [scene.copy_of(key) for key in ("before", "poison", "after")] == [b"body"] * 3
    assert Counter(status for _, status in scene.endings()) == {"copied": 3, "failed": len(poison)}
    check_ledger(scene)


ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from([10**400, "%FF", "\ud800", "null", "", "a\nb", {}, [], [{}], "9" * 5_000, "../x", "x" * 3_000]),
    st.sampled_from(["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectRestore:Completed"]),
)


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(deeper for name, value in inner for deeper in _paths(value, (*path, name)))]


def _mutated(document: Any, data: st.DataObject) -> Any:
    """The document with something in it replaced, left out or put into something else."""
    path = data.draw(st.sampled_from(_paths(document)))
    value = data.draw(ODD)
    if not path:
        return value
    owner = document
    for name in path[:-1]:
        owner = owner[name]
    how = data.draw(st.sampled_from(["replace", "remove", "wrap"]))
    if how == "remove":
        del owner[path[-1]]
    else:
        owner[path[-1]] = value if how == "replace" else [owner[path[-1]]]
    return document


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_one_message_says_the_others_are_handled(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One of four is changed anywhere, as JSON or as text; another one is of the same key."""
    scene = Scene(tmp_path_factory.getbasetemp(), deletes=data.draw(st.sampled_from(["retain", "mirror"])))
    bodies: list[Any] = [scene.put("a"), scene.put("b"), scene.put("b", b"more"), scene.put("c")]
    shape = data.draw(st.sampled_from(["plain", "bridge", "sns", "bridge in sns"]))
    poison = copy.deepcopy(bodies[1])
    if "bridge" in shape:
        thing = poison["Records"][0]["s3"]["object"]
        poison = eventbridge("source", "b", version_id=thing["versionId"], sequencer=thing["sequencer"], size=4)
    for _ in range(data.draw(st.integers(1, 2))):
        poison = _mutated(poison, data)
    body = json.dumps(poison)
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(cut, min(len(body), cut + 5)))
        body = body[:cut] + data.draw(st.text(st.characters(codec=None), max_size=5)) + body[end:]
    if "sns" in shape:
        body = json.dumps({"Type": "Notification", "Message": body})
    messages = [message(each, f"m{number}") for number, each in enumerate(bodies)]
    messages.insert(data.draw(st.integers(0, 4)), _with_body(body, "poison"))
    assert set(scene.invoke({"Records": messages})) <= {"poison"}
    assert [scene.copy_of(key) for key in "abc"] == [b"body", b"more", b"body"]
    done = {line["sequencer"] for line in scene.lines("journal/") if line["status"] in ("copied", "same")}
    assert done >= {body["Records"][0]["s3"]["object"]["sequencer"] for body in bodies}
    check_ledger(scene)


def test_a_version_id_that_s3_refuses_does_not_fail_the_other_events_of_its_key(scene: Scene) -> None:
    """S3 answers 400 for an id that it has never given; it is asked for what lies beyond the first page."""
    good = [scene.put("k", b"%d" % number) for number in range(1_200)]
    assert scene.handle(good[-1]) == []
    bogus = scene.event("k", versionId="bogus", eTag="e", size=4)
    rejected = Rejected("HeadObject", "k", "400", "", 400)
    scene.store.hook(head=refuse(rejected, lambda request: request.place.version_id == "bogus"))
    assert scene.handle(good[0], bogus, good[-2]) == []
    assert [status for _, status in scene.endings()] == ["copied", "copied", "copied", "superseded"]


def test_an_invocation_without_a_queue_is_refused(scene: Scene) -> None:
    events: list[dict[str, Any]] = [{}, {"Records": "many"}, {"Records": [{"s3": {}}]}, {"Records": [None]}]
    for event in events:
        with pytest.raises(UsageError, match="no batch of SQS messages"):
            scene.invoke(event)


# The backlog.


def test_a_poisoned_row_of_the_backlog_does_not_hold_the_others_up(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps(asdict(BacklogRow("source", "good", "v", 5, "e", "")))
    bad = ["{", "[]", "{}", DEEP * 10, good.replace('"source"', '"a,b"'), good.replace("good", "\\ud800")]
    bad += [good.replace('"v"', id) for id in ('"v\\n"', '"v,w"', "7")]
    bad += [good.replace("5", "NaN"), good.replace("5", "1e999"), good.replace('"good"', '""')]
    data = "\n".join([good, *bad, good.replace("good", "b")]).encode() + b"\xff\n"
    runtime = scene.runtime
    runtime.run(runtime.write_once("backlog/pair=pair/0001790000000-13-65-aa.json", data))
    runtime.run(runtime.write_once("backlog/pair=pair/stray.json", b"?"))
    waiting = runtime.run(backlog.waiting(runtime, "pair"))
    assert [each.rows for each in waiting] == [13]
    published = runtime.run(backlog.publish(runtime, "pair", waiting, "due"))
    assert published is not None
    assert published.rows == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["event"] == "backlog row left out" for line in said) == len(bad) + 1
