"""The claim of a command on a run: earlier commands and submissions stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from jobs.config import Settings
from jobs.core.display import Display
from jobs.core.model import Location
from jobs.ledger.ledger import Ledger
from jobs.runs.leases import LEASE_SECONDS, holder, open_leases, write_launch
from jobs.s3.sessions import open_store

SHOWN_LEASES = 8


async def claim_run(run_id: str, location: Location, settings: Settings, display: Display) -> str:
    """Claim the run for this command, and say which attempts may still be at work.

    Returns the launch's id.
    """
    ledger = Ledger(open_store(None, None, None, max_in_flight=8), location)
    try:
        launch_id, who = f"local-{secrets.token_hex(8)}", holder(settings.batch_job_id)
        claimed = await write_launch(ledger, run_id, launch_id, who, "another command that works on this run")
        others = await open_leases(ledger, run_id, SHOWN_LEASES) if claimed.number > 0 else []
    finally:
        await ledger.store.close()
    if others:
        display.say(
            f"run {run_id} has attempts that have not ended: {'; '.join(map(str, others))}. "
            f"Those still at work stop now. Their shards wait for that, {LEASE_SECONDS:.0f} s at most"
        )
    return launch_id


async def stop_workers(ledger: Ledger, run_id: str, command: str, say: Callable[[str], None]) -> None:
    """Claim a run that has not ended, so that its workers stop, and wait for their last requests.

    `command`: what the workers name as the reason. `say` tells the user of the wait.
    """
    attempts = await open_leases(ledger, run_id, 1)
    if not attempts and await ledger.report(run_id) is not None:
        return
    await write_launch(ledger, run_id, f"stop-{secrets.token_hex(8)}", holder(None), command)
    say(f"Run {run_id} has not ended: its workers stop now. Their last requests may take {LEASE_SECONDS:.0f} s.")
    await asyncio.sleep(LEASE_SECONDS)


def say_superseded(run_id: str, display: Display) -> Callable[[str], None]:
    """A function that says which launch has claimed the run since."""
    return lambda by: display.say(f"run {run_id}: {by}; this command stops")
