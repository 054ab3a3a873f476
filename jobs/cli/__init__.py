"""The command line: the only code that prints or exits. A command loads when it is used.

Each command has a module and a class of its name. The module of a group has a table `COMMANDS`, and its
docstring is the group's help. The fields of a class are the options (`options`), its `run` makes the answer.
Reading order: `options`, `command` (the frame: what is opened, the one way to answer), `run_command` (the
frame of what plans, asks, runs and reports), `texts` (plans and reports as text), `console` (progress,
tables, JSON, standard streams).

Nothing here decides what happens to an object.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import click

from jobs import __version__, interrupts
from jobs.cli.console import ANSWER, emit, say
from jobs.cli.options import DEBUG, Command, Options
from jobs.core.display import without_passwords
from jobs.core.parentage import PARENT
from jobs.errors import ConfigError, ExitCode, Interrupted, SealiftError, SealiftWarning, StoreError, UsageError

_COMMANDS = {
    "inventory": "List a bucket into a report of S3 Inventory's shape.",
    "replicate": "Copy the objects of a manifest, guarded and proven.",
    "verify": "Prove that copies are the same as their originals.",
    "reconcile": "Compare two inventories; report and repair what differs.",
    "compact": "Pack small cold objects into few archives.",
    "restore": "Bring objects back out of archives, or a bucket as it was.",
    "rollback": "Put a bucket back in place, as it was at a time; with undo.",
    "drill": "Restore a sample on trial, compare it, and remove it again.",
    "expire": "Delete originals whose copy is proven; a dry run by default.",
    "archives": "List archives, find members, rebuild a lost index.",
    "nightly": "A pair's night by hand: reconcile, repair, verify, summary.",
    "status": "One screen: what runs, what is wrong, and what to do about it.",
    "runs": "List, show, follow and retry runs, from the ledger alone.",
    "query": "Ask the ledger in SQL: runs, outcomes, differences, state, findings.",
    "local": "The event-driven system on this machine, without an AWS account.",
    "events": "List events that no attempt could handle, and return them.",
    "doctor": "Ask whether the system works, and what to do where it does not.",
    "policy": "Check the policy file; explain what it means for an object.",
    "worker": "",
}

_EPILOG = """\b
Exit codes:
   0  done, every row ended well
   1  a bug in Sealift
   2  usage, or a limit was exceeded
   3  rows that did not end well, or differences
  10  bad configuration, manifest or ledger
  75  transient or interrupted: continue with `sealift runs retry RUN`;
      expire, reconcile, nightly: start the same command again"""


_show_others = warnings.showwarning


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Python's hook for warnings: ours become a line for people, all others stay as they are."""
    if issubclass(category, SealiftWarning):
        say(f"sealift: warning: {message}")
    else:
        _show_others(message, category, *place, **more)


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called (for a fast
    start).
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, summary in _COMMANDS.items() if summary]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"jobs.cli.{cmd_name}")
        kinds: dict[str, type[Options]] = getattr(module, "COMMANDS", {})
        if not kinds:
            return Command(getattr(module, cmd_name.capitalize()), cmd_name, hidden=not _COMMANDS[cmd_name])
        commands = [Command(kind, name) for name, kind in kinds.items()]
        return click.Group(cmd_name, help=module.__doc__, commands=commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, summary in _COMMANDS.items() if summary])


@click.command(
    cls=_LazyGroup,
    commands={name: click.Command(name) for name in _COMMANDS},  # the names that click proposes
    epilog=_EPILOG,
    params=[DEBUG],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="sealift")
def cli() -> None:
    """Sealift keeps very large S3 buckets replicated and provably intact.

    Every run is planned, priced, worked through in shards, and accounts for every row of its
    manifest in the ledger, an S3 prefix that you name with --ledger or SEALIFT_LEDGER.

    --dry-run, --yes, --json, --executor, --ledger, --policy and --debug mean the same wherever they
    are taken. --help shows what most need of a command, --help-all all of it.

    \b
    Try:
      sealift replicate --source s3://bucket/prefix --destination s3://copies/prefix --dry-run
      sealift verify    --source s3://bucket/prefix --destination s3://copies/prefix
      sealift runs list
    """


def main(arguments: list[str] | None = None) -> None:
    """The `sealift` command.

    SIGTERM ends it as Ctrl-C does, so that it leaves no scratch files behind.
    """
    _open_missing_streams()
    code = int(ExitCode.TRANSIENT)
    with contextlib.suppress(KeyboardInterrupt):  # also while an error is said
        interrupts.install(_end_at_once)
        if os.environ.get(PARENT):
            from jobs.runs.parent_pipe import watch_parent

            watch_parent()
        code = run(arguments)
    _leave(code)


def _open_missing_streams() -> None:
    """Open the null device as each standard stream that the caller closed (`<&-`, `>&-`, `2>&-`).

    Else its number, the lowest free one, goes to the next connection, which then gets the output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))


def _end_at_once() -> None:
    """End the process from a thread, in the middle of its work: the main thread does not end it."""
    with contextlib.suppress(OSError):
        say("sealift: interrupted a second time: requests under way were not awaited")
    os._exit(ExitCode.TRANSIENT)


def _leave(code: int) -> NoReturn:
    """End the process with this code, after the exit handlers have run and output is flushed.

    The interpreter is not shut down. During a shutdown a thread of Arrow's pool may give back the
    last reference to a Python file, which aborts the process (apache/arrow issue 34314). A run that
    is complete would then end as 134, which an executor must take for a crash.
    """
    interrupts.ignore()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has left, it is closed, or its disk is full
            stream.flush()
    os._exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code. Errors and warnings become one line each on
    stderr. With --json an error is also the one document on stdout.
    """
    warnings.showwarning = _show_warning
    as_json = _is_json(sys.argv[1:] if arguments is None else arguments)
    ANSWER.is_given = False
    try:
        code: int = cli.main(args=arguments, standalone_mode=False, prog_name="sealift")
        sys.stdout.flush()
        return code
    except click.exceptions.NoArgsIsHelpError as help_text:
        say(help_text.format_message())
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        advice = f"see `{context.command_path if context else 'sealift'} --help`"
        return fail(UsageError(error.format_message().rstrip("."), advice=advice), as_json=as_json)
    except SystemExit as stop:  # click: 0 after a completion for the shell, 1 when the reader of stdout is gone
        return int(ExitCode.TRANSIENT if stop.code else ExitCode.DONE)
    except BrokenPipeError:
        return int(ExitCode.TRANSIENT)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  any error that is not ours is a bug of ours
        return fail(error, as_json=as_json)


def _is_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for one JSON document. It need not be a valid command line."""
    return "--json" in arguments or "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


BUG = "Bug"
"""The code of any error that no class of `jobs.errors` describes."""


def fail(error: BaseException, *, as_json: bool = False) -> int:
    """Say why the command ends: an error of ours, an interrupt, a full disk, or a bug. Returns the exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt) or interrupts.is_interrupt(error):
        interrupts.ignore()
        error = Interrupted("interrupted")
    elif not isinstance(error, SealiftError) and any(_FULL.search(str(each)) for each in _causes(error)):
        error = ConfigError(f"no space is left: {error}", advice="free some, or set TMPDIR to a larger disk")
    elif not isinstance(error, SealiftError):
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
        error = SealiftError("this is a bug in Sealift", advice="please report the lines above")
    text = str(error)
    if isinstance(error, StoreError) and not error.own_advice:  # it names no option
        text = f"{text.rstrip('.')}; {error.advice}"
    message = without_passwords(" ".join(text.split()))
    with contextlib.suppress(OSError):  # the terminal may be gone, with the parent
        say(f"sealift: {message}")
    if as_json and not ANSWER.is_given:
        kind = next(each for each in type(error).__mro__ if each.__module__ == SealiftError.__module__)
        code = BUG if kind is SealiftError else kind.__name__
        document = {"code": code, "message": message, "advice": advice_of(error), "exit_code": int(error.exit_code)}
        with contextlib.suppress(OSError):
            emit({"error": document}, as_json=True, text="")
            sys.stdout.flush()
    return int(error.exit_code)


def advice_of(error: SealiftError) -> str:
    """What to do about an error, on one line and without secrets. Never empty."""
    return without_passwords(" ".join(error.advice.split()))


_FULL = re.compile("no space left on device|disk quota exceeded|max_temp_directory_size", re.IGNORECASE)
"""How the C library, Arrow and DuckDB say it."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those that a task group holds, and what they came from."""
    while error is not None:
        yield error
        nested = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = nested or error.__cause__ or error.__context__
