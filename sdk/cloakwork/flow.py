"""One call as a generator that does no input or output of its own.

A flow yields `Request` when something must be sent and `Pause` when it must wait, and is given the
`Response`, or has a `TransportError` thrown into it. The blocking and the async client drive the same
flows, so retries, key uploads and deadlines are written once.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

from . import modes
from .errors import (
    CloakworkError,
    DeadlineError,
    InputError,
    NotFoundError,
    PrivacyError,
    TransportError,
    foreign,
    from_body,
)
from .retry import Retry
from .wire import Header, Media, Mode, ModelInfo, ModelList, Path, Request, Response, load, usd

if TYPE_CHECKING:
    from decimal import Decimal

    from cloakwork_privacy.anonymize import Release
    from cloakwork_privacy.ckks.secret import SecretKeys

    from .config import Config
    from .modes import PrivacyReport

__all__ = ["Flow", "Pause", "Result", "Session"]

CARD_SECONDS = 60.0
OK = range(200, 300)


@dataclass(frozen=True)
class Pause:
    """A flow's wish to be resumed after so many seconds."""

    seconds: float


T = TypeVar("T")
Flow: TypeAlias = Generator[Request | Pause, Response | None, T]


@dataclass(frozen=True)
class Result:
    """An answer.

    Attributes:
        output: numpy array with the model's output, with a leading batch dimension if the input
            had one; plain Python values where numpy is not installed.
        cost: what the call was charged, in US dollars.
        privacy: what left this machine.
        model: the exact version that answered, for example `digits@3`.
        request_id: the server's name for the call; it stands in the ledger.
    """

    output: Any
    cost: Decimal
    privacy: PrivacyReport
    model: str
    request_id: str


@dataclass
class Session:
    """What a client remembers between calls, and the flows that use it.

    Not copied and not pickled: it holds secret keys.
    """

    config: Config
    retry: Retry = field(default_factory=Retry)
    cards: dict[str, tuple[float, ModelInfo]] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    keys: dict[str, SecretKeys] = field(default_factory=dict, repr=False)
    uploaded: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def models(self, deadline: float) -> Flow[tuple[ModelInfo, ...]]:
        """List what is published."""
        answer = yield from self._call("GET", Path.MODELS, Deadline(deadline))
        return _decoded(ModelList, answer).models

    def model(self, ref: str, deadline: float) -> Flow[ModelInfo]:
        """Fetch one model's card afresh."""
        return (yield from self._model(ref, Deadline(deadline)))

    def run(
        self, ref: str, value: Any, mode: Mode, deadline: float, idempotency_key: str | None
    ) -> Flow[Result]:
        """Seal, send, open."""
        end = Deadline(deadline)
        key = idempotency_key or str(uuid.uuid4())
        if not (key.isascii() and key.isprintable()):
            raise InputError("bad_request", "An idempotency key is printable ASCII.", param="idempotency_key")
        if mode is Mode.PLAINTEXT:
            return (yield from self._send(ref, modes.plaintext(value), key, end))
        info = yield from self._recent(ref, end)
        if mode not in info.card.modes:
            offered = ", ".join(info.card.modes)
            raise NotFoundError("mode_not_offered", f"{info.model} is offered {offered}, not {mode}.")
        # What is sealed fits one exact version, so it goes to that one whatever the alias says by then.
        exact = f"{info.model}@{info.version}"
        if mode is Mode.ANONYMIZED:
            release = yield from self._release(info, end)
            sealed = modes.anonymized(value, info, release, self.config.max_epsilon)
            return (yield from self._send(exact, sealed, key, end))
        keys = yield from self._keys(info, end)
        sealed = modes.encrypted(value, info, keys)
        sent = 0
        if keys.fingerprint not in self.uploaded:
            sent = yield from self._upload(exact, keys, end)
        try:
            return (yield from self._send(exact, sealed, key, end, sent))
        except PrivacyError as failure:
            if failure.code != "evaluation_keys_missing":
                raise
            sent = yield from self._upload(exact, keys, end)
            return (yield from self._send(exact, sealed, key, end, sent))

    def _send(
        self, ref: str, sealed: modes.Sealed, key: str, end: Deadline, keys_up: int = 0
    ) -> Flow[Result]:
        headers = {
            "content-type": sealed.media,
            "accept": sealed.accept,
            Header.IDEMPOTENCY_KEY: key,
        }
        path = f"{_path(Path.RUN, model=ref)}?privacy={sealed.mode}"
        answer = yield from self._call("POST", path, end, headers, sealed.body)
        if Header.COST not in answer.headers:
            raise foreign()
        return Result(
            output=sealed.open(answer),
            cost=usd(int(answer.headers[Header.COST])),
            privacy=sealed.report(answer, keys_up),
            model=answer.headers[Header.MODEL],
            request_id=answer.headers[Header.REQUEST_ID],
        )

    def _model(self, ref: str, end: Deadline) -> Flow[ModelInfo]:
        answer = yield from self._call("GET", _path(Path.MODEL, model=ref), end)
        info = _decoded(ModelInfo, answer)
        self.cards[ref] = (time.monotonic(), info)
        return info

    def _recent(self, ref: str, end: Deadline) -> Flow[ModelInfo]:
        at, info = self.cards.get(ref, (0.0, None))
        if info is not None and time.monotonic() - at < CARD_SECONDS:
            return info
        return (yield from self._model(ref, end))

    def _document(self, info: ModelInfo, mode: Mode, end: Deadline) -> Flow[bytes]:
        path = _path(Path.MODE, model=f"{info.model}@{info.version}", mode=mode)
        answer = yield from self._call("GET", path, end)
        return answer.body

    def _release(self, info: ModelInfo, end: Deadline) -> Flow[Release]:
        if info.digest not in self.releases:
            document = yield from self._document(info, Mode.ANONYMIZED, end)
            self.releases[info.digest] = modes.open_release(document)
        return self.releases[info.digest]

    def _keys(self, info: ModelInfo, end: Deadline) -> Flow[SecretKeys]:
        if info.digest not in self.keys:
            document = yield from self._document(info, Mode.ENCRYPTED, end)
            with self.lock:
                if info.digest not in self.keys:
                    self.keys[info.digest] = modes.open_keys(document, self.config.folder / "keys")
        return self.keys[info.digest]

    def _upload(self, ref: str, keys: SecretKeys, end: Deadline) -> Flow[int]:
        """Upload evaluation keys unless they are there; tell how many bytes that took."""
        path = _path(Path.EVALUATION_KEYS, model=ref, fingerprint=keys.fingerprint)
        try:
            yield from self._call("GET", path, end)
            sent = 0
        except NotFoundError:
            frame = keys.evaluation_keys()
            yield from self._call("PUT", path, end, {"content-type": Media.FRAME}, frame)
            sent = len(frame)
        self.uploaded.add(keys.fingerprint)
        return sent

    def _call(
        self, method: str, path: str, end: Deadline, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Flow[Response]:
        """Send one request until it is answered, refused for good, or out of time."""
        sent = {"accept": Media.JSON, **(headers or {})}
        if self.config.api_key:
            sent["authorization"] = f"Bearer {self.config.api_key}"
        attempt = 0
        while True:
            attempt += 1
            seconds = end.remaining()
            sent[Header.TIMEOUT] = f"{seconds:.3f}"
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


def _path(template: str, **parts: str) -> str:
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


def _decoded(kind: type[T], answer: Response) -> T:
    """Read an answer that must be ours."""
    try:
        return load(kind, json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise foreign() from None
