"""What the command line says, and never says, of endpoints."""

from __future__ import annotations

import warnings

import pytest

from jobs import cli
from jobs.core.display import without_passwords
from jobs.s3.sessions import open_store


@pytest.fixture(autouse=True)
def temporary_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", "/nowhere")


def test_temporary_credentials_without_tls_warn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        cli.run(["--version"])  # as any command, it takes over how warnings are shown
        for _ in range(3):
            open_store("http://store.example:9000", None, None)
    told = capsys.readouterr().err
    assert told.count("sealift: warning: endpoint http://store.example:9000 is not encrypted") == 1
    assert "session token" in told


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://[::1]:9", "https://a.example"])
def test_what_stays_on_this_machine_or_is_encrypted_warns_of_nothing(endpoint: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_store(endpoint, None, None)


def test_messages_of_libraries_are_shown_without_passwords() -> None:
    text = 'Could not connect to "http://harbour:s3cret@store:9/bucket" (proxy https://u@p)'
    shown = 'Could not connect to "http://***@store:9/bucket" (proxy https://***@p)'
    assert without_passwords(text) == shown
    assert without_passwords("s3://bucket//a:b@c and mail@example.com") == "s3://bucket//a:b@c and mail@example.com"
