"""The image's bill of materials: valid, complete, and the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

import jobs
from tests.containers.conftest import Built
from tests.containers.podman import ROOT


def write(built: Built, path: Path) -> bytes:
    command = [sys.executable, "images/sbom.py", f"--engine={' '.join(built.podman.command())}"]
    subprocess.run([*command, f"--image={built.image}", f"--to={path}"], cwd=ROOT, check=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def document(built: Built, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(built, tmp_path_factory.mktemp("sbom") / "sbom.cdx.json")


def test_it_is_valid_cyclonedx(document: bytes) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(document.decode()) is None
    assert validator.validate_str(document.decode().replace('"type": "library"', '"type": "book"')) is not None
    for component in json.loads(document)["components"]:
        assert PackageURL.from_string(component["purl"]).to_string() == component["purl"]


def test_it_has_what_is_installed_and_nothing_else(built: Built, document: bytes) -> None:
    components: list[dict[str, Any]] = json.loads(document)["components"]
    probe = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'], d.version)"
    lines = built.run("-c", probe, entrypoint="/opt/sealift/bin/python").splitlines()
    installed = {tuple(line.split()) for line in lines}
    python = {(each["name"], each["version"]) for each in components if each["purl"].startswith("pkg:pypi/")}
    assert python == {(name.lower().replace("_", "-"), version) for name, version in installed}
    assert ("sealift", jobs.__version__) in python
    debian = {each["name"] for each in components if each["purl"].startswith("pkg:deb/debian/")}
    shown = built.run("--show", "--showformat", "${Package}\\n", entrypoint="/usr/bin/dpkg-query").split()
    assert debian == set(shown) >= {"libc6", "python3-minimal", "ca-certificates"}
