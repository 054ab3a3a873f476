"""Each run leaves a page that people read: with its findings, their reasons, and the runs before it."""

from __future__ import annotations

import json
from html import unescape

import jsonschema

from tests.doubles.report_schema import schema
from tests.end_to_end.conftest import World


def test_the_page_of_each_run_with_findings_says_what_to_do_as_the_terminal_does(world: World) -> None:
    """A verification, and copies that met other bytes: the page was silent where the terminal knew the way."""
    world.put("a", b"content")
    assert "What to do now" not in world.fetch(world.run("replicate")["report_html"]).decode()
    world.client.put_object(Bucket=world.destination, Key="a", Body=b"CONTENT")
    for command in ("verify", "replicate"):
        text = world.sealift(command, *world.sides).stdout
        report = world.sealift("runs", "show", "latest", "--json").document
        steps = report["next_steps"]
        assert steps, command
        page = unescape(world.fetch(report["report_html"]).decode())
        assert "What to do now" in page
        for step in steps:
            assert f"  {step}\n" in text
            why, _, rest = step.partition(": sealift ")
            command_line = f':<code class="copy">sealift {rest}</code>' if rest else ""
            assert f"<li>{why}{command_line}</li>" in page
        jsonschema.validate(json.loads(world.fetch(report["report"]).decode()), schema())
    world.run("verify")
    latest = world.sealift("runs", "show", "latest", "--json").document
    assert latest["next_steps"] == [f"Copy them again: sealift runs retry {latest['run_id']}"]
