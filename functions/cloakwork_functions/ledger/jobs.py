"""What the ledger is asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloakwork.price import Price
    from cloakwork.wire import Mode

    from .rate import Standing

__all__ = ["Charge", "End", "Ended", "Held", "Hold", "Job", "Outcome", "Reap", "Replay"]


class Outcome:
    """How a run can end, as it stands in the books."""

    ANSWERED = "answered"
    ABANDONED = "abandoned"  # the client went away or ran out of time; what was computed is charged
    FAILED = "failed"  # our fault, or nothing was computed: 0
    EXPIRED = "expired"  # its gateway died: 0


@dataclass(frozen=True, slots=True)
class Charge:
    """A call that is about to run, and the most it can cost.

    Attributes:
        run: the server's name for the call.
        account, project, key: who pays, under which budget, by which API key's prefix.
        family: prefix of the first key of that key's line of rotations, which share limits and a budget.
        model, version: the model's name and version.
        model_digest: SHA-256 of the artifact, hex.
        mode: the privacy mode.
        price: what is charged by.
        amount: the most it can cost, nano-USD.
        lifetime: seconds after which an open hold is released.
    """

    run: str
    account: str
    project: str
    key: str
    family: str
    model: str
    version: int
    model_digest: str
    mode: Mode
    price: Price
    amount: int
    lifetime: float

    @property
    def exact(self) -> str:
        """The exact version that runs, `name@version`."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class Hold:
    """A charge to be held: under which of the client's names, for which request."""

    charge: Charge
    idempotency: str | None
    mac: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """The amount is reserved; `standings` says what is left of the key's limits."""

    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """The call was answered before: its run, its answer, encrypted, and what it was charged."""

    run: str
    sealed: str
    ended: Ended


@dataclass(frozen=True, slots=True)
class End:
    """A run to be ended.

    Attributes:
        charge: as it was held.
        outcome: one of `Outcome`.
        quantities: what was used of each unit; nothing is charged for a failed run.
        request, answer: what the receipt says of both: salted digests, hex.
        sealed: the answer, encrypted, for whoever repeats the call; None to keep none.
    """

    charge: Charge
    outcome: str
    quantities: Mapping[str, int]
    request: str = ""
    answer: str = ""
    sealed: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended: what it was charged, nano-USD, and the receipt for it."""

    amount: int
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Reap:
    """Release some of the holds that expired and of those of gateways that died."""

    dead: tuple[str, ...]


Job: TypeAlias = Hold | End | Reap
