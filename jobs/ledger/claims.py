"""Claims: who does something that only one may do at a time.

    <ledger>/<name>/000001.json     who has it, written once. The last number counts

A claim is taken over `CLAIM_SECONDS` after it was made, and only if its maker is dead: what was begun
there goes on. Its age is the difference of S3's own times: of the claim, and of the answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jobs.core.model import Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.ledger.files import list_names, write_once
from jobs.s3.retries import retry
from jobs.s3.store import Store

CLAIM_SECONDS = 900.0


async def claim(
    store: Store,
    ledger: Location,
    name: str,
    who: Mapping[str, Any],
    *,
    is_dead: Callable[[], Awaitable[bool]] | None = None,
) -> bool:
    """True if `who` has what is named, from now on or since before: a maker that says the same again is itself.

    `is_dead`: whether AWS Batch has no job that may do it (any more). It is asked only about an old claim.
    None: such a claim hinders nobody, as what two do at once is done once. Raises StoreError.
    """
    data = json.dumps(who, sort_keys=True).encode()
    names = set(await list_names(store, ledger.join(f"{name}/")))
    number = next(number for number in itertools.count(1) if _file(number) not in names)
    if number > 1:
        last = ObjectRef(*ledger.join(f"{name}/{_file(number - 1)}"))
        there = await retry(lambda: store.get(last))
        if there.data == data:
            return True
        age_seconds = (there.answered_at or 0.0) - there.info.last_modified
        if age_seconds < CLAIM_SECONDS or (is_dead is not None and not await is_dead()):
            return False
    try:
        await write_once(store, ledger, f"{name}/{_file(number)}", data)
    except PreconditionFailed:
        return False
    return True


def _file(number: int) -> str:
    return f"{number:06d}.json"
