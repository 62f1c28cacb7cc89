"""What the endpoints ask: models and what clients need for their modes, and evaluation keys taken in."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cloakwork.errors import NotFoundError, PrivacyError, error
from cloakwork.wire import Mode
from cloakwork_functions.runtime import Call

from .label import check_label

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

    from cloakwork.chunk import Chunk, KeyUpload
    from cloakwork.price import Price
    from cloakwork.wire import ModelInfo, Offer
    from cloakwork_functions.ledger import Catalogue, Keys, Ledger, SigningKeys, Store
    from cloakwork_functions.registry import Registry
    from cloakwork_functions.runtime import Runtime

    from .calls import Calls
    from .keystore import KeyStore
    from .quote import Pace
    from .stage import Stage

__all__ = ["BODY_BYTES", "RUN_SECONDS", "Service"]

RUN_SECONDS = 120.0
BODY_BYTES = 16 << 20


@dataclass(frozen=True)
class Service:
    """What the endpoints ask; everything it needs is given to it."""

    registry: Registry
    store: Store
    ledger: Ledger
    keys: Keys
    catalogue: Catalogue
    signing: SigningKeys
    runtime: Runtime
    keystore: KeyStore
    pace: Pace
    calls: Calls

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

    def price(self, info: ModelInfo, mode: Mode, counted: Collection[str]) -> Price:
        """Find what a call is charged by, given the units that are counted of it.

        Raises:
            PaymentError: `no_price`, there is none; or it is for a unit that is not counted, and such a call
                would be free.
        """
        price = self.catalogue.price(info.model, mode, info.card.modes[mode].price_nano_usd)
        for unit, rate in price.rates.items():
            if rate and unit not in counted:
                raise error(
                    "no_price",
                    f"The price of {info.model} in the mode {mode} is by the {unit}, which such calls do not "
                    "count; the operator has to set another.",
                )
        return price

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
        programs = self.programs(info, offer)
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

    def programs(self, info: ModelInfo, offer: Offer) -> set[bytes]:
        """The digests that frames name a model's programs by."""
        folder = self.registry.artifact(info.digest).folder
        return {_digest(folder / program.artifact) for program in offer.programs.values()}


@lru_cache(maxsize=256)
def _digest(signature: Path) -> bytes:
    """Of a program's public half; an artifact's files never change."""
    return hashlib.sha256(signature.read_bytes()).digest()
