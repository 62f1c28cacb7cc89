"""Ends: what was held is taken or given back, once, and whoever pays gets a receipt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cloakwork.errors import CloakworkError, ReceiptError, error
from cloakwork.price import round_half_even

from .alerts import raise_alerts
from .books import subjects
from .jobs import End, Ended, Outcome
from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from cloakwork.price import Line

    from .books import Account, Books
    from .jobs import Reap
    from .signing import Signed
    from .statement import Row, Work

    Sign: TypeAlias = Callable[[Account, End, tuple[Line, ...], int, int], Signed]

__all__ = ["SLICE", "end_all", "forget", "orphans", "reap"]

ANSWER_SECONDS = 24 * 3600
# Rows that one transaction removes, so that no call waits long for it.
SLICE = 1000
CHARGED = {Outcome.ANSWERED, Outcome.ABANDONED}

OPEN = Statement(
    "SELECT run, account, project, key, amount, at FROM holds WHERE run IN (SELECT run FROM {batch})",
    "run text",
)
ENDED = Statement(
    "SELECT ends.run, outcome, amount, receipt FROM ends LEFT JOIN receipts ON receipts.run = ends.run "
    "WHERE ends.run IN (SELECT run FROM {batch})",
    "run text",
)
ORPHANS = Statement(
    "SELECT DISTINCT holds.run, holds.account, holds.project, holds.key, holds.amount, holds.at "  # noqa: S608 (of constants)
    f"FROM holds, {{batch}} WHERE holds.expires < batch.now OR holds.gateway = batch.dead LIMIT {SLICE}",
    "now bigint, dead text",
)
WRITE_ENDS = Statement(
    "INSERT INTO ends SELECT run, outcome, amount, quantities, at FROM {batch}",
    "run text, outcome text, amount bigint, quantities text, at bigint",
)
WRITE_RECEIPTS = Statement(
    "INSERT INTO receipts SELECT account, sequence, run, receipt FROM {batch}",
    "account text, sequence bigint, run text, receipt text",
)
WRITE_ANSWERS = Statement(
    "INSERT INTO answers SELECT run, sealed, expires FROM {batch}", "run text, sealed text, expires bigint"
)
CLOSE = Statement("DELETE FROM holds WHERE run IN (SELECT run FROM {batch})", "run text")
FORGET = Statement(
    "DELETE FROM answers WHERE run IN (SELECT answers.run FROM answers, {batch} "  # noqa: S608 (of constants)
    f"WHERE answers.expires < batch.now ORDER BY answers.expires, answers.run LIMIT {SLICE} {{lock}}) "
    "RETURNING run",
    "now bigint",
)


class Open(NamedTuple):
    """A hold that has not ended."""

    run: str
    account: str
    project: str
    family: str
    amount: int
    at: int


@dataclass
class Ending:
    """What ending a batch of runs writes."""

    books: Books
    sign: Sign
    ends: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)
    charged: set[str] = field(default_factory=set)

    def settle(self, hold: Open, end: End) -> Ended:
        """End a run as its gateway says.

        Raises:
            ServerError: `internal`, no receipt can be made of that; nothing was changed.
        """
        charge, charged, exact, receipt = end.charge, 0, 0, None
        if end.outcome in CHARGED:
            lines = charge.price.lines(end.quantities)
            charged = sum(line.amount for line in lines)
            if charged > hold.amount:  # which is the most a call can cost: whoever holds sees to that
                raise error("internal", "More was used than was held for; nothing was charged.")
            exact = round_half_even(sum(line.quantity * line.rate for line in lines))
            account = self.books.account(hold.account)
            try:
                receipt, head = self.sign(account, end, lines, charged, self.books.now)
            except ReceiptError:
                raise error("internal", "No receipt can state this call; nothing was charged.") from None
            account.receipts, account.head = account.receipts + 1, head
            self.receipts.append((account.id, account.receipts, hold.run, receipt))
        if end.sealed is not None:
            self.answers.append((hold.run, end.sealed, self.books.now + ANSWER_SECONDS))
        self._close(hold, end.outcome, charged, exact, json.dumps(dict(end.quantities)))
        if charged:
            self.charged.update(subjects(hold.project, hold.family))
        return Ended(charged, receipt)

    def release(self, hold: Open) -> None:
        """End a run whose gateway died or forgot it."""
        self._close(hold, Outcome.EXPIRED, 0, 0, "{}")

    def _close(self, hold: Open, outcome: str, charged: int, exact: int, quantities: str) -> None:
        self.books.end(hold.run, hold.account, hold.amount, charged, exact)
        self.books.give_back(subjects(hold.project, hold.family), hold.amount - charged, hold.at)
        self.ends.append((hold.run, outcome, charged, quantities, self.books.now))

    def write(self) -> Work[None]:
        """Write the ends; holds that ended are gone."""
        yield WRITE_ENDS(self.ends)
        yield WRITE_RECEIPTS(self.receipts)
        yield WRITE_ANSWERS(self.answers)
        yield CLOSE((row[0],) for row in self.ends)
        budgets = self.books.budgets
        yield from raise_alerts((budgets[each] for each in self.charged if each in budgets), self.books.now)


def end_all(books: Books, ends: list[End], sign: Sign) -> Work[list[Ended | Exception]]:
    """End runs. One that has ended already stays as it is, and its end is given again.

    A run that is to be charged and was released meanwhile (its gateway was taken for dead, or took too long)
    is an error, so that nobody is answered for nothing. A run that cannot be charged stays open, and the rest
    of the batch ends all the same.
    """
    if not ends:
        return []
    runs = [(end.charge.run,) for end in ends]
    holds = {row[0]: Open(*row) for row in (yield OPEN(runs))}
    done: dict[str, tuple[str, Ended]] = {}
    for run, outcome, amount, receipt in (yield ENDED(run for run in runs if run[0] not in holds)):
        done[run] = (outcome, Ended(amount, receipt))
    ending = Ending(books, sign)
    outcomes: list[Ended | Exception] = []
    for end in ends:
        run = end.charge.run
        if hold := holds.get(run):
            try:
                done[run] = (end.outcome, ending.settle(hold, end))
            except CloakworkError as fault:
                outcomes.append(fault)
                continue
            del holds[run]
        outcomes.append(_said(end, done.get(run)))
    yield from ending.write()
    return outcomes


def _said(end: End, done: tuple[str, Ended] | None) -> Ended | Exception:
    lost = done is None or (end.outcome in CHARGED and done[0] not in CHARGED)
    if lost and end.outcome in CHARGED:
        return error(
            "hold_lost", "The call took longer than its hold; nothing was charged. Try again.", retry_after=1
        )
    return done[1] if done else Ended(0, None)


def orphans(now: int, reaps: Iterable[Reap]) -> Work[list[Open]]:
    """Find holds to release, a slice of them: those that expired, and those of gateways that died."""
    dead = {name for reap in reaps for name in reap.dead}
    rows = yield ORPHANS((now, name) for name in sorted(dead | {""}))
    return [Open(*row) for row in rows]


def reap(books: Books, found: list[Open], sign: Sign) -> Work[None]:
    """Release orphans that are still open now that their accounts are locked."""
    still = {row[0] for row in (yield OPEN((hold.run,) for hold in found))}
    ending = Ending(books, sign)
    for hold in found:
        if hold.run in still:
            ending.release(hold)
    yield from ending.write()


def forget(now: int) -> Work[int]:
    """Remove a slice of the answers that were kept long enough; how many it was."""
    return len((yield FORGET([(now,)])))
