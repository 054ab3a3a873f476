"""The image's entry point: which variables a job may bring, and what SubmitJob can replace at all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.container import FIXED, LET_IN, permitted
from jobs.errors import ConfigError, ExitCode

IN_BATCH = {"AWS_BATCH_JOB_ID": "0b1c2d3e", "AWS_BATCH_JOB_ATTEMPT": "1"}
OF_ECS = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
OF_DEFINITION = {"AWS_REGION": "eu-central-1", "SEALIFT_LEDGER": "s3://l/p", "SEALIFT_SYSTEM": "parcels"}

CODE = (
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONBREAKPOINT"),
    *("PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONEXECUTABLE", "PYTHONHASHSEED", "PYTHONIOENCODING"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH"),
    *("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "MALLOC_CONF", "MALLOC_ARENA_MAX"),
    *("DUCKDB_EXTENSION_DIRECTORY", "ARROW_DEFAULT_MEMORY_POOL", "BOTO_CONFIG", "EDITOR", "PAGER", "BROWSER"),
    *("AWS_DATA_PATH", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_NEW_IN_ECS", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
)
ELSEWHERE = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_BATCH", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


def test_a_job_that_is_stopped_before_it_listens_is_retried() -> None:
    """Spot's SIGTERM may come while modules are loaded."""
    program = (
        "import signal, jobs.cli, jobs.container\n"
        "def load():\n    print('loading', flush=True)\n    signal.pause()\n"
        "jobs.cli.main = load\njobs.container.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.terminate()
        assert process.wait() == ExitCode.TRANSIENT


def test_a_job_gets_what_batch_ecs_and_its_definition_set() -> None:
    environment = IN_BATCH | OF_ECS | OF_DEFINITION | {"TMPDIR": "/scratch", "LANG": "C.UTF-8"}
    assert permitted(environment) == environment | FIXED


@pytest.mark.parametrize("name", CODE)
def test_a_job_brings_no_code(name: str) -> None:
    assert permitted(IN_BATCH | {name: "/scratch/evil"}) == IN_BATCH | FIXED


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_job_that_would_send_requests_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot bring {name}: .* make image VARIABLES='{name}'"):
        permitted(IN_BATCH | OF_ECS | {name: "http://evil"})
    assert permitted(IN_BATCH | {name: "http://own"}, [name])[name] == "http://own"


@pytest.mark.parametrize("name", FIXED)
def test_files_of_configuration_and_the_host_are_out_of_reach(name: str) -> None:
    assert permitted(IN_BATCH | {name: "/scratch/evil"})[name] == FIXED[name]


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=5)))
def test_nothing_passes_that_is_not_on_a_list(brought: dict[str, str]) -> None:
    kept = permitted({**{f"X{name}X": value for name, value in brought.items()}, **IN_BATCH})
    assert {name for name in kept if name not in FIXED and (name in IN_BATCH or not LET_IN.fullmatch(name))} == set(
        IN_BATCH
    )


def test_outside_of_batch_every_variable_stays() -> None:
    environment = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000", "HTTPS_PROXY": "http://proxy", "HOME": "/home/me"}
    assert permitted(environment) == environment


def test_no_submission_replaces_the_entry_point() -> None:
    """What SubmitJob overrides, by botocore's model. A new member here is a question for this module."""
    shape: Any = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
    overrides = shape.members["containerOverrides"].members
    assert set(overrides) == {"vcpus", "memory", "command", "instanceType", "environment", "resourceRequirements"}
    containers = shape.members["ecsPropertiesOverride"].members["taskProperties"].member.members["containers"].member
    assert set(containers.members) == {"name", "command", "environment", "resourceRequirements"}


def enter(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The entry point as the image calls it, in an environment of only these variables."""
    command = [sys.executable, "-I", "-B", "-u", "-m", "jobs.container", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_a_refusal_is_one_line_and_an_exit_code() -> None:
    done = enter("--version", **IN_BATCH, AWS_ENDPOINT_URL_S3="http://evil", HTTPS_PROXY="http://u:secret@evil")
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert done.stderr.startswith("sealift: a job in AWS Batch cannot bring AWS_ENDPOINT_URL_S3, HTTPS_PROXY: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_workers_of_the_command_have_the_clean_environment(tmp_path: os.PathLike[str]) -> None:
    """What it leaves out is gone from the process itself, so that no child inherits it."""
    probe = (
        "import os, jobs.cli; jobs.cli.main = lambda: print(sorted(os.environ)); import jobs.container as c; c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe],
        env=IN_BATCH
        | {"LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(tmp_path), "BASH_ENV": "x"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(sorted([*IN_BATCH, *FIXED, "LC_ALL"]))
