"""The examination: the questions about a policy's system, and what they found."""

from __future__ import annotations

from itertools import chain

from jobs.doctor import batch, buckets, events, pairs, probe, roles
from jobs.doctor.model import Line, Status, ask_all, is_offered
from jobs.doctor.system import System, region_in
from jobs.errors import AuthenticationFailed, Denied, StoreError
from jobs.policy.model import Pair, Policy


def examine(
    policy: Policy, pair: Pair | None = None, system: str | None = None, *, before: bool = False, probes: bool = False
) -> list[Line]:
    """The lines of a policy's system, or of one of its pairs. Must not be called in an event loop.

    `system`: its whole name, where a prefix stands before the policy's. `before`: of what can be asked before Terraform
    has made anything. `probes`: an object of each pair is written and removed.

    Credentials that AWS does not accept are a line, too: then it is the only one. Raises ConfigError without
    credentials.
    """
    examined = System(policy.called(system), (pair,) if pair else policy.pairs)
    try:
        identity, is_aws = _identity(examined)
        parts = (buckets, events, batch, roles, pairs, *[probe] * probes)
        questions = chain.from_iterable(part.questions(examined) for part in parts)
        if before:
            questions = chain(buckets.questions_before(examined), batch.quotas(examined))
        return [identity, *ask_all(each for each in questions if is_aws or not each.needs_aws)]
    except AuthenticationFailed as error:
        advice = "renew the credentials, and look at this machine's clock"
        return [Line("credentials", Status.FAILURE, "the account", f"AWS does not accept them: {error}", advice)]


def _identity(system: System) -> tuple[Line, bool]:
    """Who asks, and whether AWS answers at all: another server, as that of `sealift local`, names no region."""
    try:
        return Line("credentials", Status.OK, "the account", system.identity["Arn"]), True
    except AuthenticationFailed:
        raise
    except Denied as error:  # this question needs no permission
        raise AuthenticationFailed(error.operation, error.target, error.code, str(error), error.status) from error
    except StoreError as error:
        bucket = system.policy.ledger.bucket
        if region_in(system.call("s3", "HeadBucket", bucket, Bucket=bucket)) or is_offered(error):
            raise
        says = "this is not AWS, which alone has functions, queues, Batch, roles and inventories"
        return Line("services", Status.UNCHECKED, "this server", f"not checked: {says}"), False
