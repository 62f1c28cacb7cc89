"""One call's walk: check, hold, run, settle.

Nothing is held for a request that cannot run; what is held is settled before the answer leaves, or
released if there is none. A caller who leaves before the call begins pays nothing; one who leaves later pays
for what is computed all the same, and finds the answer on asking again.

An answered call is found again at the hold, so a repeat has to pass the checks before it too: it is refused
where the model or its price was withdrawn meanwhile, or its alias names a version that takes other inputs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cloakwork.errors import BusyError, InputError, PrivacyError, error
from cloakwork.receipts import digest
from cloakwork.wire import Header, Media, Mode
from cloakwork_functions.ledger import Charge, End, Outcome, Replay, UnconfirmedError, rate_headers
from cloakwork_functions.runtime import Call
from cloakwork_privacy.ckks.frames import MOST_PARTS, Frame, Kind, decode, peek
from cloakwork_privacy.errors import PrivacyError as Refusal

from .answer import Answer, encode
from .calls import Progress
from .inputs import Expected, read_records
from .service import RUN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    from cloakwork.wire import ModelInfo, Offer
    from cloakwork_functions.ledger import Identity

    from .service import Service

__all__ = ["Asked", "Caller", "run"]

# An open hold outlives every run, so that only a hold whose gateway died expires.
HOLD_SECONDS = RUN_SECONDS + 30.0
MICRO = 1_000_000
# Most bytes of a number in JSON, and of what is around an answer.
NUMBER_BYTES = 32
ENVELOPE_BYTES = 1 << 10


class Caller(NamedTuple):
    """Who calls, and how.

    Attributes:
        request_id: the server's name for the request.
        identity: whose API key it is.
        idempotency: the client's name for the call, or None.
        timeout: seconds that the client will wait.
        accept: the media types it takes.
        gone: returns when the client hangs up.
    """

    request_id: str
    identity: Identity
    idempotency: str | None
    timeout: float
    accept: str
    gone: Callable[[], Awaitable[None]]


class Asked(NamedTuple):
    """What is asked: a model's reference, the privacy mode, and the body with its media type."""

    ref: str
    mode: Mode
    media: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can run.

    Attributes:
        body: as it came.
        info: the model.
        call: what the runtime is asked.
        batched: whether the answer has a leading batch dimension.
        most: the most that the call can use of each unit.
    """

    body: bytes
    info: ModelInfo
    call: Call
    batched: bool
    most: dict[str, int]


async def run(service: Service, caller: Caller, asked: Asked) -> Answer:
    """Serve one call.

    Raises:
        CloakworkError: whatever kept it from being answered; then nothing is charged, unless its caller left
            after it began.
    """
    info, offer = service.offer(asked.ref, asked.mode)
    prepared = _prepared(service, caller, asked, info, offer)
    price = service.price(info, asked.mode, prepared.most)
    who = caller.identity
    charge = Charge(
        run=caller.request_id,
        account=who.account,
        project=who.project,
        key=who.prefix,
        family=who.family,
        model=info.model,
        version=info.version,
        model_digest=info.digest,
        mode=asked.mode,
        price=price,
        amount=price.amount(prepared.most),
        lifetime=HOLD_SECONDS,
    )
    progress = Progress()
    call = _paid(service, caller, prepared, charge, progress)
    return await service.calls.over(call, progress, caller.timeout, caller.gone)


async def _paid(
    service: Service, caller: Caller, prepared: Prepared, charge: Charge, progress: Progress
) -> Answer:
    """Hold, run and settle; or release, if there is no answer."""
    held = None
    try:
        held = await service.ledger.hold(charge, caller.idempotency, prepared.body)
        if isinstance(held, Replay):
            return Answer.unpack(service.ledger.answer(held)).ended(held.ended)
        progress.queue()
        answer = await _answered(service, caller, prepared, charge, progress)
    except BaseException as failure:
        if held is not None or isinstance(failure, UnconfirmedError):
            with suppress(BusyError):  # the ledger's own failure must not hide what went wrong
                await service.ledger.end(End(charge, Outcome.FAILED, {}))
        raise
    return answer.saying(rate_headers(held.standings))


async def _answered(
    service: Service, caller: Caller, prepared: Prepared, charge: Charge, progress: Progress
) -> Answer:
    """Compute and settle."""
    body = prepared.body
    computed = await service.runtime.run(prepared.call, RUN_SECONDS, progress.begin)
    microseconds = computed.microseconds
    service.pace.observe(charge.model, charge.mode, prepared.call.records, microseconds / MICRO)
    output = _shape(computed.body, prepared)
    answer = encode(output, caller.accept, charge.exact, charge.mode, caller.request_id)
    used = {
        "call": 1,
        "record": prepared.call.records,
        "byte": len(body) + len(answer.body),
        "microsecond": min(microseconds, prepared.most["microsecond"]),  # never more than was held for
    }
    if charge.mode is Mode.ENCRYPTED:  # the first part of an answer is no ciphertext
        used["ciphertext"] = peek(body).count + peek(answer.body).count - 1
    salt = service.signing.salt(caller.request_id)
    end = End(
        charge,
        Outcome.ABANDONED if progress.abandoned else Outcome.ANSWERED,
        used,
        request=digest(salt, "request", body),
        answer=digest(salt, "answer", answer.body),
    )
    answer = answer.saying({Header.RECEIPT_SALT: salt.hex()})
    kept = answer.pack() if caller.idempotency is not None else None
    return answer.ended(await service.ledger.end(end, kept))


def _prepared(service: Service, caller: Caller, asked: Asked, info: ModelInfo, offer: Offer) -> Prepared:
    mode, media, body = asked.mode, asked.media, asked.body
    artifact = service.registry.artifact(info.digest)
    if mode is Mode.ENCRYPTED:
        frame = _frame(service, info, offer, media, body)
        keys = service.keystore.find(caller.identity.account, frame.keys.hex())
        call, batched = Call(artifact, mode, body, frame.records, keys), True
        down = 2 * len(body) * prod(info.card.output.shape)
    else:
        schema = info.card.input
        expected = (
            Expected(schema.shape, schema.minimum, schema.maximum, schema.bounds, offer.max_records)
            if mode is Mode.PLAINTEXT
            else Expected(offer.wire, None, None, "", offer.max_records)
        )
        records = read_records(body, media, expected)
        call, batched = Call(artifact, mode, records.body, records.count), records.batched
        down = ENVELOPE_BYTES + NUMBER_BYTES * records.count * prod(info.card.output.shape)
    most = {
        "call": 1,
        "record": call.records,
        "byte": len(body) + down,
        "microsecond": int(RUN_SECONDS * MICRO),  # a caller who leaves sooner pays for all that it began
    }
    if mode is Mode.ENCRYPTED:  # an answer is a ciphertext for each of the request's, or for each output
        most["ciphertext"] = len(frame.parts) + max(len(frame.parts), prod(info.card.output.shape))
    return Prepared(body, info, call, batched, most)


def _frame(service: Service, info: ModelInfo, offer: Offer, media: str, body: bytes) -> Frame:
    if media != Media.FRAME:
        raise InputError(
            "unsupported_media_type",
            f"Encrypted calls send {Media.FRAME}; a plain record is refused unread. The SDK encrypts.",
            param="content-type",
        )
    try:
        frame = decode(
            body,
            Kind.REQUEST,
            most_parts=MOST_PARTS,
            most_bytes=len(body),
            most_records=offer.max_records,
        )
    except Refusal as refusal:
        raise error(refusal.code, str(refusal)) from None
    if frame.program not in service.programs(info, offer):
        raise PrivacyError(
            "wrong_program", "This was made for another model or version; read the card and make it anew."
        )
    if not frame.records:
        raise InputError(
            "too_many_records", f"A call takes 1 to {offer.max_records} records, not none.", param="input"
        )
    return frame


def _shape(output: bytes, prepared: Prepared) -> NDArray[np.float32] | bytes:
    call = prepared.call
    if call.mode is Mode.ENCRYPTED:
        return output
    array: NDArray[np.float32] = np.frombuffer(output, "<f4").reshape(
        call.records, *prepared.info.card.output.shape
    )
    return array if prepared.batched else array[0]
