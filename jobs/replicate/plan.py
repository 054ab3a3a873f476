"""Plan of a replicate run: what is at the destination already is done with the plan."""

from __future__ import annotations

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.enums import AnnotationRule
from jobs.core.run import RunSpec, earlier_run
from jobs.ledger.ledger import Ledger
from jobs.runs.launch import plan_run
from jobs.runs.request import Planned, Request
from jobs.s3.sessions import service_of

FROM_EVENTS = "from_events"
"""The option of a run over rows that the backup function left."""


async def plan_copies(request: Request, ledger: Ledger, settings: Settings, display: Display) -> Planned:
    """Plan a replicate run. Raises as `plan_run`."""
    return await plan_run(request, ledger, settings, display, copies=True, lists_copies=_lists_copies)


def _lists_copies(spec: RunSpec) -> bool:
    """Rows of an earlier run are looked at one by one: something was wrong with each. So are events' versions.

    So are streamed copies at AWS, which lack annotations if their worker was killed.
    """
    options = spec.options
    may_lack = options.get("streamed") and options.get("annotations", AnnotationRule.COPY) == AnnotationRule.COPY
    is_looked_at = earlier_run(spec) or options.get(FROM_EVENTS)
    return not is_looked_at and not (may_lack and service_of(spec.destination).is_aws)
