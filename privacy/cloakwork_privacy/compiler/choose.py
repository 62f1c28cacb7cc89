"""Chooses encryption parameters and scales: the cheapest that are secure, hold every value, and err little.

Fewest and widest primes win, because the cost of every operation follows the number of primes left. So the
degree and the count of primes come first; the bits of each prime, of the input, of constants and of the
waterline are then found by descending on the predicted error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import LARGEST_MODULUS_BITS, Parameters
from cloakwork_privacy.compiler.placement import place
from cloakwork_privacy.compiler.scales import Placed, Scale, Sizes, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.arrange import Arrangement
    from cloakwork_privacy.compiler.schedule import Schedule

__all__ = ["Choice", "Peaks", "choose", "measure"]

DEGREES: Final = (2048, 4096, 8192, 16384)
_MOST_PRIMES: Final = 9
_WIDEST: Final = 60
_INPUTS: Final = (18, 23, 28, 33, 38)
_FACTORS: Final = (14, 18, 22)
_WATERLINES: Final = (24, 28, 32)


@dataclass(frozen=True)
class Bits:
    """A point of the search: sizes in bits.

    Attributes:
        upper, first: Of the data primes above the first, and of the first.
        input, factor, waterline: As in `Scale`.
    """

    upper: int
    first: int
    input: int
    factor: int
    waterline: int


@dataclass(frozen=True)
class Choice:
    """A placed schedule and the parameters it was placed with.

    Attributes:
        arrangement: What was placed.
        parameters: Secure at 128 bits.
        scale: The scales.
        placed: The result.
    """

    arrangement: Arrangement
    parameters: Parameters
    scale: Scale
    placed: Placed

    @property
    def key_bytes(self) -> int:
        """Of the key switching keys."""
        levels = [*self.placed.rotations.values(), self.placed.relinearise]
        return sum(map(self.parameters.key_bytes, levels))


@dataclass(frozen=True)
class Peaks:
    """Bounds on |value|.

    Attributes:
        registers: float64, of each register.
        answer: Of the logits.
    """

    registers: NDArray[np.float64]
    answer: float


def measure(arrangement: Arrangement, rms: Sequence[float], width: Sequence[int], peaks: Peaks) -> Sizes:
    """Sizes of an arrangement's values.

    Args:
        arrangement: The steps.
        rms: Of every register, as in `Sizes`.
        width: Numbers in every register.
        peaks: Bounds on |value| of every register and of the logits.
    """
    schedule, bundle = arrangement.schedule, arrangement.period == 0
    return Sizes(
        rms=rms,
        peak=peaks.registers.tolist(),
        answer=peaks.answer,
        final=1
        + min(index for index, step in enumerate(schedule.steps) if step.last and step.constant is not None),
        width=width if bundle else [1] * len(width),
        weights=[_typical(step.constant) for step in schedule.steps],
        reach=[
            float(np.abs(step.constant).sum(axis=1).max())
            if step.name == "matrix" and step.constant is not None
            else 0.0
            for step in schedule.steps
        ],
        bundle=bundle,
        averaged=arrangement.averaged,
        period=arrangement.period,
    )


def _typical(constant: NDArray[np.float64] | None) -> float:
    """Root mean square of what is not zero: slots without a weight make the others no less noisy."""
    if constant is None or not constant.any():
        return 0.0
    return float(np.sqrt(np.mean(constant[constant != 0.0] ** 2)))


def choose(arrangement: Arrangement, sizes: Sizes, degree: int, *, deviation: float) -> Choice | None:
    """The choice of fewest primes at this degree whose predicted error is small enough.

    Args:
        arrangement: Laid out for this degree.
        sizes: Of its values.
        degree: N.
        deviation: Largest predicted deviation of a logit to accept.

    Returns:
        The one of the least error where none is small enough; None where nothing fits at all.
    """
    best: tuple[_Rank, Bits, int] | None = None
    for count in range(1, _MOST_PRIMES + 1):
        found = _descend(arrangement.schedule, sizes, degree, count, deviation)
        if found is not None and (best is None or found[0] < best[0]):
            best = (*found, count)
        if best is not None and not best[0][0]:
            break
    return None if best is None else _final(arrangement, sizes, degree, *best[1:])


def _final(arrangement: Arrangement, sizes: Sizes, degree: int, bits: Bits, count: int) -> Choice | None:
    """The same with the primes SEAL picks for these bits."""
    parameters = _parameters(degree, bits, count, switching=_switches(arrangement.schedule))
    primes = tuple(map(float, context(parameters).primes[:count]))
    scale = replace(_scale(degree, bits, count), primes=primes)
    try:
        return Choice(arrangement, parameters, scale, place(arrangement.schedule, sizes, scale))
    except Unfit:
        return None


_Rank = tuple[bool, float, float]
"""What is least is best: within the tolerance the time, in steps of a hundredth, before the error."""


def _descend(
    schedule: Schedule, sizes: Sizes, degree: int, count: int, deviation: float
) -> tuple[_Rank, Bits] | None:
    """(rank, bits) of the best that coordinate descent finds from a coarse grid."""
    switching = _switches(schedule)
    seen: dict[Bits, _Rank | None] = {}

    def look(bits: Bits) -> _Rank | None:
        if bits not in seen:
            found = _look(schedule, sizes, degree, bits, count, switching=switching)
            seen[bits] = None if found is None else _rank(found, deviation)
        return seen[bits]

    grid = list(_grid(degree, count, switching=switching))
    # What fits nowhere with the smallest scales is not going to with larger ones.
    if not any(look(bits) for bits in grid if (bits.input, bits.factor) == (_INPUTS[0], _FACTORS[0])):
        return None
    start = ((look(bits), bits) for bits in grid)
    fitting = [(rank, bits) for rank, bits in start if rank is not None]
    if not fitting:
        return None
    rank, bits = min(fitting, key=lambda each: each[0])
    for step in (4, 2, 1):
        improved = True
        while improved:
            improved = False
            for near in _neighbours(bits, step):
                found = look(near)
                if found is not None and found < rank:
                    rank, bits, improved = found, near, True
    return rank, bits


def _rank(placed: Placed, deviation: float) -> _Rank:
    error, time = placed.error, math.ceil(100 * math.log(placed.milliseconds))
    return (False, time, error) if error <= deviation else (True, error, time)


def _look(
    schedule: Schedule, sizes: Sizes, degree: int, bits: Bits, count: int, *, switching: bool
) -> Placed | None:
    if not _secure(degree, bits, count, switching=switching):
        return None
    try:
        return place(schedule, sizes, _scale(degree, bits, count))
    except Unfit:
        return None


def _grid(degree: int, count: int, *, switching: bool) -> Iterator[Bits]:
    """A coarse grid: upper primes from the widest that are secure, and scales around what each can hold."""
    widest = min(_WIDEST, LARGEST_MODULUS_BITS[degree] // (count + (switching or count > 1)))
    uppers = range(widest, max(widest - 17, 24), -4) if count > 1 else (widest,)
    for upper, extra, given, factor, line in product(uppers, (-4, 0, 4), _INPUTS, _FACTORS, _WATERLINES):
        first = min(upper + extra, _WIDEST)
        if count > 1 or extra == 0:
            yield Bits(upper, first, given, factor, line)


def _neighbours(bits: Bits, step: int) -> Iterator[Bits]:
    for name in ("upper", "first", "input", "factor", "waterline"):
        for move in (step, -step):
            yield replace(bits, **{name: getattr(bits, name) + move})
    # These trade one for the other.
    yield replace(bits, upper=bits.upper + step, first=bits.first - step)
    yield replace(bits, upper=bits.upper - step, first=bits.first + step)
    yield replace(bits, input=bits.input + step, factor=bits.factor - step)
    yield replace(bits, input=bits.input - step, factor=bits.factor + step)


def _switches(schedule: Schedule) -> bool:
    """Whether there is anything to relinearise or rotate, which takes a special prime."""
    return any(step.name in {"rotate", "square", "multiply"} for step in schedule.steps)


def _modulus(bits: Bits, count: int, *, switching: bool) -> tuple[int, ...]:
    data = (bits.first, *[bits.upper] * (count - 1))
    # SEAL takes the last of several primes for the special one, needed or not.
    return (*data, max(data)) if switching or count > 1 else data


def _secure(degree: int, bits: Bits, count: int, *, switching: bool) -> bool:
    modulus = _modulus(bits, count, switching=switching)
    return (
        sum(modulus) <= LARGEST_MODULUS_BITS[degree]
        and max(modulus) <= _WIDEST
        # SEAL's primes of so many bits are 1 modulo 2 N; smaller ones run out.
        and min(modulus) >= max(math.log2(degree) + 8, 20)
        and min(bits.input, bits.factor, bits.waterline) > 0
    )


def _parameters(degree: int, bits: Bits, count: int, *, switching: bool) -> Parameters:
    return Parameters(degree, _modulus(bits, count, switching=switching))


def _scale(degree: int, bits: Bits, count: int) -> Scale:
    primes = (2.0**bits.first, *[2.0**bits.upper] * (count - 1))
    return Scale(degree, primes, 2.0**bits.input, 2.0**bits.factor, 2.0**bits.waterline)
