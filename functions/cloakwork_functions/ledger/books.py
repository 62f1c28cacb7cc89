"""The state that a batch of jobs is decided by: read under lock, changed in memory, written back at once.

Every batch first locks the accounts it is about. All else it decides by (limits, budgets, open holds,
repeats) belongs to one of them, so two gateways cannot decide the same thing twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cloakwork.errors import error

from .budget import Budget
from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .statement import Row, Work

__all__ = ["Account", "Books", "open_books"]

LOCK = Statement(
    "SELECT id, available, held, receipts, head FROM accounts WHERE id IN (SELECT account FROM {batch}) "
    "ORDER BY id {lock}",
    "account text",
)
BUDGETS = Statement(
    "SELECT budgets.subject, cap, period, alert, term, spent FROM budgets "
    "WHERE subject IN (SELECT subject FROM {batch})",
    "subject text",
)
WRITE_ACCOUNTS = Statement(
    "UPDATE accounts SET available = batch.available, held = batch.held, receipts = batch.receipts, "
    "head = batch.head FROM {batch} WHERE accounts.id = batch.id",
    "id text, available bigint, held bigint, receipts bigint, head text",
)
WRITE_BUDGETS = Statement(
    "UPDATE budgets SET term = batch.term, spent = batch.spent FROM {batch} "
    "WHERE budgets.subject = batch.subject",
    "subject text, term bigint, spent bigint",
)
WRITE_ENTRIES = Statement(
    "INSERT INTO entries SELECT id, kind, debit, credit, amount, at FROM {batch}",
    "id text, kind text, debit text, credit text, amount bigint, at bigint",
)


@dataclass(slots=True)
class Account:
    """An account's money and the end of its chain of receipts."""

    id: str
    available: int
    held: int
    receipts: int
    head: str


@dataclass
class Books:
    """What a batch knows and has decided so far. Times are Unix seconds."""

    now: int
    accounts: dict[str, Account]
    budgets: dict[str, Budget]
    entries: list[Row] = field(default_factory=list)
    changed: dict[str, Account] = field(default_factory=dict)
    spent: dict[str, Budget] = field(default_factory=dict)

    def account(self, name: str) -> Account:
        """An account of this batch, which is about to change.

        Raises:
            AuthError: `wrong_key`, there is none of that name any more.
        """
        if name not in self.accounts:
            raise error("wrong_key", "The account of this API key is not known here.")
        return self.changed.setdefault(name, self.accounts[name])

    def hold(self, run: str, account: str, subjects: Iterable[str], amount: int) -> None:
        """Reserve an amount of an account and of its budgets.

        Raises:
            PaymentError: `insufficient_credit` or `budget_exceeded`; nothing was reserved.
        """
        payer = self.account(account)
        if payer.available < amount:
            raise error(
                "insufficient_credit",
                f"The call may cost {amount} nano-USD and {payer.available} are available: "
                f"{amount - payer.available} are missing. Add credit to the account.",
            )
        budgets = [self.budgets[subject] for subject in subjects if subject in self.budgets]
        for budget in budgets:
            budget.check(amount, self.now)
        for budget in budgets:
            budget.spent += amount
            self.spent[budget.subject] = budget
        payer.available -= amount
        payer.held += amount
        self._entry(run, "hold", f"available:{account}", f"held:{account}", amount)

    def end(self, run: str, account: str, held: int, charged: int, exact: int) -> None:
        """End a hold: of what is held, `charged` is taken and the rest given back.

        Args:
            run: whose hold.
            account: whose money.
            held: nano-USD.
            charged: of those.
            exact: the charge before each of its lines was rounded, rounded once: that is revenue.
        """
        payer = self.account(account)
        payer.held -= held
        payer.available += held - charged
        if charged:
            self._entry(run, "settle", f"held:{account}", "revenue", min(charged, exact))
        if charged > exact:
            self._entry(run, "rounding", f"held:{account}", "rounding", charged - exact)
        elif exact > charged > 0:
            self._entry(run, "rounding", "rounding", "revenue", exact - charged)
        if held > charged or not held:
            self._entry(run, "release", f"held:{account}", f"available:{account}", held - charged)

    def give_back(self, subjects: Iterable[str], amount: int, held_at: int) -> None:
        """Count an amount that was held as not spent after all."""
        for subject in subjects:
            if amount and subject in self.budgets:
                self.budgets[subject].give_back(amount, held_at)
                self.spent[subject] = self.budgets[subject]

    def write(self) -> Work[None]:
        """Write back what changed."""
        yield WRITE_ENTRIES(self.entries)
        yield WRITE_ACCOUNTS(
            (each.id, each.available, each.held, each.receipts, each.head) for each in self.changed.values()
        )
        yield WRITE_BUDGETS((each.subject, each.term, each.spent) for each in self.spent.values())

    def _entry(self, run: str, kind: str, debit: str, credit: str, amount: int) -> None:
        self.entries.append((run, kind, debit, credit, amount, self.now))


def subjects(project: str, family: str) -> tuple[str, str]:
    """Those whose budgets a call is counted in."""
    return f"key:{family}", f"project:{project}"


def open_books(now: int, accounts: Iterable[str], spenders: Iterable[tuple[str, str]]) -> Work[Books]:
    """Lock accounts and read what a batch is decided by; spenders are projects and families of keys."""
    rows = yield LOCK((account,) for account in sorted(set(accounts)))
    budgets = yield BUDGETS(
        (subject,) for subject in sorted({each for pair in spenders for each in subjects(*pair)})
    )
    return Books(now, {row[0]: Account(*row) for row in rows}, {row[0]: Budget(*row) for row in budgets})
