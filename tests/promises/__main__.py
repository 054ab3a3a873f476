"""Play the breaks: each must be noticed by a test of its promise's line. `python -m tests.promises [NAME…]`

With `--find PATH…` and one name it prints all tests below these paths that notice, to choose some for the table.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.promises.breaks import BREAKS, Break
from tests.promises.forked import run
from tests.promises.table import promises

AT_ONCE = 2
LIMIT_SECONDS = 300
TESTS_FAILED = 1


def pytest(tests: list[str], *options: str, broken: Break | None = None) -> tuple[int | None, str, int]:
    """Run tests, with a break or without.

    Returns exit code, output, and how often the seam was called. Without an exit code it took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        reached = Path(folder) / "reached"
        output = Path(folder) / "output"
        arguments = ["-q", "-p", "no:cacheprovider", *options]
        environment = {"CI": "true", "SEALIFT_REACHED": str(reached)}
        if broken:
            arguments += ["-p", "no:xdist", "-p", "tests.promises.plugin", "--no-header", "--tb=line"]
            environment["SEALIFT_BREAK"] = broken.name
        arguments += [f"tests/{test}" for test in tests]
        code = run(arguments, environment, output, LIMIT_SECONDS if broken else None)
        return code, output.read_text(), int(reached.read_text()) if reached.exists() else 0


def play(broken: Break, tests: list[str]) -> str:
    """What is wrong with the tests of a break, or nothing."""
    code, output, calls = pytest(tests, "-x", broken=broken)
    if code is None:
        return f"keeps its tests busy for more than {LIMIT_SECONDS} s"
    if code not in (0, TESTS_FAILED):
        return f"cannot be planted, or its tests not run (exit code {code}):\n{output[-3000:]}"
    if not calls:
        return f"is not reached: no test calls {broken.seam}"
    if code != TESTS_FAILED or " failed" not in output.splitlines()[-1]:
        return f"is noticed by no test of its line: {', '.join(tests)}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="promises or breaks (default: all)")
    parser.add_argument("--passed", action="store_true", help="the tests are known to pass without a break")
    parser.add_argument("--find", nargs="+", metavar="PATH", default=[])
    arguments = parser.parse_args()
    chosen = [each for each in BREAKS if not arguments.names or {each.name, each.promise} & set(arguments.names)]
    if arguments.find:
        for each in chosen:
            code, output, calls = pytest(arguments.find, "-rf", broken=each)
            print(f"{each.name}: {each.seam} called {calls} times, exit code {code}", output.splitlines()[-1])
            print("".join(f"  {test}\n" for test in re.findall(r"^FAILED tests/(\S+)", output, re.MULTILINE)), end="")
        return 0
    lines = {promise.name: list(promise.tests) for promise in promises()}
    tests = sorted({test for each in chosen for test in lines[each.promise]})
    code, output, _ = (0, "", 0) if arguments.passed else pytest(tests, "-n", str(AT_ONCE))
    if code:
        print(f"{output}\nThe tests fail without a break.")
        return 1

    def timed(each: Break) -> bool:
        began = time.monotonic()
        wrong = play(each, lines[each.promise])
        print(f"{each.name:32} {time.monotonic() - began:4.0f} s  {wrong or 'noticed'}", flush=True)
        return not wrong

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(timed, chosen))
    print(f"{sum(results)} of {len(results)} breaks of {len({each.promise for each in chosen})} promises are noticed.")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
