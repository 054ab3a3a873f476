"""The doctor's nouns: questions, what they found, and the lines that say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from jobs.aws.clients import none_if_absent
from jobs.errors import AuthenticationFailed, ConfigError, Denied, ExitCode, StoreError, Unavailable
from jobs.s3.operations import Operation

APPLY = "run terraform apply"
THREADS = 8
_DENIED = ("AccessDenied", "Unauthorized", "AuthorizationError")
_NOT_OFFERED = frozenset(
    {"NotImplemented", "UnknownOperationException", "UnknownOperation", "InvalidAction", "UnsupportedOperation"}
)
_UNREACHABLE = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "NameResolutionError", "ProxyConnectionError"}
)
_SERVICES = {
    "sqs": ("GetQueueUrl", "GetQueueAttributes"),
    "sns": ("ListSubscriptionsByTopic",),
    "lambda": ("GetFunctionConfiguration", "GetAccountSettings"),
    "batch": ("DescribeJobQueues", "DescribeComputeEnvironments", "DescribeJobDefinitions"),
    "ecr": ("DescribeImages",),
    "servicequotas": ("GetServiceQuota",),
    "iam": ("SimulatePrincipalPolicy",),
    "cloudwatch": ("GetMetricStatistics",),
}
_PERMISSIONS = {name: f"{service}:{name}" for service, names in _SERVICES.items() for name in names} | {
    **{each.value: each.actions[0] for each in Operation},
    "HeadBucket": "s3:ListBucket",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
}
"""Operation → the action that allows it. Of S3, those of our client and those that have another name:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""


class Status(StrEnum):
    """How a line ends, from good to bad. `unchecked`: the question was not asked, or only AWS could answer it."""

    OK = "ok"
    UNCHECKED = "unchecked"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(NamedTuple):
    """What a question found. `advice`: what to do about it. `since`: when it began (ISO 8601)."""

    status: Status
    says: str
    advice: str = ""
    since: str | None = None


class Line(Struct, frozen=True):
    """One line of the answer. `check` and `subject` together name it."""

    check: str
    status: Status
    subject: str
    says: str
    advice: str = ""


class Question(NamedTuple):
    """A question and its name. `ask` raises StoreError and ConfigError.

    `needs_aws`: no other server answers it.
    """

    check: str
    subject: str
    ask: Callable[[], Finding]
    needs_aws: bool = True


ok, unchecked, warning, failure = (partial(Finding, status) for status in Status)
"""`ok`: it works. `warning`: it works, but costs, hides something, or may stop to work. `failure`: it does not work, or
does harm."""


def ask_all(questions: Iterable[Question]) -> list[Line]:
    """A line for each question, asked from several threads. Raises AuthenticationFailed."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [*pool.map(_answer, questions)]


def _answer(question: Question) -> Line:
    try:
        found = none_if_absent(question.ask) or failure("it is not there", APPLY)
    except AuthenticationFailed:
        raise
    except StoreError as error:
        found = _refusal(error)
    except ConfigError as error:
        found = warning(f"not known: {error}", "run the doctor again")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        says = f"not known: the answer cannot be read ({type(error).__name__}: {error})"
        found = warning(says, "run the doctor again")
    return Line(question.check, found.status, question.subject, found.says, found.advice)


def _refusal(error: StoreError) -> Finding:
    permission, code = _PERMISSIONS.get(error.operation, f"s3:{error.operation}"), code_of(error)
    if isinstance(error, Denied) or code.startswith(_DENIED):
        return warning("not known: access is denied", f"allow {permission} to who runs the doctor")
    if not is_offered(error):
        return warning(f"not known: {permission} is not offered here", "look at the network and the endpoints")
    return warning(f"not known: {error.operation}: {code or error.status}", "run the doctor again")


def code_of(error: StoreError) -> str:
    """The error's code without the service's name."""
    return error.code.rpartition(".")[2]


def is_offered(error: StoreError) -> bool:
    """False where the service is not there at all, as on a local system."""
    is_unreachable = isinstance(error, Unavailable) and error.status == 0 and error.code in _UNREACHABLE
    return not (code_of(error) in _NOT_OFFERED or error.status == 501 or is_unreachable)


def exit_code(lines: Sequence[Line]) -> ExitCode:
    """0 if every line is ok or unchecked, 3 with warnings, 10 with a failure or without an ok line."""
    worst = {line.status for line in lines}
    if Status.FAILURE in worst or not worst & {Status.OK, Status.WARNING}:
        return ExitCode.CONFIG
    return ExitCode.FINDINGS if Status.WARNING in worst else ExitCode.DONE
