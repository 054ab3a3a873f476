"""A relay that fails: some requests are refused with SlowDown, of others the answer is lost after they were done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from jobs.local.relay import CHUNK_BYTES, Relay

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
    len(_SLOW_DOWN),
    _SLOW_DOWN,
)
_METHODS = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")


class FaultyRelay(Relay):
    """`share` of the requests fail, chosen by a seed; `faults` counts them by kind."""

    def __init__(self, upstream: int, share: float, seed: int):
        super().__init__(upstream, lambda exchange: None)
        self.share, self.faults = share, Counter[str]()
        self._dice = random.Random(seed)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection("127.0.0.1", self.upstream, limit=CHUNK_BYTES)
        answers = asyncio.create_task(_pump(above, writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                if data.startswith(_METHODS) and self._dice.random() < self.share:
                    kind = self._dice.choice(("refused", "lost"))
                    self.faults[kind] += 1
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    if kind == "refused":
                        writer.write(_REFUSAL)
                        await writer.drain()
                    else:
                        below.write(data)
                        await above.read(1)  # it has answered, so it was done
                    return
                below.write(data)
                await below.drain()
        finally:
            answers.cancel()
            below.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def faulty_relay(upstream: int, share: float, seed: int, faults: Counter[str]) -> Iterator[int]:
    """One in a process of its own; its port. `faults` gets its counts in the end."""
    command = [sys.executable, "-m", "tests.local.faulty_relay", str(upstream), str(share), str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    counts, _ = process.communicate(timeout=30)
    faults.update(json.loads(counts))


async def _main(upstream: int, share: float, seed: int) -> None:
    relay = FaultyRelay(upstream, share, seed)
    print(await relay.start(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await relay.close()
    print(json.dumps(relay.faults))


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
