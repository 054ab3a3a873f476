"""Each command of README.md and docs/, run in order on real servers, ends as the documents say."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, blocks, command_lines
from tests.doubles.servers import Server
from tests.end_to_end.conftest import discard_buckets
from tests.end_to_end.documented_scene import Scene, plain_environment
from tests.end_to_end.documented_worlds import BEFORE, KEYS, after_shell, content

BUCKETS = ("documents", "copies", "cold", "back", "inventories", "reports", "ledger")
"""The buckets of the examples."""
VERSIONED = BUCKETS[:2]
NOT_RUN = {
    "make test": "it would run this test",
    "make promises": "it takes minutes; `make test-all` runs it",
    "make acceptance ARGS=--local": "takes minutes; tests/acceptance/test_script.py plays it",
    "make acceptance ENGINE=podman": "needs an account of AWS",
    "pip install '.[local]'": "needs a package index; tests/images/test_dist.py installs the wheel",
}
"""Commands that cannot run here, each with the reason."""
OF_AWS = re.compile(r"\$(ENGINE|ROOT|BASE)|^[A-Z]+=|sealift\.env|^sealift events ")
"""Lines that need an account of AWS, or a registry."""
SMALLER = {
    "make demo": "",
    "make simulate SEEDS=20000": "SEEDS=20",
    "make hypothesis EXAMPLES=500": "EXAMPLES=2 TESTS=tests/core/test_pace.py",
}
"""Commands of make, and variables with which they take seconds."""
QUICK = ("README.md", "docs/README.md")
"""The pages that are played with each change. The others take minutes together."""


def commands_of(page: Path) -> list[tuple[str, int]]:
    """(command line, exit code) of all commands of a document, in their order."""
    return [each for block in blocks(page) for each in command_lines(block)]


def is_run(line: str) -> bool:
    return line not in NOT_RUN and line not in SMALLER and not OF_AWS.search(line)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def scene(seaweed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The objects of the examples in buckets of this test."""
    monkeypatch.chdir(tmp_path)
    client, suffix = seaweed.client(), uuid.uuid4().hex[:10]
    names = {bucket: f"{bucket}-{suffix}" for bucket in BUCKETS}
    for bucket in BUCKETS:
        client.create_bucket(Bucket=names[bucket])
        if bucket in VERSIONED:
            client.put_bucket_versioning(Bucket=names[bucket], VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        client.put_object(Bucket=names["documents"], Key=key, Body=content(key))
    environment = seaweed.environment() | {"SEALIFT_LEDGER": f"s3://{names['ledger']}/sealift"}
    with ExitStack() as undo:
        yield Scene(client, tmp_path, undo, plain_environment(environment), dict(names))
    discard_buckets(client, names.values())


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page not in QUICK)) for page in BEFORE]
)
def test_documented_commands_end_as_documented(page: str, scene: Scene) -> None:
    BEFORE[page](scene)
    for line, exits in commands_of(ROOT / page):
        if is_run(line):
            scene.type(line, exits)
            after_shell(scene, line)


@pytest.mark.slow
@pytest.mark.parametrize("line", SMALLER)
def test_documented_targets_of_make_end_well(line: str) -> None:
    """With this interpreter's environment, which make must not make again."""
    here = Path(sys.prefix)
    words = [*line.split(), *SMALLER[line].split(), f"VENV={here}", "-o", str(here / "dev.stamp")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_command_is_run_or_listed_with_a_reason() -> None:
    found = {name_of(page): [line for line, _ in commands_of(page)] for page in PAGES}
    lines = [line for page in found.values() for line in page]
    assert NOT_RUN.keys() | SMALLER.keys() <= set(lines), "a command that no document has any more"
    assert [line for line in NOT_RUN if "sealift " in line] == []
    assert {page for page, texts in found.items() if any(map(is_run, texts))} == set(BEFORE)
