"""The queue server of `sealift local` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from jobs.local.sqs_server import QueueServer
from tests.doubles.servers import REGION


@contextlib.contextmanager
def queue_server() -> Iterator[int]:
    """Its port."""
    command = [sys.executable, "-m", "tests.local.queue_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.communicate(timeout=30)


async def _main() -> None:
    server = QueueServer(REGION)
    print(await server.start(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(_main())
