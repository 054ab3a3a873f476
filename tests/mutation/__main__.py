"""`python -m tests.mutation`: mutants of modules, or of the lines that changed since a revision."""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.mutation import judged
from tests.mutation.campaign import LEAST_SECONDS, BrokenTests, Campaign, End, Result
from tests.mutation.mutants import Mutant, mutants

PACKAGES = ("jobs", "scheduler")


def main(arguments: list[str] | None = None) -> int:
    """0 if every mutant was killed or judged, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="a file, or a folder of them")
    parser.add_argument("--since", metavar="REVISION", help="only lines that changed since then")
    parser.add_argument("--most", type=int, metavar="N", help="play N of them, always the same ones")
    parser.add_argument("--part", type=part, metavar="P/N", help="only the modules of the P-th of N parts")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="T", help="begin no mutant after T seconds")
    parser.add_argument("--processes", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument("--limit", type=float, default=LEAST_SECONDS, help="a mutant has at least so many seconds")
    parser.add_argument("--wide", action="store_true", help="also play the tests of neighbours and users")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--again", action="store_true", help="also play those that were judged")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: here)")
    options = parser.parse_args(arguments)
    root: Path = options.root.resolve()
    changed = changed_lines(root, options.since) if options.since else None
    if not options.modules and changed is None:
        parser.error("name modules, or a revision with --since")
    paths = files(root, options.modules) if options.modules else sorted(changed or ())
    if options.part:
        paths = [path for path in paths if is_in_part(path, *options.part)]
    sources = {path: (root / path).read_text() for path in paths}
    made = [mutant for path, source in sources.items() for mutant in mutants(path, source)]
    if changed is not None:
        made = [mutant for mutant in made if is_changed(mutant, changed)]
    judgements = judged.read(root)
    known = {judgement.name for judgement in judgements}
    playing = made if options.again else [mutant for mutant in made if mutant.name not in known]
    playing = choose(playing, options.most)
    if options.list:
        for mutant in playing:
            print(f"{mutant.path}:{mutant.first_line}\n{mutant.diff(sources[mutant.path])}")
        return 0
    began = time.monotonic()
    campaign = Campaign(root, Progress(len(playing)), options.processes, options.wide, options.limit, options.seconds)
    try:
        results = campaign.play(playing)
    except BrokenTests as error:
        print(error)
        return 1
    print_survivors(results, sources, known)
    gone = judged.gone(root, judgements)
    for judgement in gone:
        print(f"\nNO LONGER THERE, though {judged.FILE} has it: {judgement}")
    ends = Counter(result.end for result in results)
    counts = ", ".join(f"{ends[end]} {end}" for end in End if ends[end])
    skipped = len(made) - len(results)
    print(f"\n{len(made)} mutants, {skipped} not played; {counts or 'none played'}; {time.monotonic() - began:,.0f} s")
    alive = [result for result in results if is_alive(result) and result.mutant.name not in known]
    return 1 if alive or gone else 0


class Progress:
    """A line for each survivor when it is found, and a count now and then."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self, result: Result) -> None:
        self._done += 1
        if is_alive(result):
            mutant = result.mutant
            print(f"{mutant.path}:{mutant.first_line}: {result.end}: {mutant.after}", flush=True)
        if self._done % 50 == 0:
            print(f"{self._done} of {self._total}", flush=True)


def is_alive(result: Result) -> bool:
    return result.end in (End.SURVIVED, End.UNTESTED)


def print_survivors(results: list[Result], sources: dict[str, str], known: set[tuple[str, str, str, str]]) -> None:
    """Each with its place, its diff and the entry that judges it."""
    for result in results:
        mutant = result.mutant
        if is_alive(result):
            print(f"\n{mutant.path}:{mutant.first_line}: {result.end}{', as judged' if mutant.name in known else ''}")
            print(mutant.diff(sources[mutant.path]))
            if mutant.name not in known:
                print(judged.entry(mutant))
        elif mutant.name in known:
            print(f"\n{mutant.path}:{mutant.first_line}: {result.end}, though {judged.FILE} says that it cannot be")


def choose(made: list[Mutant], most: int | None) -> list[Mutant]:
    """Of many mutants the same few each time, from all over."""
    if most is None or len(made) <= most:
        return made
    chosen = sorted(made, key=lambda mutant: hashlib.sha256(repr(mutant.name).encode()).digest())[:most]
    return sorted(chosen, key=lambda mutant: (mutant.path, mutant.first_line))


def part(text: str) -> tuple[int, int]:
    """`3/8` as the third of eight parts. Raises argparse's error for what is none."""
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text} is no part: write 3/8 for the third of eight")
    return int(number), int(parts)


def is_in_part(path: str, number: int, parts: int) -> bool:
    """Whether the module belongs to the part: to one of all, whatever the others are."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()) % parts == number - 1


def files(root: Path, names: list[str]) -> list[str]:
    """Modules by their paths below `root`, those of a folder in order."""
    found: list[Path] = []
    for name in names:
        path = root / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(path.relative_to(root)) for path in found]


def changed_lines(root: Path, revision: str) -> dict[str, set[int]]:
    """The lines of the program that are new or changed since the revision, by file."""
    command = ["git", "-c", "safe.directory=*", "diff", "-U0", "--no-color", "--no-ext-diff", revision, "--", *PACKAGES]
    text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    lines: dict[str, set[int]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ b/") if line.endswith(".py") else ""
        elif path and (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            if count:
                lines.setdefault(path, set()).update(range(first, first + count))
    return lines


def is_changed(mutant: Mutant, changed: dict[str, set[int]]) -> bool:
    return not changed.get(mutant.path, set()).isdisjoint(range(mutant.first_line, mutant.last_line + 1))


if __name__ == "__main__":
    sys.exit(main())
