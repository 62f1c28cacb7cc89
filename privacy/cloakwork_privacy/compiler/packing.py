"""Where numbers go in the slots of one ciphertext, and which rotations an affine map then takes.

A layout says which feature each slot holds. Two kinds alternate:

- *periodic*: slot s holds feature s mod P. Read by generalised diagonals (Halevi and Shoup), P products with
  the input rotated by 0 .. P - 1, baby steps and giant steps; where the input's period B is longer, its B / P
  blocks are summed by doubling, which leaves the result periodic again.
- *runs*: slots of one run of w all hold one feature, at least the first `valid` of them. Written from a
  periodic layout by products at rotations of w / 2 and sums of windows by doubling; read by a single product
  and a sum over runs.

The input is laid out by the client, for free. Rows that read the same inputs, as a convolution's channels
do, share a window: tap t of window u is in slot (t e + f) U + u, in e copies f. With many copies the client
has done all the rotating; with one, the upload is a plain im2col.

Sums over slots that are equal modulo the answer's period cost nothing at the end: an answer keeps only the
coefficients that are their average (see `ckks.answer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.compiler.rotations import rotated_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.schedule import Schedule

__all__ = ["SPIKES", "Layout", "diagonals", "from_runs", "plain", "power_of_two", "to_runs", "windows"]

SPIKES = 4
"""Slots to leave unused at the start, where there is room.

SEAL decomposes for key switching into digits from 0 to q, not from -q/2 to q/2: their mean, times the key's
noise, is an error that is the same in every coefficient. In slots that is next to nothing but for the few at
roots next to one, the first three above all, where it is up to 50 times the noise of the others.
"""

_LEAST_PERIOD = 4


@dataclass(frozen=True)
class Layout:
    """What each slot holds.

    Attributes:
        order: (slots,) feature of each slot; -1 where its content is of no use.
        period: Contents repeat after so many slots.
        run: Width of runs; 0 for a periodic layout.
        stride: Diagonals that suffice are multiples of it, where the client has laid out windows.
    """

    order: NDArray[np.intp]
    period: int
    run: int = 0
    stride: int = 1

    @property
    def valid(self) -> int:
        """Slots at the start of every run that surely hold its feature."""
        return int((self.order[: self.run] >= 0).sum())


def power_of_two(count: int) -> int:
    """The smallest power of two not below a count."""
    return 1 << max(count - 1, 0).bit_length()


def plain(features: int, slots: int) -> Layout:
    """Features in order, repeated."""
    return _periodic(np.arange(features), max(power_of_two(features), _LEAST_PERIOD), slots)


def windows(matrix: NDArray[np.float64], slots: int, copies: int) -> tuple[Layout, NDArray[np.intp]] | None:
    """The client's layout for a first affine map, and the order it gives the map's rows.

    Args:
        matrix: (m, n); rows with the same non-zero columns share a window.
        slots: Of the ciphertext.
        copies: Power of two: how many of a window's rows have a copy of it to themselves.

    Returns:
        None where it does not fit, or there are fewer rows than copies; else the layout and, for each place
        of the result, its row (-1 for none).
    """
    supports: dict[bytes, list[int]] = {}
    used = matrix != 0.0
    for row, columns in enumerate(used):
        supports.setdefault(columns.tobytes(), []).append(row)
    rows = list(supports.values())
    taps = [np.flatnonzero(used[group[0]]) for group in rows]
    if not all(map(len, taps)):
        return None
    count, most_taps = power_of_two(len(rows)), power_of_two(max(map(len, taps)))
    channels = power_of_two(max(map(len, rows)))
    period = most_taps * copies * count
    if copies > channels or period > slots or channels * count < _LEAST_PERIOD:
        return None
    order = np.full((most_taps, copies, count), -1)
    places = np.full((channels, count), -1)
    for window, (group, columns) in enumerate(zip(rows, taps, strict=True)):
        order[: len(columns), :, window] = columns[:, None]
        places[: len(group), window] = group
    layout = Layout(np.tile(order.ravel(), slots // period), period, stride=copies * count)
    return layout, places.ravel()


def diagonals(
    schedule: Schedule,
    of: int,
    layout: Layout,
    matrix: NDArray[np.float64],
    *,
    final: bool,
    like: tuple[int, ...] = (),
) -> tuple[int, Layout] | None:
    """Multiplies a matrix with features, from a periodic layout to one; None where features are missing.

    Args:
        schedule: To append to.
        of: Register with the features.
        layout: Of them, periodic.
        matrix: (m, n).
        final: Whether the sum over blocks is left to the answer's average.
        like: As in `Step`.
    """
    slots, block = len(layout.order), layout.period
    period = max(power_of_two(len(matrix)), _LEAST_PERIOD)
    start = min(SPIKES, period - len(matrix))
    vectors = _diagonals(np.pad(matrix, ((start, 0), (0, 0))), layout, period)
    if vectors is None:
        return None
    if final:
        # Of the slots averaged only block / period differ.
        vectors = {step: vector * max(block // period, 1) for step, vector in vectors.items()}
    result = rotated_sum(schedule, of, vectors, like=like, last=final)
    step = period
    while step < block and not final:
        result = schedule.add(result, schedule.rotate(result, step))
        step *= 2
    return result, _periodic(np.arange(len(matrix)), period, slots, start)


def to_runs(
    schedule: Schedule, of: int, layout: Layout, matrix: NDArray[np.float64], *, like: tuple[int, ...] = ()
) -> tuple[int, Layout] | None:
    """Multiplies from a periodic layout to runs; None where these would be too short to be of use."""
    slots, block = len(layout.order), layout.period
    run = slots // power_of_two(len(matrix))
    window = min(block, run // 2)
    if window < 2 or layout.stride > 1 or (layout.order[:block] >= 0).sum() != matrix.shape[1]:  # noqa: PLR2004
        return None
    slot = np.arange(slots)
    output = slot // run
    padded = np.zeros((slots // run, matrix.shape[1] + 1))
    padded[: len(matrix), :-1] = matrix
    vectors = {step: padded[output, layout.order[(slot + step) % slots]] for step in range(0, block, window)}
    result = rotated_sum(
        schedule, of, {step: each for step, each in vectors.items() if each.any()}, like=like
    )
    step = 1
    while step < window:
        result = schedule.add(result, schedule.rotate(result, step))
        step *= 2
    order = np.where((slot % run <= run - window) & (output < len(matrix)), output, -1)
    return result, Layout(order, slots, run)


def from_runs(
    schedule: Schedule,
    of: int,
    layout: Layout,
    matrix: NDArray[np.float64],
    *,
    final: bool,
    like: tuple[int, ...] = (),
) -> tuple[int, Layout] | None:
    """Multiplies from runs to a layout with the runs' width as period; None where it is too narrow."""
    slots, run = len(layout.order), layout.run
    if len(matrix) > layout.valid or run < _LEAST_PERIOD:
        return None
    slot, start = np.arange(slots), min(SPIKES, layout.valid - len(matrix))
    padded = np.zeros((run, matrix.shape[1] + 1))
    padded[start : start + len(matrix), :-1] = matrix
    vector = padded[slot % run, layout.order]
    if final:
        vector = vector * (slots // run)
    result = schedule.multiply_plain(of, vector, like=like, last=final)
    step = run
    while step < slots and not final:
        result = schedule.add(result, schedule.rotate(result, step))
        step *= 2
    return result, _periodic(np.arange(len(matrix)), run, slots, start)


def _periodic(features: NDArray[np.intp], period: int, slots: int, start: int = 0) -> Layout:
    order = np.full(period, -1)
    order[start : start + len(features)] = features
    return Layout(np.tile(order, slots // period), period)


def _diagonals(
    matrix: NDArray[np.float64], layout: Layout, period: int
) -> dict[int, NDArray[np.float64]] | None:
    """The weights that meet the input rotated by each step, (slots,), where they are not all zero.

    None where the layout lacks a feature that the matrix reads.

    Each pair of row and feature is used once, on the first diagonal that brings them together: a window
    layout holds a feature many times over.
    """
    slots, block = len(layout.order), layout.period
    rows, features = matrix.shape
    left = np.zeros((period, features + 1))
    left[:rows, :-1] = matrix
    place = np.arange(period)
    vectors = {}
    for step in sorted(range(min(period, block)), key=lambda step: (step % layout.stride != 0, step)):
        vector = np.zeros(max(period, block))
        for start in range(0, max(period, block), period):
            feature = layout.order[(place + start + step) % block]
            vector[start : start + period] = left[place, feature]
            left[place, feature] = 0.0
        if vector.any():
            vectors[step] = np.tile(vector, slots // vector.size)
    return None if left.any() else vectors
