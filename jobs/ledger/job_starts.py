"""The record of which Batch job of a name does the work: `<ledger>/starts/<name>.submitted.json`. Pure.

Whoever submits a job writes it when Batch has answered, and the job itself when it begins: the first one stands. The
bytes are the same whoever writes them, so that neither takes the other for somebody else.
"""

from __future__ import annotations

import json

from jobs.errors import LedgerError


def record_name(name: str) -> str:
    """Where the record of a job's name lies in the ledger."""
    return f"starts/{name}.submitted.json"


def encode_record(job_id: str) -> bytes:
    """The record that this job stands."""
    return json.dumps({"job_id": job_id}, indent=2).encode()


def decode_record(data: bytes) -> str:
    """The id of the job that holds the claim. Raises LedgerError."""
    try:
        return str(json.loads(data)["job_id"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LedgerError(f"a claim of starts/ cannot be read ({error}): the ledger was altered") from error
