"""What a command does first where Batch runs it as a job that was started by name: see that it is the only one."""

from __future__ import annotations

import asyncio

from jobs.cli.options import ledger_location
from jobs.config import Settings
from jobs.errors import UsageError
from jobs.ledger.job_starts import claim_start
from jobs.s3.sessions import open_store


def require_claim(name: str, job_id: str) -> None:
    """Raises UsageError when another job of that name does the work; this one then does none of it."""
    location = ledger_location(None, Settings.from_environment())
    standing = asyncio.run(claim_start(open_store(None, None, None, max_in_flight=8), location, name, job_id))
    if standing != job_id:
        raise UsageError(
            f"another job does this work: {name} is {standing}, this is {job_id}; nothing was done here. "
            "To do it once more, submit it without SEALIFT_START"
        )
