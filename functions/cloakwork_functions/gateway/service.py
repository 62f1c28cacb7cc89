"""One call's walk: check, hold, run, settle.

Nothing is held for a request that cannot run; what is held is settled before the answer leaves, or
released if there is none.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cloakwork.errors import BusyError, InputError, NotFoundError, PrivacyError, error
from cloakwork.wire import Media, Mode
from cloakwork_functions.ledger import Charge
from cloakwork_functions.runtime import Call
from cloakwork_privacy.ckks.frames import Frame, Kind, decode
from cloakwork_privacy.errors import PrivacyError as Refusal

from .inputs import Expected, read_records

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cloakwork.wire import ModelInfo, Offer
    from cloakwork_functions.ledger import Ledger
    from cloakwork_functions.registry import Registry
    from cloakwork_functions.runtime import Runtime

    from .keystore import KeyStore

__all__ = ["Answer", "Caller", "Service"]

RUN_SECONDS = 120.0
# An open hold outlives every run, so that only a hold whose gateway died expires.
HOLD_SECONDS = RUN_SECONDS + 30.0
BODY_BYTES = 16 << 20
KEYS_BYTES = 16 << 20
KEY_PARTS = 3


class Caller(NamedTuple):
    """Who calls, and how.

    Attributes:
        request_id: the server's name for the request.
        account: prefix of the API key.
        idempotency: the client's name for the call, or None.
        timeout: seconds that the client will wait.
    """

    request_id: str
    account: str
    idempotency: str | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave: an array of outputs, or an answer frame; and what it cost in nano-USD."""

    output: NDArray[np.float32] | bytes
    model: str
    mode: Mode
    cost: int
    request_id: str


@dataclass(frozen=True)
class Service:
    """What the endpoints ask; everything it needs is given to it."""

    registry: Registry
    ledger: Ledger
    runtime: Runtime
    keystore: KeyStore

    def offer(self, ref: str, mode: Mode) -> tuple[ModelInfo, Offer]:
        """Find a model and its offer of a mode.

        Raises:
            NotFoundError: `unknown_model` or `mode_not_offered`.
        """
        info = self.registry.resolve(ref)
        offer = info.card.modes.get(mode)
        if offer is None:
            offered = ", ".join(info.card.modes)
            raise NotFoundError(
                "mode_not_offered",
                f"{info.model} is not offered {mode}; it is offered {offered}.",
                param="privacy",
            )
        return info, offer

    def public_half(self, ref: str, mode: Mode) -> bytes:
        """Give the document that a client needs to seal records for a mode.

        Raises:
            NotFoundError: the mode is not offered, or asks nothing of the client.
        """
        info, offer = self.offer(ref, mode)
        if offer.artifact is None:
            raise NotFoundError("unknown_path", f"The mode {mode} asks nothing of the client.")
        return self._public_half(info, offer).read_bytes()

    async def run(self, caller: Caller, ref: str, mode: Mode, media: str, body: bytes) -> Answer:
        """Serve one call.

        Raises:
            CloakworkError: whatever kept it from being answered; then nothing is charged. (A caller that
                cancels while the settlement is written may find it written.)
        """
        info, offer = self.offer(ref, mode)
        if mode is Mode.ENCRYPTED:
            call, batched = self._sealed(caller.account, info, offer, media, body), True
        else:
            call, batched = self._plain(info, offer, mode, media, body)
        model = f"{info.model}@{info.version}"
        amount = offer.price_nano_usd * call.records
        charge = Charge(caller.request_id, caller.account, model, mode, call.records, amount, HOLD_SECONDS)
        run = caller.request_id
        try:
            run = await self.ledger.hold(charge, caller.idempotency, body)
            output = await self.runtime.run(call, caller.timeout)
            await self.ledger.settle(run)
        except BaseException:
            # Shielded, so that a cancelled request gives its money back all the same; and the ledger's own
            # failure must not hide what went wrong.
            with suppress(BusyError):
                await asyncio.shield(self.ledger.release(run))
            raise
        return Answer(_shape(output, info, call, batched=batched), model, mode, amount, run)

    async def accept_keys(self, account: str, ref: str, fingerprint: str, frame: bytes) -> None:
        """Check uploaded evaluation keys against a model's program, and keep them.

        Raises:
            PrivacyError: they are damaged, for another program, or hold a secret key.
        """
        info, offer = self.offer(ref, Mode.ENCRYPTED)
        _frame(frame, Kind.EVALUATION_KEYS, KEY_PARTS, _program(self._public_half(info, offer)))
        staged = self.keystore.stage(account, fingerprint, frame)
        try:
            await self.runtime.run(
                Call(self.registry.artifact(info.digest), Mode.ENCRYPTED, b"", 0, staged), RUN_SECONDS
            )
        except BaseException:
            staged.unlink()
            raise
        self.keystore.keep(staged)

    def _public_half(self, info: ModelInfo, offer: Offer) -> Path:
        assert offer.artifact is not None
        return self.registry.artifact(info.digest).folder / offer.artifact

    def _plain(self, info: ModelInfo, offer: Offer, mode: Mode, media: str, body: bytes) -> tuple[Call, bool]:
        schema = info.card.input
        expected = (
            Expected(schema.shape, schema.minimum, schema.maximum, schema.bounds, offer.max_records)
            if mode is Mode.PLAINTEXT
            else Expected(offer.wire, None, None, "", offer.max_records)
        )
        records = read_records(body, media, expected)
        return Call(self.registry.artifact(info.digest), mode, records.body, records.count), records.batched

    def _sealed(self, account: str, info: ModelInfo, offer: Offer, media: str, body: bytes) -> Call:
        if media != Media.FRAME:
            raise InputError(
                "unsupported_media_type",
                f"Encrypted calls send {Media.FRAME}; a plain record is refused unread. The SDK encrypts.",
                param="content-type",
            )
        frame = _frame(body, Kind.REQUEST, offer.max_records, _program(self._public_half(info, offer)))
        if not frame.parts:
            raise InputError(
                "too_many_records", f"A call takes 1 to {offer.max_records} records, not none.", param="input"
            )
        keys = self.keystore.find(account, frame.keys.hex())
        return Call(self.registry.artifact(info.digest), Mode.ENCRYPTED, body, len(frame.parts), keys)


@lru_cache(maxsize=256)
def _program(signature: Path) -> bytes:
    """The digest that frames name a program by; an artifact's files never change."""
    return hashlib.sha256(signature.read_bytes()).digest()


def _frame(body: bytes, kind: Kind, most_parts: int, program: bytes) -> Frame:
    try:
        frame = decode(body, kind, most_parts=most_parts, most_bytes=len(body))
    except Refusal as refusal:
        raise error(refusal.code, str(refusal)) from None
    if frame.program != program:
        code = "wrong_program" if kind is Kind.REQUEST else "keys_for_another_program"
        raise PrivacyError(
            code, "This was made for another model or version; read the card and make it anew."
        )
    return frame


def _shape(output: bytes, info: ModelInfo, call: Call, *, batched: bool) -> NDArray[np.float32] | bytes:
    if call.mode is Mode.ENCRYPTED:
        return output
    array: NDArray[np.float32] = np.frombuffer(output, "<f4").reshape(call.records, *info.card.output.shape)
    return array if batched else array[0]
