"""A cold start loads what the function needs, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.doubles.lambda_runtime import ROOT

HANDLERS = ("backup", "enqueue", "submit", "follow")
HEAVY = {"aiohttp", "awscrt", "boto3", "botocore", "click", "duckdb", "jinja2", "joblib", "pandas", "pyarrow", "rich"}
RSS_MAX_MIB = 90


@pytest.mark.parametrize("handler", HANDLERS)
def test_importing_a_handler_loads_nothing_heavy_and_stays_small(handler: str) -> None:
    probe = (
        f"import scheduler.{handler}, sys\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, capture_output=True, text=True)
    rss, modules = done.stdout.splitlines()
    assert set(modules.split()) & HEAVY == set()
    assert int(rss) < RSS_MAX_MIB * 1024


def test_backing_up_an_object_needs_no_botocore() -> None:
    """The handler's first invocation is part of a cold start."""
    probe = (
        "import sys\n"
        "from jobs.s3.sessions import open_store\n"
        "open_store(None, 'eu-central-1', None)\n"
        "print('botocore' in sys.modules)"
    )
    environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c", "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "False"
