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
from cloakwork_privacy.ckks.frames import MOST_PARTS, Frame, Kind, decode
from cloakwork_privacy.errors import PrivacyError as Refusal

from .inputs import Expected, read_records
from .label import check_label

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cloakwork.chunk import Chunk, KeyUpload
    from cloakwork.wire import ModelInfo, Offer
    from cloakwork_functions.ledger import Ledger
    from cloakwork_functions.registry import Registry
    from cloakwork_functions.runtime import Runtime

    from .keystore import KeyStore
    from .stage import Stage

__all__ = ["Answer", "Caller", "Service"]

RUN_SECONDS = 120.0
# An open hold outlives every run, so that only a hold whose gateway died expires.
HOLD_SECONDS = RUN_SECONDS + 30.0
BODY_BYTES = 16 << 20


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

    def public_half(self, ref: str, mode: Mode, program: str) -> bytes:
        """Give the document that a client needs to seal records for a mode, or for one program of it.

        Raises:
            NotFoundError: the mode is not offered, has no such program, or asks nothing of the client.
        """
        info, offer = self.offer(ref, mode)
        if offer.programs and program not in offer.programs:
            raise NotFoundError(
                "unknown_path",
                f"Ask for one of the programs: ?program={'|'.join(offer.programs)}.",
                param="program",
            )
        artifact = offer.programs[program].artifact if program in offer.programs else offer.artifact
        if artifact is None:
            raise NotFoundError("unknown_path", f"The mode {mode} asks nothing of the client.")
        return (self.registry.artifact(info.digest).folder / artifact).read_bytes()

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

    async def accept_keys(
        self, account: str, ref: str, fingerprint: str, chunk: Chunk, pieces: AsyncIterator[bytes]
    ) -> KeyUpload:
        """Take a chunk of evaluation keys; with the last one, check them all and make them findable.

        Raises:
            PrivacyError: they are damaged, too large, for another program, or hold a secret key.
            InputError: the chunk is not the one that is due, or broke off; what came of it is kept.
            BusyError: another chunk is arriving, or there is no room now.
        """
        info, offer = self.offer(ref, Mode.ENCRYPTED)
        programs = self._programs(info, offer)
        standing = self.keystore.standing(account, fingerprint)
        if standing.complete:
            check_label(self.keystore.head(account, fingerprint), programs)
            return standing
        with self.keystore.open_stage(account, fingerprint, chunk.total) as stage:
            stage.expect(chunk.start)
            async for piece in pieces:
                if stage.received == 0:
                    check_label(piece, programs)
                self.keystore.make_room(stage, len(piece))
                stage.append(piece)
            if stage.received == stage.total:
                await self._check(stage, info)
        return self.keystore.standing(account, fingerprint)

    async def _check(self, stage: Stage, info: ModelInfo) -> None:
        """Keep whole keys if they are of use. After a fault of ours they can be checked again."""
        call = Call(self.registry.artifact(info.digest), Mode.ENCRYPTED, b"", 0, stage.path)
        try:
            await asyncio.to_thread(stage.verify)
            await self.runtime.run(call, RUN_SECONDS)
        except PrivacyError:
            stage.drop()
            raise
        stage.keep()

    def _programs(self, info: ModelInfo, offer: Offer) -> set[bytes]:
        """The digests that frames name a model's programs by."""
        folder = self.registry.artifact(info.digest).folder
        return {_digest(folder / program.artifact) for program in offer.programs.values()}

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
        frame = _request(body, offer.max_records)
        if frame.program not in self._programs(info, offer):
            raise PrivacyError(
                "wrong_program", "This was made for another model or version; read the card and make it anew."
            )
        if not frame.records:
            raise InputError(
                "too_many_records", f"A call takes 1 to {offer.max_records} records, not none.", param="input"
            )
        keys = self.keystore.find(account, frame.keys.hex())
        return Call(self.registry.artifact(info.digest), Mode.ENCRYPTED, body, frame.records, keys)


@lru_cache(maxsize=256)
def _digest(signature: Path) -> bytes:
    """Of a program's public half; an artifact's files never change."""
    return hashlib.sha256(signature.read_bytes()).digest()


def _request(body: bytes, most_records: int) -> Frame:
    try:
        return decode(
            body, Kind.REQUEST, most_parts=MOST_PARTS, most_bytes=len(body), most_records=most_records
        )
    except Refusal as refusal:
        raise error(refusal.code, str(refusal)) from None


def _shape(output: bytes, info: ModelInfo, call: Call, *, batched: bool) -> NDArray[np.float32] | bytes:
    if call.mode is Mode.ENCRYPTED:
        return output
    array: NDArray[np.float32] = np.frombuffer(output, "<f4").reshape(call.records, *info.card.output.shape)
    return array if batched else array[0]
