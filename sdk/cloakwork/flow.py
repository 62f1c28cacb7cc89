"""One call as a generator that does no input or output of its own.

A flow yields `Request` when something must be sent and `Pause` when it must wait, and is given the
`Response`, or has a `TransportError` thrown into it. The blocking and the async client drive the same
flows, so retries, key uploads and deadlines are written once.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import modes
from .errors import InputError, NotFoundError, PrivacyError, ReceiptError, foreign
from .exchange import Deadline, Exchange, decoded, path
from .receipts import parse, recount
from .upload import unheard, upload
from .wire import Header, Mode, ModelInfo, ModelList, Path, usd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from cloakwork_privacy.anonymize import Release
    from cloakwork_privacy.ckks.secret import SecretKeys

    from .config import Config
    from .exchange import Flow
    from .modes import PrivacyReport
    from .receipts import Receipt
    from .upload import Progress
    from .wire import Response

__all__ = ["Result", "Session"]

CARD_SECONDS = 60.0


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
        receipt: signed, as `cloakwork receipts verify` reads it.
        salt: what the receipt's digests of both bodies were salted with: keep it to recount them.
    """

    output: Any
    cost: Decimal
    privacy: PrivacyReport
    model: str
    request_id: str
    receipt: str
    salt: bytes


@dataclass
class Session:
    """What a client remembers between calls, and the flows that use it.

    Not copied and not pickled: it holds secret keys. `on_upload` is told how an upload of evaluation keys
    comes along: the bytes that are there, and of how many.
    """

    config: Config
    cards: dict[str, tuple[float, ModelInfo]] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    keys: dict[tuple[str, str], SecretKeys] = field(default_factory=dict, repr=False)
    uploaded: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    on_upload: Progress = unheard

    def __post_init__(self) -> None:
        self.exchange = Exchange(self.config)

    def models(self, deadline: float) -> Flow[tuple[ModelInfo, ...]]:
        """List what is published."""
        answer = yield from self.exchange.call("GET", Path.MODELS, Deadline(deadline))
        return decoded(ModelList, answer).models

    def model(self, ref: str, deadline: float) -> Flow[ModelInfo]:
        """Fetch one model's card afresh."""
        return (yield from self._model(ref, Deadline(deadline)))

    def run(
        self, ref: str, value: Any, mode: Mode, deadline: float, idempotency_key: str | None
    ) -> Flow[Result]:
        """Seal, send, open; unless the key's privacy floor forbids the mode: then nothing is even fetched."""
        mode.keep_to(self.config.floor)
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
        program = info.card.modes[mode].program(modes.count(value, info))
        keys = yield from self._keys(info, program, end)
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
        where = f"{path(Path.RUN, model=ref)}?privacy={sealed.mode}"
        answer = yield from self.exchange.call("POST", where, end, headers, sealed.body)
        try:
            return _result(ref, sealed, answer, keys_up)
        except (KeyError, ValueError):
            raise foreign() from None

    def _model(self, ref: str, end: Deadline) -> Flow[ModelInfo]:
        answer = yield from self.exchange.call("GET", path(Path.MODEL, model=ref), end)
        info = decoded(ModelInfo, answer)
        self.cards[ref] = (time.monotonic(), info)
        return info

    def _recent(self, ref: str, end: Deadline) -> Flow[ModelInfo]:
        at, info = self.cards.get(ref, (0.0, None))
        if info is not None and time.monotonic() - at < CARD_SECONDS:
            return info
        return (yield from self._model(ref, end))

    def _document(self, info: ModelInfo, mode: Mode, end: Deadline, query: str = "") -> Flow[bytes]:
        where = path(Path.MODE, model=f"{info.model}@{info.version}", mode=mode)
        answer = yield from self.exchange.call("GET", where + query, end)
        return answer.body

    def _release(self, info: ModelInfo, end: Deadline) -> Flow[Release]:
        if info.digest not in self.releases:
            document = yield from self._document(info, Mode.ANONYMIZED, end)
            self.releases[info.digest] = modes.open_release(document)
        return self.releases[info.digest]

    def _keys(self, info: ModelInfo, program: str, end: Deadline) -> Flow[SecretKeys]:
        name = info.digest, program
        if name not in self.keys:
            document = yield from self._document(info, Mode.ENCRYPTED, end, f"?program={program}")
            with self.lock:
                if name not in self.keys:
                    self.keys[name] = modes.open_keys(document, self.config.folder / "keys")
        return self.keys[name]

    def _upload(self, ref: str, keys: SecretKeys, end: Deadline) -> Flow[int]:
        """Upload evaluation keys unless they are there; tell how many bytes that took."""
        where = path(Path.EVALUATION_KEYS, model=ref, fingerprint=keys.fingerprint)
        sent = yield from upload(self.exchange, where, keys.evaluation_keys, end, self.on_upload)
        self.uploaded.add(keys.fingerprint)
        return sent


def _result(ref: str, sealed: modes.Sealed, answer: Response, keys_up: int) -> Result:
    """Open an answer, and hold its receipt to what was sent and what came.

    Raises:
        ReceiptError: `receipt_invalid`, it was charged for another call than this.
    """
    headers = answer.headers
    receipt, salt = headers[Header.RECEIPT], bytes.fromhex(headers[Header.RECEIPT_SALT])
    said = parse(receipt)
    recount(said, salt, sealed.body, answer.body)
    _check_call(said, ref, sealed, headers)
    return Result(
        output=sealed.open(answer),
        cost=usd(int(headers[Header.COST])),
        privacy=sealed.report(answer, keys_up),
        model=headers[Header.MODEL],
        request_id=headers[Header.REQUEST_ID],
        receipt=receipt,
        salt=salt,
    )


def _check_call(receipt: Receipt, ref: str, sealed: modes.Sealed, headers: Mapping[str, str]) -> None:
    """Hold a receipt to the call that was made: what was asked, and what the answer's headers say of it.

    Raises:
        ReceiptError: `receipt_invalid`.
    """
    agree = {
        "run": receipt.run == headers[Header.REQUEST_ID],
        "amount": receipt.amount == int(headers[Header.COST]),
        "mode": receipt.mode == sealed.mode,
        "model": receipt.model == headers[Header.MODEL] and _is_of(receipt, ref),
        "records": receipt.quantities.get("record") in sealed.records,
    }
    for what, agrees in agree.items():
        if not agrees:
            raise ReceiptError(
                "receipt_invalid", f"The receipt is for another call: the {what} is not this call's."
            )


def _is_of(receipt: Receipt, ref: str) -> bool:
    """Tell whether a receipt is for the model that a reference names; only the service knows its aliases."""
    name, _, version = ref.partition("@")
    if version.isdecimal():
        return receipt.model == f"{name}@{int(version)}"
    digest = version.removeprefix("sha256:") if version.startswith("sha256:") else ""
    return receipt.model.startswith(f"{name}@") and receipt.model_digest.startswith(digest)
