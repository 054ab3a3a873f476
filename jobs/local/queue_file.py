"""The file that keeps the messages of queues from one start of `sealift local` to the next.

It is replaced as a whole, so a start that is killed leaves the last one. Receipts are not kept:
those who hold one have ended with the queues.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jobs.errors import ConfigError
from jobs.local.sqs_queue import Stored

VERSION = 1
_KEPT = [each.name for each in fields(Stored) if each.name != "receipt"]


def render(queues: Mapping[str, Iterable[Stored]]) -> bytes:
    """Return the file's content: the messages of each queue by its name."""
    kept = {name: [{each: getattr(message, each) for each in _KEPT} for message in queues[name]] for name in queues}
    return json.dumps({"version": VERSION, "queues": kept}).encode()


def write(path: Path, content: bytes) -> None:
    """Replace the file. Only its owner can read it. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def read(path: Path) -> dict[str, list[Stored]]:
    """Return the messages of each queue, none without a file. Raises ConfigError for an invalid one."""
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != VERSION:
            raise ValueError(f"its version is {document['version']!r}, expected {VERSION}")
        return {str(name): [_stored(each) for each in messages] for name, messages in document["queues"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: these messages cannot be read: {error}; move the file away to lose them") from error


def _stored(each: Mapping[str, Any]) -> Stored:
    return Stored(
        str(each["message_id"]),
        str(each["body"]),
        float(each["sent_at"]),
        float(each["visible_at"]),
        int(each["received_count"]),
        float(each["first_received_at"]),
    )
