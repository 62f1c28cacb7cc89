"""Where the books are kept: SQLite for gateways on one machine, Postgres for several machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from cloakwork.errors import BusyError, ServerError

if TYPE_CHECKING:
    from .statement import Work

__all__ = ["Store", "UnconfirmedError", "rejected", "unavailable", "unconfirmed"]

R = TypeVar("R")


class UnconfirmedError(BusyError):
    """The database went away while it was committing: all of a transaction was written, or nothing was.

    Whoever sees this may do the same work again if that work does nothing the second time.
    """


class Store(Protocol):
    """A database, and this gateway's presence among those that share it.

    Attributes:
        instance: this gateway's name, written with every hold it makes.
    """

    instance: str

    async def transact(self, work: Work[R]) -> R:
        """Do work in one transaction, alone among this gateway's; when this returns, it is on disk.

        Work that locks rows and then reads sees what every transaction before wrote, so it may decide by
        what it reads. Whatever work raises undoes it. To stop waiting for it does not stop it.

        Raises:
            BusyError: `ledger_unavailable`, the database is locked, full or gone; nothing was written.
            UnconfirmedError: `ledger_unavailable`, it was gone before it confirmed what may be written.
            ServerError: `internal`, the database rejected a row or a statement; nothing was written.
        """

    async def read(self, work: Work[R]) -> R:
        """Do work that only reads; each query sees what is committed when it is asked.

        Raises:
            BusyError: `ledger_unavailable`.
            ServerError: `internal`, the database rejected a statement.
        """

    async def survey(self, work: Work[R]) -> R:
        """Read as `read` does, for as long as it takes, while other calls go on.

        Raises:
            BusyError: `ledger_unavailable`.
        """

    async def dead(self) -> list[str]:
        """Name the gateways that ended without saying so.

        Raises:
            BusyError: `ledger_unavailable`.
        """

    async def forget(self, names: list[str]) -> None:
        """Remove what dead gateways left here, once their holds are released.

        Raises:
            BusyError: `ledger_unavailable`.
        """

    async def close(self) -> None:
        """Finish the transactions that were asked for and let go of the database."""


def unavailable(why: str) -> BusyError:
    """The error for a database that does not answer; `why` names the failure and quotes nothing."""
    return BusyError(
        "ledger_unavailable",
        f"The ledger cannot be used ({why}); nothing was charged. Try again.",
        retry_after=1,
    )


def unconfirmed(why: str) -> UnconfirmedError:
    """The error for a commit that was not answered."""
    return UnconfirmedError(
        "ledger_unavailable",
        f"The ledger did not confirm what it was to write ({why}), which may have been written. "
        "Try again: the same idempotency key is safe to repeat.",
        retry_after=1,
    )


def rejected(why: str) -> ServerError:
    """The error for a row or a statement that a database does not take, so that trying again is in vain."""
    return ServerError("internal", f"The ledger rejected what it was to do ({why}); nothing was charged.")
