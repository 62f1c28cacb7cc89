"""An invoice as one HTML page that needs nothing else: for a screen, a screen reader, and A4 paper."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from cloakwork.rates import rate_in_words
from cloakwork.wire import usd

if TYPE_CHECKING:
    from .invoice import Credit, Invoice, InvoiceLine

__all__ = ["page"]

CREDITS = {"cash": "Payment", "promo": "Promotional credit", "refunds": "Refund"}
PLURALS = {
    "call": "calls",
    "record": "records",
    "token": "tokens",
    "byte": "bytes",
    "ciphertext": "ciphertexts",
}


def page(invoice: Invoice) -> str:
    """Render an invoice; whatever a person could have named is escaped."""
    template = Template((files(__package__) / "invoice.html").read_text("utf-8"))
    first, last = _date(invoice.month.since), _date(invoice.month.until - 1)
    texts = {
        "number": f"{invoice.account} {invoice.month}",
        "standing": "Final." if invoice.settled else "Preliminary: the month is not over.",
        "account": invoice.account,
        "name": invoice.name,
        "month": str(invoice.month),
        "first": first,
        "last": last,
        "drawn": datetime.fromtimestamp(invoice.drawn, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "total": _usd(invoice.total),
        "opening": _usd(invoice.opening),
        "charges": _usd(-invoice.total),
        "closing": _usd(invoice.closing),
    }
    rows = {
        "lines": "\n".join(map(_line, invoice.lines)) or '<tr><td colspan="6">No charges.</td></tr>',
        "credits": "\n".join(map(_credit, invoice.credits)),
    }
    return template.substitute({name: escape(text) for name, text in texts.items()} | rows)


def _line(line: InvoiceLine) -> str:
    version = "list price" if line.price == 0 else f"version {line.price}"
    figures = _quantity(line), rate_in_words(line.unit, line.rate), _usd(line.amount)
    cells = [f"<td>{escape(text)}</td>" for text in (line.mode, version)]
    cells += [f'<td class="amount">{escape(text)}</td>' for text in figures]
    return f'<tr><th scope="row">{escape(line.model)}</th>{"".join(cells)}</tr>'


def _quantity(line: InvoiceLine) -> str:
    if line.unit == "microsecond":
        return f"{Decimal(line.quantity).scaleb(-6):,f} seconds"
    return f"{line.quantity:,} {line.unit}{'' if line.quantity == 1 else 's'}"


def _credit(credit: Credit) -> str:
    name = escape(CREDITS.get(credit.source, credit.source))
    return (
        f'<tr><td>{_date(credit.at)}</td><th scope="row">{name}</th>'
        f'<td class="amount">{_usd(credit.amount)}</td></tr>'
    )


def _usd(nano: int) -> str:
    """All nine decimals, so that figures stand under one another."""
    return f"{usd(nano):,f}"


def _date(seconds: int) -> str:
    return date.isoformat(datetime.fromtimestamp(seconds, UTC).date())
