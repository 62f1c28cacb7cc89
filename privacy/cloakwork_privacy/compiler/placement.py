"""Gives every step its scale and level, and inserts relinearising, rescaling and dropping of primes.

Everything is put off until it must be: a product stays at three polynomials and its full scale while it is
only added to, so that a sum is relinearised and rescaled once. A register that is rotated or multiplied is
relinearised first, and then rescaled as often as leaves it above the waterline. Relinearising comes before
rescaling: the other way round would cost half, but the rounding of a third polynomial meets the square of
the secret key, 60 times the noise.

(Waterline rescaling is EVA's idea: Dathathri et al., "EVA: an encrypted vector arithmetic language and
compiler for efficient homomorphic computation", PLDI 2020. What differs is that rescaling is put off further,
and that scales are real numbers: a product that is added to something gets just the scale that fits.)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.ckks.answer import noise as answer_noise
from cloakwork_privacy.compiler.cost import (
    FRESH,
    key_switching_noise,
    milliseconds,
    rescaling_noise,
    rounding_noise,
)
from cloakwork_privacy.compiler.scales import Node, Operand, Placed, Scale, Sizes, Unfit

if TYPE_CHECKING:
    from cloakwork_privacy.compiler.schedule import Schedule, Step

__all__ = ["place"]

_LEAST_FACTOR: Final = 2.0**12  # A coarser constant would round weights away.
_MOST_FACTOR: Final = 2.0**40
_QUICK_REACH: Final = 2.0**26  # A matrix of larger integers would be multiplied in smaller pieces.
_MOST_REACH: Final = 2.0**44  # A matrix of larger integers would not be multiplied at all.
_SCALAR_ROUNDING: Final = 1 / math.sqrt(12)


def place(schedule: Schedule, sizes: Sizes, scale: Scale) -> Placed:
    """Places a schedule.

    Raises:
        Unfit: A value would not fit the modulus, or there are too few primes.
    """
    return _Placement(schedule, sizes, scale).placed()


class _Placement:
    """The pass's state: for each register of the schedule the one of the circuit that now stands for it."""

    def __init__(self, schedule: Schedule, sizes: Sizes, scale: Scale) -> None:
        self._schedule = schedule
        self._sizes = sizes
        self._scale = scale
        self._room = np.cumsum(np.log2(scale.primes)).tolist()
        noise = math.hypot(FRESH * math.sqrt(scale.degree), rounding_noise(scale.degree))
        self._out = Placed([], 0.0, 0.0, 0.0, {}, 0)
        self._at = {0: Node(0, scale.input_scale, len(scale.primes), noise)}
        self._fits(self._at[0], 0)

    def placed(self) -> Placed:
        """The result, at level 1."""
        for index, step in enumerate(self._schedule.steps, 1):
            self._at[index] = self._step(step, index)
            self._fits(self._at[index], index)
        last = len(self._schedule.steps)
        node = self._finished(self._settled(last), last)
        self._out.scale = node.scale
        kept = 2 * self._sizes.period or self._scale.degree
        error = node.noise / node.scale / math.sqrt(self._sizes.averaged)
        self._out.error = math.hypot(error, answer_noise(self._scale.degree, kept, node.scale))
        return self._out

    def _finished(self, node: Node, last: int) -> Node:
        """The answer at level 1: its primes are dropped, or where it would not fit without them rescaled."""
        while node.level > 1:
            if self._bits(node.scale, self._sizes.answer) <= self._room[node.level - 2]:
                node = self._dropped(node, last, node.level - 1)
            else:
                node = self._rescaled(node, last)
        if self._bits(node.scale, self._sizes.answer) > self._room[0]:
            raise Unfit
        return node

    def _step(self, step: Step, index: int) -> Node:
        match step.name:
            case "multiply_plain" | "matrix":
                return self._product(step, index)
            case "add_plain":
                return self._shifted(step, index)
            case "add":
                return self._sum(step, index)
            case "rotate":
                return self._rotated(step, index)
            case "square":
                return self._multiplied(step.of[0], step.of[0], index)
            case "multiply":
                left, right = step.of
                return self._multiplied(left, right, index)

    def _product(self, step: Step, index: int) -> Node:
        assert step.constant is not None
        source = step.of[0]
        if step.like:
            return self._like(step, index)
        if step.name == "matrix" and self._puts_off(step, index):
            return self._times(step, self._at[source], self._matrix_factor(index), index)
        node = self._lowered(source) if step.last else self._settled(source)
        factor = self._scale.factor
        if step.last:
            factor = min(2.0 ** math.floor(self._spare(node)), _MOST_FACTOR)
        if step.name == "matrix":
            factor = min(factor, self._matrix_factor(index))
        return self._times(step, node, factor, index)

    def _puts_off(self, step: Step, index: int) -> bool:
        """Whether a matrix takes products as they are, because fewer ciphertexts come out to relinearise."""
        assert step.constant is not None
        outputs, inputs = step.constant.shape
        node = self._at[step.of[0]]
        bits = math.log2(node.scale * self._matrix_factor(index) * max(self._sizes.peak[index], 1.0)) + 1
        return node.polynomials > 2 and outputs < inputs and bits <= self._room[node.level - 1]  # noqa: PLR2004

    def _matrix_factor(self, index: int) -> float:
        most = 2.0 ** math.floor(math.log2(_QUICK_REACH / self._sizes.reach[index - 1]))
        return min(self._scale.factor, most)

    def _like(self, step: Step, index: int) -> Node:
        """A product at the scale and level of a register it will be added to.

        Where the scale wanted is too small for a constant, one prime more is multiplied in; the sum of such
        products is rescaled once, when it meets that register.
        """
        wanted, *factors = (self._at[step.like[0]], *(self._settled(each) for each in step.like[1:]))
        node = self._settled(step.of[0])
        factor = wanted.scale / math.prod(each.scale for each in factors) / node.scale
        level = wanted.level
        while factor < _LEAST_FACTOR:
            if level == len(self._scale.primes):
                raise Unfit
            factor *= self._scale.primes[level]
            level += 1
        if node.level < level or factor * self._sizes.reach[index - 1] > _MOST_REACH:
            raise Unfit
        result = self._times(step, self._dropped(node, step.of[0], level), factor, index)
        return replace(result, floor=wanted.level)

    def _times(self, step: Step, node: Node, factor: float, index: int) -> Node:
        constant, source = step.constant, step.of[0]
        assert constant is not None
        single = self._sizes.bundle or constant.size == 1
        rounding = _SCALAR_ROUNDING if single else rounding_noise(self._scale.degree)
        summed = constant.shape[1] if constant.ndim > 1 else 1
        noise = math.sqrt(summed) * math.hypot(
            node.noise * self._sizes.weights[index - 1] * factor,
            self._sizes.rms[source] * node.scale * rounding,
        )
        operand, scale = Operand(constant, factor, node.level), node.scale * factor
        result = self._emit(step.name, (node,), index, operand=operand)
        return replace(result, scale=scale, noise=noise, polynomials=node.polynomials)

    def _shifted(self, step: Step, index: int) -> Node:
        node = self._at[step.of[0]]
        assert step.constant is not None
        operand = Operand(step.constant, node.scale, node.level)
        return replace(node, index=self._emit("add_plain", (node,), index, operand=operand).index)

    def _sum(self, step: Step, index: int) -> Node:
        left, right = self._aligned(*step.of)
        result = self._emit("add", (left, right), index)
        return replace(
            left,
            index=result.index,
            noise=math.hypot(left.noise, right.noise),
            polynomials=max(left.polynomials, right.polynomials),
            floor=min(left.floor, right.floor),
        )

    def _aligned(self, left: int, right: int) -> tuple[Node, Node]:
        """Both at one level and scale."""
        higher, lower = sorted((left, right), key=lambda register: -self._at[register].level)
        self._rescaled_to(higher, self._at[lower])
        one, other = self._at[higher], self._at[lower]
        if one.level < other.level or not math.isclose(one.scale, other.scale, rel_tol=1e-9):
            raise Unfit
        self._at[higher] = self._dropped(one, higher, other.level)
        return self._at[left], self._at[right]

    def _rescaled_to(self, register: int, other: Node) -> None:
        """Rescales a register as often as brings it towards another's scale."""
        node = self._at[register]
        while node.level > other.level and node.scale > 2 * other.scale:
            node = self._rescaled(self._relinearised(node, register), register)
        self._at[register] = node

    def _rotated(self, step: Step, index: int) -> Node:
        node = self._lowered(step.of[0]) if step.last else self._settled(step.of[0])
        result = self._emit("rotate", (node,), index, rotation=step.rotation)
        reached = self._out.rotations.get(step.rotation, 0)
        self._out.rotations[step.rotation] = max(reached, node.level)
        noise = math.hypot(node.noise, key_switching_noise(self._scale.degree, node.level))
        return replace(node, index=result.index, noise=noise)

    def _multiplied(self, left: int, right: int, index: int) -> Node:
        one, other = self._settled(left), self._settled(right)
        level = min(one.level, other.level)
        one, other = self._dropped(one, left, level), self._dropped(other, right, level)
        noises = (
            one.noise * self._sizes.rms[right] * other.scale,
            other.noise * self._sizes.rms[left] * one.scale,
        )
        if left == right:
            result, noise = self._emit("square", (one,), index), sum(noises)
        else:
            result, noise = self._emit("multiply", (one, other), index), math.hypot(*noises)
        return replace(result, scale=one.scale * other.scale, level=level, noise=noise, polynomials=3)

    def _settled(self, register: int) -> Node:
        """A register as its users want it: of two polynomials, and rescaled down to the waterline."""
        node = self._relinearised(self._at[register], register)
        while (
            node.level > node.floor
            and node.scale >= self._scale.waterline * self._scale.primes[node.level - 1] * 0.999
        ):
            node = self._rescaled(node, register)
        self._at[register] = node
        return node

    def _relinearised(self, node: Node, register: int) -> Node:
        if node.polynomials == 2:  # noqa: PLR2004 - as fresh
            return node
        result = self._emit("relinearise", (node,), register)
        self._out.relinearise = max(self._out.relinearise, node.level)
        noise = math.hypot(node.noise, key_switching_noise(self._scale.degree, node.level))
        return replace(node, index=result.index, noise=noise, polynomials=2)

    def _lowered(self, register: int) -> Node:
        """Settled, and at the lowest level at which the answer fits after the last product."""
        node = self._settled(register)
        level = node.level
        while level > 1 and self._spare(replace(node, level=level - 1)) >= math.log2(self._scale.factor):
            level -= 1
        self._at[register] = self._dropped(node, register, level)
        return self._at[register]

    def _spare(self, node: Node) -> float:
        """Bits left for the last product's constants once the answer's own have their place, and its sign."""
        room: float = self._room[node.level - 1]
        peak = self._sizes.answer if node.level == 1 else self._sizes.peak[-1]
        signs = 2 if self._sizes.bundle else 1  # a bundle's answers have noise in slots not paid for
        return room - signs - math.log2(max(peak, 1.0) * node.scale)

    def _rescaled(self, node: Node, register: int) -> Node:
        result = self._emit("rescale", (node,), register)
        prime = self._scale.primes[node.level - 1]
        noise = math.hypot(node.noise / prime, rescaling_noise(self._scale.degree))
        return replace(node, index=result.index, scale=node.scale / prime, level=node.level - 1, noise=noise)

    def _dropped(self, node: Node, register: int, level: int) -> Node:
        while node.level > level:
            result = self._emit("drop", (node,), register)
            node = replace(node, index=result.index, level=node.level - 1)
            self._holds(node, self._sizes.peak[register])
        return node

    def _fits(self, node: Node, register: int) -> None:
        summing = register >= self._sizes.final and node.level == 1
        self._holds(node, self._sizes.answer if summing else self._sizes.peak[register])

    def _holds(self, node: Node, peak: float) -> None:
        if not self._bits(node.scale, peak) <= self._room[node.level - 1]:
            raise Unfit

    @staticmethod
    def _bits(scale: float, peak: float) -> float:
        """What a value takes, with its sign."""
        return math.log2(scale * max(peak, 1.0)) + 1

    def _emit(
        self,
        name: str,
        of: tuple[Node, ...],
        register: int,
        *,
        operand: Operand | None = None,
        rotation: int = 0,
    ) -> Node:
        level, width, degree = of[0].level, self._sizes.width[register], self._scale.degree
        if name == "matrix" and operand is not None:
            self._out.milliseconds += operand.vector.size * milliseconds(name, degree, level)
        else:
            self._out.milliseconds += width * milliseconds(name, degree, level, bundle=self._sizes.bundle)
        self._out.operations.append((name, tuple(node.index for node in of), operand, rotation))
        return Node(len(self._out.operations), 0.0, level, 0.0)
