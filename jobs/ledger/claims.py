"""Claims: who does something that only one may do at a time.

    <ledger>/<name>/000001.json     who has it, written once. The last number counts

A claim is taken over `CLAIM_SECONDS` after it was made. That is safe: work that two do
at once has the same effect, and before a job is started AWS Batch is asked for one of that name. Its
age is the difference of S3's own times: of the claim, and of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs.core.model import Location, ObjectRef
from jobs.ledger.files import last_number, numbered, write_once
from jobs.s3.retries import retry
from jobs.s3.store import Store

CLAIM_SECONDS = 900.0


async def claim(store: Store, ledger: Location, name: str, who: Mapping[str, Any]) -> bool:
    """True if `who` has what is named, from now on or since before: a maker that says the same again is itself.

    Raises StoreError.
    """
    data, folder = json.dumps(who, sort_keys=True).encode(), ledger.join(f"{name}/")
    if number := await last_number(store, folder):
        last = await retry(lambda: store.get(ObjectRef(*folder.join(numbered(number)))))
        if last.data == data:
            return True
        if (last.answered_at or 0.0) - last.info.last_modified < CLAIM_SECONDS:
            return False
    return await write_once(store, ledger, f"{name}/{numbered(number + 1)}", data)
