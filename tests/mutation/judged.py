"""Survivors that were judged: each changes nothing that anybody can see, and says why."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants

FILE = "tests/mutation/judged.toml"


@dataclass(frozen=True)
class Judgement:
    """A mutant, by the words of its lines, and why no test can notice it."""

    path: str
    function: str
    before: str
    after: str
    why: str

    @property
    def name(self) -> tuple[str, str, str, str]:
        return self.path, self.function, self.before, self.after

    def __str__(self) -> str:
        return f"{self.path}, {self.function}: {self.before!r} as {self.after!r}"


def read(root: Path) -> list[Judgement]:
    """The judgements of a checkout, by module."""
    file = root / FILE
    if not file.exists():
        return []
    modules = tomllib.loads(file.read_text())
    return [Judgement(path, **{"function": "", **entry}) for path, entries in modules.items() for entry in entries]


def gone(root: Path, judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those whose mutant no longer exists: the lines were changed, and have to be judged again."""
    names: dict[str, set[tuple[str, str, str, str]]] = {}
    missing = []
    for judgement in judgements:
        path = judgement.path
        if path not in names:
            file = root / path
            names[path] = {each.name for each in mutants(path, file.read_text())} if file.exists() else set()
        if judgement.name not in names[path]:
            missing.append(judgement)
    return missing


def entry(mutant: Mutant) -> str:
    """What to write into the file, once there is a reason."""
    lines = [f'[["{mutant.path}"]]', f"before = {_toml(mutant.before)}", f"after = {_toml(mutant.after)}", 'why = ""']
    if mutant.function:
        lines.insert(1, f"function = {_toml(mutant.function)}")
    return "\n".join(lines)


def _toml(text: str) -> str:
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
