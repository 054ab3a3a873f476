"""The wheel's bill of materials, put into the wheel as PEP 770 says: `.dist-info/sboms/`.

    python images/wheel_sbom.py dist/sealift-0.1.0-py3-none-any.whl

CycloneDX 1.6. The wheel bundles nobody else's code, so its only assembly is Sealift itself. What it
requires is listed with the range that pip takes, and with the version that requirements/image.txt
locks, which is the tested one. The same wheel gives the same bytes.

https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-sboms-directory
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import json
import sys
import uuid
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
NAME = "sealift.cdx.json"


def main(arguments: list[str]) -> int:
    """Put the document into each wheel that is named."""
    for name in arguments:
        wheel = Path(name)
        wheel.write_bytes(with_sbom(wheel.read_bytes(), (ROOT / "requirements" / "image.txt").read_text()))
    return 0


def with_sbom(wheel: bytes, lock: str) -> bytes:
    """The wheel with the document, which its RECORD lists. All other files stay as they are."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as source:
        entries = [(entry, source.read(entry)) for entry in source.infolist()]
    record = next(entry.filename for entry, _ in entries if entry.filename.endswith(".dist-info/RECORD"))
    folder = record.removesuffix("RECORD")
    files = {entry.filename: data for entry, data in entries}
    document = bill(files[f"{folder}METADATA"].decode(), files[record], lock)
    name = f"{folder}sboms/{NAME}"
    data = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    rows = [*csv.reader(io.StringIO(files[record].decode()))]
    rows.insert(-1, [name, f"sha256={_digest(data)}", str(len(data))])
    listed = io.StringIO()
    csv.writer(listed, lineterminator="\n").writerows(rows)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target:
        for entry, content in entries:
            if entry.filename == record:  # the last one, by custom
                target.writestr(_like(entry, name), data)
                content = listed.getvalue().encode()
            target.writestr(_like(entry, entry.filename), content)
    return written.getvalue()


def bill(metadata: str, record: bytes, lock: str) -> dict[str, Any]:
    """The document. `metadata` and `record`: the wheel's own. Ends the program for what is not locked."""
    headers, locked = HeaderParser().parsestr(metadata), _image_sbom().locked(lock)
    project, version = headers["Name"], headers["Version"]
    own = f"pkg:pypi/{project}@{version}"
    requirements = [Requirement(each) for each in headers.get_all("Requires-Dist", [])]
    components = []
    for each in requirements:
        if each.marker is not None and "extra" in str(each.marker):  # only for development
            continue
        name = _image_sbom().normal(each.name)
        if name not in locked:
            sys.exit(f"{project} requires {name}, which image.txt does not lock: run make lock")
        properties = {"sealift:requirement": str(each), "sealift:tested-version": locked[name][0]}
        components.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}",
                "name": name,
                "purl": f"pkg:pypi/{name}",
                "scope": "required",
                "properties": [{"name": key, "value": value} for key, value in properties.items()],
            }
        )
    component = {
        "type": "application",
        "bom-ref": own,
        "name": project,
        "version": version,
        "purl": own,
        "description": headers["Summary"],
        "licenses": [{"expression": headers["License-Expression"]}],
        "properties": [{"name": "sealift:record-sha256", "value": hashlib.sha256(record).hexdigest()}],
    }
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component},
        "components": sorted(components, key=lambda each: str(each["bom-ref"])),
        "dependencies": [{"ref": own, "dependsOn": sorted(str(each["bom-ref"]) for each in components)}],
        "compositions": [{"aggregate": "complete", "assemblies": [own]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def _like(entry: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    """An entry of this name with the time and the rights of another one."""
    made = zipfile.ZipInfo(name, entry.date_time)
    made.compress_type, made.external_attr, made.create_system = zipfile.ZIP_DEFLATED, entry.external_attr, 3
    return made


def _digest(data: bytes) -> str:
    """As RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _image_sbom() -> Any:
    """The program beside this one, which reads the lock. Neither is in a package."""
    spec = importlib.util.spec_from_file_location("image_sbom", Path(__file__).with_name("sbom.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
