"""Terraform, make and the container engine, as far as a stack asks them: one program that plays all.

    install(folder)   # makes folder/terraform, folder/make, folder/podman

Each writes what it was asked to FOLDER/calls. Terraform keeps a state of one word, refuses to
destroy the system while FOLDER/stuck exists, and waits in its apply while FOLDER/hold exists, as a real
one does for minutes. It ends on SIGINT, with its state written. While FOLDER/drift exists, a plan is never empty.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

DIGEST = "sha256:" + "0" * 64
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sealift"
PROGRAMS = ("terraform", "make", "podman")


def install(folder: Path) -> dict[str, str]:
    """Make the programs. Returns name → path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        file = folder / name
        file.write_text(f"#!{sys.executable} -P\nimport runpy, sys\nsys.argv.insert(1, {str(file)!r})\n{_SOURCE}")
        file.chmod(0o755)
    return {name: str(folder / name) for name in PROGRAMS}


_SOURCE = f"runpy.run_path({str(Path(__file__).resolve())!r}, run_name='__main__')\n"


def main() -> int:
    """Play the program whose path is the first argument."""
    program, arguments = Path(sys.argv[1]), sys.argv[2:]
    with (program.parent / "calls").open("a") as calls:
        calls.write(f"{program.name} {' '.join(arguments)}\n")
    if program.name == "terraform":
        return _terraform(program.parent, arguments)
    if arguments[:1] == ["image-push"]:
        print(f"{REPOSITORY}@{DIGEST}")
    return 0


def _terraform(folder: Path, arguments: list[str]) -> int:
    root = Path(arguments[0].removeprefix("-chdir="))
    state, verb, is_system = root / "terraform.tfstate", arguments[1], root.name != "repository"
    if verb == "apply":
        signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
        state.write_text("made")
        while is_system and (folder / "hold").exists():
            (folder / "holding").touch()
            time.sleep(0.02)
        return 1 if is_system and (folder / "broken").exists() else 0
    if verb == "destroy":
        if is_system and (folder / "stuck").exists():
            return 1
        state.write_text("destroyed")
    if verb == "output":
        environment = {"SEALIFT_LEDGER": "s3://l/sealift", "SEALIFT_BATCH_JOB_DEFINITION": "d-{job}"}
        queues = {"workers": "workers", "orchestrators": "orchestrators"}
        outputs = {"repository": REPOSITORY, "environment": environment, "job_queues": queues}
        print(json.dumps({name: {"value": value} for name, value in outputs.items()}))
    if verb == "show":
        actions = ["create"] if (folder / "drift").exists() else ["no-op"]
        changes = [{"address": "module.sealift.aws_batch_job_definition.this", "change": {"actions": actions}}]
        print(json.dumps({"values": {"root_module": {"resources": []}}, "resource_changes": changes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
