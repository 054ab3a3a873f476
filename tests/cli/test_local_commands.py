"""What `sealift local` proposes to try: an object that the policy really copies."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli.local import _farewell, first_commands
from jobs.policy.coverage import match
from jobs.policy.model import Policy
from jobs.policy.reader import read_policy

NOT_THESE = [f"docs/{letter}" for letter in "hea0z"]
"""What all keys begin with that come to its mind."""


def pair(name: str, **source: Any) -> dict[str, Any]:
    side = {"region": "us-east-1"}
    return {
        "name": name,
        "source": side | {"bucket": "inbox"} | source,
        "destination": side | {"bucket": "copies", "prefix": f"{name}/"},
    }


def read(folder: Path, *pairs: dict[str, Any]) -> Policy:
    file = folder / "policy.yaml"
    ledger = {"bucket": "records", "region": "us-east-1"}
    file.write_text(yaml.safe_dump({"version": 1, "ledger": ledger, "pairs": list(pairs)}))
    return read_policy(str(file))


@pytest.mark.parametrize(
    ("pairs", "key", "night"),
    [
        ([pair("all")], "hello.txt", "all"),
        ([pair("docs", prefixes=["docs/2026/", "drafts/"])], "docs/2026/hello.txt", "docs"),
        ([pair("docs", prefixes=["do cs/ü"])], "do cs/ühello.txt", "docs"),
        ([pair("docs", prefixes=["docs/"], exclude=["docs/h", "docs/e"])], "docs/a/hello.txt", "docs"),
        ([pair("all"), pair("greetings", prefixes=["hello"])], "example.txt", "all"),
        (
            [pair("docs", prefixes=["docs/"], exclude=NOT_THESE), pair("logs", prefixes=["logs/"])],
            "logs/hello.txt",
            "logs",
        ),
    ],
)
def test_the_object_to_put_is_one_that_is_copied(
    tmp_path: Path, pairs: list[dict[str, Any]], key: str, night: str
) -> None:
    policy = read(tmp_path, *pairs)
    put, nightly, *_ = first_commands(policy)
    words = shlex.split(put)
    assert words[:6] == ["echo", "hello", "|", "aws", "s3", "cp"]
    assert words[6:] == ["-", f"s3://inbox/{key}"]
    protecting = match(policy, "inbox", key)
    assert protecting is not None
    assert protecting.name == night
    assert nightly == f"sealift nightly --pair {night} --margin 0s"


def test_nothing_is_proposed_to_put_where_no_key_is_known_to_be_copied(tmp_path: Path) -> None:
    commands = first_commands(read(tmp_path, pair("docs", prefixes=["docs/"], exclude=NOT_THESE)))
    assert not [each for each in commands if "aws s3 cp" in each]
    assert commands[0].startswith("sealift nightly --pair docs")


def test_the_last_line_says_what_becomes_of_runs_that_were_cut_short() -> None:
    folder = Path("playground")
    kept = "Buckets are kept in playground for its next start."
    assert _farewell(0, 0, folder) == f"Stopped. {kept}"
    cut = "What was cut short is not started again: the next night finds its objects."
    assert _farewell(0, 2, folder) == f"Stopped; 2 runs cut short. {kept} {cut}"
    assert _farewell(1, 0, folder) == f"Stopped; 1 event not handled. {kept} {cut}"
    assert "the next night" not in _farewell(0, 2, None)  # with the buckets all of it is gone
