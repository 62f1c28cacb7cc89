"""Proof that the books are sound: what is kept for speed is held against the entries, which are the truth.

All of it is one statement, so that it speaks of one moment, whatever gateways write meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .statement import Statement

if TYPE_CHECKING:
    from .statement import Work

__all__ = ["audit"]

# A row for each discrepancy: what is wrong, of whom, what there is and what there should be. In `moved` an
# entry is two: what one account of the books lost, and another gained.
FIND = Statement("""
WITH moved AS (
    SELECT id, credit AS name, amount FROM entries UNION ALL SELECT id, debit, -amount FROM entries
), balances AS (
    SELECT name, CAST(sum(amount) AS bigint) AS amount FROM moved GROUP BY name
), books AS (
    SELECT 'available:' || id AS name, available AS amount FROM accounts
    UNION ALL SELECT 'held:' || id, held FROM accounts
), customers AS (
    SELECT id,
        CAST(sum(CASE WHEN substr(name, 1, 10) = 'available:' THEN amount ELSE 0 END) AS bigint) AS available,
        CAST(sum(CASE WHEN substr(name, 1, 5) = 'held:' THEN amount ELSE 0 END) AS bigint) AS held
    FROM moved GROUP BY id
), states AS (
    SELECT runs.id, coalesce(available, 0) AS available, coalesce(held, 0) AS held,
        holds.amount AS open, ends.amount AS charged
    FROM runs LEFT JOIN customers ON customers.id = runs.id
    LEFT JOIN holds ON holds.run = runs.id LEFT JOIN ends ON ends.run = runs.id
), chains AS (
    SELECT account, min(sequence) AS oldest, max(sequence) AS newest, count(*) AS many
    FROM receipts GROUP BY account
), calls AS (
    SELECT runs.project, coalesce(keys.family, runs.key) AS family,
        coalesce(ends.amount, holds.amount) AS amount
    FROM runs LEFT JOIN keys ON keys.prefix = runs.key
    LEFT JOIN holds ON holds.run = runs.id LEFT JOIN ends ON ends.run = runs.id
), spenders AS (
    SELECT 'project:' || project AS subject, CAST(sum(amount) AS bigint) AS amount FROM calls GROUP BY project
    UNION ALL
    SELECT 'key:' || family, CAST(sum(amount) AS bigint) FROM calls GROUP BY family
)
SELECT 'balance kept and sum of entries', books.name, books.amount, coalesce(balances.amount, 0)
FROM books LEFT JOIN balances ON balances.name = books.name
WHERE books.amount <> coalesce(balances.amount, 0)
UNION ALL
SELECT 'entries of no known account, should be none', balances.name, balances.amount, 0
FROM balances LEFT JOIN books ON books.name = balances.name
WHERE books.name IS NULL AND balances.name NOT IN ('revenue', 'rounding', 'cash', 'promo', 'refunds')
UNION ALL
SELECT 'all balances together, should be 0', 'books', total, 0 FROM (
    SELECT CAST(coalesce(sum(amount), 0) AS bigint) AS total FROM (
        SELECT amount FROM books UNION ALL
        SELECT amount FROM balances WHERE name IN ('revenue', 'rounding', 'cash', 'promo', 'refunds')
    ) AS sides
) AS totals WHERE total <> 0
UNION ALL
SELECT 'open hold and what its entries hold', id, open, held FROM states
WHERE open IS NOT NULL AND charged IS NULL AND (held <> open OR available <> -open)
UNION ALL
SELECT 'ended, but its hold is open', id, charged, open FROM states
WHERE open IS NOT NULL AND charged IS NOT NULL
UNION ALL
SELECT 'charge at its end and what its entries took', id, charged, -available FROM states
WHERE open IS NULL AND charged IS NOT NULL AND (held <> 0 OR available <> -charged)
UNION ALL
SELECT 'neither open nor ended, but holds', id, held, 0 FROM states WHERE open IS NULL AND charged IS NULL
UNION ALL
SELECT 'receipts, one if it was charged', runs.id, count(receipts.run), 1 - count(receipts.run)
FROM runs LEFT JOIN ends ON ends.run = runs.id
LEFT JOIN receipts ON receipts.run = runs.id AND receipts.account = runs.account
WHERE (receipts.run IS NULL) = coalesce(ends.outcome IN ('answered', 'abandoned'), false)
GROUP BY runs.id
UNION ALL
SELECT 'last receipt and how many there are', accounts.id, coalesce(newest, 0), receipts
FROM accounts LEFT JOIN chains ON chains.account = accounts.id
WHERE receipts <> coalesce(newest, 0) OR receipts <> coalesce(many, 0) OR oldest <> 1
UNION ALL
SELECT 'spent of a budget and what calls took and hold', budgets.subject, spent, amount
FROM budgets JOIN spenders ON spenders.subject = budgets.subject
WHERE period = 'total' AND spent < amount
UNION ALL
SELECT 'entries of no run, should be none', customers.id, customers.available, 0
FROM customers LEFT JOIN runs ON runs.id = customers.id
WHERE runs.id IS NULL AND substr(customers.id, 1, 7) <> 'credit_'
ORDER BY 1, 2
""")


def audit() -> Work[list[str]]:
    """Name every discrepancy, amounts in nano-USD; none if the books are sound.

    Sound means: an account's money is what its entries add up to; all balances add up to zero; an open hold
    holds its amount and has not ended; a run that ended holds nothing and cost what its end says, once; every
    charge has a receipt, numbered without gaps; a budget for all time counts all that was taken and is held.
    """
    rows = yield FIND()
    return [f"{subject}: {what}: {found}, {expected}" for what, subject, found, expected in rows]
