"""Keys of `sealift local` at AWS, and the reverse: the message names the mix-up and the way out of it."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from tests.doubles.http_proxy import http_proxy
from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import write_policy

LOCAL_KEY = "local0123456789abcdef"
AWS_KEY = "AKIAIOSFODNN7EXAMPLE"


class _Aws(BaseHTTPRequestHandler):
    """AWS, which does not know the key: S3 by a document, the other services by JSON."""

    protocol_version = "HTTP/1.1"

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = (
            b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records.</Message></Error>"
        )
        if "x-amz-target" in self.headers:
            body = b'{"__type": "UnrecognizedClientException", "message": "The security token is invalid."}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_PUT = do_POST = _refuse  # noqa: N815  the server's names

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def aws(folder: Path) -> Iterator[dict[str, str]]:
    """The variables with which a command asks a server that shows AWS's names."""
    authority = trustme.CA()
    (folder / "bundle.pem").write_bytes(authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = ("*.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "sqs.us-east-1.amazonaws.com")
    authority.issue_cert(*names).configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Aws)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with http_proxy(f"https://127.0.0.1:{server.server_address[1]}") as proxy:
            yield {"HTTPS_PROXY": proxy.url, "AWS_CA_BUNDLE": str(folder / "bundle.pem"), "NO_PROXY": ""}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_key_of_sealift_local_at_aws(world: World, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
    keys = {"AWS_ACCESS_KEY_ID": LOCAL_KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    policy = write_policy(world, tmp_path)
    with aws(tmp_path) as variables:
        for command in (["runs", "list", "--ledger", "s3://mine/ledger"], ["events", "list", "--policy", policy]):
            environment = inherited | keys | variables | {"AWS_EC2_METADATA_DISABLED": "true"}
            done = subprocess.run(
                [sys.executable, "-m", "jobs", *command], env=environment, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout) == (10, ""), done.stderr
            assert f"the access key {LOCAL_KEY} is of `sealift local`, and https://" in done.stderr
            assert "amazonaws.com is AWS: open a new shell for AWS, or export all that" in done.stderr
            assert done.stderr.count(LOCAL_KEY) == 1


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (AWS_KEY, "is of AWS, and {} is a server of this machine: export all that `sealift local` printed, or unset"),
        (LOCAL_KEY, "is of another start of `sealift local`: export all that the one that runs at {} has printed"),
        ("mistyped", "S3 does not know the access key mistyped: check AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_key_that_a_server_of_this_machine_does_not_know(world: World, key: str, says: str) -> None:
    refused = world.sealift("runs", "list", AWS_ACCESS_KEY_ID=key)
    assert (refused.code, refused.stdout) == (10, "")
    assert f"InvalidAccessKeyId: {'' if key == 'mistyped' else f'the access key {key} '}" in refused.stderr
    assert says.format(world.server.endpoint) in refused.stderr
