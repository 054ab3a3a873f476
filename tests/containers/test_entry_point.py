"""What a submitter of jobs may change, a command and variables, and that neither brings code into the container."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import jobs
from jobs.errors import ExitCode
from tests.containers.conftest import Built

VERSION = f"sealift, version {jobs.__version__}\n"
IN_BATCH = {"AWS_BATCH_JOB_ID": "0b1c2d3e", "AWS_BATCH_JOB_ATTEMPT": "1", "AWS_REGION": "eu-central-1"}
MARK = "FOREIGN CODE RAN"
PYTHON_CODE = f"import sys\nsys.stdout.write({MARK!r})\n"


def start(
    built: Built, variables: Mapping[str, str], *arguments: str, flags: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a container as a job definition asks for it, with these variables."""
    brought = [f"--env={name}={value}" for name, value in variables.items()]
    hardened = ["--rm", "--network=none", "--read-only", "--cap-drop=all", "--ulimit=host", *flags]
    command = built.podman.command("run", *hardened, *brought, built.image, *arguments)
    done = subprocess.run(command, env=built.podman.environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with code under every name that an interpreter or a library might look for."""
    folder = tmp_path_factory.mktemp("evil")
    for name in ("sitecustomize", "usercustomize", "jobs", "click", "os", "encodings", "startup"):
        (folder / f"{name}.py").write_text(PYTHON_CODE)
    for name in ("sealift", "python", "python3", "dpkg-query", "sh"):
        (folder / name).write_text(f"#!/bin/sh\necho '{MARK}'\n")
        (folder / name).chmod(0o755)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")  # PYTHONEXECUTABLE makes it the virtual environment
    for minor in range(11, 16):
        packages = folder / "lib" / f"python3.{minor}" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "evil.pth").write_text(f"import sys; sys.stdout.write({MARK!r})\n")
    (folder / ".aws").mkdir()
    (folder / ".aws" / "config").write_text(f"[default]\ncredential_process = echo '{MARK}'\n")
    folder.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONPATH": "/evil"},
        {"PYTHONSTARTUP": "/evil/startup.py", "PYTHONINSPECT": "1"},
        {"PYTHONUSERBASE": "/evil", "HOME": "/evil"},
        {"PYTHONPLATLIBDIR": "/evil", "PYTHONEXECUTABLE": "/evil/python"},
        {"PATH": "/evil"},
    ],
    ids=lambda variables: "+".join(variables),
)
def test_no_variable_makes_the_interpreter_run_other_code(built: Built, evil: Path, variables: dict[str, str]) -> None:
    """Even where the code lies in the container already, in the current folder, too."""
    flags = (f"--volume={evil}:/evil:ro", "--workdir=/evil")
    assert start(built, IN_BATCH | variables, "--version", flags=flags) == (ExitCode.DONE, VERSION, "")


def test_the_loader_finds_nothing_to_preload(built: Built) -> None:
    """It reads its variables before Python can stop it. So no folder that can be written holds a file at first."""
    probe = (
        "import os\n"
        "for top in ('/scratch', '/tmp', '/var/tmp', '/dev/shm', '/run'):\n"
        "    for folder, _, files in os.walk(top):\n"
        "        if os.access(folder, os.W_OK): print(folder, files)\n"
    )
    python = ("--entrypoint=/opt/sealift/bin/python",)
    code, stdout, stderr = start(built, {}, "-I", "-c", probe, flags=python)
    assert (code, stderr) == (ExitCode.DONE, "")
    folders = [line.partition(" ") for line in stdout.splitlines()]
    assert "/scratch" in {folder for folder, _, _ in folders}
    assert {files for _, _, files in folders} == {"[]"}
    for path in ("/scratch/evil.so", "/tmp/evil.so", "/dev/shm/evil.so"):
        variables = {"LD_PRELOAD": path, "LD_LIBRARY_PATH": str(Path(path).parent), "LD_AUDIT": path}
        code, stdout, stderr = start(built, IN_BATCH | variables, "--version")
        assert (code, stdout) == (ExitCode.DONE, VERSION)
        assert "cannot be preloaded" in stderr or "cannot open shared object file" in stderr


def test_what_the_image_was_built_to_let_in_comes_in(built: Built) -> None:
    """The runs of this folder need it: their S3 is not AWS's."""
    brought = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert start(built, IN_BATCH | brought, "--version") == (ExitCode.DONE, VERSION, "")


def test_configuration_files_of_a_submitter_are_not_read(built: Built, evil: Path) -> None:
    """`credential_process` in one would be run by the client of AWS."""
    brought = {
        "HOME": "/evil",
        "AWS_CONFIG_FILE": "/evil/.aws/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/evil/.aws/config",
    }
    arguments = ("runs", "list", "--ledger", "s3://ledger/x")
    code, stdout, stderr = start(built, IN_BATCH | brought, *arguments, flags=(f"--volume={evil}:/evil:ro",))
    assert code == ExitCode.CONFIG, stderr
    assert MARK not in stdout + stderr
    assert "credential" in stderr
