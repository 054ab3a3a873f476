"""Objects of S3 as files, read by smart-open, with S3's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from jobs.core.model import Location
from jobs.errors import Denied, Unavailable, store_error


@contextmanager
def open_object(location: Location, client: Any) -> Iterator[Any]:
    """The object as a file for reading. `client` is boto3's. `store_errors` makes its errors ours."""
    from smart_open import s3

    with closing(s3.open(location.bucket, location.key, "rb", client=client)) as body:
        yield body


@contextmanager
def store_errors(uri: str, *, is_on_s3: bool) -> Iterator[None]:
    """Raise what boto3 and smart-open raise as a StoreError about `uri`.

    An OSError that S3 did not cause passes, unless the file `is_on_s3`.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except (ClientError, BotoCoreError, OSError) as error:
        # smart_open hides S3's own answer in an OSError.
        cause = getattr(error, "backend_error", None) or error
        if isinstance(cause, ClientError):
            answer = cause.response
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            details = answer.get("Error", {})
            raise store_error("GetObject", uri, details.get("Code", ""), details.get("Message", ""), status) from error
        if isinstance(cause, NoCredentialsError):
            raise Denied("GetObject", uri, "NoCredentials", str(cause)) from error
        if isinstance(cause, BotoCoreError) or is_on_s3:
            raise Unavailable("GetObject", uri, type(cause).__name__, str(cause)) from error
        raise
