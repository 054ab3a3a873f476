"""The clients of AWS's other services."""

import os

import pytest
from botocore.stub import Stubber

from jobs.aws.clients import call, open_client
from jobs.errors import ConfigError, Throttled


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Nothing but keys in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_either_variable_says_the_region_and_without_one_the_error_says_what_to_set(monkeypatch):
    with pytest.raises(ConfigError, match=r"AWS batch: .*; set AWS_REGION or name a profile"):
        open_client("batch")
    with pytest.raises(ConfigError, match="nobody"):
        open_client("s3", profile="nobody")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-central-1")
        assert open_client("batch").meta.region_name == "eu-central-1"
        assert open_client("batch", "us-east-1").meta.region_name == "us-east-1"
        monkeypatch.delenv(name)


@pytest.mark.parametrize("code", ["RequestThrottled", "KmsThrottled", "ThrottlingException"])
def test_a_queue_that_asks_for_fewer_requests_may_be_asked_again(code):
    """SQS says it with 400, so it was taken for a request that would never be right."""
    client = open_client("sqs", "us-east-1")
    with Stubber(client) as stub:
        stub.add_client_error("send_message", code, "slower, please", 400)
        with pytest.raises(Throttled):
            call(client, "SendMessage", "queue", QueueUrl="https://sqs.us-east-1.amazonaws.com/1/q", MessageBody="m")
