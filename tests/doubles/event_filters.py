"""How S3 reads the prefix of an event notification's filter.

A space has to be written as `+`, any other special character percent-encoded. A filter that has such a character as it
is matches no key, and S3 says nothing:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html,
https://github.com/aws/aws-cdk/pull/28012 (`schemaVersion=1/` was never notified, `schemaVersion%3D1/` was)
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_WRITTEN = re.compile(r"(?:[A-Za-z0-9!*'()._~/+-]|%[0-9A-F]{2})*")


def is_notified(filter_prefix: str | None, key: str) -> bool:
    """Whether S3 takes the key for one that begins with the filter's prefix."""
    if filter_prefix is None:
        return True
    return _WRITTEN.fullmatch(filter_prefix) is not None and key.startswith(unquote_plus(filter_prefix))
