"""Errors that Sealift raises on purpose, and the exit code of each.

    SealiftError                    base, exit 1 (a bug, unless a subclass says otherwise)
    ├── UsageError                  2   the command line asks for something that makes no sense
    ├── LimitExceeded               2   the plan is larger or dearer than the user allowed
    ├── ConfigError                 10  a setting, address or credential is wrong
    │   ├── ManifestError           10  a manifest or inventory cannot be trusted or read
    │   ├── PolicyError             10  the policy file has mistakes: all of them
    │   ├── LedgerError             10  the ledger lacks a run, or holds one already
    │   └── DamagedArchive          10  an archive or its index is cut short, altered, or not ours
    ├── TooManyFailures             10  too many rows fail (75 where a later try may help)
    ├── Interrupted                 75  stopped by a signal, with a checkpoint: run it again
    │   └── TakenOver               76  the run has another owner, which does the rest
    └── StoreError                      S3 refused one request
        ├── NotFound                10  no such key, version or upload
        ├── NoSuchBucket            10  no such bucket, which ends the run
        ├── Denied                  10  permissions: this request is not allowed
        │   └── CustomerKeyNeeded   10  encrypted with a key that only its writer has (SSE-C)
        ├── AuthenticationFailed    10  credentials or clock, which ends the run: renew them
        ├── Redirected              10  the bucket lives in another region
        ├── PreconditionFailed      75  412: another writer was first, look again
        ├── Conflict                75  409: a concurrent write, try again
        ├── ArchivedObject          3   must be restored before it can be read
        ├── Rejected                10  any other 4xx: the request itself is wrong
        └── Unavailable             75  5xx, time-outs, broken connections
            └── Throttled           75  503 SlowDown: fewer requests, please

A failed object is data (an Outcome). A broken run is an exception. Every error says what is
wrong, with its name, and why (`what`), and what to do (`advice`: its own, else its class's).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

E = TypeVar("E", bound="StoreError")


class ExitCode(IntEnum):
    """What a Sealift process says when it ends. AWS Batch's retry strategy reads it."""

    DONE = 0
    BUG = 1
    USAGE = 2
    FINDINGS = 3
    CONFIG = 10
    TRANSIENT = 75
    TAKEN_OVER = 76


class SealiftError(Exception):
    """The base of every error that Sealift raises on purpose.

    The name of a class is the `code` that --json prints, so a class is never renamed. The text of
    an error ends with its own advice. That of its class is said by who prints it.
    """

    exit_code = ExitCode.BUG
    advice = "report it, with the command and all that it printed"

    def __init__(self, what: str, *, advice: str = ""):
        super().__init__(what)
        self.what, self.own_advice = what, advice
        if advice:
            self.advice = advice

    def __str__(self) -> str:
        if self.what.endswith("?"):
            return f"{self.what} {self.own_advice[:1].upper()}{self.own_advice[1:]}".rstrip()
        separator = ";" if ": " in self.what else ":"
        return f"{self.what}{separator} {self.own_advice}" if self.own_advice else self.what


class SealiftWarning(UserWarning):
    """A warning for the operator: a line on stderr, once for each text."""


class UsageError(SealiftError):
    """The command line asks for something that makes no sense."""

    exit_code = ExitCode.USAGE
    advice = "see `sealift --help`"


class LimitExceeded(SealiftError):
    """The plan is larger or dearer than the user allowed."""

    exit_code = ExitCode.USAGE
    advice = "raise the limit, or take fewer rows"


class ConfigError(SealiftError):
    """A setting, an address or a credential is wrong."""

    exit_code = ExitCode.CONFIG
    advice = "correct what the message names, then start the same command again"


class ManifestError(ConfigError):
    """A manifest or an inventory cannot be read, or cannot be trusted."""

    advice = "name another manifest or inventory, or make it again"


class Mistake(NamedTuple):
    """One mistake in a policy file.

    `path` as in `pairs[1].destination.bucket` (empty: the whole file), `pair` the name of the pair
    it belongs to, `line` counts from 1, `value` as in JSON, `expected` ends
    "expected …".
    """

    path: str
    value: str
    expected: str
    line: int | None = None
    pair: str | None = None

    def __str__(self) -> str:
        place = [f"pair {self.pair}"] * bool(self.pair) + [f"line {self.line}"] * bool(self.line)
        where = (self.path or "the file") + (f" ({', '.join(place)})" if place else "")
        return f"{where}: {self.value}: expected {self.expected}" if self.value else f"{where}: {self.expected}"


class PolicyError(ConfigError):
    """The policy `file` cannot be used. `mistakes` are all that were found, in the file's order."""

    advice = "correct the policy file: `sealift policy check FILE` lists its mistakes"

    def __init__(self, file: str, mistakes: Sequence[Mistake]):
        self.file, self.mistakes = file, tuple(mistakes)
        super().__init__(f"{file}: " + "; ".join(map(str, self.mistakes)))


class LedgerError(ConfigError):
    """The ledger lacks what was asked for, or already holds what was to be written."""

    advice = "see `sealift runs list`"


class DamagedArchive(ConfigError):
    """An archive or its index is not what it says it is: cut short, altered, or not Sealift's."""

    advice = "index what is whole: `sealift archives reindex --source URI`"


class LaterArchive(DamagedArchive):
    """An archive or its index is of a later version of the format. Nothing says that it is damaged."""

    advice = "update Sealift"


class TooManyFailures(SealiftError):
    """So many rows fail that an attempt ends. `may_pass`: later the same rows may end well."""

    advice = "read the reasons: `sealift runs show latest`"

    def __init__(self, what: str, *, advice: str = "", may_pass: bool = False):
        self.exit_code = ExitCode.TRANSIENT if may_pass else ExitCode.CONFIG
        super().__init__(what, advice=advice)


class Interrupted(SealiftError):
    """A signal ended the work. What was recorded is kept."""

    exit_code = ExitCode.TRANSIENT
    advice = "start the same command again"


class TakenOver(Interrupted):
    """The run has another owner by now (`jobs.ledger.owner`). Batch must not start this worker again."""

    exit_code = ExitCode.TAKEN_OVER
    advice = "see `sealift runs show RUN`"


_KINDS: dict[str, type[StoreError]] = {}


class StoreError(SealiftError):
    """S3 refused one request.

    `operation` and `target` name the request, `code` is S3's own error code (or the
    transport's), `status` the HTTP status (0 when no answer came).
    `was_sent_once`: the request was certainly sent once only. So what S3 refused has not been done
    by the same request, whose first answer was lost. `retry_after`: how many seconds the server
    asks to wait. `codes`, of a class: the codes of S3 and the HTTP statuses that mean it.
    """

    exit_code = ExitCode.CONFIG
    advice = "check the bucket, the key and the permissions"
    codes = ""

    def __init_subclass__(cls) -> None:
        _KINDS.update(dict.fromkeys(cls.__dict__.get("codes", "").split(), cls))

    def __init__(self, operation: str, target: str, code: str, message: str = "", status: int = 0, *, advice: str = ""):
        self.operation, self.target, self.code, self.status = operation, target, code, status
        self.detail = message
        self.was_sent_once, self.retry_after = False, 0.0
        super().__init__(f"{operation} {target}: {code}{': ' + message if message else ''}", advice=advice)

    @property
    def fact(self) -> str:
        """What was asked and what S3 answered, as `Operation: Code`: the detail of a reason."""
        return f"{self.operation}: {self.code}"

    def recast(self, kind: type[E], *, target: str | None = None, detail: str | None = None) -> E:
        """The same refusal as an error of another kind, or of another target or detail."""
        target, detail = target or self.target, self.detail if detail is None else detail
        return kind(self.operation, target, self.code, detail, self.status, advice=self.own_advice)


class NotFound(StoreError):
    """No such key, version or multipart upload."""

    codes = "NoSuchKey NoSuchVersion NoSuchUpload NotFound DeleteMarker 404"
    advice = "check the names, the region and the endpoint"


class NoSuchBucket(StoreError):
    """The whole bucket is missing. That ends a run, where a missing object is a row's outcome."""

    codes = "NoSuchBucket"
    advice = "check the name of the bucket, its region and the endpoint (AWS_ENDPOINT_URL_S3)"


class Denied(StoreError):
    """The credentials are not allowed to do this. S3 knows them."""

    codes = "AccessDenied AllAccessDisabled 401 403"
    advice = "allow this request to these credentials, or name others (AWS_PROFILE, --source-profile)"


class CustomerKeyNeeded(Denied):
    """The object is encrypted with a key that its writer keeps (SSE-C), and Sealift has none."""

    codes = "CustomerKeyNeeded"
    advice = "leave the object out, or let its writer encrypt it otherwise"


class AuthenticationFailed(StoreError):
    """S3 does not accept who asks: credentials that are wrong or have expired, or a wrong clock.

    No other request will fare better, so it ends a run, where Denied is a row's outcome.
    """

    codes = (
        "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken TokenRefreshRequired "
        "InvalidSecurity NotSignedUp RequestTimeTooSkewed"
    )
    advice = "renew the credentials, and check this machine's clock"


class Redirected(StoreError):
    """The bucket lives in another region than the one that was asked."""

    codes = "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException 301 307"
    advice = "name the region of the bucket (AWS_REGION)"


class PreconditionFailed(StoreError):
    """412: the object is not as the request demanded. Look again and decide again."""

    exit_code = ExitCode.TRANSIENT
    codes = "PreconditionFailed 412"
    advice = "start the same command again: another writer was first"


class Conflict(StoreError):
    """409: a concurrent write was under way. Try again."""

    exit_code = ExitCode.TRANSIENT
    codes = "ConditionalRequestConflict OperationAborted ObjectAlreadyInActiveTierError 409"
    advice = "start the same command again: another write was under way"


class ArchivedObject(StoreError):
    """The object lies in an archive class and must be restored before it can be read."""

    exit_code = ExitCode.FINDINGS
    codes = "InvalidObjectState ObjectNotInActiveTierError"
    advice = "restore the object in S3 first"


class Rejected(StoreError):
    """Any other 4xx: the request itself is wrong and will stay wrong."""

    # S3 has no room for it: other tiers work. Not implemented: it will not be a moment later.
    codes = "GlacierExpeditedRetrievalNotAvailable 501"
    advice = "see which request was refused: run the same command with --debug"


class Unavailable(StoreError):
    """S3 or the way to it failed: 5xx, a time-out, a broken connection. Try again."""

    exit_code = ExitCode.TRANSIENT
    # The bytes came as other ones than were sent: sent again, they may arrive. XAmzContentChecksumMismatch is MinIO's.
    codes = (
        "RequestTimeout BadDigest XAmzContentChecksumMismatch XAmzContentSHA256Mismatch IncompleteBody InternalError"
    )
    advice = (
        "check the network and the endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or an option such as "
        "--source-endpoint), then run the same command again"
    )

    @property
    def is_of_object(self) -> bool:
        """False where the server is silent or busy, which says nothing of the object."""
        return bool(self.status) and not isinstance(self, Throttled)


class Throttled(Unavailable):
    """503 SlowDown and its kin: lower the request rate, then try again."""

    # RequestThrottled and KmsThrottled are of SQS, with 400.
    codes = (
        "SlowDown Throttling ThrottlingException RequestLimitExceeded RequestThrottled KmsThrottled "
        "ServiceUnavailable 429 503"
    )
    advice = "run the same command again later, or with a lower --max-rate"


REFUSALS = (NotFound, Denied, Redirected, ArchivedObject, Rejected)
"""Errors with which S3 refuses one object, and would again. Its row fails, and the run goes on.
A missing bucket is none of these: it ends the run.
"""


def store_error(operation: str, target: str, code: str, message: str, status: int) -> StoreError:
    """The StoreError for S3's error `code`, else for the HTTP `status`.

    Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    """
    others = Rejected if 400 <= status < 500 else Unavailable
    kind = _KINDS.get(code) or _KINDS.get(str(status), others)
    return kind(operation, target, code, message, status)
