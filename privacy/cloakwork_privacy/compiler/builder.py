"""Writes a circuit while keeping its books: every register's scale and level.

Scales are computed in the very arithmetic SEAL uses, so that sums meet at scales that are equal to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.compiler.circuit import Circuit, Constant, Name, Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Builder", "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A register: its index, and the scale and level of what it holds."""

    register: int
    scale: float
    level: int


class Builder:
    """Appends operations; a `Node` stands for each result. Offers what `ckks.cipher.Cipher` does."""

    def __init__(self, primes: tuple[int, ...], scale: float) -> None:
        """Starts from a request at the given scale, with all the data primes."""
        self._primes = primes
        self._operations: list[Operation] = []
        self._constants: dict[str, Constant] = {}
        self.request = Node(0, scale, len(primes))

    def multiply_plain(self, node: Node, vector: NDArray[np.float64], scale: float) -> Node:
        """Product with a constant encoded at `scale`."""
        name = self._constant(vector, scale, node.level)
        return self._append("multiply_plain", (node,), node.scale * scale, node.level, constant=name)

    def add_plain(self, node: Node, vector: NDArray[np.float64]) -> Node:
        """Sum with a constant, at the node's own scale."""
        name = self._constant(vector, node.scale, node.level)
        return self._append("add_plain", (node,), node.scale, node.level, constant=name)

    def add(self, left: Node, right: Node) -> Node:
        """Sum of two registers."""
        return self._append("add", (left, right), left.scale, left.level)

    def rotate(self, node: Node, step: int) -> Node:
        """Rotation to the left."""
        return self._append("rotate", (node,), node.scale, node.level, step=step)

    def square(self, node: Node) -> Node:
        """Square, of three polynomials."""
        return self._append("square", (node,), node.scale * node.scale, node.level)

    def relinearise(self, node: Node) -> Node:
        """Back to two polynomials."""
        return self._append("relinearise", (node,), node.scale, node.level)

    def rescale(self, node: Node) -> Node:
        """One prime less."""
        return self._append(
            "rescale", (node,), node.scale / float(self._primes[node.level - 1]), node.level - 1
        )

    def circuit(self) -> Circuit:
        """What was built."""
        return Circuit(tuple(self._operations), dict(self._constants))

    def rotations(self) -> tuple[int, ...]:
        """Every rotation used, once, ascending."""
        return tuple(sorted({step.step for step in self._operations if step.step is not None}))

    def _constant(self, vector: NDArray[np.float64], scale: float, level: int) -> str:
        name = f"c{len(self._constants):03d}"
        self._constants[name] = Constant(np.ascontiguousarray(vector, np.float64), scale, level)
        return name

    def _append(
        self,
        name: Name,
        of: tuple[Node, ...],
        scale: float,
        level: int,
        *,
        constant: str | None = None,
        step: int | None = None,
    ) -> Node:
        self._operations.append(Operation(name, tuple(node.register for node in of), constant, step))
        return Node(len(self._operations), scale, level)
