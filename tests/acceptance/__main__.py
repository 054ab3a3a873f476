"""`make acceptance`: make the system in AWS, play the scripted day, report, and destroy it.

    python -m tests.acceptance --local       # the same script on this machine: no account, no costs
    python -m tests.acceptance --base IMAGE  # in the account of the shell's credentials

Exit codes: 0 nothing differed, 3 something did, 10 it could not be made or destroyed, 75 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from jobs import __version__
from tests.acceptance import archives, copies, cost, failures, in_aws, report
from tests.acceptance.interruption import Interrupted, Interruption
from tests.acceptance.local import local_site
from tests.acceptance.script import Result, Step, play
from tests.acceptance.site import ROOT
from tests.acceptance.stack import Stack, StackError, Tools, leftovers, new_stack

STEPS: tuple[Step, ...] = (*copies.STEPS, *archives.STEPS, *in_aws.STEPS, *failures.STEPS)
FOLDER = ROOT / "build" / "acceptance"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say. Returns the exit code."""
    options = _parse(arguments)
    unknown = set(options.steps) - {step.name for step in STEPS}
    if unknown:
        _say(f"No step is called {sorted(unknown)[0]!r}. There are: {', '.join(step.name for step in STEPS)}")
        return 2
    steps = [step for step in STEPS if not options.steps or step.name in options.steps]
    with Interruption() as interruption:
        if options.local:
            return _try_locally(steps, options.folder, interruption)
        try:
            return _try_in_aws(options, steps, interruption)
        except (StackError, ClientError, BotoCoreError) as error:
            _say(f"{error}")
            return 10


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make acceptance", description="Try Sealift in an AWS account.")
    parser.add_argument("--local", action="store_true", help="on this machine instead, without an account")
    parser.add_argument("--yes", action="store_true", help="begin without asking")
    parser.add_argument("--destroy", action="store_true", help="only destroy what earlier starts have left")
    parser.add_argument("--steps", action="append", default=[], metavar="NAME", help="only this step; may be repeated")
    parser.add_argument(
        "--base", default="", metavar="IMAGE", help="what the image is built from (default: that of `make image`)"
    )
    parser.add_argument("--terraform", default=os.environ.get("TERRAFORM", "terraform"), metavar="PROGRAM")
    parser.add_argument("--engine", default=os.environ.get("ENGINE", "podman"), metavar="PROGRAM")
    parser.add_argument("--make", default="make", metavar="PROGRAM")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for state and reports (default: %(default)s)")
    return parser.parse_args(arguments)


def _try_locally(steps: Sequence[Step], folder: Path, interruption: Interruption) -> int:
    results: list[Result] = []
    ended, about = "", _about("local", "this machine")
    with tempfile.TemporaryDirectory(prefix="sealift-acceptance-") as logs:
        try:
            with local_site(Path(logs)) as site:
                for step in steps:
                    results += play(site, [step], _say)
        except Interrupted:
            ended = interruption.came
    return _report(about, results, steps, ended, folder)


def _try_in_aws(options: argparse.Namespace, steps: Sequence[Step], interruption: Interruption) -> int:
    tools = Tools(options.terraform, options.engine, options.make, options.base)
    try:
        left = leftovers(options.folder, tools)
        if not _agreed(options, steps, left):
            return 2
        for stack in left:
            _destroy(stack)
        if options.destroy:
            return 0
        stack = new_stack(options.folder, tools)
        steps = [_second_plan(stack), *steps]
    except Interrupted:
        return 75
    results: list[Result] = []
    ended, about = "", _about(stack.name, f"the account {_account()}")
    try:
        try:
            _say(f"── make {stack.name}: it takes about half an hour, and {stack.folder}/log says what happens")
            stack.make()
            site = stack.site()
            for step in steps:
                results += play(site, [step], _say)
        except Interrupted:
            ended = interruption.came
        except Exception as error:  # the report says it, whatever it was, and all is destroyed
            ended = str(error)
            if not isinstance(error, StackError | ClientError | BotoCoreError):
                raise
        finally:
            interruption.mask()
    finally:
        code = _report(about, results, steps, ended, options.folder)
        _destroy(stack)
    return 10 if ended and not interruption.came else code


def _second_plan(stack: Stack) -> Step:
    """What AWS answers otherwise than it was told would change with each apply, for ever."""
    does = "a second `terraform plan`, which must be empty"
    return Step("second plan", does, lambda _: {"changes": stack.changes()}, {"changes": []}, minutes=5)


def _agreed(options: argparse.Namespace, steps: Sequence[Step], left: Sequence[Stack]) -> bool:
    """Say what will be done and what it costs, and ask."""
    for stack in left:
        _say(f"{stack.name} is left of an earlier start: it is destroyed first.")
    if not options.destroy:
        hours = sum(step.minutes for step in steps) / 60
        table = cost.price_table()
        items = cost.estimate(hours, table)
        _say(cost.text(items, table))
        _say(f"It takes at most {hours + cost.BUILD_HOURS:.0f} hours, mostly far less. What cannot be hurried:")
        for step in steps:
            if step.waits:
                _say(f"  {step.name}: {step.waits}")
        _say(f"Everything is made in the account {_account()}, and destroyed at the end, also after Ctrl-C.")
    elif not left:
        _say("Nothing is left of earlier starts.")
        return True
    if options.yes:
        return True
    try:
        return input("Begin? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _destroy(stack: Stack) -> None:
    _say(f"── destroy {stack.name} and all that is in it")
    try:
        stack.destroy()
    except BaseException:
        _say(f"{stack.name} is NOT destroyed: `make acceptance ARGS=--destroy` tries again.")
        raise
    _say("   nothing is left")


def _about(name: str, where: str) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": name, "where": where, "started_at": now, "version": __version__}


def _account() -> str:
    return str(boto3.client("sts").get_caller_identity()["Account"])


def _report(
    about: Mapping[str, str], results: Sequence[Result], steps: Sequence[Step], ended: str, folder: Path
) -> int:
    """Write and show the report. Returns the exit code."""
    made = report.document(about, results, [step.name for step in steps], ended)
    paths = report.write(made, folder)
    _say(report.text(made))
    _say(f"The report is in {paths[0]} and {paths[1]}")
    if ended:
        return 75
    return 0 if report.is_clean(made) else 3


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
