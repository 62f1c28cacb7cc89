"""Amounts as people write them, in US dollars, and as they are kept, in whole nano-USD."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation

from cloakwork.errors import error

__all__ = ["MOST", "in_dollars", "nano_usd"]

# A million dollars: what can be named at once, so that no sum of many leaves 64 bits.
MOST = 10**15
EXACT = Context(traps=[Inexact, InvalidOperation])


def nano_usd(text: str) -> int:
    """Read US dollars, such as `10` or `0.000001`.

    Raises:
        InputError: `amount_invalid`.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise error("amount_invalid", "An amount is a decimal number of US dollars, such as 10 or 0.5.")
    if not 0 <= amount <= MOST // 10**9:
        raise error("amount_invalid", f"An amount is from 0 to {MOST // 10**9:,} US dollars.")
    try:
        return int(amount.quantize(Decimal("1e-9"), context=EXACT).scaleb(9))
    except Inexact:
        raise error("amount_invalid", "An amount has at most nine decimals.") from None


def in_dollars(nano: int) -> str:
    """Write an amount exactly, with cents at least: `$25.50`, `-$0.000001`."""
    whole, rest = divmod(abs(nano), 10**9)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole:,}.{decimals}"
