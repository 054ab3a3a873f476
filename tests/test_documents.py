"""Documents for users: the commands, options, variables and links in them exist."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from jobs.cli import cli
from jobs.core.category import Category
from jobs.core.outcome import Status
from jobs.errors import SealiftError
from jobs.policy.reader import read_policy
from tests.cli.command_tree import COMMANDS
from tests.documents import (
    PAGES,
    README,
    ROOT,
    Block,
    anchors,
    blocks,
    commands,
    inline_code,
    inline_commands,
    links,
    rows,
)

FOR_CONTRIBUTORS = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "DESIGN.md", "SECURITY.md")]
"""Documents that name files, functions and tests of the repository."""
LINKED = [*PAGES, *FOR_CONTRIBUTORS, ROOT / "BENCHMARKS.md", ROOT / "CHANGELOG.md", ROOT / "terraform" / "README.md"]
_FILE_ENDINGS = "cfg|css|hcl|ini|jinja|js|json|md|py|tf|toml|txt|yaml|yml"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def parse(words: list[str]) -> list[str]:
    """Parse a command line as click does, without running it. Return the names of its command.

    Raises click's UsageError or a SealiftError for what the command would refuse.
    """
    command: click.Command = cli
    parent: click.Context | None = None
    called, arguments = "sealift", words[1:]
    path: list[str] = []
    while True:
        context = command.make_context(called, list(arguments), parent=parent)
        if not isinstance(command, click.Group):
            return path
        rest: list[str] = [*context._protected_args, *context.args]
        child_name, child, arguments = command.resolve_command(context, rest)
        if child_name is None or child is None:
            raise click.UsageError(f"no command in {words}")
        called, command, parent = child_name, child, context
        path.append(called)


def problem(words: list[str]) -> str | None:
    """Why a command line cannot be parsed, or None."""
    try:
        parse(words)
    except click.exceptions.Exit:  # --help, --version
        return None
    except (click.ClickException, SealiftError) as error:
        return error.format_message() if isinstance(error, click.ClickException) else str(error)
    return None


def refused(page_name: str, page_blocks: list[Block]) -> list[str]:
    """The command lines in a page's blocks that Sealift would refuse, each with the reason."""
    return [
        f"{page_name}:{block.number}: {' '.join(words)}: {why}"
        for block in page_blocks
        for words in commands(block, "sealift")
        if (why := problem(words)) is not None
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_line_is_one_that_sealift_takes(page: Path) -> None:
    assert refused(name(page), blocks(page)) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sealift verify --source s3://documents --deeep", "No such option"),
        ("sealift copy s3://documents s3://copies", "No such command"),
        ("cat policy.yaml | sealift policy check --terraform FILE > checked.txt", "No such option"),
        ("SEALIFT_TUNING=processes=2 sealift verify --source s3://documents \\\n  --nothing", "No such option"),
    ],
)
def test_a_wrong_command_line_is_found(line: str, why: str) -> None:
    [refusal] = refused("a.md", [Block(1, line)])
    assert why in refusal


def _options(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that inline code names, or its group, and the options in it."""
    command: click.Command = cli
    for word in words[1:]:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        child = command.get_command(click.Context(command), word)
        if child is None:
            break
        command = child
    return command, [word for word in words if word.startswith("--")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_within_prose_are_there(page: Path) -> None:
    for number, words in inline_commands(page):
        command, options = _options(words)
        known = {option for each in command.get_params(click.Context(command)) for option in each.opts} | {"--version"}
        place = f"{name(page)}:{number}: {' '.join(words)}"
        assert command is not cli or words[1] in ("COMMAND", "--version", "--help"), place
        assert {option.partition("=")[0] for option in options} <= known, place


def test_every_command_has_an_example() -> None:
    shown = {" ".join(parse(words)) for page in PAGES for block in blocks(page) for words in commands(block, "sealift")}
    assert COMMANDS.keys() - shown == {"worker"}  # which is internal


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, *FOR_CONTRIBUTORS, ROOT / "BENCHMARKS.md"]:
        for block in blocks(page):
            for words in commands(block, "make"):
                rest = words[3:] if words[1] == "-C" else words[1:]
                named = {word for word in rest if "=" not in word}
                assert named <= targets, f"{name(page)}:{block.number}: {' '.join(words)}"


def test_the_small_policy_is_right(tmp_path: Path) -> None:
    policies = [block.text for block in blocks(ROOT / "docs" / "policy.md") if block.text.startswith("version:")]
    assert policies
    for text in policies:
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        assert read_policy(str(file)).pairs


def test_every_variable_is_read_by_the_code() -> None:
    sources = [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "scheduler").rglob("*.py")]
    read = {each for path in sources for each in re.findall(r"SEALIFT_[A-Z_]+[A-Z]", path.read_text())}
    for page in PAGES:
        assert set(re.findall(r"SEALIFT_[A-Z_]+[A-Z]", page.read_text())) <= read, name(page)


def test_outcomes_in_tables_are_outcomes() -> None:
    words: dict[str, Any] = {"outcome": set(Status), "category": set(Category)}
    seen: set[str] = set()
    for page in PAGES:
        for number, heads, cells in rows(page):
            if heads[0] in words:
                word = cells[0].split("`")[1] if "`" in cells[0] else cells[0]  # a code may follow an outcome
                assert word in words[heads[0]], f"{name(page)}:{number}"
                seen.add(word)
    assert seen >= set(Status) | set(Category)


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for number, target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        where = f"{name(page)}:{number}: {target}"
        assert place.exists(), where
        assert not anchor or anchor in anchors(place), where


def test_docs_are_in_the_navigation_of_the_site() -> None:
    """Else `make site` fails."""
    parts = runpy.run_path(str(ROOT / "docs" / "conf.py"))["PARTS"]
    named = {ROOT / f"{each}.md" for names in parts.values() for each in names}
    assert {page for page in PAGES if page != README} <= named


def test_docs_are_in_their_index() -> None:
    index = ROOT / "docs" / "README.md"
    named = {target for _, target in links(index)}
    assert {page.name for page in PAGES if page.parent == index.parent} - {"README.md"} <= named


def test_readme_has_the_test_command() -> None:
    assert any(block.text == "make test" for block in blocks(README))


def _is_file(code: str) -> bool:
    """Whether inline code names a file or a folder of the repository, by its form."""
    if re.search(r"[\s<>…*{}:=~]", code) or re.fullmatch(r"\w+(/\w+)*/test_\w+(\.py)?", code):
        return False  # tests of the tables of attacks and promises have checks of their own
    first = code.partition("/")[0]
    is_below_root = "/" in code and (ROOT / first).is_dir()
    return is_below_root or bool(re.fullmatch(rf"[\w.-]+\.(?:{_FILE_ENDINGS})", code) and (ROOT / code).exists())


@pytest.mark.parametrize("page", FOR_CONTRIBUTORS, ids=name)
def test_files_that_contributors_are_sent_to_exist(page: Path) -> None:
    named = [(number, code) for number, code in inline_code(page) if _is_file(code)]
    assert named
    assert [f"{name(page)}:{number}: {code}" for number, code in named if not (ROOT / code).exists()] == []


def test_the_layers_of_the_architecture_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    listed = [row.cells[0] for row in rows(ROOT / "ARCHITECTURE.md") if row.heads == ["line", "what it is"]]
    lines = [set(re.findall(r"`([\w.]+)`", cell)) for cell in listed]
    assert lines == [set(line.split(" | ")) for line in contract["layers"]]


def test_every_test_of_the_table_of_attacks_exists() -> None:
    tests: list[str] = []
    for number, heads, cells in rows(ROOT / "SECURITY.md"):
        if heads[-1] == "test":
            named = re.findall(r"`([\w/]+)`", cells[-1])
            assert named, f"SECURITY.md:{number} names no test"
            tests += named
    assert len(tests) > 40
    missing = [test for test in tests if not any((ROOT / "tests" / f"{test}{end}").exists() for end in (".py", ""))]
    assert sorted(set(missing)) == []
