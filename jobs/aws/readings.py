"""Readings of an account's configuration: what is there, or why nobody knows.

A value that was read may be None: the service says that it is missing. `Unread` means that the
service gave no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from jobs.errors import AuthenticationFailed, ConfigError, Denied, NoSuchBucket, NotFound, StoreError, Unavailable

T = TypeVar("T")

DENIED = "access is denied"

_DENIED = ("AccessDenied", "Unauthorized", "AuthorizationError")
_ABSENT = ("NotFound", "NotFoundException", "NotFoundError", "NonExistentQueue", "DoesNotExist", "NoSuchEntity")
_NOT_OFFERED = frozenset(
    {"NotImplemented", "UnknownOperationException", "UnknownOperation", "InvalidAction", "UnsupportedOperation"}
)
_UNREACHABLE = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "NameResolutionError", "ProxyConnectionError"}
)


_ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetBucketInventoryConfiguration": "GetInventoryConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
}
"""Operation of S3 → the action that allows it, where that has another name:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""


@dataclass(frozen=True, slots=True)
class Unread:
    """A fact that could not be read. `permission`: the IAM action that reads it.

    `is_offered` is False where the service is not there at all, as on a local system.
    """

    permission: str
    why: str
    is_offered: bool = True

    @property
    def is_denied(self) -> bool:
        """Whether the permission is what is missing."""
        return self.why == DENIED


Reading: TypeAlias = T | Unread
"""A fact, or why nobody knows it."""


def read(service: str, question: Callable[[], T]) -> T | Unread:
    """The answer of a service (by IAM's name), or why it is missing.

    Raises AuthenticationFailed only.
    """
    try:
        return question()
    except AuthenticationFailed:
        raise
    except StoreError as error:
        return refusal(service, error)
    except ConfigError as error:
        return Unread(service, str(error))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return Unread(service, f"the answer cannot be read ({type(error).__name__}: {error})")


def refusal(service: str, error: StoreError) -> Unread:
    """Why a request to a service has no answer."""
    permission = f"{service}:{_ACTIONS.get(error.operation, error.operation)}"
    code = _code(error)
    if isinstance(error, Denied) or code.startswith(_DENIED):
        return Unread(permission, DENIED)
    is_offered = not (code in _NOT_OFFERED or error.status == 501 or _is_unreachable(error))
    return Unread(permission, f"{error.operation}: {code or error.status}", is_offered)


def none_if_absent(question: Callable[[], T]) -> T | None:
    """The answer, or None where the service says that the thing is not there.

    A missing bucket is not a missing setting. Raises StoreError, ConfigError.
    """
    try:
        return question()
    except NoSuchBucket:
        raise
    except NotFound:
        return None
    except StoreError as error:
        if _code(error).endswith(_ABSENT):
            return None
        raise


def _code(error: StoreError) -> str:
    return error.code.rpartition(".")[2]


def _is_unreachable(error: StoreError) -> bool:
    return isinstance(error, Unavailable) and error.status == 0 and error.code in _UNREACHABLE
