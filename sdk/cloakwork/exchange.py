"""One request as a generator: sent until it is answered, refused for good, or out of time."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import quote

from .errors import CloakworkError, DeadlineError, InputError, TransportError, foreign, from_body
from .retry import Retry
from .wire import Header, Media, Request, Response, load

if TYPE_CHECKING:
    from .config import Config

__all__ = ["Deadline", "Exchange", "Flow", "Pause", "decoded", "path"]

OK = range(200, 300)
LEAST = 0.001  # seconds, that a service takes as a timeout


@dataclass(frozen=True)
class Pause:
    """A flow's wish to be resumed after so many seconds."""

    seconds: float


T = TypeVar("T")
Flow: TypeAlias = Generator[Request | Pause, Response | None, T]


@dataclass
class Exchange:
    """Requests under one key and one policy of trying again."""

    config: Config
    retry: Retry = field(default_factory=Retry)

    def call(
        self, method: str, path: str, end: Deadline, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Flow[Response]:
        """Send one request until it is answered, refused for good, or out of time.

        Raises:
            CloakworkError: as it was refused, or as the last try failed.
        """
        sent = {"accept": Media.JSON, **(headers or {})}
        if self.config.api_key:
            sent["authorization"] = f"Bearer {self.config.api_key}"
        attempt = 0
        while True:
            attempt += 1
            seconds = end.remaining()
            sent[Header.TIMEOUT] = f"{max(seconds, LEAST):.3f}"
            try:
                answer = yield Request(method, path, dict(sent), body, seconds)
                assert answer is not None
                if answer.status in OK:
                    return answer
                failure = _failure(answer)
            except TransportError as broken:
                failure = broken
            wait = self.retry.delay(failure, attempt, random.random())  # noqa: S311 (jitter, not a secret)
            if wait is None:
                raise failure
            if wait >= end.remaining():
                raise DeadlineError("deadline_exceeded", f"Out of time after {attempt} tries.") from failure
            yield Pause(wait)


class Deadline:
    """The moment a whole call must be over, retries included."""

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds < math.inf:
            raise InputError(
                "bad_request", "deadline must be a positive number of seconds.", param="deadline"
            )
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Give the seconds left.

        Raises:
            DeadlineError: none are.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise DeadlineError("deadline_exceeded", f"The call did not end within its {self.seconds:g} s.")
        return left


def path(template: str, **parts: str) -> str:
    """Fill in a template of `wire.Path`; no part can leave its place."""
    return template.format(**{name: quote(part, safe="@:") for name, part in parts.items()})


def _failure(answer: Response) -> CloakworkError:
    request_id = answer.headers.get(Header.REQUEST_ID)
    after = answer.headers.get(Header.RETRY_AFTER, "")
    retry_after = float(after) if after.isdigit() else None
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    return from_body(answer.status, body, request_id=request_id, retry_after=retry_after)


def decoded(kind: type[T], answer: Response) -> T:
    """Read an answer that must be ours.

    Raises:
        ConfigError: `foreign_answer`, it is not.
    """
    try:
        return load(kind, json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise foreign() from None
