"""A job that was started by name asks, before it does anything, whether it is the one of that name.

Batch has no token for a submission: where a submitter dies before it has recorded the job's id, another one may submit
a second. The first to be recorded stands, by its submitter or by itself; the other one ends at once.
"""

from __future__ import annotations

from jobs.core.model import Attributes, Location, ObjectRef
from jobs.errors import PreconditionFailed
from jobs.ledger.guard import ledger_guard
from jobs.ledger.job_starts import decode_record, encode_record, record_name
from jobs.s3.retries import try_often
from jobs.s3.store import Store

_JSON = Attributes(headers={"content-type": "application/json"})


async def stand(store: Store, ledger: Location, name: str, job_id: str) -> str:
    """Record that this job is the one of its name, unless another one is; the id of the one that is.

    Raises StoreError when the ledger cannot be asked.
    """
    place, guard = ledger.join(record_name(name)), ledger_guard(record_name(name))
    try:
        await try_often(lambda: store.put(place.bucket, place.key, encode_record(job_id), _JSON, guard=guard))
    except PreconditionFailed:
        return decode_record((await try_often(lambda: store.get(ObjectRef(*place)))).data)
    return job_id
