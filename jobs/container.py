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
import re
import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from jobs.errors import ConfigError, ExitCode

LET_IN = re.compile(
    "(AWS_BATCH|SEALIFT|LC)_.*|AWS_(DEFAULT_)?REGION|AWS_(MAX_ATTEMPTS|RETRY_MODE|USE_(DUALSTACK|FIPS)_ENDPOINT)|"
    "AWS_(CONTAINER_CREDENTIALS_RELATIVE_URI|EXECUTION_ENV)|ECS_(AGENT_URI|CONTAINER_METADATA_URI(_V4)?)|"
    "HOSTNAME|LANG|TERM|TMPDIR|TZ"
)
"""Variables that Batch, ECS and the job definition set, and harmless ones."""

REFUSED = re.compile(
    "AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|(DEFAULT_)?PROFILE|ROLE_ARN|WEB_IDENTITY_TOKEN_FILE)|"
    "AWS_(CONTAINER_CREDENTIALS_FULL_URI|ENDPOINT_URL.*)|(AWS|CURL|REQUESTS)_CA_BUNDLE|SSL_CERT_(DIR|FILE)|(?i:.*_PROXY)"
)
"""Variables that change where requests go, or with which credentials."""

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
    known = {name: each for name, each in environment.items() if LET_IN.fullmatch(name) or name in built_in}
    refused = sorted(filter(REFUSED.fullmatch, environment.keys() - known.keys() - FIXED.keys()))
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
