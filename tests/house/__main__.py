"""Measures of how the code is divided and written: `python -m tests.house [--journey] [FOLDER]`.

FOLDER: a checkout, this one by default; an older one shows what has changed. With `--journey` a real row is
replicated through the command line, and the files that it passes are counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.house.journey import measure_journey
from tests.house.measures import SUBJECTS, Measures, measure

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how the code is divided and written.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--journey", action="store_true", help="also replicate a row and count what it passes")
    options = parser.parse_args()
    for line in lines(measure(options.folder)):
        print(line)
    if options.journey:
        journey = measure_journey(options.folder)
        print(f"a replicated row passes      {len(journey.files)} files, {journey.calls} calls between files")
        print(f"  of them between folders    {journey.calls_between_folders}")


def lines(found: Measures) -> list[str]:
    """The measures for people."""
    largest = max(found.modules_by_folder, key=lambda folder: found.modules_by_folder[folder])
    return [
        f"modules                      {found.modules} with {found.lines:,} lines",
        f"largest flat folder          {largest}: {found.modules_by_folder[largest]} modules",
        *(f"folders of {subject:<18}{len(found.folders_by_subject[subject])}" for subject in SUBJECTS),
        f"comparisons of spec.job      {len(found.job_comparisons)}",
        f"options as dict[str, Any]    {len(found.untyped_options)}",
        f"docstrings with a semicolon  {found.semicolons / max(found.docstrings, 1):.1%} of {found.docstrings}",
        f"lines of prose over 100      {found.long_prose}",
    ]


if __name__ == "__main__":
    main()
