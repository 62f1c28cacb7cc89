"""Chooses a layout for every layer: all combinations are tried, the cheapest few are kept.

A network of k stages has at most 2^k ways through (periodic or runs after each stage) for each of the
client's layouts; rotations decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.compiler import packing
from cloakwork_privacy.compiler.evaluation import evaluate
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial
from cloakwork_privacy.compiler.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Arrangement", "arrange", "bundle"]

_MOST_STAGES_TRIED: Final = 6  # Beyond these every further stage is periodic.
_KEPT: Final = 3
_WEIGHTS: Final = {"rotate": 1.0, "square": 1.3, "multiply": 1.3, "multiply_plain": 0.08}  # in rotations


@dataclass(frozen=True)
class Arrangement:
    """A network laid out in ciphertexts.

    Attributes:
        schedule: Its steps; the last register holds the logits.
        gather: For each slot, or each ciphertext of a bundle, the feature in it; -1 for zero.
        period: The logits repeat after so many slots, and are the averages of slots that far apart; 0 in a
            bundle.
        take: Where the logits are, below the period or in the bundle.
        averaged: How many of the slots that make up a logit differ: the others are copies, noise and all.
    """

    schedule: Schedule
    gather: tuple[int, ...]
    period: int
    take: tuple[int, ...]
    averaged: int = 1

    @property
    def rotations(self) -> int:
        """How many there are."""
        return sum(step.name == "rotate" for step in self.schedule.steps)


def arrange(network: Network, slots: int) -> list[Arrangement]:
    """The cheapest arrangements of one record in one ciphertext, best first; none where it does not fit."""
    sizes = [network.inputs, len(network.output.bias), *(len(stage.affine.bias) for stage in network.stages)]
    if max(map(packing.power_of_two, sizes)) > slots:
        return []
    found = []
    choices = min(len(network.stages), _MOST_STAGES_TRIED)
    for start in _starts(network, slots):
        for runs in product((False, True), repeat=choices):
            arranged = _Arranger(network, slots, start, runs).arranged()
            if arranged is not None:
                found.append(arranged)
    return sorted(found, key=_cost)[:_KEPT]


def bundle(network: Network) -> Arrangement:
    """The arrangement of many records, one in each slot, with one ciphertext for each feature."""
    schedule = Schedule()
    registers = [0]
    for stage in network.stages:
        register = _rows(schedule, registers, stage.affine, last=False)
        assert isinstance(stage.activation, Polynomial)
        registers.append(evaluate(schedule, register, stage.activation))
    _rows(schedule, registers, network.output, last=True)
    outputs = len(network.output.bias)
    return Arrangement(schedule, tuple(range(network.inputs)), 0, tuple(range(outputs)))


def _rows(schedule: Schedule, registers: list[int], affine: Affine, *, last: bool) -> int:
    result: int | None = None
    for source, matrix in sorted(affine.terms.items(), reverse=True):
        like = () if result is None else (result,)
        term = schedule.matrix(registers[source], matrix, like=like, last=last and result is None)
        result = term if result is None else schedule.add(result, term)
    assert result is not None
    return schedule.add_plain(result, affine.bias)


def _cost(arranged: Arrangement) -> float:
    return sum(_WEIGHTS.get(step.name, 0.0) for step in arranged.schedule.steps)


@dataclass(frozen=True)
class _Start:
    """The client's layout, and the order it gives the first map's rows (None: as they are)."""

    layout: packing.Layout
    rows: NDArray[np.intp] | None = None


def _starts(network: Network, slots: int) -> Iterator[_Start]:
    first = network.stages[0].affine if network.stages else network.output
    yield _Start(packing.plain(network.inputs, slots))
    copies = 1
    while copies <= slots:
        made = packing.windows(first.terms[0], slots, copies) if 0 in first.terms else None
        if made is not None:
            yield _Start(*made)
        copies *= 2


class _Arranger:
    """One way through: a client's layout, and for each stage whether it ends in runs."""

    def __init__(self, network: Network, slots: int, start: _Start, runs: tuple[bool, ...]) -> None:
        self._network = network
        self._slots = slots
        self._start = start
        self._runs = runs
        self._schedule = Schedule()
        self._at: list[tuple[int, packing.Layout]] = [(0, start.layout)]

    def arranged(self) -> Arrangement | None:
        """None where a choice does not apply."""
        for index, stage in enumerate(self._network.stages):
            wanted = index < len(self._runs) and self._runs[index]
            rows = self._start.rows if index == 0 else None
            made = self._affine(stage.affine, runs=wanted, rows=rows)
            if made is None:
                return None
            assert isinstance(stage.activation, Polynomial)
            self._at.append((evaluate(self._schedule, made[0], stage.activation), made[1]))
        rows = None if self._network.stages else self._start.rows
        made = self._affine(self._network.output, runs=False, rows=rows, final=True)
        if made is None:
            return None
        layout = made[1]
        outputs = len(self._network.output.bias)
        place = {feature: slot for slot, feature in reversed(list(enumerate(layout.order[: layout.period])))}
        return Arrangement(
            self._schedule,
            tuple(self._start.layout.order.tolist()),
            layout.period,
            tuple(place[output] for output in range(outputs)),
            min(self._distinct(source, layout) for source in self._network.output.terms),
        )

    def _distinct(self, source: int, answer: packing.Layout) -> int:
        """Slots of one period's residue, in the layout of a source, that hold different numbers."""
        return max(self._at[source][1].period // answer.period, 1)

    def _affine(
        self, affine: Affine, *, runs: bool, rows: NDArray[np.intp] | None, final: bool = False
    ) -> tuple[int, packing.Layout] | None:
        """Bias and all terms, in one layout."""
        total: tuple[int, packing.Layout] | None = None
        for source, matrix in sorted(affine.terms.items(), reverse=True):
            ordered = matrix if rows is None else _reordered(matrix, rows)
            like = () if total is None else (total[0],)
            made = self._term(source, ordered, runs=runs, final=final, like=like)
            if made is None or (total is not None and not _same(made[1], total[1])):
                return None
            total = made if total is None else (self._schedule.add(total[0], made[0]), made[1])
        if total is None:
            return None
        register, layout = total
        if rows is not None:
            layout = _renamed(layout, rows)
        held = np.where(layout.order < 0, len(affine.bias), layout.order)
        bias = np.append(affine.bias, 0.0)[held]
        return self._schedule.add_plain(register, bias), layout

    def _term(
        self, source: int, matrix: NDArray[np.float64], *, runs: bool, final: bool, like: tuple[int, ...]
    ) -> tuple[int, packing.Layout] | None:
        register, layout = self._at[source]
        if layout.run:
            if runs:
                return None
            return packing.from_runs(self._schedule, register, layout, matrix, final=final, like=like)
        if runs:
            return packing.to_runs(self._schedule, register, layout, matrix, like=like)
        return packing.diagonals(self._schedule, register, layout, matrix, final=final, like=like)


def _reordered(matrix: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The matrix with row `rows[i]` in place i, and rows of zeros where that is -1."""
    padded = np.vstack((matrix, np.zeros(matrix.shape[1])))
    return padded[rows]


def _renamed(layout: packing.Layout, rows: NDArray[np.intp]) -> packing.Layout:
    """The layout of the map's own rows, where it was computed in another order."""
    order = np.where(layout.order < 0, -1, np.append(rows, -1)[layout.order])
    return packing.Layout(order, layout.period, layout.run)


def _same(left: packing.Layout, right: packing.Layout) -> bool:
    return left.run == right.run and left.period == right.period and np.array_equal(left.order, right.order)
