"""What a call costs: rates by unit, and amounts in whole nano-USD, rounded half to even once a line.

Rates are whole pico-USD (10^-12 US dollars) for one of a unit; amounts are whole nano-USD (10^-9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNITS", "Line", "Price", "round_half_even"]

UNITS = {
    "call": "calls",
    "record": "records",
    "token": "tokens",
    "byte": "bytes of request and answer together",
    "ciphertext": "ciphertexts of request and answer together",
    "microsecond": "microseconds of computing",
}
PICO_PER_NANO = 1000


@dataclass(frozen=True)
class Line:
    """One line of a bill: `amount` nano-USD for `quantity` of a unit at `rate` pico-USD each."""

    unit: str
    quantity: int
    rate: int
    amount: int


@dataclass(frozen=True)
class Price:
    """A version of the price of one model in one mode.

    Attributes:
        version: in the operator's catalogue, from 1; 0 is the price on the model's card.
        rates: pico-USD by unit, each unit one of `UNITS`.

    Raises:
        InputError: `bad_request`, a rate is for no unit or is no amount; it would be passed over in silence.
    """

    version: int
    rates: dict[str, int]

    def __post_init__(self) -> None:
        for unit, rate in self.rates.items():
            if unit not in UNITS:
                raise InputError(
                    "bad_request", f"A price has rates for {', '.join(UNITS)} alone.", param="rates"
                )
            if type(rate) is not int or rate < 0:
                raise InputError(
                    "bad_request", f"The rate for a {unit} must be whole pico-USD, at least 0.", param="rates"
                )

    def lines(self, quantities: Mapping[str, int]) -> tuple[Line, ...]:
        """Price quantities: a line for every unit that has a rate, in the order of `UNITS`."""
        return tuple(
            Line(unit, quantities.get(unit, 0), rate, round_half_even(quantities.get(unit, 0) * rate))
            for unit in UNITS
            if (rate := self.rates.get(unit)) is not None
        )

    def amount(self, quantities: Mapping[str, int]) -> int:
        """Nano-USD for quantities: the sum of the lines."""
        return sum(line.amount for line in self.lines(quantities))


def round_half_even(pico: int) -> int:
    """Whole nano-USD nearest to an amount of pico-USD; the even one of two as near."""
    nano, rest = divmod(pico, PICO_PER_NANO)
    return nano + (rest * 2 > PICO_PER_NANO or (rest * 2 == PICO_PER_NANO and nano % 2))
