"""The package of the Lambda functions: a zip, the same bytes wherever it is built.

    python images/package.py arm64 x86_64        → build/lambda-arm64.zip, build/lambda-x86_64.zip

It is for the Python that runs this (Lambda's runtime must have the same minor version), and holds:

- `jobs` and `scheduler`, with their bytecode: a function's folder is read-only, so Python would
  compile everything at each cold start.
- The few libraries that the handlers load, as wheels of the platform, each by a hash of
  requirements/image.txt.

boto3 is not in it. The backup function never loads it. The others make one or two calls to Batch, SNS
or Lambda, and the runtime's own is good enough. botocore's data alone have 25 MB.

Nothing is compressed: deflate's output differs between builds of zlib, and Lambda would inflate it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("httptools", "msgspec", "tzdata")
PACKAGES = ("jobs", "scheduler")
LEFT_OUT = frozenset(
    (
        *("__pycache__", "archives", "checksum_reports", "cli", "compact", "expire", "html", "inventory", "local"),
        *("py.typed", "reconcile", "replicate", "rollback", "runs", "tables", "verify"),
    )
)
"""What no handler imports. Most of it needs libraries which are not in the zip."""
PLATFORMS = {"arm64": "aarch64", "x86_64": "x86_64"}
GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""The wheels that run on Amazon Linux 2023, which has glibc 2.34."""
MAX_BYTES = 10 * 1024 * 1024
_NOT_TAKEN = re.compile(r"\.(pyc|pyx|pxd|pyi|c|h)$|(^|/)(tests?|__pycache__)/|/(RECORD|WHEEL|top_level\.txt)$")


def main(arguments: list[str]) -> int:
    """Build each platform's zip twice, compare, and write it."""
    parser = argparse.ArgumentParser(description="Build the zip of the Lambda functions.")
    parser.add_argument("platform", nargs="+", choices=PLATFORMS)
    parser.add_argument("--to", type=Path, default=ROOT / "build", help="The folder for the zips.")
    options = parser.parse_args(arguments)
    options.to.mkdir(parents=True, exist_ok=True)
    for platform in options.platform:
        with tempfile.TemporaryDirectory() as folder:
            wheels = download(platform, Path(folder))
            package, again = build(wheels), build(wheels)
        if package != again:
            sys.exit(f"two builds for {platform} differ: something in them depends on when they were made")
        if len(package) > MAX_BYTES:
            sys.exit(f"the package for {platform} has {len(package):,} bytes, more than {MAX_BYTES:,}")
        path = options.to / f"lambda-{platform}.zip"
        path.write_bytes(package)
        version = ".".join(map(str, sys.version_info[:2]))
        digest = hashlib.sha256(package).hexdigest()
        sys.stdout.write(f"{path}: {len(package):,} bytes, python{version}, sha256 {digest}\n")
    return 0


def download(platform: str, folder: Path) -> list[Path]:
    """Download the libraries' wheels for a platform with pip, which checks the lock's hashes."""
    wanted = folder / "requirements.txt"
    wanted.write_text("".join(f"{entry}\n" for entry in locked(ROOT / "requirements" / "image.txt")))
    version = "".join(map(str, sys.version_info[:2]))
    platforms = [f"--platform={name}_{PLATFORMS[platform]}" for name in GLIBC]
    python = [f"--python-version={version}", "--implementation=cp", f"--abi=cp{version}", "--abi=abi3", "--abi=none"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", f"--dest={folder}", f"--requirement={wanted}"]
    subprocess.run([*command, *platforms, *python], check=True)
    return sorted(folder.glob("*.whl"))


def locked(lock: Path) -> list[str]:
    """The lock's entries for the libraries, a line each. Ends the program if one is missing."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    entries = {line.partition("==")[0]: line for line in text.splitlines()}
    missing = [name for name in LIBRARIES if name not in entries]
    if missing:
        sys.exit(f"{lock} does not lock {', '.join(missing)}: make lock")
    return [entries[name] for name in LIBRARIES]


def build(wheels: Iterable[Path]) -> bytes:
    """The zip's bytes: sources and wheels in a folder of their own, compiled, packed in order."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "stage"
        for package in PACKAGES:
            for path in sorted((ROOT / package).rglob("*")):
                if path.is_file() and not LEFT_OUT & set(path.relative_to(ROOT).parts):
                    _write(stage / path.relative_to(ROOT), path.read_bytes())
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(archive.namelist()):
                    if not name.endswith("/") and not _NOT_TAKEN.search(name):
                        _write(stage / name, archive.read(name))
        compile_all(stage)
        path = Path(folder) / "package.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
            for file in sorted(each for each in stage.rglob("*") if each.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(stage).as_posix())  # of 1980, whatever the clock says
                entry.external_attr = 0o100644 << 16
                entry.create_system = 3
                packed.writestr(entry, file.read_bytes())
        return path.read_bytes()


def compile_all(stage: Path) -> None:
    """Compile to bytecode that names no folder of this machine, and is not checked against its source.

    A fresh interpreter without a random hash seed does it: the order of sets, and which constants are
    shared, show in bytecode.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(stage), "-p", "/var/task", str(stage)]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "0"})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
