"""Each run leaves a page that people read: with its findings, their reasons, and the runs before it."""

from __future__ import annotations

import json
from html import unescape
from itertools import cycle
from pathlib import Path

import jsonschema

from jobs.ledger.agreement import begin_order
from jobs.reports.document import schema
from jobs.runs.request import new_run_id
from tests.end_to_end.conftest import World
from tests.end_to_end.forged_ledger import read, write


def fetch(world: World, uri: str) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    text: str = world.client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return text


def test_a_run_leaves_a_page_with_its_findings_and_the_runs_before_it(world: World) -> None:
    for key in ("a", "<b>bold", "c"):
        world.put(key, b"content")
    assert world.run("replicate")["outcomes"] == {"copied": 3}
    first = world.run("verify")
    assert "<b>bold" not in fetch(world, first["report_html"])
    world.client.put_object(Bucket=world.destination, Key="<b>bold", Body=b"CONTENT")
    second = world.run("verify")
    page = fetch(world, second["report_html"])
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page
    assert 'id="trend"' in page
    assert 'id="trend"' not in fetch(world, first["report_html"])  # nothing was before it
    assert second["outcome_bytes"] == {"mismatched": 7, "verified": 14}
    jsonschema.validate(json.loads(fetch(world, second["report"])), schema())


def test_runs_of_one_minute_have_labels_of_their_own_in_the_trend(world: World) -> None:
    world.put("a")
    for finished_at in ("2026-11-25T00:33:07Z", "2026-11-25T00:33:41Z"):
        report = world.run("verify")
        document = json.loads(fetch(world, report["report"])) | {"finished_at": finished_at}
        bucket, _, key = report["report"].removeprefix("s3://").partition("/")
        world.client.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())
    page = fetch(world, world.run("verify")["report_html"])
    trend = page.partition('id="trend"')[2].partition("</section>")[0]
    for time in ("00:33:07", "00:33:41"):
        assert f">{time}</text>" in trend
        assert f"2026-11-25 {time}: 1" in trend
        assert f"2026-11-25 {time} UTC" in trend


def test_an_incomplete_run_has_no_page(world: World, tmp_path: Path) -> None:
    world.put("a")
    process = world.start(
        "replicate",
        "--source",
        f"s3://{world.source}",
        "--destination",
        f"s3://{world.destination}",
        "--json",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9",
    )
    process.communicate(timeout=60)
    assert process.returncode != 0
    listed = world.client.list_objects_v2(Bucket=world.ledger).get("Contents", [])
    assert not [each for each in listed if each["Key"].endswith("report.html")]


def test_the_ids_of_runs_of_one_second_sort_by_time() -> None:
    """Runs within a second stood in any order: a page lacked the one before it, and `latest` was an earlier one."""
    times = [1_764_000_000 + step / 100 for step in range(250)]
    ids = [new_run_id(job, each) for each, job in zip(times, cycle(("verify", "replicate", "archive")), strict=False)]
    assert ids == sorted(ids, key=begin_order)
    assert ids != sorted(ids)
    ids = ids[::3]
    assert {len(each) for each in ids} == {len("20261125T003345Z-verify-1f3a02")}


def test_the_page_of_each_run_with_findings_says_what_to_do_as_the_terminal_does(world: World) -> None:
    """A verification, and copies that met other bytes: the page was silent where the terminal knew the way."""
    world.put("a", b"content")
    assert "What to do now" not in fetch(world, world.run("replicate")["report_html"])
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"CONTENT")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/"]
    for command in ("verify", "replicate"):
        text = world.sealift(command, *places).stdout
        report = world.sealift("runs", "show", "latest", "--json").document
        steps = report["next_steps"]
        assert steps, command
        page = unescape(fetch(world, report["report_html"]))
        assert "What to do now" in page
        for step in steps:
            assert f"  {step}\n" in text
            why, _, rest = step.partition(": sealift ")
            assert f"<li>{why}{f':<code>sealift {rest}</code>' if rest else ''}</li>" in page
        jsonschema.validate(json.loads(fetch(world, report["report"])), schema())
    world.run("verify")
    latest = world.sealift("runs", "show", "latest", "--json").document
    assert latest["next_steps"] == [f"Copy them again: sealift runs retry {latest['run_id']}"]


def test_a_run_ends_whatever_the_report_of_an_earlier_one_holds(world: World) -> None:
    """Its page compares with earlier runs. One document that was damaged, or of a newer Sealift, ended none of them."""
    world.put("a")
    earlier = world.run("replicate")
    name = f"runs/{earlier['run_id']}/report.json"
    whole = read(world, name)
    newer = json.dumps(json.loads(whole) | {"spec_version": 99}).encode()
    other = json.dumps({"run_id": earlier["run_id"]}).encode()
    for damaged in (newer, whole[:100], b"{}", other):
        write(world, name, damaged)
        later = world.run("replicate")
        assert (later["code"], later["outcomes"]) == (0, {"same": 1}), damaged
        assert later["run_id"] in fetch(world, later["report_html"])
