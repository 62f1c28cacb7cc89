"""What a call would cost before it is made: the vocabulary of question and answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .price import Price  # noqa: TC001 (`load` reads the annotations)
from .wire import Mode, usd

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["Quote", "QuoteInput", "Quotes"]


@dataclass(frozen=True)
class QuoteInput:
    """The question: how many records, and in which mode, or None for all of them. No record is sent."""

    records: int
    privacy: Mode | None = None


@dataclass(frozen=True)
class Quote:
    """One call in one mode.

    Attributes:
        mode: the privacy mode.
        records: how many records it would hold.
        price: what is charged by.
        amount_nano_usd: what it would cost; None where computing is charged for and no run was timed yet.
        exact: whether it is what will be charged. Bytes and computing time vary, so a price by those is only
            estimated.
        bytes_up, bytes_down: bodies of the request and the answer, numbers as float32 tensors.
        keys_up: bytes of public evaluation keys that are uploaded once, before the first such call.
        seconds: what the service would take, queues aside; None where nothing like it was timed yet.
    """

    mode: Mode
    records: int
    price: Price
    amount_nano_usd: int | None
    exact: bool
    bytes_up: int
    bytes_down: int
    keys_up: int
    seconds: float | None

    @property
    def amount(self) -> Decimal | None:
        """What it would cost, in US dollars."""
        return None if self.amount_nano_usd is None else usd(self.amount_nano_usd)


@dataclass(frozen=True)
class Quotes:
    """The answer: a quote for each mode that can be run on so many records, of one exact `model@version`."""

    model: str
    quotes: tuple[Quote, ...]
