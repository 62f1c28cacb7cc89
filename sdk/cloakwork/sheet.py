"""CSV that a spreadsheet reads as it was meant."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["sheet"]

# A spreadsheet runs a cell that begins so as a formula, whatever quotes are around it.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def sheet(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as RFC 4180 has it; an apostrophe before a text that would be a formula keeps it a text."""
    out = StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
