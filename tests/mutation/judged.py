"""Survivors that were judged: each changes nothing that anybody can see, and says why."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant, Name, mutants

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
    def name(self) -> Name:
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
    judgements = list(judgements)
    names = {judgement.name for judgement in judgements}
    files = {path: root / path for path in {judgement.path for judgement in judgements}}
    found = {
        each.name
        for path, file in files.items()
        if file.exists()
        for each in mutants(path, file.read_text(), only=names)
    }
    return [judgement for judgement in judgements if judgement.name not in found]


def entry(mutant: Mutant) -> str:
    """What to write into the file, once there is a reason."""
    lines = [f'[["{mutant.path}"]]', f"before = {_toml(mutant.before)}", f"after = {_toml(mutant.after)}", 'why = ""']
    if mutant.function:
        lines.insert(1, f"function = {_toml(mutant.function)}")
    return "\n".join(lines)


def _toml(text: str) -> str:
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
