"""Start records: the Batch job that does the work of its name.

    <ledger>/starts/<name>.submitted.json

AWS Batch has no token for a submission. Where a submitter dies before it has recorded the job's id,
another one may submit a second job of that name. The submitter writes the record when Batch has
answered, and the job itself when it begins: the first record wins, and the other job ends at once.
Submitter and job write identical bytes, so a lost answer is recognised as our own write.
"""

from __future__ import annotations

import json

from jobs.core.model import Location
from jobs.errors import LedgerError, PreconditionFailed
from jobs.ledger.files import read_file, write_file
from jobs.s3.retries import retry
from jobs.s3.store import Store


def start_record_name(name: str) -> str:
    """Where the record of a job's name lies in the ledger."""
    return f"starts/{name}.submitted.json"


def encode_start_record(job_id: str) -> bytes:
    """The record that this job holds its name."""
    return json.dumps({"job_id": job_id}, indent=2).encode()


def decode_start_record(data: bytes) -> str:
    """The id of the job that holds the name. Raises LedgerError."""
    try:
        return str(json.loads(data)["job_id"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LedgerError(f"a claim of starts/ cannot be read ({error}): the ledger was altered") from error


async def claim_start(store: Store, ledger: Location, name: str, job_id: str) -> str:
    """Record this job as the one of its name, unless another job is → the id of the job that is.

    Raises StoreError when the ledger does not answer.
    """
    record = start_record_name(name)
    try:
        await write_file(store, ledger, record, encode_start_record(job_id))
    except PreconditionFailed:
        return decode_start_record(await read_file(store, ledger, record, tries=retry))
    return job_id
