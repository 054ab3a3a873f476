"""Failures of requests: what an answer says that went wrong. Pure.

An answer to HEAD has no body, so its status is all that is known at first. S3 begins the answer of
a long copy before its end is known, so that an error may come in a 200.
"""

from __future__ import annotations

import re

from jobs.errors import AuthenticationFailed, NotFound, Redirected, StoreError, store_error
from jobs.s3 import wire
from jobs.s3.http.answers import Response
from jobs.s3.http.endpoints import Endpoint
from jobs.s3.operations import Operation

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
    501: "NotImplemented",
    503: "SlowDown",
}
_REGION = re.compile("[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}")
EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})
SIGNATURE = "SignatureDoesNotMatch"
UNKNOWN_KEY = "InvalidAccessKeyId"
_ADVICE = {
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    SIGNATURE: "the secret key does not belong to the access key {key}: check AWS_SECRET_ACCESS_KEY or the profile",
    UNKNOWN_KEY: "S3 does not know the access key {key}: check AWS_ACCESS_KEY_ID, the profile, the endpoint",
    "NotSignedUp": "the account of the access key {key} has no S3: check the account, or use another one",
}
_CUSTOMER_KEY = "stored using a form of Server Side Encryption"
_CUSTOMER_KEY_ADVICE = (
    "it is encrypted with a key that S3 does not keep (SSE-C), and Sealift takes none: "
    "copy it with its key, or have it encrypted by S3 or KMS"
)
_CHECKSUM_HEADER = re.compile("x-amz-(sdk-)?checksum-", re.IGNORECASE)
_NO_CHECKSUMS = (
    "the server does not know S3's checksums: set AWS_RESPONSE_CHECKSUM_VALIDATION=when_required and "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
)
_RENEW = "the credentials of the access key {key} are no longer valid: renew them (for example: aws sso login)"


def is_failure(response: Response, *, is_content: bool) -> bool:
    """Whether the answer is an error: not 2xx, or an `<Error>` document where S3 has another one.

    `is_content`: the body of a 2xx is what a user stored, whatever it looks like.
    """
    if not 200 <= response.status < 300:
        return True
    return not is_content and b"Error" in response.body and wire.ERROR.match(response.body) is not None


def failure_of(
    operation: Operation, target: str, response: Response, *, region: str, named_region: str
) -> tuple[StoreError, str]:
    """What the answer says, and in which region S3 says that the bucket is. Empty: it does not say.

    `region`: the request was signed for it. `named_region`: the user named it.
    """
    status, headers = response.status, response.headers
    detail = wire.parse_error(response.body)
    fallback = "InternalError" if status < 300 else _CODE_BY_STATUS.get(status) or f"HTTP{status}"
    code = (detail.code if detail else "") or fallback
    if headers.get("x-amz-delete-marker") == "true" and status in (404, 405):
        code = "DeleteMarker"
    message = detail.message if detail else ""
    if code == "InvalidRequest" and _CUSTOMER_KEY in message:
        code, message = "CustomerKeyNeeded", _CUSTOMER_KEY_ADVICE
    elif status in (400, 501) and _CHECKSUM_HEADER.search(message):
        message = f"{message}: {_NO_CHECKSUMS}"
    error = store_error(operation, target, code, message, status)
    if status == 405 and operation.can_find_a_marker:
        error = error.recast(NotFound)
    if (seconds := headers.get("retry-after", "")).isdecimal() and len(seconds) < 9:
        error.retry_after = float(seconds)
    where = headers.get("x-amz-bucket-region") or (detail.region if detail else "")
    if isinstance(error, Redirected) or (status == 400 and where and where != region):
        advice = f"the bucket is in {where or 'another region'}, {named_region} was asked"
        message = f"{advice}: set AWS_REGION"
        error = Redirected(operation, target, code, message, status)
    return error, where if _REGION.fullmatch(where) else ""


def with_advice(error: AuthenticationFailed, access_key: str, endpoint: Endpoint) -> AuthenticationFailed:
    """The same error, with what to do about it."""
    advice = _ADVICE.get(error.code, _RENEW).format(key=access_key)
    message = f"{advice} (endpoint {endpoint}){': ' + error.detail if error.detail else ''}"
    return error.recast(AuthenticationFailed, detail=message)
