"""The image's entry point: `sealift`, with an environment that no submitter of a job can bend.

SubmitJob replaces the command and the variables of a job definition, but no entry point. The image's
is this module, run by the path of an interpreter that reads no PYTHON* variable (`python -I`). Within
AWS Batch it takes only the variables of a fixed list. Batch sets AWS_BATCH_JOB_ID itself, and refuses
a job that brings a name with this prefix. Elsewhere the caller owns the container whole, and all
variables stay. https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from jobs.errors import ConfigError

# Imports below this line wait for the clean environment: OpenSSL, for one, reads its variables when it is loaded.

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
"""What Batch, ECS and the job definition set, and what harms nobody."""

FIXED = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",  # the role is the job's, never the host's
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "HOME": "/nonexistent",  # libraries look for their configuration there
    "PATH": "/usr/bin:/bin",
}
"""What is the same in every job, whatever it brings."""

VARIABLES = Path(sys.prefix) / "variables"
"""The names that the image was built to let in beside these: `make image VARIABLES=…`."""

_CONSEQUENCES = frozenset({"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"})


def main() -> None:
    """Clean the environment, then run the command line."""
    try:
        environment = permitted(os.environ, _built_in())
    except ConfigError as error:
        sys.stderr.write(f"sealift: {error}\n")
        sys.exit(int(error.exit_code))
    os.environ.clear()
    os.environ.update(environment)
    from jobs.cli import main as run

    run()


def permitted(environment: Mapping[str, str], built_in: Collection[str] = ()) -> dict[str, str]:
    """The variables that the program gets. `built_in`: further names that the image lets in.

    Raises ConfigError for variables that say where requests go, or as whom: a job without them would work
    elsewhere than it was meant to. All others are left out.
    """
    if not environment.get("AWS_BATCH_JOB_ID"):
        return dict(environment)
    known = {name: value for name, value in environment.items() if _is_known(name) or name in built_in}
    refused = sorted(name for name in environment if name not in known and name not in FIXED and _matters(name))
    if refused:
        raise ConfigError(
            f"this job brings {', '.join(refused)}: within AWS Batch, where requests go and with which credentials is "
            "not for a job to say. Take the variables out of the job definition or the submission, or build the image "
            f"for them: make image VARIABLES='{' '.join(refused)}'"
        )
    return FIXED | known


def _is_known(name: str) -> bool:
    return name in NAMES or name.startswith(PREFIXES)


def _matters(name: str) -> bool:
    return name.startswith("AWS_") or name.upper().endswith("_PROXY") or name in _CONSEQUENCES


def _built_in() -> list[str]:
    try:
        return VARIABLES.read_text().split()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main()
