"""Sums of products with a register rotated by many steps, from few rotations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.schedule import Schedule

__all__ = ["rotated_sum"]


def rotated_sum(
    schedule: Schedule,
    of: int,
    vectors: Mapping[int, NDArray[np.float64]],
    *,
    like: tuple[int, ...] = (),
    last: bool = False,
) -> int:
    """Sum over steps d of vectors[d] * (register rotated by d), by baby and giant steps.

    With d = g (b i + j) the register is rotated by g j for all j < b, by g again and again, and the sums of
    each i by b g, Horner's way. That takes about 2 sqrt(count) rotations and two keys.

    Args:
        schedule: To append to.
        of: The register.
        vectors: (slots,) by step, at least one; not all zero.
        like: As in `Step`, of every product.
        last: As in `Step`, of every product and of the rotations before it.
    """
    unit = math.gcd(*vectors) or 1
    babies = _babies([step // unit for step in vectors])
    turned = {0: of}
    result = None
    for giant in range(max(vectors) // (unit * babies), -1, -1):
        if result is not None:
            result = schedule.rotate(result, unit * babies)
        # Summed by themselves first: what is rotated has been rescaled, and these are once they meet it.
        group = None
        for baby in range(babies):
            vector = vectors.get(unit * (giant * babies + baby))
            if vector is not None:
                moved = np.roll(vector, unit * giant * babies)
                operand = _turned(schedule, turned, baby, unit, last=last)
                product = schedule.multiply_plain(operand, moved, like=like, last=last)
                group = product if group is None else schedule.add(group, product)
        if group is not None:
            result = group if result is None else schedule.add(result, group)
    assert result is not None
    return result


def _turned(schedule: Schedule, turned: dict[int, int], baby: int, unit: int, *, last: bool) -> int:
    """The register rotated by baby units, reached one unit at a time."""
    if baby not in turned:
        before = _turned(schedule, turned, baby - 1, unit, last=last)
        turned[baby] = schedule.rotate(before, unit, last=last)
    return turned[baby]


def _babies(steps: Collection[int]) -> int:
    """The power of two that makes for the fewest rotations; of equals the smaller, whose sums end sooner."""

    def rotations(babies: int) -> int:
        return max(step % babies for step in steps) + max(steps) // babies

    return min((1 << bits for bits in range(max(steps).bit_length() + 1)), key=rotations)
