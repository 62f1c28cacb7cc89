"""An account's chain of receipts: fetched page by page, and checked as a whole, offline.

A receipt names its place and the hash of the one before, so what is altered, dropped, reordered, duplicated
or forked is found. Only a chain that is cut at its end is still a chain, a shorter one: compare
`Summary.last` with the newest receipt you hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from .errors import ReceiptError, foreign
from .exchange import Deadline, decoded
from .jwks import keys_of
from .receipts import GENESIS, parse, verify
from .wire import Path, ReceiptPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .exchange import Exchange, Flow
    from .jwks import Keys
    from .receipts import Receipt

__all__ = ["Summary", "Total", "receipt_keys", "receipts", "verify_chain"]


class Total(NamedTuple):
    """How many receipts there are of one kind, and what they come to in nano-USD."""

    receipts: int
    amount: int


@dataclass(frozen=True)
class Summary:
    """A chain that holds.

    Attributes:
        first: sequence of the first receipt.
        last: the last receipt.
        totals: by model and mode.
    """

    first: int
    last: Receipt
    totals: dict[tuple[str, str], Total]

    @property
    def total(self) -> Total:
        """All of them together."""
        return Total(
            sum(total.receipts for total in self.totals.values()),
            sum(total.amount for total in self.totals.values()),
        )


def verify_chain(texts: Sequence[str], keys: Keys, *, start: Receipt | None = None) -> Summary:
    """Check the receipts of one account, in order: each by itself, and that they follow one another.

    Args:
        texts: compact receipts.
        keys: of the service, by thumbprint.
        start: a trusted receipt that they follow; without one they are to begin with the account's first.

    Raises:
        ReceiptError: `receipt_invalid` or `receipt_key_unknown`, naming the first bad place, from 1.
        ConfigError: `extra_missing`.
    """
    if not texts:
        raise _invalid("There are no receipts to check.")
    before, hashes, runs = start, dict[int, str](), set[str]()
    totals: dict[tuple[str, str], Total] = {}
    for place, text in enumerate(texts, 1):
        try:
            receipt = verify(text, keys)
            _follow(receipt, before, hashes, islice(texts, place, None))
            if receipt.run in runs:
                raise _invalid(f"Run {receipt.run} is charged a second time.")
        except ReceiptError as failure:
            where = f"Receipt {place} of {len(texts)}: {failure.message}"
            raise ReceiptError(failure.code, where) from None
        runs.add(receipt.run)
        hashes[receipt.sequence] = receipt.hash
        count, amount = totals.get((receipt.model, receipt.mode), Total(0, 0))
        totals[receipt.model, receipt.mode] = Total(count + 1, amount + receipt.amount)
        before = receipt
    return Summary(receipt.sequence - len(texts) + 1, receipt, totals)


def receipts(exchange: Exchange, after: int, deadline: float) -> Flow[tuple[str, ...]]:
    """Fetch the receipts of the key's account that come after a sequence, all pages, in order.

    Raises:
        ConfigError: `foreign_answer`, what answers is no cloakwork service.
        ReceiptError: `receipt_invalid`, one of them is none.
    """
    end = Deadline(deadline)
    fetched: list[str] = []
    while True:
        answer = yield from exchange.call("GET", f"{Path.RECEIPTS}?after={after}", end)
        page = decoded(ReceiptPage, answer).receipts
        if not page:
            return tuple(fetched)
        fetched += page
        last = parse(page[-1]).sequence
        if last <= after:  # or this would go on for ever
            raise foreign()
        after = last


def receipt_keys(exchange: Exchange, deadline: float) -> Flow[dict[str, bytes]]:
    """Fetch the public keys that the service signs receipts with, by thumbprint.

    Raises:
        ReceiptError: `receipt_keys_invalid`.
    """
    answer = yield from exchange.call("GET", Path.JWKS, Deadline(deadline))
    try:
        document = json.loads(answer.body)
    except ValueError:
        raise foreign() from None
    return keys_of(document)


def _follow(receipt: Receipt, before: Receipt | None, hashes: dict[int, str], later: Iterable[str]) -> None:
    """Check that a receipt, good by itself, follows the one before it.

    Args:
        receipt: the one to check.
        before: the one before it, or None for the account's first.
        hashes: by sequence, of those that were checked.
        later: what comes after it, to tell whether one that is missing was dropped or moved.

    Raises:
        ReceiptError: `receipt_invalid`, saying how it does not.
    """
    due, head = (before.sequence + 1, before.hash) if before else (1, GENESIS)
    if before and receipt.account != before.account:
        raise _invalid("Of another account than those before it.")
    if receipt.sequence == due:
        if receipt.previous != head:
            raise _invalid(f"Forked: it follows another receipt {due - 1} than the one before it.")
    elif receipt.sequence in hashes:
        if receipt.hash == hashes[receipt.sequence]:
            raise _invalid(f"Duplicated: number {receipt.sequence} was there before.")
        raise _invalid(f"Forked: another receipt has number {receipt.sequence} too.")
    elif receipt.sequence < due or due in map(_sequence, later):
        raise _invalid(f"Reordered: it has number {receipt.sequence} where number {due} is due.")
    else:
        raise _invalid(f"Dropped: number {due} is missing before number {receipt.sequence}.")


def _sequence(text: str) -> int | None:
    try:
        return parse(text).sequence
    except ReceiptError:
        return None


def _invalid(what: str) -> ReceiptError:
    return ReceiptError("receipt_invalid", what)
