"""Credentials that a run resolves once and lends to its workers, which are processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from botocore.credentials import AssumeRoleProvider

from jobs.credentials import Lender, Loan, lend
from jobs.errors import ConfigError
from jobs.runs.local_executor import WorkerProcesses, run_shards
from jobs.s3.sessions import open_store
from tests.doubles.answering import Asked, Reply
from tests.doubles.fake_sts import PROFILE, FakeSts, fake_sts
from tests.doubles.scripted_server import Script, scripted

HOUR = 3600.0
ADVANCE = 15 * 60.0
"""botocore renews so long before the expiry."""
WORKER = """
import asyncio, json, sys
from jobs.core.model import ObjectRef
from jobs.runs import parent_pipe
from jobs.s3.sessions import open_store

parent_pipe.watch_parent()
parent_pipe.borrow_credentials(lambda document: print(json.dumps(document), flush=True))

async def work():
    endpoint, profile, last_key, *_ = sys.argv[1:]
    stores = [open_store(endpoint, None, profile) for _ in range(2)]
    used = ""
    while used != last_key:
        for store in stores:
            used = (await store.head(ObjectRef("bucket", "k"))).attributes.metadata["used"]
        await asyncio.sleep(0.05)

asyncio.run(work())
"""


@pytest.fixture
def script() -> Iterator[Script]:
    """S3, which says in each answer with which access key the request was signed."""

    class Echo(Script):
        def answer(self, asked: Asked) -> Reply:
            used = asked.headers["authorization"].partition("Credential=")[2].partition("/")[0]
            self.reply = Reply(headers={"ETag": '"e"', "x-amz-meta-used": used})
            return super().answer(asked)

    with scripted(Echo()) as script:
        yield script


@pytest.fixture
def sts(tmp_path: Path) -> Iterator[FakeSts]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        fake_sts(lambda number: ("first", "s", HOUR)) as sts,
        mock.patch.dict(os.environ, kept | sts.environment(tmp_path), clear=True),
    ):
        yield sts


def run_workers(endpoint: str, last_key: str, lender: Lender = lend) -> dict[int, int]:
    words = [sys.executable, "-c", WORKER, endpoint, PROFILE, last_key]
    workers = WorkerProcesses(lambda shard: [*words, str(shard)], lender)
    return run_shards(workers.attempt, workers, 3, lambda: False, range(3))


def test_a_role_with_a_code_is_asked_for_once_for_all_workers(sts: FakeSts, script: Script) -> None:
    prompts: list[str] = []

    def type_code(prompt: str) -> str:
        prompts.append(prompt)
        return f"00000{len(prompts)}"

    with mock.patch.object(AssumeRoleProvider.__init__, "__defaults__", (type_code, None, None)):
        for _ in range(2):  # those of the command itself, for both sides
            open_store(script.endpoint, None, PROFILE)
        assert run_workers(script.endpoint, "first") == {0: 0, 1: 0, 2: 0}
    assert (sts.codes, len(prompts)) == (["000001"], 1)


def test_credentials_that_cannot_be_had_end_the_worker_with_the_reason(
    sts: FakeSts, script: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(profile: str | None) -> Loan:
        raise ConfigError(f"no code was typed for {profile}")

    codes = run_workers(script.endpoint, "second", refuse)
    assert all(code == 1 for code in codes.values())  # the bare program's traceback; a worker says 10
    assert f"no code was typed for {PROFILE}" in capfd.readouterr().err
    assert not sts.codes


STOPPED = WORKER.replace(
    "asyncio.run(work())",
    """
from jobs import interrupts

interrupts.install(lambda: None)
try:
    interrupts.run(work())
except KeyboardInterrupt:
    sys.exit(75)
""",
)


def test_a_worker_that_waits_for_a_persons_code_ends_when_it_is_stopped(sts: FakeSts, script: Script) -> None:
    is_asked, is_over = threading.Event(), threading.Event()

    def never_answer(profile: str | None) -> Loan:
        is_asked.set()
        is_over.wait(60)
        raise ConfigError("no code was typed")

    words = [sys.executable, "-c", STOPPED, script.endpoint, PROFILE, "second"]
    workers = WorkerProcesses(lambda _: words, never_answer)

    async def scenario() -> dict[int, int]:
        running = asyncio.create_task(asyncio.to_thread(run_shards, workers.attempt, workers, 1, lambda: False, [0]))
        assert await asyncio.to_thread(is_asked.wait, 30)
        workers.stop()
        return await asyncio.wait_for(running, 15)

    try:
        assert asyncio.run(scenario()) == {0: 75}
    finally:
        is_over.set()


def test_credentials_that_do_not_expire_are_lent_as_well(sts: FakeSts, script: Script) -> None:
    codes = run_workers(script.endpoint, "second", lambda profile: Loan("second", "s", None, None))
    assert codes == {0: 0, 1: 0, 2: 0}
    assert not sts.codes


def test_a_profile_whose_file_changes_is_resolved_again(tmp_path: Path) -> None:
    file = tmp_path / "config"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with mock.patch.dict(os.environ, kept | {"AWS_CONFIG_FILE": str(file)}, clear=True):
        for key in ("a", "b"):
            file.write_text(f"[profile {PROFILE}]\naws_access_key_id = {key}\naws_secret_access_key = s\n")
            assert lend(PROFILE) == Loan(key, "s", None, None)
