"""Clients of AWS's services, and their calls with errors of ours.

boto3's rules say where the services are. botocore alone loads faster.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from jobs.core.request_log import REQUESTS
from jobs.credentials import open_session, resolve
from jobs.errors import ConfigError, NotFound, StoreError, Unavailable, store_error

T = TypeVar("T")
_sending = threading.local()

TRIES = 6
PROMPT_TRIES = 2
"""For commands that a person waits for."""
PROMPT_SECONDS = 12.0
"""How long a client of `PROMPT_TRIES` or fewer waits for a connection, and for an answer. Together
less than half a minute.
"""
_ABSENT = ("NotFound", "NotFoundException", "NotFoundError", "NonExistentQueue", "DoesNotExist", "NoSuchEntity")
SUBJECT_CHARACTERS = 100
"""https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: printable ASCII, fewer than 100
characters."""


def open_client(
    service: str,
    region: str | None = None,
    tries: int = TRIES,
    *,
    endpoint: str | None = None,
    profile: str | None = None,
) -> Any:
    """A client of an AWS service, which tries each request so often.

    With `PROMPT_TRIES` or fewer it gives up on a silent server soon. Raises ConfigError.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = open_session(profile)
        resolve(session, profile)
        session.register_component("data_loader", _models(session.get_config_variable("data_path")))
        region = region or session.get_config_variable("region") or os.environ.get("AWS_REGION")
        config = Config(retries={"mode": "standard", "total_max_attempts": tries})
        if tries <= PROMPT_TRIES:
            config = config.merge(Config(connect_timeout=PROMPT_SECONDS, read_timeout=PROMPT_SECONDS))
        client = session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ClientError, ValueError) as error:  # ClientError: STS refused a role
        raise ConfigError(f"AWS {service}: {error}", advice="set AWS_REGION or name a profile") from error
    _log(client.meta.events)
    return client


def _log(events: Any) -> None:
    """Have a client log its requests, each try for itself. `events`: of the client."""
    if REQUESTS.sink is not None:
        events.register("before-send", _note_request)
        events.register("response-received", _note_answer)


def _note_request(request: Any, **_: Any) -> None:
    _sending.began, _sending.url = time.perf_counter(), str(request.url).partition("?")[0]


def _note_answer(
    event_name: str, response_dict: Mapping[str, Any] | None, parsed_response: Mapping[str, Any] | None, **_: Any
) -> None:
    parsed = parsed_response or {}
    metadata = parsed.get("ResponseMetadata", {})
    REQUESTS.add(
        event_name.rpartition(".")[2],
        getattr(_sending, "url", "unknown"),
        int((response_dict or {}).get("status_code", 0)),
        str(parsed.get("Error", {}).get("Code", "")),
        getattr(_sending, "began", time.perf_counter()),
        str(metadata.get("RequestId", "")),
    )


class Clients:
    """Clients of one region, each opened once. Safe to share between threads."""

    def __init__(self, region: str):
        self.region = region
        self._lock, self._open = threading.Lock(), dict[str, Any]()

    def __getitem__(self, service: str) -> Any:
        """The client of a service. Raises ConfigError."""
        with self._lock:
            if service not in self._open:
                self._open[service] = open_client(service, self.region)
            return self._open[service]


@cache
def _models(data_path: str | None) -> Any:
    """What botocore knows of the services: another client of one of them need not read it again."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def call(client: Any, operation: str, target: str, **request: Any) -> Any:
    """One request. Raises StoreError for the service's errors, ConfigError if it cannot be sent."""
    from botocore import xform_name
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    method: Callable[..., Any] = getattr(client, xform_name(operation))
    try:
        return method(**request)
    except ClientError as error:
        raise _refusal(operation, target, error.response) from error
    except (ConnectionError, HTTPClientError, ResponseParserError) as error:
        raise Unavailable(operation, target, type(error).__name__, str(error)) from error
    except BotoCoreError as error:
        raise ConfigError(f"{operation} {target}: {error}") from error


def none_if_absent(question: Callable[[], T]) -> T | None:
    """The answer, or None where the service says that the thing is not there.

    A missing bucket is not a missing setting. Raises StoreError, ConfigError.
    """
    try:
        return question()
    except NotFound:
        return None
    except StoreError as error:
        if error.code.endswith(_ABSENT):
            return None
        raise


def publish(topic: str, subject: str, body: str) -> None:
    """Publish to the SNS topic of this ARN. Raises StoreError, ConfigError."""
    line = " ".join(subject.encode("ascii", "replace").decode().split())
    short = line if len(line) < SUBJECT_CHARACTERS else line[: SUBJECT_CHARACTERS - 4] + "..."
    region = topic.split(":")[3]
    call(open_client("sns", region), "Publish", topic, TopicArn=topic, Subject=short, Message=body)


def invoke(function: str, payload: Mapping[str, Any]) -> None:
    """Hand a payload to a Lambda function, without waiting for what it does.

    Raises StoreError, ConfigError.
    """
    request = {"FunctionName": function, "InvocationType": "Event", "Payload": json.dumps(payload).encode()}
    call(open_client("lambda"), "Invoke", function, **request)


def _refusal(operation: str, target: str, response: Mapping[str, Any]) -> StoreError:
    detail, status = response.get("Error", {}), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, message = detail.get("Code", "Unknown"), detail.get("Message", "")
    return store_error(operation, target, code, message, status)
