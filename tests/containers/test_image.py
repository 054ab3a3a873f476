"""What the image is: small, without root, started fast, and free of what was needed only to build it."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import jobs
from tests.containers.conftest import Built

SIZE_BYTES_MAX = 600 * 1000 * 1000


def inspected(built: Built) -> dict[str, Any]:
    [image] = json.loads(built.podman.run("image", "inspect", built.image))
    found: dict[str, Any] = image
    return found


def test_what_a_registry_and_a_scanner_see(built: Built) -> None:
    image = inspected(built)
    assert image["Size"] <= SIZE_BYTES_MAX
    config = image["Config"]
    assert config["Entrypoint"][-6:] == ["/opt/sealift/bin/python", "-I", "-B", "-u", "-m", "jobs.container"]
    # A number: an orchestrator that refuses root cannot look a name up.
    uid, _, gid = config["User"].partition(":")
    assert int(uid) >= 1000
    assert int(gid) >= 1000
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == jobs.__version__
    assert len(labels["org.opencontainers.image.revision"]) >= 7
    assert re.fullmatch(r"localhost/base@sha256:[0-9a-f]{64}", labels["org.opencontainers.image.base.name"])
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_nothing_of_how_it_was_built_is_left(built: Built) -> None:
    image = inspected(built)
    secrets = [os.environ[name] for name in ("PIP_INDEX_URL", "PIP_CERT") if os.environ.get(name)]
    said = json.dumps([image["Config"], image["History"]])
    assert [secret for secret in secrets if secret in said] == []
    assert "pip.conf" not in json.dumps(image["Config"])
    probe = (
        "import importlib.util as i, pathlib, sys;"
        "print([n for n in ('pip', 'setuptools', 'pytest', 'tests', 'moto') if i.find_spec(n)],"
        "[str(p) for p in map(pathlib.Path, ('/build', '/run/secrets', '/etc/pip.conf')) if p.exists()])"
    )
    assert built.run("-c", probe, entrypoint="/opt/sealift/bin/python").strip() == "[] []"


def test_only_the_scratch_folder_can_be_written(built: Built) -> None:
    probe = (
        "import os, tempfile\n"
        "print(os.getuid(), os.getgid(), tempfile.gettempdir())\n"
        "with tempfile.TemporaryFile() as file: file.write(b'x')\n"
        "for folder in ('/', '/opt/sealift', '/usr', '/etc'):\n"
        "    try: open(folder + '/x', 'w')\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    lines = built.run("-c", probe, entrypoint="/opt/sealift/bin/python").splitlines()
    assert lines == ["65532 65532 /scratch", *["Read-only file system"] * 4]
