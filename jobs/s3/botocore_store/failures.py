"""Failures of botocore as Sealift's errors, classified as our own client classifies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from jobs.core.model import ObjectRef
from jobs.errors import AuthenticationFailed, Rejected, StoreError, Unavailable, store_error
from jobs.s3.http.answers import Response
from jobs.s3.http.failures import failure_of

_UNANSWERED = (
    ("ConnectTimeoutError", "ConnectTimeout"),
    ("ReadTimeoutError", "ReadTimeout"),
    ("SSLError", "TlsFailed"),
    ("ProxyConnectionError", "ProxyFailed"),
    ("EndpointConnectionError", "ConnectFailed"),
    ("ConnectionClosedError", "ConnectionLost"),
    ("IncompleteReadError", "IncompleteBody"),
    ("ResponseStreamingError", "IncompleteBody"),
    ("HTTPClientError", "ConnectionLost"),
)
"""botocore's exceptions, the special before the general, and our transport's code for each."""

_BARE = ((400, "BadRequest"), (403, "AccessDenied"))
"""Status of a refused HEAD → the code that botocore makes of it."""


def failure(operation: str, place: ObjectRef, error: Exception, region: str, endpoint: object) -> StoreError:
    """The error for what a call of botocore raised. Raises `error` again if it is a bug of ours."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    target = str(place)
    if isinstance(error, exceptions.ClientError):
        if error.operation_name != operation:
            return _no_renewal(operation, target, error)
        refused = _refusal(operation, target, error.response, region)
        refused.was_sent_once = error.response.get("ResponseMetadata", {}).get("RetryAttempts") == 0
        return refused
    for name, code in _UNANSWERED:
        if isinstance(error, getattr(exceptions, name)):
            return Unavailable(operation, target, code, f"{_reason(error)} (endpoint {endpoint})")
    if isinstance(error, (exceptions.ParamValidationError, UnicodeEncodeError)):
        return Rejected(operation, target, "InvalidParameter", f"{_reason(error)}: nothing was sent", 400)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return AuthenticationFailed(operation, target, "NoCredentials", _reason(error))
    if isinstance(error, exceptions.BotoCoreError):
        return Unavailable(operation, target, type(error).__name__, _reason(error))
    if isinstance(error, (ResponseParserError, ValueError, KeyError)):
        return Unavailable(operation, target, "MalformedAnswer", _reason(error), 200)
    raise error


def is_bare(error: StoreError) -> bool:
    """Whether only the status of a refused HEAD is known, since its answer has no body."""
    is_by_status = (error.status, error.code) in _BARE and not isinstance(error, AuthenticationFailed)
    return error.operation == "HeadObject" and is_by_status


def _no_renewal(operation: str, target: str, error: Any) -> StoreError:
    """The error for a refusal of the service that botocore asked for new credentials."""
    metadata, detail = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
    status, code = metadata.get("HTTPStatusCode", 0), detail.get("Code") or error.operation_name
    if isinstance(store_error(operation, target, code, "", status), Unavailable):
        return Unavailable(operation, target, code, _reason(error), status)
    message = f"the credentials cannot be renewed: {_reason(error)}"
    return AuthenticationFailed(operation, target, code, message, status)


def _refusal(operation: str, target: str, response: Mapping[str, Any], region: str) -> StoreError:
    """The error for an answer of S3 that says no success, by the rules of our own client."""
    metadata, detail = response.get("ResponseMetadata", {}), response.get("Error", {})
    status, headers = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})
    code = detail.get("Code") or ""
    body = b""
    if code and code != str(status):  # else botocore's own words for an answer without a document
        members = {"Code": code, "Message": detail.get("Message") or "", "Region": detail.get("Region") or ""}
        fields = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in members.items())
        body = f"<Error>{fields}</Error>".encode()
    answer = Response(status, {name.lower(): value for name, value in headers.items()}, body)
    is_head = operation == "HeadObject"
    return failure_of(operation, target, answer, is_head=is_head, region=region, named_region=region).error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
