"""What a call would cost, weigh and take: from the card, and from what runs took here lately."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from math import ceil, prod
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from cloakwork import tensor
from cloakwork.errors import InputError, PaymentError
from cloakwork.quote import Quote, Quotes
from cloakwork.wire import Mode
from cloakwork_privacy.ckks.frames import Frame, Kind, encode
from cloakwork_privacy.compiler.signature import Signature

from .service import BODY_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from cloakwork.quote import QuoteInput
    from cloakwork.wire import ModelInfo, Offer

    from .service import Service

__all__ = ["Pace", "quote_all"]

RECENT = 101
MICRO = 1_000_000
FLOAT_BYTES = 4
DIMENSION_BYTES = 4
DIGEST_BYTES = 32
# A price by these is known before a call; bytes and computing vary.
FIXED = {"call", "record"}


class Pace:
    """How long runs took here lately: the median of a hundred or so, by model and mode.

    Runs are kept apart by powers of two of their records, for a batch takes less than as many runs.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, Mode, int], deque[float]] = {}

    def observe(self, model: str, mode: Mode, records: int, seconds: float) -> None:
        """Remember what a run of so many records took."""
        like = model, mode, records.bit_length()
        self._seconds.setdefault(like, deque(maxlen=RECENT)).append(seconds)

    def expected(self, model: str, mode: Mode, records: int) -> float | None:
        """Seconds that a run of about so many records takes; None where there was none yet."""
        seen = self._seconds.get((model, mode, records.bit_length()))
        return median(seen) if seen else None


class Weight(NamedTuple):
    """What a call sends, receives and uses; `seconds` is what its compiler measured, if one did."""

    up: int
    down: int
    keys: int = 0
    ciphertexts: int = 0
    seconds: float | None = None


def quote_all(service: Service, ref: str, asked: QuoteInput) -> Quotes:
    """Quote a call in the mode asked for, or else in each that is priced and takes so many records.

    Raises:
        NotFoundError: `unknown_model` or `mode_not_offered`.
        InputError: `too_many_records` or `body_too_large`.
        PaymentError: `no_price`.
    """
    info = service.registry.resolve(ref)
    found: list[Quote] = []
    refusals: list[Exception] = []
    for mode in info.card.modes if asked.privacy is None else (asked.privacy,):
        try:
            found.append(_quote(service, ref, mode, asked.records))
        except (InputError, PaymentError) as refusal:
            refusals.append(refusal)
    if refusals and not found:
        raise refusals[0]
    return Quotes(f"{info.model}@{info.version}", tuple(found))


def _quote(service: Service, ref: str, mode: Mode, records: int) -> Quote:
    info, _ = service.offer(ref, mode)
    weight = _weight(service.registry.artifact(info.digest).folder, info, mode, records)
    lately = service.pace.expected(info.model, mode, records)
    seconds = weight.seconds if lately is None else lately
    used = {
        "call": 1,
        "record": records,
        "byte": weight.up + weight.down,
        "microsecond": round((seconds or 0.0) * MICRO),
    }
    if mode is Mode.ENCRYPTED:
        used["ciphertext"] = weight.ciphertexts
    price = service.price(info, mode, used)
    unknown = seconds is None and price.rates.get("microsecond", 0)
    return Quote(
        mode=mode,
        records=records,
        price=price,
        amount_nano_usd=None if unknown else price.amount(used),
        exact=price.rates.keys() <= FIXED,
        bytes_up=weight.up,
        bytes_down=weight.down,
        keys_up=weight.keys,
        seconds=seconds,
    )


def _weight(folder: Path, info: ModelInfo, mode: Mode, records: int) -> Weight:
    """Weigh a call.

    Raises:
        InputError: `too_many_records` or `body_too_large`, it would be refused.
    """
    offer, card = info.card.modes[mode], info.card
    if not 0 < records <= offer.max_records:
        raise InputError(
            "too_many_records",
            f"A call takes 1 to {offer.max_records} records, not {records}.",
            param="records",
        )
    if mode is Mode.ENCRYPTED:
        weight = _sealed(folder, offer, records)
    elif mode is Mode.ANONYMIZED:  # releases and their answers are always batches
        weight = Weight(_tensor((records, *offer.wire)), _tensor((records, *card.output.shape)))
    else:
        batch = (records,) if records > 1 else ()
        weight = Weight(_tensor((*batch, *card.input.shape)), _tensor((*batch, *card.output.shape)))
    if weight.up > BODY_BYTES:
        raise InputError(
            "body_too_large",
            f"A call of {records} records would send more than {BODY_BYTES} bytes; send fewer in a call.",
            param="records",
        )
    return weight


def _tensor(shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of float32."""
    return tensor.HEAD.size + DIMENSION_BYTES * len(shape) + FLOAT_BYTES * prod(shape)


def _sealed(folder: Path, offer: Offer, records: int) -> Weight:
    """From the request that was measured when the program was compiled: its ciphertexts are all as large."""
    name = offer.program(records)
    signature = _signature(folder / offer.programs[name].artifact)
    measured = offer.report["programs"][name]
    then = measured["records"]
    requests, requested = signature.sealed(records), signature.sealed(then)
    answers, answered = signature.answered(records), signature.answered(then)
    request = (measured["request_bytes"] - _frame(requested)) // requested
    answer = (measured["answer_bytes"] - _answer(answered)) // answered
    return Weight(
        up=_frame(requests) + requests * request,
        down=_answer(answers) + answers * answer,
        keys=measured["key_bytes"],
        ciphertexts=requests + answers,
        seconds=ceil(records / then) * measured["measured_ms"] / 1000,
    )


def _frame(parts: int) -> int:
    """Bytes of a frame around its parts."""
    return len(encode(Frame(Kind.REQUEST, bytes(DIGEST_BYTES), bytes(DIGEST_BYTES), (b"",) * parts)))


def _answer(parts: int) -> int:
    """Bytes of an answer around its ciphertexts; its first part is the digest of the request."""
    return _frame(parts + 1) + DIGEST_BYTES


@lru_cache(maxsize=64)
def _signature(path: Path) -> Signature:
    """A program's public half; an artifact's files never change."""
    return Signature.from_json(path.read_bytes())
