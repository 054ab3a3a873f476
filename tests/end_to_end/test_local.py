"""`sealift local` as a user has it: objects dropped into a bucket, and what the hot bucket holds a moment later."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest

from jobs.cli.local import SAMPLE, status_text
from tests.doubles.local_process import local_process
from tests.end_to_end.scenes import settle

START_SECONDS = 60
AWAIT_SECONDS = 60.0
MIB = 1024 * 1024
EXAMPLE = Path(__file__).resolve().parents[2] / "policy.example.yaml"


@dataclass
class Local:
    """A running system, and a shell beside it with its environment."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    folder: Path
    client: Any = None
    queues: Any = None
    statuses: list[dict[str, Any]] = field(default_factory=list)

    def sealift(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "jobs", *arguments, "--json"]
        environment = os.environ | self.environment
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert result.stdout, result.stderr
        return result.returncode, json.loads(result.stdout)

    def copy_of(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket="freight-hot", Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return body

    def put(self, key: str, body: bytes = b"body") -> None:
        self.client.put_object(Bucket="freight-in", Key=key, Body=body)

    def await_copy(self, key: str, body: bytes | None) -> float:
        """How long it took until the copy was as it should be."""
        began = time.monotonic()
        while self.copy_of(key) != body:
            assert time.monotonic() - began < AWAIT_SECONDS, f"{key} was not backed up; {self.statuses[-1:]}"
            time.sleep(0.005)
        return time.monotonic() - began

    def await_status(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status, of those to come, that holds."""
        deadline = time.monotonic() + AWAIT_SECONDS
        assert self.process.stdout is not None
        while time.monotonic() < deadline:
            status = json.loads(self.process.stdout.readline())
            self.statuses.append(status)
            if holds(status):
                return status
        raise AssertionError(f"it did not come to that: {self.statuses[-1]}")


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Local]:
    with local_process(*arguments) as started:
        local = Local(started.process, started.environment, started.folder)
        with mock.patch.dict(os.environ, local.environment):
            session = boto3.Session()  # the default one keeps the credentials of an earlier system
            local.client, local.queues = session.client("s3"), session.client("sqs")
        yield local


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample policy, impatient with its backlog."""
    file = tmp_path_factory.mktemp("local") / "policy.yaml"
    file.write_text(SAMPLE.replace("backlog_age: 2s", "backlog_age: 1s"))
    return str(file)


@pytest.fixture(scope="module")
def local(policy: str) -> Iterator[Local]:
    with running("--retry", "1", "--policy", policy) as made:
        yield made


def test_an_object_is_backed_up_within_a_second(local: Local) -> None:
    took = []
    for number in range(20):
        body = os.urandom(4096)
        local.put(f"quick/a b+ü/{number}", body)
        took.append(local.await_copy(f"quick/a b+ü/{number}", body))
    assert statistics.median(took) <= 1.0


def test_each_way_to_write_is_told_and_newer_versions_replace_older_ones(local: Local) -> None:
    client = local.client
    local.put("ways/put", b"one")
    local.put("ways/put", b"two")
    client.copy_object(Bucket="freight-in", Key="ways/copy", CopySource={"Bucket": "freight-in", "Key": "ways/put"})
    upload = client.create_multipart_upload(Bucket="freight-in", Key="ways/parts")["UploadId"]
    given = {"Bucket": "freight-in", "Key": "ways/parts", "UploadId": upload}
    part = client.upload_part(**given, PartNumber=1, Body=b"p" * 5 * MIB)
    client.complete_multipart_upload(**given, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    local.await_copy("ways/put", b"two")
    local.await_copy("ways/copy", b"two")
    local.await_copy("ways/parts", b"p" * 5 * MIB)
    versions = client.list_object_versions(Bucket="freight-hot", Prefix="ways/put")["Versions"]
    ids = [each["VersionId"] for each in versions]
    found = [client.get_object(Bucket="freight-hot", Key="ways/put", VersionId=each)["Body"].read() for each in ids]
    assert set(found) == {b"one", b"two"}
    client.delete_object(Bucket="freight-in", Key="ways/put")
    client.delete_objects(Bucket="freight-in", Delete={"Objects": [{"Key": "ways/copy"}], "Quiet": True})
    local.await_copy("ways/put", None)
    local.await_copy("ways/copy", None)


@pytest.mark.slow
def test_poison_is_dead_lettered_blocks_nobody_and_redrive_returns_it(local: Local) -> None:
    before = local.await_status(lambda status: status["unhandled"] == 0)
    queue = local.queues.get_queue_url(QueueName="local-objects")["QueueUrl"]
    local.queues.send_message(QueueUrl=queue, MessageBody="{poison")
    for number in range(5):
        local.put(f"beside/{number}", b"fine")
        local.await_copy(f"beside/{number}", b"fine")
    dead = local.await_status(lambda status: status["dead_letters"] == 1)
    assert dead["failed"] - before["failed"] == 5
    assert dead["backed_up"] - before["backed_up"] >= 5
    assert dead["unhandled"] == 1, "a dead letter is not handled"
    assert dead["oldest_unhandled_seconds"] == dead["newest_unhandled_seconds"] > 3
    assert local.sealift("events", "redrive", "--dry-run")[1]["waiting"] == 1
    code, told = local.sealift("events", "redrive")
    assert (code, told["moved"]) == (0, 1)
    again = local.await_status(lambda status: status["failed"] > dead["failed"])
    assert (again["queued"], again["dead_letters"]) == (1, 0)
    local.queues.purge_queue(QueueUrl=queue)
    local.await_status(lambda status: status["queued"] == 0)


@pytest.mark.slow
def test_what_is_too_large_becomes_a_run_by_itself(local: Local) -> None:
    body = os.urandom(9 * MIB)
    local.put("large", body)
    local.await_copy("large", body)
    local.await_status(lambda status: status["runs"] == 0 and any("backfill" in each for each in status["told"]))
    code, listed = local.sealift("runs", "list")
    assert code == 0
    assert [run["job"] for run in listed["runs"]][:1] == ["replicate"]


@pytest.mark.slow
def test_a_night_finds_and_repairs_what_no_event_told(local: Local) -> None:
    local.put("night/lost", b"precious")
    local.await_copy("night/lost", b"precious")
    for version in local.client.list_object_versions(Bucket="freight-hot", Prefix="night/lost")["Versions"]:
        local.client.delete_object(Bucket="freight-hot", Key="night/lost", VersionId=version["VersionId"])
    assert local.copy_of("night/lost") is None
    code, summary = local.sealift("nightly", "--pair", "freight", "--margin", "0s")
    assert local.copy_of("night/lost") == b"precious"
    repair = next(stage for stage in summary["stages"] if stage["stage"] == "repair")
    assert repair["counts"] == {"copied": 1}
    assert (summary["state"], code) in {("complete", 0), ("complete", 3)}, summary["verdict"]


def processes_below(parent: int) -> set[int]:
    """The children of a process, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, more = set[int](), {parent}
    while more := {pid for pid, above in parents.items() if above in more}:
        found |= more
    return found


@pytest.mark.slow
def test_it_ends_all_that_it_started_and_leaves_nothing(policy: str) -> None:
    with running("--policy", policy) as local:
        local.put("k")
        local.put("large", os.urandom(9 * MIB))
        local.await_copy("k", b"body")
        deadline = time.monotonic() + AWAIT_SECONDS
        while len(children := processes_below(local.process.pid)) < 2:  # the server; then the large one's run too
            assert time.monotonic() < deadline
            time.sleep(0.01)
        local.process.send_signal(signal.SIGTERM)
        local.process.send_signal(signal.SIGTERM)
        assert local.process.wait(timeout=30) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert not local.folder.exists()


def test_its_log_ends_before_the_file_does() -> None:
    with (
        mock.patch.dict(os.environ, PYTHONDEVMODE="1"),
        running() as local,
    ):  # tells of errors in finalisers, as 3.13 does
        local.process.send_signal(signal.SIGINT)
        _, said = local.process.communicate(timeout=30)
        assert local.process.returncode == 0
        assert "closed file" not in said


def test_it_ends_when_the_server_behind_it_does() -> None:
    with running() as local:
        (server,) = processes_below(local.process.pid)
        os.kill(server, signal.SIGKILL)
        _, said = local.process.communicate(timeout=30)
        assert local.process.returncode == 75
        assert "SeaweedFS: Ended: exit code -9" in said
        assert "Traceback" not in said


def kill(local: Local) -> None:
    """End it as `kill -9` does, with nothing in order."""
    local.process.kill()
    local.process.wait(timeout=30)


def is_running(pid: int) -> bool:
    """Not a zombie, which nobody waits for in a container without an init."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_server_ends_with_a_killed_start() -> None:
    with running() as local:
        (server,) = processes_below(local.process.pid)
        kill(local)
        deadline = time.monotonic() + AWAIT_SECONDS
        while is_running(server):
            assert time.monotonic() < deadline, "the server outlives its parent"
            time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_start_can_be_started_again_even_if_its_server_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with running("--retry", "1", "--data", "data") as local:
        local.put("kept", b"kept")
        local.await_copy("kept", b"kept")
        (server,) = processes_below(local.process.pid)
        os.kill(server, signal.SIGSTOP)  # it hears of no end
        kill(local)
    assert is_running(server)
    with running("--retry", "1", "--data", "data") as local:
        assert not is_running(server)
        local.put("newer", b"newer")
        local.await_copy("newer", b"newer")
    assert {each.name for each in (tmp_path / "data").iterdir()} >= {"s3", "lock"}
    assert not (tmp_path / "data" / "data").exists(), "a relative folder is not taken twice"


@pytest.mark.slow
def test_kept_data_are_there_at_the_next_start_and_one_at_a_time_works_with_them(tmp_path: Path) -> None:
    with running("--retry", "1", "--data", str(tmp_path / "data")) as local:
        local.put("kept", b"kept")
        local.await_copy("kept", b"kept")
        first = local.environment["AWS_SECRET_ACCESS_KEY"]
        command = [sys.executable, "-m", "jobs", "local", "--data", str(tmp_path / "data")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, "another `sealift local`" in result.stderr) == (10, True)
    with running("--retry", "1", "--data", str(tmp_path / "data")) as local:
        assert local.copy_of("kept") == b"kept"
        assert local.environment["AWS_SECRET_ACCESS_KEY"] != first
        local.put("kept", b"newer")
        local.await_copy("kept", b"newer")


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_queues_and_dead_letters_survive_a_restart(tmp_path: Path, is_killed: bool) -> None:
    data = str(tmp_path / "data")
    with running("--retry", "0", "--data", data) as local:
        events = local.queues.get_queue_url(QueueName="local-objects")["QueueUrl"]
        others = local.queues.create_queue(QueueName="others")["QueueUrl"]
        local.queues.send_message(QueueUrl=events, MessageBody="{poison")
        local.queues.send_message(QueueUrl=others, MessageBody="waits")
        (seen,) = local.queues.receive_message(QueueUrl=others, VisibilityTimeout=0)["Messages"]
        local.await_status(lambda status: status["dead_letters"] == 1)
        kept = tmp_path / "data" / "queues.json"
        deadline = time.monotonic() + AWAIT_SECONDS
        while is_killed and not (
            kept.exists() and b"local-objects-dead" in kept.read_bytes() and counts(kept) == [1, 5]
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if is_killed:
            kill(local)
    with running("--retry", "0", "--data", data) as local:
        status = local.await_status(lambda status: True)
        assert (status["dead_letters"], status["unhandled"]) == (1, 2)
        assert local.sealift("events", "redrive", "--dry-run")[1]["waiting"] == 1
        others = local.queues.create_queue(QueueName="others")["QueueUrl"]
        asked = {"QueueUrl": others, "AttributeNames": ["ApproximateReceiveCount"]}
        (again,) = local.queues.receive_message(**asked)["Messages"]
        assert (again["Body"], again["MessageId"]) == ("waits", seen["MessageId"])
        assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def counts(kept: Path) -> list[int]:
    """How often each kept message was received."""
    queues = json.loads(kept.read_bytes())["queues"].values()
    return sorted(message["received_count"] for messages in queues for message in messages)


SIGNALS_AMID_WAITS = """
import os, signal, time
from jobs.cli.local import interruption

parent = os.getpid()
signal.signal(signal.SIGTERM, lambda *_: None)
sender = os.fork()
if not sender:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while os.getppid() == parent:
        time.sleep(0.0003)
        os.kill(parent, signal.SIGTERM)
    os._exit(0)
for _ in range(2000):
    with interruption() as stop:
        while not stop.wait(0.0001):
            pass
os.kill(sender, signal.SIGKILL)
print("all heard")
"""


def test_a_signal_amid_a_wait_is_heard() -> None:
    """Its handler asked for the lock that the wait held, so Ctrl-C could hang for ever."""
    result = subprocess.run(
        [sys.executable, "-c", SIGNALS_AMID_WAITS], capture_output=True, text=True, timeout=100, check=False
    )
    assert (result.returncode, result.stdout) == (0, "all heard\n"), result.stderr


def test_it_says_what_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs", "local", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "all handled" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    last = said.splitlines()[-1]
    assert last.startswith(f"Stopped. Buckets, queues and dead letters are kept in {tmp_path / 'data'}")


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 2, "queues": {}}', '{"version": 1, "queues": {"q": [1]}}'])
def test_kept_queues_that_cannot_be_read_are_named_and_left(tmp_path: Path, content: str) -> None:
    (tmp_path / "queues.json").write_text(content)
    command = [sys.executable, "-m", "jobs", "local", "--data", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 10
    assert f"{tmp_path / 'queues.json'}: these messages cannot be read" in result.stderr
    assert (tmp_path / "queues.json").read_text() == content


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--policy", "s3://bucket/policy.yaml"], 2, "name a file of this machine"),
        (["--policy", "nowhere.yaml"], 10, "nowhere.yaml"),
        (["--port", "70000"], 2, "70000"),
        (["--data", "/proc/nothing"], 10, "--data /proc/nothing"),
    ],
)
def test_what_cannot_be_started_is_told_in_a_line(arguments: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "jobs", "local", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "jobs", "local", "--port", port]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 10
        assert f"port {port} of 127.0.0.1" in said.splitlines()[-1]


def test_status_is_well_only_after_a_night_has_proven_what_was_copied(policy: str) -> None:
    with running("--policy", policy) as local:
        local.put("a", b"first")
        local.await_copy("a", b"first")
        code, before = local.sealift("status")
        assert (code, before["state"]) == (3, "wrong")
        assert before["pairs"][0]["oldest_unproven"]["not_known"] == "no night has compared the pair yet"
        settle()
        assert local.sealift("nightly", "--pair", "freight", "--margin", "0s")[0] == 0
        code, well = local.sealift("status")
        assert (code, well["state"], well["problems"], well["not_known"]) == (0, "well", [], [])
        assert (well["pairs"][0]["oldest_unproven"]["key"], well["events"]["waiting"]) == (None, 0)
        assert well["dead_letters"]["waiting"] == well["pairs"][0]["backlog"]["rows"] == 0
        queue = local.queues.get_queue_url(QueueName="local-objects-dead")["QueueUrl"]
        local.queues.send_message(QueueUrl=queue, MessageBody="{poison")
        code, poisoned = local.sealift("status")
        assert (code, poisoned["problems"][0]["problem"]) == (
            3,
            "1 dead letter in local-objects-dead: sealift events list",
        )


def test_people_are_told_what_to_type_and_how_it_goes() -> None:
    command = [sys.executable, "-m", "jobs", "local", "--policy", str(EXAMPLE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = list[str]()
        while not lines or not lines[-1].startswith("Logs are in"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        [scans] = [line for line in lines if line.startswith("  scans: ")]
        assert scans.endswith(" → s3://example-hot-fra/delivery/\n")
        exports = dict(line.strip()[7:].split("=", 1) for line in lines if line.startswith("  export "))
        assert exports["AWS_ENDPOINT_URL_S3"].startswith("http://127.0.0.1:")
        while "all handled" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert said.splitlines()[-1] == "Stopped. Buckets, queues and dead letters were thrown away: --data keeps them."
        assert process.returncode == 0


def test_the_status_line_says_what_would_be_lost_and_what_is_under_way() -> None:
    counts = dict.fromkeys(("superseded", "handed_over", "failed", "dead_letters", "backlog_rows", "runs"), 0)
    quiet = {"oldest_unhandled_seconds": None, "newest_unhandled_seconds": None, "told": ()}
    backed_up = {"backed_up": 1234, "backed_up_bytes": 2048}
    line = "all handled · 1,234 backed up (2.0 KiB) · 0 superseded · 0 handed over · 0 failed"
    assert status_text(counts | backed_up | quiet) == line
    busy = {"oldest_unhandled_seconds": 75.2, "newest_unhandled_seconds": 0.25, "unhandled": 3, "told": ["a", "b"]}
    said = status_text(counts | backed_up | busy | {"dead_letters": 1, "runs": 2})
    assert said.startswith("3 unhandled, 0.2 s to 75 s old · 1,234 backed up")
    assert said.endswith("0 failed · 1 dead letters · 2 runs under way · b")
