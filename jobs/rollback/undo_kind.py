"""The undo of a rollback. It removes versions, so the ledger alone neither continues nor retries it."""

from __future__ import annotations

from msgspec.structs import replace

from jobs.rollback.kind import KIND as ROLLBACK
from jobs.rollback.kind import again

KIND = replace(ROLLBACK, deletes=True, not_resumed=again)
