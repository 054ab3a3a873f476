"""A pool of connections for one conversation with a server, and the shortest request and answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from jobs.s3.http.connect import Dialer
from jobs.s3.http.connection_pool import Pool
from jobs.s3.http.proxies import Proxies

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Amz-Meta-Name: caf\xc3\xa9\r\n\r\nok"
DIRECT = Proxies(is_tls=False, urls={})
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(
    url: str, use: Callable[[Pool, str], Awaitable[Any]], *, limit: int = 4, tls: ssl.SSLContext | None = None
) -> Any:
    """What `use(pool, host)` returns. `tls`: of the client."""

    async def run() -> Any:
        pool = Pool(limit, Dialer(tls, DIRECT))
        try:
            return await use(pool, url.partition("//")[2])
        finally:
            pool.close()

    return asyncio.run(asyncio.wait_for(run(), 60))
