"""STS on loopback: it hands out credentials for a role, and remembers which codes it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

MFA_SERIAL = "arn:aws:iam::111122223333:mfa/me"
PROFILE = "office"


class FakeSts:
    """`codes`: the MFA code of each AssumeRole, in order.

    `credentials(number)` gives access key, secret key and seconds until the expiry of the so-manyth.
    """

    def __init__(self, credentials: Callable[[int], tuple[str, str, float]]):
        self.codes: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                assert form["Action"] == ["AssumeRole"], form
                assert form["SerialNumber"] == [MFA_SERIAL]
                fake.codes.extend(form["TokenCode"])
                body = _answer(*credentials(len(fake.codes))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables with which `PROFILE` assumes a role with a code. The files are in `folder`."""
        config = folder / "aws-config"
        config.write_text(
            f"[profile desk]\naws_access_key_id = desk\naws_secret_access_key = s\nregion = us-east-1\n\n"
            f"[profile {PROFILE}]\nrole_arn = arn:aws:iam::111122223333:role/copies\nsource_profile = desk\n"
            f"mfa_serial = {MFA_SERIAL}\nregion = us-east-1\n"
        )
        return {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
            "AWS_ENDPOINT_URL_STS": self.endpoint,
        }


def _answer(access_key: str, secret_key: str, seconds: float) -> str:
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>"
        f"<SessionToken></SessionToken><Expiration>{expiry}</Expiration></Credentials></AssumeRoleResult>"
        "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
    )


@contextmanager
def fake_sts(credentials: Callable[[int], tuple[str, str, float]]) -> Iterator[FakeSts]:
    sts = FakeSts(credentials)
    threading.Thread(target=sts.server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield sts
    finally:
        sts.server.shutdown()
        sts.server.server_close()
