"""The weight of the code: lines that hold code, by package, of the tests and of Terraform, and what users have to know.

A line of Python is code unless it is blank, a comment or a docstring. What the product reads while it runs (templates,
styles, scripts, SQL, JSON other than prices and schemas) counts with its package. There, and in Terraform, a line is
code unless it is blank or begins with `#` or `//`. The options that mean the same everywhere count once, among the
names (`jobs.cli.options.COMMON`). `python -m tests.weight` prints each number beside its limit,
`python -m tests.weight --set` lowers the limits in tests/test_weight.py to what is there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
READ_AT_RUN_TIME = {".py", ".jinja", ".js", ".css", ".sql", ".html", ".json"}


def code_lines(path: Path) -> int:
    text = path.read_text(errors="replace")
    if path.suffix != ".py":
        return sum(not line.lstrip().startswith(("#", "//")) for line in text.splitlines() if line.strip())
    documented: set[int] = set()
    all_lines = [line.strip() for line in text.splitlines()]
    lines = {number for number, line in enumerate(all_lines, 1) if line and not line.startswith("#")}
    tree = ast.parse(text)
    for node in _statements(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented.update(range(node.lineno, (node.end_lineno or 0) + 1))  # it describes what is above it
    if any('"""' in line for number, line in enumerate(all_lines, 1) if number not in documented):
        for each in ast.walk(tree):
            if isinstance(each, ast.JoinedStr | ast.Constant) and '"""' in all_lines[each.lineno - 1]:
                lines.update(range(each.lineno, (each.end_lineno or 0) + 1))  # whatever the lines of a text begin with
    return len(lines - documented)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements within a node. Walking expressions too takes three times as long."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for each in getattr(node, name, ()):
            yield each
            yield from _statements(each)


def tracked(*folders: str) -> Iterator[Path]:
    """Files that git tracks or would track."""
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--")
    command = ["git", "-c", "safe.directory=*", *listed, *folders]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return (ROOT / name for name in names if name and (ROOT / name).is_file())


def _names(parameters: Iterable[click.Parameter]) -> set[str]:
    return {each.opts[-1] for each in parameters if isinstance(each, click.Option)}


def weigh() -> dict[str, int]:
    """What is weighed → how much there is."""
    from tests.cli.command_tree import COMMANDS

    found: dict[str, int] = {}
    for path in tracked("jobs", "scheduler", "tests", "terraform"):
        name = path.relative_to(ROOT)
        if name.parts[0] == "terraform":
            where = "terraform/modules" if "modules" in name.parts else "terraform"
            is_code = path.suffix == ".tf" and not {"tests", "examples"} & {*name.parts}
        elif name.parts[0] == "tests":
            where, is_code = "tests", path.suffix == ".py"
        else:
            where = "/".join(name.parts[:2]) if name.parts[0] == "jobs" and len(name.parts) > 2 else name.parts[0]
            is_code = path.suffix in READ_AT_RUN_TIME and "prices" not in name.parts and "schema" not in path.name
        if is_code:
            found[where] = found.get(where, 0) + code_lines(path)
    commands = [each for each in COMMANDS.values() if not each.hidden]
    own = [_names(each.params) for each in commands]
    known = {name for each in commands for name in _names(each.get_params(click.Context(each)))}
    programs = (path for path in tracked("jobs", "scheduler", "images") if path.suffix in (".py", ""))
    sources = " ".join(path.read_text(errors="replace") for path in programs)
    return found | {
        "the product": sum(lines for where, lines in found.items() if where.startswith(("jobs", "scheduler"))),
        "commands": len(commands),
        "options of one command": max(map(len, own)),
        "names of options": len({name for name in known if not name.startswith("--help")}),
        "environment variables": len({*re.findall(r"\bSEALIFT_[A-Z_]+\b", sources)}),
    }


def main() -> None:
    from tests.test_weight import LIMITS

    found = weigh()
    for name, weight in found.items():
        print(f"{name:28} {weight:7,} of {LIMITS.get(name, 0):7,}")
    if "--set" in sys.argv[1:]:
        path = ROOT / "tests" / "test_weight.py"
        before, begin, rest = path.read_text().partition("LIMITS = {\n")
        _, end, after = rest.partition("}\n")
        table = "".join(
            f'    "{name}": {min(weight, LIMITS.get(name, weight))},\n' for name, weight in sorted(found.items())
        )
        path.write_text(before + begin + table + end + after)


if __name__ == "__main__":
    main()
