"""`sealift doctor`: asks whether the system works, and says what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.cli.console import emit, table
from jobs.cli.options import Command, command_options, flag, shared, takes
from jobs.cli.policy_and_ledger import find_pair, read_policy
from jobs.config import Settings

if TYPE_CHECKING:
    from jobs.doctor.model import Line


@command_options
class DoctorCommand:
    """`sealift doctor`, as it was typed."""

    pair: str | None = shared("pair", "Look at this pair of the policy only.")
    before: bool = flag("Ask what can be asked before terraform apply: what it takes over, and quotas.")
    probe: bool = flag("Write an object at each source, wait for its copy, and remove both.")
    policy: str | None = shared("policy")
    as_json: bool = shared("json")


@click.command(cls=Command)
@takes(DoctorCommand)
def doctor(options: DoctorCommand) -> int:
    """Ask whether the system works, and what to do where it does not.

    Who am I? Do buckets keep versions, take conditions and notify? May each role do what its job does? Are queues and
    dead letters empty, inventories fresh, the last nights good? Can Batch start a job? Does anybody hear of alarms? It
    changes nothing but the objects of --probe. Whether the account is as configured, `terraform plan
    -detailed-exitcode` says.

    A line is ok, warning or failure. What nobody could find out is a warning. Exit code 0: all is ok. 3: there are
    warnings. 10: there are failures.

    \b
    sealift doctor --policy policy.yaml --before
    sealift doctor --pair scans --probe --json
    """
    from jobs.doctor.examine import examine
    from jobs.doctor.model import Status, exit_code

    policy, system = read_policy(options.policy), Settings.from_environment().system
    pair = find_pair(policy, options.pair) if options.pair is not None else None
    lines = examine(policy, pair, system, before=options.before, probes=options.probe)
    code = exit_code(lines)
    counts = {status.value: sum(line.status == status for line in lines) for status in Status}
    document = {
        "system": str(policy.called(system).name),
        "exit_code": int(code),
        "counts": counts,
        "lines": [asdict(line) for line in lines],
    }
    emit(document, as_json=options.as_json, text="" if options.as_json else _text(lines, counts))
    return int(code)


def _text(lines: list[Line], counts: dict[str, int]) -> str:
    """The table, the worst lines last, where a terminal shows them."""
    order = list(counts)
    rows = [
        [line.status.value, line.check, line.subject, line.says, line.advice]
        for line in sorted(lines, key=lambda line: order.index(line.status))
    ]
    summary = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count or status != "unchecked")
    plan = "Whether the account is as configured: terraform plan -detailed-exitcode"
    return f"{table(['status', 'check', 'subject', 'what was found', 'what to do'], rows)}\n\n{summary}\n{plan}"
