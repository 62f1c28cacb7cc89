"""A small convolutional classifier: convolution, square, dense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.compiler.builder import Builder, Node
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.compiler.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["conv_square_dense"]

_PARAMETERS: Final = Parameters(8192, (60, 60, 60))
_INPUT_SCALE: Final = 2.0**25
_CONV_SCALE: Final = 2.0**23
_KERNEL: Final = 3


@dataclass(frozen=True)
class _Layout:
    """Where things are in the slots.

    Attributes:
        slots: In one ciphertext.
        features: Channels x height x width, in torch's order.
        block: Features rounded up to a power of two: hidden values repeat with this period.
        period: Outputs rounded up to a power of two: logits repeat with this period.
    """

    slots: int
    features: int
    block: int
    period: int


def conv_square_dense(
    conv_weight: ArrayLike,
    conv_bias: ArrayLike,
    dense_weight: ArrayLike,
    dense_bias: ArrayLike,
    *,
    input_shape: tuple[int, int],
    calibration: ArrayLike,
    shift: float = 0.0,
    gain: float = 1.0,
    max_records: int = 64,
) -> Program:
    """Compiles dense(flatten(conv(x')^2)) with x' = (x - shift) * gain, a 3x3 convolution of padding 1.

    With 8x8 images and 4 channels:

    1. The client lays the image out as windows: block t of 256 slots holds, for each hidden feature, the
       pixel under tap t. One product and a sum over the 16 blocks (4 rotations) give all hidden values in
       every block.
    2. Bias and square. Relinearising comes before rescaling: the other way round would cost half, but the
       rounding of a third polynomial meets the square of the secret key, 60 times the noise.
    3. The dense layer, 256 to 10, is 16 generalised diagonals: 3 baby steps of 1 and 3 giant steps of 4,
       the giant ones Horner's way, so that two Galois keys serve all six.
    4. The 16 slots of each residue modulo 16, in each of 16 blocks, still have to be summed. That costs
       nothing: the answer keeps only the coefficients that are their average (see `ckks.answer`), which
       also is 16 times less noisy. Rows 10 to 15 of the weights are zero.

    All in all 10 rotations with 6 keys, and 17 products. Hidden values are scaled to at most 1 in
    calibration, by folding the range into the weights.

    Args:
        conv_weight: (C, 1, 3, 3).
        conv_bias: (C,).
        dense_weight: (outputs, C * H * W), features in torch's flattening order.
        dense_bias: (outputs,).
        input_shape: (H, W).
        calibration: (n, H, W) of real records: the hidden range and the accepted inputs follow from them.
        shift: Subtracted from every pixel.
        gain: Multiplies every pixel after that.
        max_records: Most records in one request.

    Raises:
        ValueError: Shapes do not match or do not fit 4096 slots, or the numbers do not fit the modulus.
    """
    kernel, kernel_bias = np.asarray(conv_weight, np.float64), np.asarray(conv_bias, np.float64)
    dense, dense_bias_ = np.asarray(dense_weight, np.float64), np.asarray(dense_bias, np.float64)
    images = (np.asarray(calibration, np.float64) - shift) * gain
    place = _layout(kernel, dense, input_shape)
    if kernel_bias.shape != kernel.shape[:1] or dense_bias_.shape != dense.shape[:1]:
        raise ValueError("a bias does not match its weights")
    if images.shape[1:] != input_shape or not np.abs(images).max(initial=0.0) > 0:
        raise ValueError("calibration must be (n, H, W), and not all zero")

    gather = _windows(kernel.shape[0], input_shape, place)
    taps = _taps(kernel, place)
    hidden_bias = np.zeros(place.block)
    hidden_bias[: place.features] = np.repeat(kernel_bias, math.prod(input_shape))
    flat = images.reshape(len(images), -1)
    hidden = _hidden(np.where(gather < 0, 0.0, flat[:, gather]), taps, place) + hidden_bias
    reach = float(np.abs(hidden).max())
    limit = float(np.abs(flat).max())
    taps, hidden_bias, dense = taps / reach, hidden_bias / reach, dense * reach**2

    primes = context(_PARAMETERS).primes[: _PARAMETERS.levels]
    builder = Builder(primes, _INPUT_SCALE)
    most_hidden = _most_hidden(taps, hidden_bias, limit, place)
    node = _convolve(builder, taps, hidden_bias, place)
    if (most_hidden.max() * node.scale) ** 2 >= math.prod(primes) / 4:
        raise ValueError("hidden values can exceed the modulus: calibrate with records that cover the range")
    node = builder.rescale(builder.relinearise(builder.square(node)))
    logits = _dense(builder, node, dense, dense_bias_, most_hidden=most_hidden, place=place)
    circuit = builder.circuit()
    signature = Signature(
        parameters=_PARAMETERS,
        packing="slots",
        input_shape=tuple(input_shape),
        output_shape=dense_bias_.shape,
        shift=(float(shift),) * math.prod(input_shape),
        gain=(float(gain),) * math.prod(input_shape),
        limit=limit,
        gather=tuple(gather.tolist()),
        scale=_INPUT_SCALE,
        rotations=builder.rotations(),
        rotation_levels=tuple(len(primes) - (step < place.block) for step in builder.rotations()),
        relinearise_level=len(primes),
        answer_scale=logits.scale,
        answer_limit=_most_logits(dense, dense_bias_, most_hidden[: place.features]) + 1.0,
        period=place.period,
        take=tuple(range(dense.shape[0])),
        finish="softmax",
        max_records=max_records,
        circuit=circuit_digest(circuit),
    )
    return Program(signature, circuit)


def _layout(kernel: NDArray[np.float64], dense: NDArray[np.float64], input_shape: tuple[int, int]) -> _Layout:
    if kernel.shape[1:] != (1, _KERNEL, _KERNEL):
        raise ValueError("conv_weight must be (C, 1, 3, 3)")
    features = kernel.shape[0] * math.prod(input_shape)
    if dense.shape[1:] != (features,):
        raise ValueError(f"dense_weight must be (outputs, {features})")
    block, period = (1 << (count - 1).bit_length() for count in (features, max(4, dense.shape[0])))
    slots = _PARAMETERS.slots
    if block * _KERNEL**2 > slots or period > block:
        raise ValueError(f"{features} hidden features and {dense.shape[0]} outputs do not fit {slots} slots")
    return _Layout(slots, features, block, period)


def _windows(channels: int, input_shape: tuple[int, int], place: _Layout) -> NDArray[np.intp]:
    """For each slot of the tap blocks, the pixel it holds; -1 for the padding and between blocks."""
    height, width = input_shape
    padded = np.full((height + 2, width + 2), -1)
    padded[1:-1, 1:-1] = np.arange(height * width).reshape(height, width)
    gather = np.full((_KERNEL**2, place.block), -1)
    for tap in range(_KERNEL**2):
        row, column = divmod(tap, _KERNEL)
        window = padded[row : row + height, column : column + width]
        gather[tap, : place.features] = np.tile(window.ravel(), channels)
    return gather.ravel()


def _taps(kernel: NDArray[np.float64], place: _Layout) -> NDArray[np.float64]:
    """The kernel over the same slots as `_windows`."""
    taps = np.zeros((_KERNEL**2, place.block))
    pixels = place.features // kernel.shape[0]
    taps[:, : place.features] = np.repeat(kernel.reshape(kernel.shape[0], -1).T, pixels, axis=1)
    return taps.ravel()


def _hidden(packed: NDArray[np.float64], taps: NDArray[np.float64], place: _Layout) -> NDArray[np.float64]:
    """What the encrypted convolution computes, in the clear and without bias: (n, block)."""
    summed: NDArray[np.float64] = (packed * taps).reshape(len(packed), -1, place.block).sum(axis=1)
    return summed


def _most_hidden(
    taps: NDArray[np.float64], bias: NDArray[np.float64], limit: float, place: _Layout
) -> NDArray[np.float64]:
    """The largest |pre-activation| of each hidden feature that any accepted input can cause."""
    most: NDArray[np.float64] = limit * np.abs(taps).reshape(-1, place.block).sum(axis=0) + np.abs(bias)
    return most


def _convolve(builder: Builder, taps: NDArray[np.float64], bias: NDArray[np.float64], place: _Layout) -> Node:
    node = builder.multiply_plain(builder.request, taps, _CONV_SCALE)
    step = place.block
    while step < place.slots:
        node = builder.add(node, builder.rotate(node, step))
        step *= 2
    return builder.add_plain(node, np.tile(bias, place.slots // place.block))


def _dense(
    builder: Builder,
    hidden: Node,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    *,
    most_hidden: NDArray[np.float64],
    place: _Layout,
) -> Node:
    """Diagonals by baby and giant steps, at the largest scale at which no possible answer wraps around."""
    outputs, features = weight.shape
    padded = np.zeros((place.period, place.block))
    padded[:outputs, :features] = weight
    most = _most_logits(weight, bias, most_hidden[:features]) / place.period
    room = _PARAMETERS.modulus_bits[0] - 2 - math.log2(max(most, 1.0)) - math.log2(hidden.scale)
    babies = 1 << ((place.period.bit_length() - 1) // 2)
    turned = [hidden]
    for _ in range(babies - 1):
        turned.append(builder.rotate(turned[-1], 1))
    node = None
    for giant in reversed(range(0, place.period, babies)):
        if node is not None:
            node = builder.rotate(node, babies)
        for baby, operand in enumerate(turned):
            diagonal = np.roll(_diagonal(padded, giant + baby, place), giant)
            if diagonal.any():
                product = builder.multiply_plain(operand, diagonal, 2.0 ** math.floor(room))
                node = product if node is None else builder.add(node, product)
    if node is None:
        raise ValueError("the dense weights are all zero")
    full = np.zeros(place.period)
    full[:outputs] = bias
    return builder.add_plain(node, np.tile(full, place.slots // place.period))


def _most_logits(
    weight: NDArray[np.float64], bias: NDArray[np.float64], most_hidden: NDArray[np.float64]
) -> float:
    """The largest possible sum of |logit|: squares are positive, so weights of one sign alone make it.

    A coefficient of the answer is at most this sum over the period.
    """
    squared = most_hidden**2
    high, low = np.maximum(weight, 0.0) @ squared + bias, np.minimum(weight, 0.0) @ squared + bias
    return float(np.maximum(np.abs(high), np.abs(low)).sum())


def _diagonal(padded: NDArray[np.float64], step: int, place: _Layout) -> NDArray[np.float64]:
    """The weights that meet the hidden values rotated by `step`, (slots,).

    An answer is the average over the block / period different slots of its residue, not their sum: hence
    the factor.
    """
    slot = np.arange(place.slots)
    return padded[slot % place.period, (slot + step) % place.block] * (place.block // place.period)
