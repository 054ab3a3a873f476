"""The frame of a command: what many take and open, and the one way to answer and to end.

A command is a class of options (`options`) that derives from what it needs: `JsonCommand` answers,
`LedgerOptions` and `PolicyOptions` open, `SourceAccess` and `SidesAccess` reach a side.
Commands that make a run derive from those of `run_command`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs import interrupts
from jobs.cli.console import emit
from jobs.cli.options import Account, Options, Place, Url, rare, shared
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.errors import ExitCode, UsageError

if TYPE_CHECKING:  # a command does not load what it does not use
    from jobs.ledger.ledger import Ledger
    from jobs.policy.model import Pair, Policy


class Answer(NamedTuple):
    """What a command answers: one document, the same as text, and the exit code."""

    document: Any
    text: str
    code: int = ExitCode.DONE


Work = Coroutine[Any, Any, Answer]


class JsonCommand(Options):
    """A command that answers with text or one JSON document."""

    as_json: bool = shared("json", default=False)

    def run(self) -> Answer | Work:
        """Answer, or what answers in an event loop. Must not be called in one."""
        raise NotImplementedError  # options that are no command by themselves, as `StartOptions` in `expire`

    def main(self) -> int:
        """Print the answer. Returns the exit code."""
        answer = self.run()
        if not isinstance(answer, Answer):
            answer = interrupts.run(answer)
        emit(answer.document, as_json=self.as_json, text=answer.text)
        return int(answer.code)


class LedgerOptions(Options):
    """Which ledger: --ledger, SEALIFT_LEDGER or the policy's, in this order."""

    ledger: Location | None = rare(
        "Where runs are recorded. Default: SEALIFT_LEDGER, or the policy's.",
        type=Place,
        envvar="SEALIFT_LEDGER",
        default=None,
    )

    def open_ledger(self) -> Ledger:
        """The ledger, with patience. Must not be called in an event loop. Raises UsageError."""
        from jobs.runs.request import open_ledger

        return open_ledger(ledger_location(self.ledger))


class LedgerCommand(LedgerOptions, JsonCommand):
    """A command that answers, from a ledger."""


class PromptCommand(LedgerCommand):
    """A command that asks a ledger, and for which a person waits."""

    def run(self) -> Work:
        """Answer from a ledger that answers itself."""
        from jobs.runs.request import open_prompt_ledger

        return self.ask(open_prompt_ledger(ledger_location(self.ledger)))

    @abstractmethod
    async def ask(self, ledger: Ledger) -> Answer:
        """The answer."""


class PolicyOptions(Options):
    """Which policy: --policy or SEALIFT_POLICY."""

    policy: str | None = shared("policy")

    def read_system(self) -> Policy:
        """The policy, by the name of the system that it is about (SEALIFT_SYSTEM). See `read_policy`."""
        return read_policy(self.policy).called(Settings.from_environment().system)


class SourceAccess(Options):
    """How the source is reached."""

    source_endpoint: str | None = rare("Endpoint of the source. Default: the one that boto3 finds.", type=Url)
    source_profile: str | None = rare("Credentials profile for the source.", metavar="NAME")
    source_owner: str | None = rare("Account that has to own the bucket of the source.", type=Account)

    def source_side(self, location: Location) -> Side:
        """The source at this location."""
        return Side(location, self.source_endpoint, None, self.source_profile, self.source_owner)


class SidesAccess(SourceAccess):
    """How both sides are reached."""

    destination_endpoint: str | None = rare("Endpoint of the destination. Default: the one that boto3 finds.", type=Url)
    destination_profile: str | None = rare("Credentials profile for the destination.", metavar="NAME")
    destination_owner: str | None = rare("Account that has to own the bucket of the destination.", type=Account)

    def destination_side(self, location: Location) -> Side:
        """The destination at this location."""
        return Side(location, self.destination_endpoint, None, self.destination_profile, self.destination_owner)


class ChecksumsOptions(Options):
    """Evidence at rest of both sides."""

    source_checksums: str | None = rare(
        "Evidence at rest of the source: manifest.json of a Compute checksum job.", metavar="URI"
    )
    destination_checksums: str | None = rare(
        "Evidence at rest of the destination: manifest.json of a Compute checksum job.", metavar="URI"
    )


def choose_pair(name: str, policy_file: str | None, ledger: Location | None) -> tuple[Policy, Pair, Location]:
    """The pair of this name, with its policy and the ledger of its runs. Must not be called in an event loop.

    The ledger is the one of --ledger, SEALIFT_LEDGER or the policy, in this order. Raises
    UsageError, PolicyError, StoreError.
    """
    policy = read_policy(policy_file)
    return policy, policy.find_pair(name), ledger_location(ledger, policy)


def read_policy(file: str | None) -> Policy:
    """The policy at a path or an s3:// URI. Must not be called in an event loop.

    Raises UsageError for None, PolicyError and StoreError.
    """
    from jobs.policy import reader

    if file is None:
        raise UsageError("no policy file", advice="name one, or set SEALIFT_POLICY")
    if not file.startswith("s3://"):
        return reader.read_policy(file)
    from jobs.s3.sessions import open_store

    return interrupts.run(reader.load_policy(file, open_store(None, None, None, max_in_flight=2)))


def ledger_location(ledger: Location | None, policy: Policy | None = None) -> Location:
    """The ledger of --ledger or SEALIFT_LEDGER, else the policy's. `policy`: None for SEALIFT_POLICY's.

    Must not be called in an event loop. Raises UsageError where no option or variable names one.
    """
    if ledger:
        return ledger
    file = Settings.from_environment().policy
    if not (policy or file):
        advice = "give --ledger s3://bucket/prefix, or set SEALIFT_LEDGER, or SEALIFT_POLICY to a policy file"
        raise UsageError("no ledger", advice=advice)
    return Location.parse((policy or read_policy(file)).ledger.uri)


def is_local() -> bool:
    """True in the environment of `sealift local`, which sends every request to this machine."""
    from jobs.s3.http.endpoints import given_endpoint, is_loopback

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return is_loopback(given_endpoint(endpoint)) if endpoint else False
