"""Servers that live as long as the test session, and buckets on them; no example of Hypothesis has a time limit."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles.ceph_server import PACKAGES, ceph, is_on_ceph, missing_programs
from tests.doubles.certificates import issue
from tests.doubles.examples import examples
from tests.doubles.servers import Server, moto, seaweedfs

# Based on Hypothesis' own choice, which with CI set is the same examples each time: what is slow is a busy machine.
settings.register_profile(
    "sealift",
    settings(),
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("sealift")


def pytest_configure() -> None:
    """Commands that tests start can be interrupted, even where a shell ran the tests in the background.

    Such a shell makes its jobs ignore SIGINT, and whoever they start inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart() -> None:
    """All that is collected stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """The garbage collector does not look at thousands of tests and modules again and again: a fifth of the time."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is `async def` runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A SeaweedFS of this test session, over TLS as well, or a Ceph where `make test-ceph` asks for one."""
    if is_on_ceph() and (missing := missing_programs()):
        why = f"CEPH NOT TESTED: there is no {missing[0]} here, install {' '.join(PACKAGES)}"
        assert not os.environ.get("SEALIFT_REQUIRE_CEPH"), why
        pytest.skip(why)
    with ceph() if is_on_ceph() else seaweedfs(certificate=issue(tmp_path_factory.mktemp("tls"))) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """A moto server of this test session."""
    with moto() as server:
        yield server
