"""Prices in words, as people read them: dollars for each unit, without a trailing zero."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .price import Price

__all__ = ["MICROSECONDS", "dollars", "in_words", "rate_in_words"]

MICROSECONDS = 1_000_000
PICO = -12


def dollars(pico: int) -> str:
    """Pico-USD as dollars with every digit that counts, `0.000002`."""
    return f"{Decimal(pico).scaleb(PICO).normalize():f}"


def rate_in_words(unit: str, rate: int) -> str:
    """Pico-USD for one of a unit: `$0.000002 a record`. Computing time is spoken of in seconds."""
    if unit == "microsecond":
        return f"${dollars(rate * MICROSECONDS)} a second"
    return f"${dollars(rate)} a {unit}"


def in_words(price: Price) -> str:
    """All rates of a price: `$0.001 a call + $0.000002 a record`."""
    return " + ".join(rate_in_words(line.unit, line.rate) for line in price.lines({}))
