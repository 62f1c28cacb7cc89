"""SQL written once for SQLite and Postgres, each statement over a whole batch of rows.

A statement's rows are a table named `batch` that it selects from: in SQLite a JSON array, in Postgres arrays
of columns. One statement over many rows is what makes group commit pay on both: each round trip, to a server
or to the interpreter's lock, is made once a batch.

A unit of work is a generator that yields queries and is sent their rows. It holds no connection and awaits
nothing, so the same work runs on SQLite in a thread and on Postgres over a socket.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = ["Query", "Row", "Statement", "Work"]

R = TypeVar("R")
Row: TypeAlias = Sequence[str | int | None]


@dataclass(frozen=True)
class Statement:
    """One statement of the SQL that both databases speak.

    Where they differ in silence: `INSERT ... SELECT ... FROM {batch}` says `WHERE true` before `ON CONFLICT`,
    for SQLite. A statement that waits for a lock sees the rows it locked as they are then, and all else as it
    was when it began, so on Postgres what a decision needs is read by the next one. Lock and insert rows in
    an order, for two gateways that take the same ones in turn end in a deadlock.

    Attributes:
        text: has `{batch}` where it reads the batch's table, and `{lock}` where rows that were read stay
            locked until the transaction ends (SQLite locks the whole database instead), and `{json}` after
            a column of JSON that `->>` looks into.
        columns: of the batch, each with its type: `run text, amount bigint`; nothing for no batch.
    """

    text: str
    columns: str = ""

    @cached_property
    def sqlite(self) -> str:
        """For sqlite3, with the batch as one JSON parameter."""
        fields = ", ".join(f"value ->> {place} AS {name}" for place, (name, _) in enumerate(self._columns))
        batch = f"(SELECT {fields} FROM json_each(?1)) AS batch"  # noqa: S608 (of constants)
        return self.text.format(batch=batch, lock="", json="")

    @cached_property
    def postgres(self) -> str:
        """For asyncpg, with one array parameter a column."""
        arrays = ", ".join(f"${place}::{kind}[]" for place, (_, kind) in enumerate(self._columns, 1))
        names = ", ".join(name for name, _ in self._columns)
        batch = f"unnest({arrays}) AS batch ({names})"
        return self.text.format(batch=batch, lock="FOR UPDATE", json="::jsonb")

    @cached_property
    def _columns(self) -> list[tuple[str, str]]:
        pairs = (column.split() for column in self.columns.split(",") if column.strip())
        return [(name, kind) for name, kind in pairs]

    def __call__(self, rows: Iterable[Row] = ()) -> Query:
        """A query of this statement over these rows."""
        return Query(self, list(rows))


class Query(NamedTuple):
    """A statement and its batch: text, whole numbers of 64 bits, and None.

    Text is Unicode without the character NUL, which Postgres does not hold: refuse it where it comes in.
    """

    statement: Statement
    rows: list[Row]

    @property
    def empty(self) -> bool:
        """Whether it reads a batch that has no rows, and so need not be asked."""
        return bool(self.statement.columns) and not self.rows


Work: TypeAlias = Generator[Query, list[tuple[Any, ...]], R]
