"""The clients of AWS's other services."""

import os

import pytest

from jobs.aws.clients import open_client
from jobs.errors import ConfigError


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Nothing but keys in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_variable_says_the_region(monkeypatch, name):
    monkeypatch.setenv(name, "eu-central-1")
    assert open_client("batch").meta.region_name == "eu-central-1"
    assert open_client("batch", "us-east-1").meta.region_name == "us-east-1"


def test_without_a_region_it_says_what_to_set():
    with pytest.raises(ConfigError, match=r"AWS batch: .*; set AWS_REGION or name a profile"):
        open_client("batch")
