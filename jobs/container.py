"""The image's entry point: `sealift` in an environment that nobody else controls.

SubmitJob replaces the command and the variables of a job definition, but no entry point. The
image's is this module, run by the path of an interpreter that reads no PYTHON* variable
(`python -I`). Within AWS Batch it takes only the variables of a fixed list. Batch sets
AWS_BATCH_JOB_ID itself, and refuses a job that brings a name with this prefix. Elsewhere the caller
owns the container whole, and all variables stay.

SIGTERM ends the process with exit code 75 until the command listens itself, so Batch retries it.
https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from jobs.errors import ConfigError, ExitCode

PREFIXES = ("AWS_BATCH_", "SEALIFT_", "LC_")
NAMES = frozenset(
    {
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_REGION",
        "AWS_RETRY_MODE",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_USE_FIPS_ENDPOINT",
        "ECS_AGENT_URI",
        "ECS_CONTAINER_METADATA_URI",
        "ECS_CONTAINER_METADATA_URI_V4",
        "HOSTNAME",
        "LANG",
        "TERM",
        "TMPDIR",
        "TZ",
    }
)
"""Variables that Batch, ECS and the job definition set, and harmless ones."""

FIXED = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",  # the role is the job's, never the host's
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "HOME": "/nonexistent",  # libraries look for their configuration there
    "PATH": "/usr/bin:/bin",
}
"""Variables with the same value in every job."""

VARIABLES = Path(sys.prefix) / "variables"
"""Names that the image was built to let in as well: `make image VARIABLES=…`."""

_CONSEQUENCES = frozenset(
    {
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
        *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        *("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    }
)


def main() -> None:
    """Clean the environment, then run the command line."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.TRANSIENT))
    try:
        environment = permitted(os.environ, VARIABLES.read_text().split() if VARIABLES.exists() else ())
    except ConfigError as error:
        sys.stderr.write(f"sealift: {error}\n")
        sys.exit(int(error.exit_code))
    os.environ.clear()
    os.environ.update(environment)
    from jobs.cli import main as run  # now, not before: OpenSSL reads its variables when it is loaded

    run()


def permitted(environment: Mapping[str, str], built_in: Collection[str] = ()) -> dict[str, str]:
    """The variables that the program gets. `built_in`: further names that the image lets in.

    Raises ConfigError for variables that change where requests go, or with which credentials:
    without them the job would work in another place than its submitter meant. All others are left
    out.
    """
    if not environment.get("AWS_BATCH_JOB_ID"):
        return dict(environment)
    named = NAMES | {*built_in}
    known = {name: value for name, value in environment.items() if name in named or name.startswith(PREFIXES)}
    refused = sorted(
        name
        for name in environment.keys() - known.keys() - FIXED.keys()
        if name in _CONSEQUENCES or name.startswith("AWS_ENDPOINT_URL") or name.upper().endswith("_PROXY")
    )
    if refused:
        names = " ".join(refused)
        raise ConfigError(
            f"a job in AWS Batch cannot bring {', '.join(refused)}: such variables change where requests go, or with "
            "which credentials",
            advice="remove them from the job definition and the submission, or build an image that lets "
            f"them in: make image VARIABLES='{names}'",
        )
    return FIXED | known


if __name__ == "__main__":
    main()
