"""What to compute, before it is known at which scales and levels: a list of steps over registers.

A register is a vector: the slots of one ciphertext, or, in "features" packing, one number per ciphertext of
a bundle. Constants are real vectors here; a later pass decides how finely each is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Schedule", "Step"]

Name = Literal["multiply_plain", "matrix", "add_plain", "add", "rotate", "square", "multiply"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step; step i writes register i + 1, register 0 is the input.

    Attributes:
        name: What to do.
        of: Registers to read.
        constant: Plaintext operand, where there is one.
        rotation: Slots to rotate by, to the left.
        like: Of a product whose result will be added to something: the register that has the scale wanted,
            followed by registers it will still be multiplied with before that sum.
        last: Of what reads the last stage's values: the lowest level that holds the answer will do for it.
    """

    name: Name
    of: tuple[int, ...]
    constant: NDArray[np.float64] | None = None
    rotation: int = 0
    like: tuple[int, ...] = ()
    last: bool = False


class Schedule:
    """Appends steps; every method returns the register written."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def multiply_plain(
        self, of: int, constant: NDArray[np.float64], *, like: tuple[int, ...] = (), last: bool = False
    ) -> int:
        """Product with a vector, or with one number for all."""
        return self._append(Step("multiply_plain", (of,), constant, like=like, last=last))

    def matrix(
        self, of: int, constant: NDArray[np.float64], *, like: tuple[int, ...] = (), last: bool = False
    ) -> int:
        """Product of a matrix (m, n) with a bundle of n."""
        return self._append(Step("matrix", (of,), constant, like=like, last=last))

    def add_plain(self, of: int, constant: NDArray[np.float64]) -> int:
        """Sum with a vector, or with one number for all; nothing at all for zeros."""
        if not constant.any():
            return of
        return self._append(Step("add_plain", (of,), constant))

    def add(self, left: int, right: int) -> int:
        """Sum of two registers."""
        return self._append(Step("add", (left, right)))

    def rotate(self, of: int, rotation: int, *, last: bool = False) -> int:
        """Slot s receives slot s + rotation."""
        return self._append(Step("rotate", (of,), rotation=rotation, last=last))

    def square(self, of: int) -> int:
        """Elementwise."""
        return self._append(Step("square", (of,)))

    def multiply(self, left: int, right: int) -> int:
        """Elementwise product of two registers."""
        return self._append(Step("multiply", (left, right)))

    def values(self, given: NDArray[np.float64], *, bound: bool = False) -> Iterator[NDArray[np.float64]]:
        """Every register's values, in the clear; each is forgotten once nothing reads it any more.

        Args:
            given: (n, size): what register 0 holds for each of n records.
            bound: Whether to compute, from the largest |input| of each place, a bound on every |value|.

        Yields:
            Arrays (n, size of the register).
        """
        read_last = {register: index for index, step in enumerate(self.steps) for register in step.of}
        held = {0: given}
        yield given
        for index, step in enumerate(self.steps):
            result = _compute(step, [held[register] for register in step.of], bound=bound)
            for register in set(step.of):
                if read_last[register] == index:
                    del held[register]
            held[index + 1] = result
            yield result

    def _append(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps)


def _compute(step: Step, operands: list[NDArray[np.float64]], *, bound: bool) -> NDArray[np.float64]:
    constant = np.zeros(0) if step.constant is None else step.constant
    if bound:
        constant = np.abs(constant)
    result: NDArray[np.float64]
    match step.name:
        case "multiply_plain":
            result = operands[0] * constant
        case "matrix":
            result = operands[0] @ constant.T
        case "add_plain":
            result = operands[0] + constant
        case "add":
            result = operands[0] + operands[1]
        case "rotate":
            result = np.roll(operands[0], -step.rotation, axis=1)
        case "square":
            result = np.square(operands[0])
        case "multiply":
            result = operands[0] * operands[1]
    return result
