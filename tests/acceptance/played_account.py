"""`make acceptance` in an account of moto's: `python -m tests.acceptance.played_account …`."""

from __future__ import annotations

import os
import sys

from moto import mock_aws

from tests.acceptance.__main__ import main

if __name__ == "__main__":
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with mock_aws():
        sys.exit(main())
