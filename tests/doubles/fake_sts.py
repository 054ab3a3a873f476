"""STS on loopback: it hands out credentials for a role, and remembers which codes it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from tests.doubles.answering import Asked, Reply, answering

MFA_SERIAL = "arn:aws:iam::111122223333:mfa/me"
PROFILE = "office"


@dataclass
class FakeSts:
    """Where it listens. `codes`: the MFA code of each AssumeRole, in order."""

    endpoint: str = ""
    codes: list[str] = field(default_factory=list)

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
    """`credentials(number)` gives access key, secret key and seconds until the expiry of the so-manyth."""
    sts = FakeSts()

    def answer(asked: Asked) -> Reply:
        form = parse_qs(asked.body.decode())
        assert form["Action"] == ["AssumeRole"], form
        assert form["SerialNumber"] == [MFA_SERIAL]
        sts.codes.extend(form["TokenCode"])
        return Reply(200, {"Content-Type": "text/xml"}, _answer(*credentials(len(sts.codes))).encode())

    with answering(answer) as sts.endpoint:
        yield sts
