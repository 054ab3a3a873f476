"""`--kms-key-id`: with either KMS encryption, and never alone."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from jobs.cli import cli
from jobs.cli.options import check_encryption
from jobs.errors import UsageError

KEY = "arn:aws:kms:eu-central-1:111122223333:key/k"
VERBS = {
    "replicate": ["--source", "s3://docs", "--destination", "s3://copies"],
    "compact": ["--source", "s3://docs", "--archives", "s3://cold"],
    "restore": ["--archives", "s3://cold", "--key", "a", "--destination", "s3://back"],
}


@pytest.mark.parametrize("sse", ["aws:kms", "aws:kms:dsse"])
def test_a_key_goes_with_both_kms_encryptions(sse: str) -> None:
    check_encryption(sse, KEY)


@pytest.mark.parametrize("sse", [[], ["--sse", "AES256"]])
@pytest.mark.parametrize("verb", VERBS)
def test_a_key_without_them_is_refused_before_anything_is_asked(verb: str, sse: list[str]) -> None:
    arguments = [verb, *VERBS[verb], "--kms-key-id", KEY, *sse]
    result = CliRunner().invoke(cli, arguments, env={"SEALIFT_LEDGER": "s3://ledger/runs"}, standalone_mode=False)
    assert isinstance(result.exception, UsageError), result.exception
    assert "--sse aws:kms" in str(result.exception)
