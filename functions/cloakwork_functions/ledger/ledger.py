"""Hold, then settle or release: what every call does to the books.

    hold      available → held       before anything runs, on disk before the model is asked
    settle    held      → revenue    before the answer is sent, with a receipt
    release   held      → available  what was held and not charged; all of it if the call failed

A run has one hold and at most one end; the database refuses a second. Amounts are whole nano-USD.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cloakwork.errors import BusyError

from .books import open_books
from .ends import SLICE, end_all, forget, orphans, reap
from .holds import hold_all
from .jobs import Charge, End, Ended, Held, Hold, Job, Reap, Replay
from .statement import Statement
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ends import Sign
    from .secrets import Secrets
    from .statement import Work
    from .store import Store

__all__ = ["Ledger"]

MICRO = 1_000_000
HOUR = 3600
READY = Statement("SELECT max(version) FROM migrations")


class Ledger:
    """The books, as one gateway keeps them; several may share a store.

    Clocks may step and differ. No balance depends on them, and no order of events. A clock that is ahead may
    release a hold early, whose call is then not answered; one that steps back keeps holds longer, and what is
    held while it stands in an earlier day or month may stay counted in a budget until that is over.

    Args:
        store: where they are.
        secrets: the service's own; requests and answers are kept only under keys derived from them.
        sign: makes the receipt of a run that is charged.
        clock: gives Unix seconds.
    """

    def __init__(
        self, store: Store, secrets: Secrets, sign: Sign, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._mac_key = secrets.derive("request-mac")
        self._sign = sign
        self._clock = clock
        self._reaped: float | None = None
        self._writer: Writer[Job, Held | Replay | Ended | int] = Writer(store, self._apply)

    async def hold(
        self, charge: Charge, idempotency: str | None = None, request: bytes = b""
    ) -> Held | Replay:
        """Reserve the most a call can cost; for a repeat of an answered call, give that answer instead.

        A repeat has the account, idempotency key, model, mode and request of a call before it. The request is
        kept as an HMAC, and only under an idempotency key.

        Raises:
            AuthError: `revoked_key` or `expired_key`, since the request was let in.
            PaymentError: `insufficient_credit` or `budget_exceeded`.
            BusyError: `rate_limited`, `concurrency_limited`, `in_flight` when the first such call has not
                ended; `ledger_unavailable`.
            InputError: `idempotency_mismatch` when the key was used for another request; `amount_invalid`
                when no receipt could state the amount.
        """
        mac = None
        if idempotency is not None:
            what = f"{charge.model}\0{charge.mode}\0".encode() + request
            mac = hmac.digest(self._mac_key, what, "sha256").hex()
        outcome = await self._writer.write(Hold(charge, idempotency, mac))
        assert isinstance(outcome, Held | Replay)
        return outcome

    def answer(self, replay: Replay) -> bytes:
        """What `end` was given to keep of a run that is repeated."""
        return self._secrets.open("answer", replay.sealed, replay.run.encode())

    async def end(self, end: End, answer: bytes | None = None) -> Ended:
        """End a run; ending it twice changes nothing.

        Args:
            end: how.
            answer: kept, encrypted, for whoever repeats the call.

        Raises:
            BusyError: `hold_lost`, it was released meanwhile; `ledger_unavailable`.
            ServerError: `internal`, it cannot be charged so; it is still to be ended, as failed.
        """
        if answer is not None:
            sealed = self._secrets.seal("answer", answer, end.charge.run.encode())
            end = replace(end, sealed=sealed)
        outcome = await self._writer.write(end)
        assert isinstance(outcome, Ended)
        return outcome

    async def reap(self) -> None:
        """Release the holds of gateways that died and those that expired; forget answers kept long enough.

        No answers are forgotten the first time, nor when an hour has gone by since the last: the clock may
        have jumped, and a repeat without its answer would be charged again.
        """
        dead = await self._store.dead()
        while await self._writer.write(Reap(tuple(dead))) == SLICE:
            pass
        await self._store.forget(dead)
        now, before = self._clock(), self._reaped
        self._reaped = now
        if before is not None and now - before < HOUR:
            while await self._store.transact(forget(int(now))) == SLICE:
                pass

    async def ready(self) -> bool:
        """Tell whether the books can be read."""
        try:
            await self._store.read(_ready())
        except BusyError:
            return False
        return True

    async def close(self) -> None:
        """Commit what waits."""
        await self._writer.close()

    def _apply(self, jobs: list[Job]) -> Work[list[Held | Replay | Ended | int | Exception]]:
        """Write a batch. Ends go first, so that what they give back is there for the holds beside them."""
        micros = int(self._clock() * MICRO)
        ends = [job for job in jobs if isinstance(job, End)]
        holds = [job for job in jobs if isinstance(job, Hold)]
        reaps = [job for job in jobs if isinstance(job, Reap)]
        found = (yield from orphans(micros // MICRO, reaps)) if reaps else []
        charges = [end.charge for end in ends] + [hold.charge for hold in holds]
        books = yield from open_books(
            micros // MICRO,
            [charge.account for charge in charges] + [hold.account for hold in found],
            [(charge.project, charge.family) for charge in charges]
            + [(hold.project, hold.family) for hold in found],
        )
        ended = iter((yield from end_all(books, ends, self._sign)))
        if reaps:
            yield from reap(books, found, self._sign)
        held = iter((yield from hold_all(books, holds, self._store.instance, micros)))
        yield from books.write()
        return [
            next(ended) if isinstance(job, End) else next(held) if isinstance(job, Hold) else len(found)
            for job in jobs
        ]


def _ready() -> Work[None]:
    yield READY()
