"""Tables for a terminal, without a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows, the header first, in columns; those of numbers stand to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numbers = [all(_is_number(text) for text in column[1:]) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = zip(row, widths, numbers, strict=True)
        lines.append(
            "  ".join(f"{text:>{width}}" if number else f"{text:<{width}}" for text, width, number in cells)
        )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] == "$"
