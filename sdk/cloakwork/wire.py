"""The vocabulary that client and server share: paths, media types, headers, cards and amounts.

Nothing here does work, and nothing here imports more than the standard library, so both sides can
read it for free. The gateway decodes straight into these dataclasses; the client uses `load`.
"""

from __future__ import annotations

import functools
import types
import typing
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InputError, PrivacyError
from .price import Price  # noqa: TC001 (`load` reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KEY_MARKS",
    "Card",
    "Header",
    "Media",
    "Mode",
    "ModelInfo",
    "ModelList",
    "Offer",
    "Path",
    "Program",
    "ReceiptPage",
    "Request",
    "Response",
    "RunAnswer",
    "RunInput",
    "Tensor",
    "load",
    "usd",
]

T = TypeVar("T")


class Mode(StrEnum):
    """How much of a record the server gets to see."""

    PLAINTEXT = "plaintext"
    ANONYMIZED = "anonymized"
    ENCRYPTED = "encrypted"

    @classmethod
    def _missing_(cls, _: object) -> Mode:
        raise InputError("bad_request", f"privacy must be one of {', '.join(cls)}.", param="privacy")

    def meets(self, floor: Mode) -> bool:
        """Tell whether the server sees no more of a record in this mode than in another."""
        order = list(Mode)
        return order.index(self) >= order.index(floor)

    def keep_to(self, floor: Mode) -> None:
        """Refuse a mode that does not meet an API key's privacy floor.

        Raises:
            PrivacyError: `below_privacy_floor`.
        """
        if not self.meets(floor):
            raise PrivacyError(
                "below_privacy_floor",
                f"This API key may only send records {' or '.join(m for m in Mode if m.meets(floor))}; "
                "call with such a privacy, or with another key.",
                param="privacy",
            )


# How the text of an API key begins, by its privacy floor: the SDK refuses before anything is sent. The server
# goes by the scope it stored.
KEY_MARKS = {Mode.PLAINTEXT: "cw", Mode.ANONYMIZED: "cwa", Mode.ENCRYPTED: "cwe"}


class Path:
    """Templates of the API's paths; `{model}` is a reference such as `digits` or `digits@prod`."""

    MODELS = "/v1/models"
    MODEL = "/v1/models/{model}"
    MODE = "/v1/models/{model}/modes/{mode}"
    RUN = "/v1/models/{model}/run"
    EVALUATION_KEYS = "/v1/models/{model}/evaluation-keys/{fingerprint}"
    QUOTE = "/v1/models/{model}/quote"
    USAGE = "/v1/usage"
    INVOICE = "/v1/invoices/{month}"
    RECEIPTS = "/v1/receipts"
    JWKS = "/.well-known/jwks.json"
    KEYS = "/v1/keys"
    KEY = "/v1/keys/{prefix}"
    KEY_ROTATION = "/v1/keys/{prefix}/rotate"
    OWN_KEY = "/v1/key"
    HEALTH = "/healthz"
    READY = "/readyz"
    OPENAPI = "/openapi.json"


class Media:
    """Media types of bodies."""

    JSON = "application/json"
    PROBLEM = "application/problem+json"
    CSV = "text/csv; charset=utf-8"
    HTML = "text/html; charset=utf-8"
    TENSOR = "application/vnd.cloakwork.tensor"
    FRAME = "application/vnd.cloakwork.frame"


class Header:
    """Header names, in the lower case that HTTP/2 and ASGI use."""

    REQUEST_ID = "x-request-id"
    IDEMPOTENCY_KEY = "idempotency-key"
    RETRY_AFTER = "retry-after"
    TIMEOUT = "cloakwork-timeout-seconds"
    MODEL = "cloakwork-model"
    MODE = "cloakwork-mode"
    COST = "cloakwork-cost-nano-usd"
    RECEIPT = "cloakwork-receipt"
    RECEIPT_SALT = "cloakwork-receipt-salt"
    CONTENT_RANGE = "content-range"


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request before any library has touched it. `timeout` is in seconds, for all of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read whole; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Tensor:
    """What a batch-free input or output looks like.

    Attributes:
        shape: of one record; a call may add one leading batch dimension.
        dtype: numpy's name of the element type, for example `float32`.
        unit: what one number means, for example `pixel intensity`.
        names: a name for each element of the last axis, or nothing.
        minimum: least value accepted, or None.
        maximum: greatest value accepted, or None.
    """

    shape: tuple[int, ...]
    dtype: str
    unit: str
    names: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def bounds(self) -> str:
        """The bounds in words, for messages."""
        low = "" if self.minimum is None else f"at least {self.minimum:g}"
        high = "" if self.maximum is None else f"at most {self.maximum:g}"
        return " and ".join(part for part in (low, high) if part)


@dataclass(frozen=True)
class Program:
    """One encrypted program of a model.

    Attributes:
        artifact: the artifact's file that holds the client's public half of it.
        records_from: records in a call from which on it is the faster one.
        max_records: most records in one call.
    """

    artifact: str
    records_from: int
    max_records: int


@dataclass(frozen=True)
class Offer:
    """One privacy mode of a model: its price, and what it is worth.

    Attributes:
        price_nano_usd: list price per record, in billionths of a US dollar, which holds where the operator's
            catalogue has none; or None.
        accuracy: share of held-out records classified rightly in this mode.
        sent: what leaves the client, in words.
        wire: shape of what a record becomes on the wire (anonymized mode), or nothing.
        epsilon: the local differential privacy of one record (anonymized mode), or None.
        artifact: the artifact's file that holds the client's public half (anonymized mode), or None.
        max_records: most records in one call.
        programs: by purpose, the programs that encrypted records can be made for (encrypted mode).
        report: what compiling them found out, as `cloakwork compile` prints it (encrypted mode).
    """

    price_nano_usd: int | None
    accuracy: float
    sent: str
    max_records: int
    wire: tuple[int, ...] = ()
    epsilon: float | None = None
    artifact: str | None = None
    programs: dict[str, Program] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def program(self, records: int) -> str:
        """Name the program for so many records: the fastest that takes them.

        Raises:
            InputError: `too_many_records`.
        """
        fitting = {name: each for name, each in self.programs.items() if records <= each.max_records}
        if not fitting:
            raise InputError(
                "too_many_records",
                f"A call takes 1 to {self.max_records} records, not {records}.",
                param="input",
            )
        # A program that pays only for more records than these is taken where no other takes so many.
        return max(
            fitting, key=lambda name: (fitting[name].records_from <= records, fitting[name].records_from)
        )


@dataclass(frozen=True)
class Card:
    """What a consumer should know of a model before sending it anything.

    `metrics` are measured on held-out records in plaintext: accuracy, and macro-averaged precision,
    recall and F1, each between 0 and 1. `limits` says what the model must not be used for.
    """

    name: str
    task: str
    summary: str
    input: Tensor
    output: Tensor
    modes: dict[Mode, Offer]
    metrics: dict[str, float]
    training: dict[str, str]
    training_data: str
    limits: str
    license: str


@dataclass(frozen=True)
class ModelInfo:
    """A published version of a model: the card, where it stands in the registry, and what it costs now.

    `digest` is the SHA-256 of the artifact's manifest, in hexadecimal: it names every byte of it. A mode that
    is offered and has none of `prices` cannot be run.
    """

    model: str
    version: int
    digest: str
    aliases: tuple[str, ...]
    card: Card
    prices: dict[Mode, Price] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelList:
    """The answer to a listing."""

    models: tuple[ModelInfo, ...]


@dataclass(frozen=True)
class RunInput:
    """A JSON request to run a model: one record, or a list of them."""

    input: Any


@dataclass(frozen=True)
class RunAnswer:
    """A JSON answer. Binary answers carry the same facts in their headers.

    What it cost is in the headers alone: the bytes of an answer may be part of its price.
    """

    output: Any
    model: str
    mode: Mode
    request_id: str


@dataclass(frozen=True)
class ReceiptPage:
    """Compact receipts of one account, in the order of their sequence; none when there are no more."""

    receipts: tuple[str, ...]


def usd(nano: int) -> Decimal:
    """Turn an amount in nano-USD, the only form stored or sent, into dollars."""
    return Decimal(nano).scaleb(-9)


def load(kind: type[T], value: Any) -> T:
    """Build a dataclass of this module from decoded JSON.

    Unknown members are passed over, so that an older client can read a newer server.

    Raises:
        KeyError: a member without a default is missing.
        InputError: a mode is none that this version knows.
    """
    result: T = _build(kind, value)
    return result


def _build(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        present = {f.name for f in fields(kind)} & value.keys()
        missing = [f.name for f in fields(kind) if f.name not in present and _required(f)]
        if missing:
            raise KeyError(f"{kind.__name__} lacks {', '.join(missing)}")
        return kind(**{name: _build(hints[name], value[name]) for name in present})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in value)
    if origin is dict:
        return {_build(arguments[0], k): _build(arguments[1], v) for k, v in value.items()}
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _required(f: Field[Any]) -> bool:
    return f.default is MISSING and f.default_factory is MISSING
