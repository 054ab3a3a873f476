"""Man pages and shell completion of the command, written from its own help.

    python images/manual.py share        → share/man/man1/*.1, share/bash-completion/..., zsh, fish

`make dist` puts them into the wheel, which installs them beside the command.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from jobs import __version__
from jobs.cli import cli
from jobs.cli.options import ALL

COMPLETIONS: dict[str, type[ShellComplete]] = {
    "bash-completion/completions/sealift": BashComplete,
    "zsh/site-functions/_sealift": ZshComplete,
    "fish/vendor_completions.d/sealift.fish": FishComplete,
}


class RoffFormatter(click.HelpFormatter):
    """click's help as the source of a man page, for `man` to wrap and emphasise."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The synopsis."""
        self.write(f".SH SYNOPSIS\n\\fB{roff(prog)}\\fR {roff(args)}\n.SH DESCRIPTION\n")

    def write_heading(self, heading: str) -> None:
        """The title of a section."""
        self.write(f".SH {roff(heading.upper())}\n")

    def write_paragraph(self) -> None:
        """Nothing: each text begins a paragraph of its own."""

    def write_text(self, text: str) -> None:
        """Paragraphs. Those that begin with click's mark, a backspace, keep their lines."""
        for paragraph in text.split("\n\n"):
            if paragraph.startswith("\b"):
                self.write(f".PP\n.nf\n{roff(paragraph.lstrip(chr(8)).strip(chr(10)))}\n.fi\n")
            else:
                self.write(f".PP\n{roff(' '.join(paragraph.split()))}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Options or commands, each with what it does."""
        for name, what in rows:
            self.write(f".TP\n\\fB{roff(name)}\\fR\n{roff(' '.join(what.split()))}\n")


def roff(text: str) -> str:
    """The text without any meaning to roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", text)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n"))


def man_pages(command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Name and source of the page of a command, then of those below it. Hidden ones have none."""
    context = click.Context(command, info_name=command.name if parent else "sealift", parent=parent)
    name = context.command_path.replace(" ", "-")
    formatter = RoffFormatter()
    context.meta[ALL] = True
    command.format_help(context, formatter)
    head = f'.TH "{roff(name.upper())}" "1" "" "sealift {__version__}" "Sealift"\n'
    yield name, head + f".SH NAME\n{roff(name)} \\- {roff(command.get_short_help_str(200))}\n" + formatter.getvalue()
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            if (subcommand := command.get_command(context, below)) is not None and not subcommand.hidden:
                yield from man_pages(subcommand, context)


def write_files(folder: Path) -> None:
    """Write all man pages and completions below the folder."""
    files = {f"man/man1/{name}.1": page for name, page in man_pages(cli)}
    for path, shell in COMPLETIONS.items():
        files[path] = ShellComplete.source(shell(cli, {}, "sealift", "_SEALIFT_COMPLETE"))
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
