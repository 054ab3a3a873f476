"""Check the policy file, and explain what it means for an object.

The file names each protected bucket, where its copy goes, and how the copy is proven.
policy.example.yaml explains every field.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from jobs.cli.command import Answer, JsonCommand, PolicyOptions, read_policy
from jobs.cli.options import Place, argument, option
from jobs.core.display import shown
from jobs.core.model import Location
from jobs.errors import ConfigError, ExitCode, PolicyError, UsageError
from jobs.policy.coverage import explain
from jobs.policy.model import Pair, Policy
from jobs.policy.reader import mistake_of, resolve_policy
from jobs.policy.resolved import encode_policy
from jobs.policy.rules import find_refusals, find_warnings
from jobs.policy.run_options import named_places
from jobs.reports.figures import plural


class Check(JsonCommand):
    """Check the policy.

    FILE is a path or s3:// (default: SEALIFT_POLICY). Reports every mistake at once. Warns of alarms that reach nobody,
    nights at times that clocks jump over, nights that miss what expires, and what AWS would refuse. --write refuses the
    latter, and writes what Terraform, functions and jobs read. With --json the answer holds the whole policy.

    \b
    sealift policy check policy.yaml --write policy.json
    """

    file: str | None = argument(required=False, envvar="SEALIFT_POLICY")
    write: str | None = option("Write the checked policy to FILE, beside the YAML, for Terraform.", metavar="FILE")

    def run(self) -> Answer:
        """What is wrong, or what the policy means."""
        name = self.file or ""
        try:
            found = _write(name, self.write) if self.write else read_policy(self.file)
        except PolicyError as error:
            mistakes = [mistake._asdict() for mistake in error.mistakes]
            lines = [f"{error.file}: {plural(len(mistakes), 'mistake')}"]
            lines += [f"  {shown(str(mistake))}" for mistake in error.mistakes]
            document = {"file": error.file, "valid": False, "mistakes": mistakes, "policy": None}
            return Answer(document, "\n".join(lines), ExitCode.CONFIG)
        findings = [*find_warnings(found, datetime.now(UTC).date()), *find_refusals(found)]
        whole = msgspec.to_builtins(found)
        warnings = [str(mistake_of(each, whole)) for each in findings]
        lines = [
            f"{name}: right",
            *(f"  warning: {text}" for text in warnings),
            *(_pair_text(found, pair) for pair in found.pairs),
        ]
        lines += [f"{self.write}: written"] if self.write else []
        document = {"file": name, "valid": True, "mistakes": [], "warnings": warnings}
        return Answer(document | {"policy": whole}, "\n".join(lines))


class Explain(PolicyOptions, JsonCommand):
    """Explain which pair protects an object and why, where its copies go, and which archive rules
    may take it.

    It asks S3 nothing. With --json the answer holds all settings of the pair.
    """

    uri: Location = argument(metavar="s3://BUCKET/KEY", type=Place)

    def run(self) -> Answer:
        """The explanation."""
        answer = explain(read_policy(self.policy), self.uri.bucket, self.uri.key)
        code = ExitCode.DONE if answer.pair and not answer.copy_problem else ExitCode.FINDINGS
        owner = f"the pair {answer.pair}" if answer.pair else "not protected"
        said = {"copy": answer.copy, "problem": answer.copy_problem, "replica": answer.replica}
        said["archived"] = ", ".join(f"by {name}" for name in answer.archive_rules)
        lines = [f"{answer.source}: {owner}: {answer.reason}"]
        lines += [f"  {name:10}{value}" for name, value in said.items() if value]
        return Answer(msgspec.to_builtins(answer), "\n".join(map(shown, lines)), code)


def _write(name: str, target: str) -> Policy:
    """Write policy.json beside the YAML file. Raises UsageError, PolicyError, ConfigError."""
    file, there = Path(name), Path(target)
    is_beside = file.resolve().parent == there.resolve().parent
    if not name or name.startswith("s3://") or file.suffix == ".json" or not is_beside:
        raise UsageError(f"--write {target!r}", advice="name a YAML file of this machine, and write beside it")
    resolved = resolve_policy(name)
    data = msgspec.to_builtins(resolved.policy)
    if refused := [mistake_of(each, data) for each in find_refusals(resolved.policy)]:
        raise PolicyError(name, refused)
    try:
        there.write_bytes(encode_policy(resolved))
    except OSError as error:
        raise ConfigError(f"--write {target}: {error.strerror}", advice="name another file") from error
    return resolved.policy


def _pair_text(policy: Policy, pair: Pair) -> str:
    source, copy = named_places(policy, pair).values()
    night = f"{pair.nightly.hour} {pair.nightly.time_zone}" if pair.nightly.enabled else "no night of its own"
    where = "across regions" if pair.source.region != pair.destination.region else "same region"
    if pair.destination.account != pair.source.account:
        where += f", to account {pair.destination.account}"
    return shown(f"  {pair.name}: {source} → {copy} ({where}, {night})")


COMMANDS = {"check": Check, "explain": Explain}
