"""`python -m tests.fuzz [NAME …]`: atheris looks for bytes that a parser does not expect.

The corpus of `tests/fuzz/corpus/<name>/` and the seeds of `parsers` are where it begins. With `--finds FOLDER`, what is
new and interesting is written to `FOLDER/<name>/`, so that a later run goes on from it.

Each parser has a process of its own, with 2 GiB of memory at most and ten seconds for one input. What breaks it is
left in `build/fuzz/<name>/`; it becomes a line of `FINDINGS` in `tests/fuzz/test_parsers.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

FOLDER = Path("build/fuzz")
CORPUS = Path(__file__).with_name("corpus")
MEMORY_BYTES = 2 << 30


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="parsers (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="how long each (default 60)")
    parser.add_argument("--finds", type=Path, default=FOLDER, help="where new inputs are written (build/fuzz)")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        fuzz(given.alone, given.seconds, given.finds)
    from tests.fuzz.parsers import PARSERS

    broken = [
        name
        for name in given.names or [each.name for each in PARSERS]
        if not is_sound(name, given.seconds, given.finds)
    ]
    return 1 if broken else 0


def is_sound(name: str, seconds: int, finds: Path) -> bool:
    """Fuzz a parser in a process of its own, and say how it went."""
    command = [sys.executable, "-m", "tests.fuzz", "--alone", name, "--seconds", str(seconds), "--finds", str(finds)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = ended.stderr.splitlines()
    last = next((line for line in reversed(lines) if "exec/s" in line or "Done" in line), "")
    print(f"{name:16} {'BROKEN' if ended.returncode else 'ok':7} {last.strip()}", flush=True)
    if ended.returncode:
        print("\n".join(lines[-30:]), flush=True)
    return ended.returncode == 0


def folder_name(name: str) -> str:
    """The folder of a parser's corpus."""
    return name.replace(" ", "-")


def fuzz(name: str, seconds: int, finds: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    # A forged page of Parquet makes pyarrow allocate what its header says, up to 2 GiB: here it gets an error instead.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with atheris.instrument_imports(include=["jobs", "json", "csv"]):
        from tests.fuzz.parsers import PARSERS
    parser = next(each for each in PARSERS if each.name == name)
    folder = finds / folder_name(name)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def attempt(data: bytes) -> None:
        with contextlib.suppress(*parser.raises):
            parser.parse(data)

    kept = [str(CORPUS / folder_name(name))] if (CORPUS / folder_name(name)).is_dir() else []
    limits = ["-rss_limit_mb=2048", "-timeout=10", f"-max_total_time={seconds}", f"-artifact_prefix={folder}{os.sep}"]
    atheris.Setup([sys.argv[0], *limits, "-max_len=4096", str(corpus), *kept], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
