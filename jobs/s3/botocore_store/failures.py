"""Failures of botocore as Sealift's errors, classified as our own client classifies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.core.model import ObjectRef
from jobs.errors import Denied, Redirected, Rejected, StoreError, Unavailable, store_error

_CODE_BY_STATUS = {
    301: "PermanentRedirect",
    304: "NotModified",
    307: "TemporaryRedirect",
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    500: "InternalError",
    503: "SlowDown",
}
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


def failure(operation: str, place: ObjectRef, error: Exception, region: str, endpoint: object) -> StoreError:
    """The error for what a call of botocore raised. Raises `error` again if it is a bug of ours."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    target = str(place)
    if isinstance(error, exceptions.ClientError):
        return _refusal(operation, target, error.response, region)
    for name, code in _UNANSWERED:
        if isinstance(error, getattr(exceptions, name)):
            return Unavailable(operation, target, code, f"{_reason(error)} (endpoint {endpoint})")
    if isinstance(error, (exceptions.ParamValidationError, UnicodeEncodeError)):
        return Rejected(operation, target, "InvalidParameter", f"{_reason(error)}: nothing was sent", 400)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return Denied(operation, target, "NoCredentials", _reason(error))
    if isinstance(error, exceptions.BotoCoreError):
        return Unavailable(operation, target, type(error).__name__, _reason(error))
    if isinstance(error, (ResponseParserError, ValueError, KeyError)):
        return Unavailable(operation, target, "MalformedAnswer", _reason(error), 200)
    raise error


def _refusal(operation: str, target: str, response: Mapping[str, Any], region: str) -> StoreError:
    """The error for an answer of S3 that is none of success."""
    metadata, detail = response.get("ResponseMetadata", {}), response.get("Error", {})
    status, headers = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})
    code = detail.get("Code") or ""
    message = " ".join((detail.get("Message") or "").split())
    if not code or code == str(status):  # botocore's own words for an answer without a document
        code, message = _CODE_BY_STATUS.get(status, f"HTTP{status}"), ""
    if headers.get("x-amz-delete-marker") == "true" and status in (404, 405):
        code = "DeleteMarker"
    there = headers.get("x-amz-bucket-region") or detail.get("Region") or ""
    error = store_error(operation, target, code, message, status)
    if isinstance(error, Redirected) or (status == 400 and there and there != region):
        where = there or "another region"
        advice = f"the bucket is in {where}, {region} was asked: use --source-region or --destination-region"
        return Redirected(operation, target, code, advice, status)
    return error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
