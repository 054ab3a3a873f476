"""`sealift policy bind`: what Terraform made, as the environment of this command line."""

from __future__ import annotations

import json
import shlex
from typing import IO, Any

import click

from jobs.cli.console import emit
from jobs.cli.options import json_option
from jobs.config import Settings
from jobs.errors import ConfigError, ExitCode


@click.command()
@click.option(
    "--terraform-output",
    "file",
    type=click.File(encoding="utf-8"),
    required=True,
    metavar="FILE",
    help="What `terraform output -json` printed; - reads it from stdin.",
)
@json_option()
def bind(file: IO[str], as_json: bool) -> int:
    """Print SEALIFT_* variables for what Terraform made: ledger, policy, job queues, job definition.

    \b
    terraform -chdir=terraform output -json | sealift policy bind --terraform-output - > sealift.env
    set -a; . ./sealift.env; set +a
    """
    environment = _environment(file)
    Settings.from_environment(environment)
    lines = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    emit(environment, as_json=as_json, text="\n".join(lines))
    return int(ExitCode.DONE)


def _environment(file: IO[str]) -> dict[str, str]:
    """Raises ConfigError for what is no output of the module in terraform/."""
    try:
        outputs: Any = json.load(file)
    except ValueError as error:
        raise ConfigError(f"{file.name} is not JSON ({error}): expected what `terraform output -json` prints") from None
    found = outputs.get("environment") if isinstance(outputs, dict) else None
    values = found.get("value") if isinstance(found, dict) else None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError(
            f"{file.name} has no output `environment` with names and values: was it printed by "
            "`terraform output -json` in the folder of this module, after terraform apply?"
        )
    return {name: values[name] for name in sorted(values)}
