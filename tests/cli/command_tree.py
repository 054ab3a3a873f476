"""Every command of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import click

from jobs.cli import _COMMANDS, cli


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by its words on the command line."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    names = _COMMANDS if command is cli else command.list_commands(context)  # the worker is in no list
    for name in names:
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, f"{path} {name}".strip())


COMMANDS = dict(commands(cli, ""))


def parameters(path: str) -> list[click.Parameter]:
    """What a command takes, with the common options."""
    command = COMMANDS[path]
    return [each for each in command.get_params(click.Context(command)) if each.expose_value]
