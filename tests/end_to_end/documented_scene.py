"""The shell of a document's reader: buckets of a test's own under the documented names, and a folder with files."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.documents import ROOT
from tests.doubles.tuning import tuned
from tests.end_to_end.commands import call
from tests.end_to_end.conftest import Result
from tests.end_to_end.scenes import settle

LATE_VERBS = {"nightly", "reconcile", "restore"}
"""They judge by S3's dates, which have seconds. Nobody types so fast that both are of one second."""
LINKED = ("README.md", "policy.example.yaml", "terraform")
"""Files of the repository that the documents name."""
PROGRAMS = {
    "aws": """
import boto3, sys
assert sys.argv[1:4] == ["s3", "cp", "-"], sys.argv
bucket, _, key = sys.argv[4].removeprefix("s3://").partition("/")
boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=sys.stdin.buffer.read())
""",
}
"""What the reader has beside Sealift: as much of it as the documents use."""
SECONDS = 60


@dataclass
class Scene:
    """A reader's shell: its variables, its folder, and what the documents' names are here.

    `names`: documented bucket → bucket. `times`: documented date or age → one that fits. `undo` ends what was started.
    """

    client: Any
    folder: Path
    undo: ExitStack
    environment: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)
        programs = self.folder / "bin"
        programs.mkdir()
        for name, text in PROGRAMS.items():
            (programs / name).write_text(f"#!{sys.executable}\n{text}")
            (programs / name).chmod(0o755)
        self.environment["PATH"] = os.pathsep.join(
            [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        )

    def put(self, bucket: str, key: str, body: bytes) -> Any:
        """Put an object into the bucket of a documented name."""
        return self.client.put_object(Bucket=self.names.get(bucket, bucket), Key=key, Body=body)

    def sealift(self, *words: str, exits: int = 0) -> Result:
        """Run the command with documented names. It has to end with this exit code."""
        if words[0] in LATE_VERBS:
            settle()
        result = Result(*call([self._replaced(word) for word in words], self.environment, self.folder))
        assert result.code == exits, f"exit code {result.code}: {shlex.join(words)}\n{result.stdout}{result.stderr}"
        return result

    def type(self, line: str, exits: int) -> None:
        """Do what a documented line says. It has to end with this exit code."""
        words = list(shlex.shlex(line, posix=True, punctuation_chars="|;<>"))
        if line == "sealift local":
            self.start_local(exits)
        elif words[0] == "sealift" and not {"|", ";", "<", ">"} & set(words):
            self.sealift(*shlex.split(line)[1:], exits=exits)
        else:
            self._type_in_shell(line, exits)

    def start_local(self, exits: int = 0) -> None:
        """Start `sealift local`, and go on in another shell, with the variables that it prints."""
        plain = {name: value for name, value in self.environment.items() if not name.startswith(("AWS_", "SEALIFT_"))}
        plain["SEALIFT_POLICY"] = str(self.folder / "policy.yaml")
        log = self.undo.enter_context((self.folder / "local.log").open("w"))
        process = subprocess.Popen(
            ["sealift", "local"], cwd=self.folder, env=plain, stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=SECONDS)
            assert process.returncode == exits, (self.folder / "local.log").read_text()

        self.undo.callback(stop)
        assert process.stdout is not None
        line = ""
        while not line.startswith("Logs are in"):
            line = process.stdout.readline()
            assert line, (self.folder / "local.log").read_text()
            if line.startswith("  export "):
                [(name, value)] = [word.split("=", 1) for word in shlex.split(line)[1:]]
                self.environment[name] = value

    def _type_in_shell(self, line: str, exits: int) -> None:
        """A line with pipes, redirections or other programs. The shell's variables stay."""
        script = f"set -o pipefail\n{self._replaced(line)}\nended=$?\nenv -0 > variables\nexit $ended"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == exits, f"exit code {done.returncode}: {line}\n{done.stdout}{done.stderr}"
        variables = (self.folder / "variables").read_text().split("\0")
        self.environment |= dict(variable.split("=", 1) for variable in variables if variable)

    def _replaced(self, text: str) -> str:
        """What a reader types in place of names, runs, dates and `…`."""
        text = re.sub(r"s3://([a-z]+)(?![\w-])", lambda uri: f"s3://{self.names.get(uri[1], uri[1])}", text)
        text = re.sub(r"\b([A-Z]+)_RUN\b", lambda run: self.latest(run[1].lower()), text)
        text = re.sub(r"\bRUN\b", lambda _: self.latest("replicate"), text)
        text = re.sub(r"s3://([\w-]+)/(\S*…\S*)", lambda uri: self._existing(uri[1], uri[2]), text)
        return re.sub(r"\b(\d{4}-\d\d-\d\d|\d+d)\b", lambda time: self.times.get(time[0], time[0]), text)

    def _existing(self, bucket: str, pattern: str) -> str:
        """The latest object whose key has something in place of `…`."""
        keys = [each["Key"] for each in self.client.list_objects_v2(Bucket=bucket)["Contents"]]
        return f"s3://{bucket}/{max(fnmatch.filter(keys, pattern.replace('…', '*')))}"

    def latest(self, job: str) -> str:
        """The id of the latest run of a job."""
        bucket, _, prefix = self.environment["SEALIFT_LEDGER"].removeprefix("s3://").partition("/")
        listed = self.client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/runs/", Delimiter="/")
        runs = [each["Prefix"].split("/")[-2] for each in listed.get("CommonPrefixes", [])]
        return max(run for run in runs if f"-{job}-" in run)


def plain_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's variables without those of AWS and Sealift, and these ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
    return tuned(kept | {"processes": "1"} | extra)
