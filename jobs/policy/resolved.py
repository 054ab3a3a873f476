"""policy.json: what `sealift policy check --write` makes of a policy, and all that Terraform and the functions read.

Decoding it is the validation. An added field is no mistake, so that functions and jobs of two releases can share one.

The Lambdas import this module: nothing heavy here, and no YAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jobs.core.model import Location, ObjectRef
from jobs.errors import Mistake, NoSuchBucket, NotFound, PolicyError
from jobs.policy.model import Policy

if TYPE_CHECKING:
    from jobs.s3.store import Store

MAX_BYTES = 1_000_000
FILE_NAME = "policy.json"
"""Its name in the ledger, where Terraform puts it."""


class ResolvedPolicy(Struct, frozen=True, kw_only=True):
    """A checked policy with every value filled in, and what it was made of.

    `file`: the name of the YAML file, which lies in the same folder. `sha256`: of its bytes.
    """

    format: Literal[1] = 1
    file: str
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    policy: Policy


def encode_policy(resolved: ResolvedPolicy) -> bytes:
    """The file: the same bytes for the same policy."""
    return msgspec.json.format(msgspec.json.encode(resolved)) + b"\n"


def decode_policy(data: bytes, name: str) -> Policy:
    """The policy in a policy.json called `name`. Raises PolicyError."""
    try:
        return msgspec.json.decode(data, type=ResolvedPolicy).policy
    except (ValueError, RecursionError) as error:
        wanted = "make it again: sealift policy check POLICY.yaml --write policy.json"
        raise PolicyError(name, [Mistake("", "", f"is no policy.json of this version ({error}): {wanted}")]) from None


async def load_bytes(where: str, store: Store) -> bytes:
    """The bytes of a policy at an s3:// URI, or in a local file. Raises PolicyError, and StoreError when S3 refuses."""
    if not where.startswith("s3://"):
        return read_bytes(where)
    location = Location.parse(where)
    try:
        body = await store.get(ObjectRef(location.bucket, location.key), end=MAX_BYTES + 1)
    except (NotFound, NoSuchBucket) as error:
        raise PolicyError(where, [Mistake("", "", f"not there ({error.code}): correct the address")]) from None
    return _checked(body.data, where)


def read_bytes(path: str) -> bytes:
    """The bytes of a local file. Raises PolicyError."""
    try:
        with Path(path).open("rb") as file:
            return _checked(file.read(MAX_BYTES + 1), path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(path, [Mistake("", "", f"not readable ({reason}): correct the path")]) from None


def _checked(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise PolicyError(name, [Mistake("", "", f"larger than {MAX_BYTES:,} bytes: this is not a policy")])
    return data
