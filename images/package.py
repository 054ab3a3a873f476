"""The package of the Lambda functions: a zip, the same bytes wherever it is built.

    python images/package.py arm64 x86_64        → build/lambda-arm64.zip, build/lambda-x86_64.zip

It is for the Python that runs this (Lambda's runtime has to be the same minor version), and holds:

- `jobs` and `scheduler`, with their bytecode: a function's folder is read-only, so that Python would compile all of it
  at each cold start;
- the few libraries that the handlers load, as wheels of the platform, each by a hash of requirements/image.txt.

boto3 is not in it. The backup function never loads it; the others make one or two calls to Batch, SNS or Lambda, for
which the runtime's own is good enough; botocore's data alone are 25 MB.

Nothing is compressed: deflate's output differs between builds of zlib, and Lambda would have to inflate it.
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
LIBRARIES = ("httptools", "msgspec", "pyyaml", "tzdata")
PACKAGES = ("jobs", "scheduler")
LEFT_OUT = {"__pycache__", "cli", "html", "runs"}
"""Needs libraries that are not here, and no handler imports it."""
PLATFORMS = {"arm64": "aarch64", "x86_64": "x86_64"}
GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""What runs on Amazon Linux 2023, which has glibc 2.34."""
MAX_BYTES = 10 * 1024 * 1024
_NOT_TAKEN = re.compile(r"\.(pyc|pyx|pxd|pyi|c|h)$|(^|/)(tests?|__pycache__)/|/(RECORD|WHEEL|top_level\.txt)$")


def main(arguments: list[str]) -> int:
    """Build what the arguments say; what was built twice must be the same."""
    parser = argparse.ArgumentParser(description="Build the zip of the Lambda functions.")
    parser.add_argument("platform", nargs="+", choices=PLATFORMS)
    parser.add_argument("--to", type=Path, default=ROOT / "build", help="The folder for the zips.")
    given = parser.parse_args(arguments)
    given.to.mkdir(parents=True, exist_ok=True)
    for platform in given.platform:
        with tempfile.TemporaryDirectory() as folder:
            wheels = download(platform, Path(folder))
            package, again = build(wheels), build(wheels)
        if package != again:
            sys.exit(f"two builds for {platform} differ: something in them depends on when they were made")
        if len(package) > MAX_BYTES:
            sys.exit(f"the package for {platform} has {len(package):,} bytes, more than {MAX_BYTES:,}")
        path = given.to / f"lambda-{platform}.zip"
        path.write_bytes(package)
        version = ".".join(map(str, sys.version_info[:2]))
        digest = hashlib.sha256(package).hexdigest()
        sys.stdout.write(f"{path}: {len(package):,} bytes, python{version}, sha256 {digest}\n")
    return 0


def download(platform: str, folder: Path) -> list[Path]:
    """The wheels of the libraries for a platform, by pip, which checks their hashes against the lock."""
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
    """The lock's entries for the libraries, each on one line with its hashes. Ends the program when one is missing."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    entries = {line.partition("==")[0]: line for line in text.splitlines()}
    missing = [name for name in LIBRARIES if name not in entries]
    if missing:
        sys.exit(f"{lock} does not lock {', '.join(missing)}: make lock")
    return [entries[name] for name in LIBRARIES]


def build(wheels: Iterable[Path]) -> bytes:
    """The zip's bytes: sources and wheels laid out in a folder of their own, compiled, and packed in order."""
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
    """Bytecode that names no folder of this machine, and that is not looked at against its source again.

    By a fresh interpreter without a random hash seed: the order of sets, and which constants are shared, show in it.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(stage), "-p", "/var/task", str(stage)]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "0"})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
