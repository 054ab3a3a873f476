"""The image's bill of materials in CycloneDX 1.6: Python and Debian packages.

    python images/sbom.py --engine podman --image sealift:0.1.0 --to build/sbom.cdx.json

The image's own Python reads what is installed, without a network. A distribution that
requirements/image.txt does not lock, or locks in another version, ends the program with an error. The
same image gives the same bytes: the serial number follows from the content, and no time is in it.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "image.txt"
PROJECT = "sealift"
PROBE = r"""
import hashlib, importlib.metadata as m, json, platform, shutil, subprocess
python = [(d.metadata["Name"], d.version, hashlib.sha256((d.read_text("RECORD") or "").encode()).hexdigest())
          for d in m.distributions()]
form = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
query = ["dpkg-query", "--show", "--showformat", form]
lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout if shutil.which("dpkg-query") else ""
debian = [line.split()[1:] for line in lines.splitlines() if line.startswith("installed ")]
print(json.dumps({"python": python, "debian": debian, "os": platform.freedesktop_os_release(),
                  "interpreter": platform.python_version()}))
"""
"""The program for the image's Python. A RECORD has the hash of every file of its distribution."""


def main(arguments: list[str]) -> int:
    """Ask the image and write the document."""
    parser = argparse.ArgumentParser(description="Write the image's bill of materials.")
    parser.add_argument("--engine", default="podman", help="podman or docker, with its options.")
    parser.add_argument("--image", required=True)
    parser.add_argument("--to", type=Path, required=True, help="The file to write.")
    options = parser.parse_args(arguments)
    engine = shlex.split(options.engine)
    contents = json.loads(_run([*engine, "run", "--rm", "--network=none", *_PYTHON, options.image, "-I", "-c", PROBE]))
    (inspected,) = json.loads(_run([*engine, "image", "inspect", options.image]))
    document = bill(contents, locked(LOCK.read_text()), inspected["Config"]["Labels"])
    options.to.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    sys.stdout.write(f"{options.to}: {len(document['components'])} components\n")
    return 0


_PYTHON = ("--entrypoint=/opt/sealift/bin/python",)


def locked(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Normal name → (version, hashes that pip accepts) of each entry of the lock."""
    text = re.sub(r"^\s*#.*\n", "", lock, flags=re.MULTILINE).replace("\\\n", " ")
    entries = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)(.*)$", text, re.MULTILINE)
    return {normal(name): (version, re.findall(r"sha256:([0-9a-f]{64})", rest)) for name, version, rest in entries}


def normal(name: str) -> str:
    """A distribution's name as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill(contents: Mapping[str, Any], lock: Mapping[str, tuple[str, list[str]]], labels: Mapping[str, str]) -> Any:
    """The document. Ends the program if the image holds a distribution that is not locked."""
    release = contents["os"]
    components = [_distribution(name, version, record, lock) for name, version, record in contents["python"]]
    components.append(_component("platform", "python", contents["interpreter"], "pkg:generic/python"))
    for name, version, architecture in contents["debian"]:
        kind = f"pkg:deb/{release['ID']}/{quote(name)}"
        where = f"?arch={architecture}&distro={release['ID']}-{release.get('VERSION_ID', 'unknown')}"
        components.append(_component("library", name, version, kind, where))
    image = _component("container", PROJECT, labels["org.opencontainers.image.version"], f"pkg:oci/{PROJECT}")
    image["properties"] = [{"name": name, "value": value} for name, value in sorted(labels.items())]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": image},
        "components": sorted(components, key=lambda each: str(each["bom-ref"])),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def _distribution(name: str, version: str, record: str, lock: Mapping[str, tuple[str, list[str]]]) -> dict[str, Any]:
    component = _component("library", normal(name), version, f"pkg:pypi/{normal(name)}")
    component["properties"] = [{"name": "sealift:record-sha256", "value": record}]
    if normal(name) == PROJECT:
        return component
    wanted, hashes = lock.get(normal(name), ("", []))
    if wanted != version or not hashes:
        sys.exit(f"the image has {name} {version}, which {LOCK.name} does not lock: build the image again")
    component["properties"] += [{"name": "sealift:locked-sha256", "value": each} for each in sorted(hashes)]
    return component


def _component(kind: str, name: str, version: str, purl: str, qualifiers: str = "") -> dict[str, Any]:
    whole = f"{purl}@{quote(version, safe=':~')}{qualifiers}"
    return {"type": kind, "bom-ref": whole, "name": name, "version": version, "purl": whole}


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
