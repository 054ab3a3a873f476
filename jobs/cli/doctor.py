"""`sealift doctor`: asks whether the system works, and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from jobs.cli.command import Answer, JsonCommand, PolicyOptions, read_policy
from jobs.cli.console import table
from jobs.cli.options import flag, shared
from jobs.config import Settings

if TYPE_CHECKING:
    from jobs.doctor.model import Line


class Doctor(PolicyOptions, JsonCommand):
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

    pair: str | None = shared("pair", "Look at this pair of the policy only.")
    before: bool = flag("Ask what can be asked before terraform apply: what it takes over, and quotas.")
    probe: bool = flag("Write an object at each source, wait for its copy, and remove both.")

    def run(self) -> Answer:
        """The questions, answered."""
        from jobs.doctor.examine import examine
        from jobs.doctor.model import Status, exit_code

        policy, system = read_policy(self.policy), Settings.from_environment().system
        pair = policy.find_pair(self.pair) if self.pair is not None else None
        lines = examine(policy, pair, system, before=self.before, probes=self.probe)
        code = exit_code(lines)
        counts = {status.value: sum(line.status == status for line in lines) for status in Status}
        document = {
            "system": str(policy.called(system).name),
            "exit_code": int(code),
            "counts": counts,
            "lines": [asdict(line) for line in lines],
        }
        return Answer(document, "" if self.as_json else _text(lines, counts), code)


def _text(lines: list[Line], counts: dict[str, int]) -> str:
    """The table, the worst lines last, where a terminal shows them."""
    order = list(counts)
    rows = [asdict(line) for line in sorted(lines, key=lambda line: order.index(line.status))]
    summary = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count or status != "unchecked")
    plan = "Whether the account is as configured: terraform plan -detailed-exitcode"
    return f"{table(rows, ('status', 'check', 'subject', 'says', 'advice'))}\n\n{summary}\n{plan}"
