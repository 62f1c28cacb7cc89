"""Compiled models in the clear against torch and numpy; `test_evaluate` runs the same ones encrypted."""

import numpy as np
import pytest
import torch

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.compiler.circuit import walk
from cloakwork_privacy.compiler.lower import conv_square_dense, linear

RANDOM = np.random.default_rng(5)


def in_the_clear(program, records):
    signature = program.signature
    parameters = signature.parameters
    cipher = NoopCipher.of(signature, context(parameters).primes)
    capacity = parameters.capacity(signature.packing)
    constants = {
        name: cipher.encode(constant.vector, constant.scale, constant.level, capacity)
        for name, constant in program.circuit.constants.items()
    }
    rows = []
    for vector in signature.prepare(records):
        sealed = cipher.encode(vector, signature.scale, parameters.levels, capacity)
        result = walk(program.circuit, cipher, constants, sealed)
        assert (result.scale, result.level) == (signature.answer_scale, 1)
        values = result.values
        if signature.period is not None:
            values = values.reshape(-1, signature.period).mean(axis=0)
            assert values[len(signature.take) :] == pytest.approx(0.0, abs=1e-9)
        assert (
            np.abs(values[list(signature.take)]).max() * signature.answer_scale
            < context(parameters).primes[0] / 2
        )
        rows.append(values[list(signature.take)])
    return np.array(rows)


def network(channels, height, width, outputs):
    torch.manual_seed(channels)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, channels, 3, padding=1), torch.nn.Linear(channels * height * width, outputs)
    ).double()


def expected(layers, images):
    conv, dense = layers
    with torch.no_grad():
        return dense(conv(torch.tensor(images)[:, None]).square().flatten(1)).numpy()


def compiled(layers, images, **options):
    weights = [tensor.detach().numpy() for tensor in layers.parameters()]
    return conv_square_dense(*weights, input_shape=images.shape[1:], calibration=images, **options)


@pytest.mark.parametrize("features", [1, 2, 30, 2048])
def test_linear(features):
    weight, shift, gain = (
        RANDOM.normal(size=features),
        RANDOM.normal(size=features),
        RANDOM.uniform(0.5, 2, features),
    )
    records = RANDOM.normal(size=(4, features))
    program = linear(weight, -0.75, shift, gain)
    reference = ((records - shift) * gain) @ weight - 0.75
    assert in_the_clear(program, records) == pytest.approx(reference[:, None], abs=1e-9)
    assert program.signature.rotations == ()
    assert not program.signature.relinearise_level


@pytest.mark.parametrize(
    ("channels", "height", "width", "outputs"),
    [(4, 8, 8, 10), (1, 8, 8, 2), (3, 5, 7, 10), (2, 9, 3, 17), (4, 8, 8, 16)],
)
def test_convolution(channels, height, width, outputs):
    layers = network(channels, height, width, outputs)
    images = RANDOM.uniform(size=(3, height, width))
    assert in_the_clear(compiled(layers, images), images) == pytest.approx(expected(layers, images), abs=1e-9)


def test_pixels_are_standardised():
    layers = network(4, 8, 8, 10)
    images = RANDOM.integers(0, 17, size=(3, 8, 8))
    program = compiled(layers, images, shift=8.0, gain=1 / 16)
    assert in_the_clear(program, images) == pytest.approx(expected(layers, (images - 8) / 16), abs=1e-9)


def test_a_convolution_needs_few_keys():
    program = compiled(network(4, 8, 8, 10), RANDOM.uniform(size=(3, 8, 8)))
    assert program.signature.rotations == (1, 4, 256, 512, 1024, 2048)
    names = [step.name for step in program.circuit.operations]
    assert (names.count("rotate"), names.count("multiply_plain"), names.count("rescale")) == (10, 17, 1)


def worst_images(layers, limit):
    """For each hidden feature the image that drives it furthest: the kernel's signs, and the bias's."""
    kernel, bias = (tensor.detach().numpy() for tensor in layers[0].parameters())
    for channel, row, column in np.ndindex(len(kernel), 8, 8):
        padded = np.zeros((10, 10))
        padded[row : row + 3, column : column + 3] = np.sign(kernel[channel, 0]) * np.sign(bias[channel])
        yield limit * padded[1:-1, 1:-1]


def nearly_flat(depth):
    """A layer whose weight and bias cancel on the calibration's image, but for one part in `depth`.

    Other images that it accepts drive hidden values about `depth` times as far.
    """
    layers = network(1, 8, 8, 10)
    with torch.no_grad():
        layers[0].weight.zero_()
        layers[0].weight[0, 0, 1, 1] = 1.0
        layers[0].bias.fill_(-1.0)
    return layers, np.full((1, 8, 8), 1 + 2 / depth)


def test_no_accepted_input_wraps_around():
    layers = network(4, 8, 8, 10)
    program = compiled(layers, RANDOM.uniform(size=(3, 8, 8)), max_records=256)
    images = np.array(list(worst_images(layers, program.signature.limit)))
    assert in_the_clear(program, images) == pytest.approx(expected(layers, images), abs=1e-6)


def test_hidden_values_close_to_the_modulus_are_computed():
    """The square of the worst is 2**117 of the 2**119 that fit; the cipher in the clear refuses more."""
    layers, flat = nearly_flat(1500)
    program = compiled(layers, flat, max_records=64)
    images = np.array(list(worst_images(layers, program.signature.limit)))
    assert 2.0**117 < (1501 * program.signature.scale * 2.0**23) ** 2 < 2.0**118
    assert in_the_clear(program, images) == pytest.approx(expected(layers, images), abs=1e-6)


@pytest.mark.parametrize("depth", [2500, 1e4, 1e6])
def test_hidden_values_beyond_the_modulus_are_refused(depth):
    layers, flat = nearly_flat(depth)
    with pytest.raises(ValueError, match="exceed the modulus"):
        compiled(layers, flat)


def test_pixels_that_calibration_never_shows_a_weight_are_counted():
    """The one bright pixel is under the first tap of no window, but may be in a client's image."""
    layers = network(1, 8, 8, 10)
    with torch.no_grad():
        layers[0].weight.zero_()
        layers[0].weight[0, 0, 0, 0] = 1.0
        layers[0].bias.zero_()
    images = np.full((1, 8, 8), 1e-4)
    images[0, 7, 7] = 1.0
    with pytest.raises(ValueError, match="exceed the modulus"):
        compiled(layers, images)


def test_rows_of_zeros_among_the_weights_are_skipped():
    layers = network(4, 8, 8, 10)
    with torch.no_grad():
        layers[1].weight[:, 1::2] = 0
    images = RANDOM.uniform(size=(3, 8, 8))
    assert in_the_clear(compiled(layers, images), images) == pytest.approx(expected(layers, images), abs=1e-9)


@pytest.mark.parametrize(
    ("weight", "shift", "gain"),
    [
        ([], [], []),
        ([1.0], [0.0, 0.0], [1.0]),
        ([[1.0]], [0.0], [1.0]),
        ([0.0], [0.0], [1.0]),
        ([np.nan], [0.0], [1.0]),
        (np.ones(2049), np.zeros(2049), np.ones(2049)),
    ],
)
def test_linear_models_that_do_not_fit(weight, shift, gain):
    with pytest.raises(ValueError, match="weight"):
        linear(weight, 0.0, shift, gain)


@pytest.mark.parametrize(
    "change",
    [
        {"conv_weight": np.ones((4, 2, 3, 3))},
        {"conv_weight": np.ones((4, 1, 5, 5))},
        {"conv_bias": np.ones(3)},
        {"dense_weight": np.ones((10, 255))},
        {"dense_weight": np.zeros((10, 256))},
        {"dense_bias": np.ones(9)},
        {"input_shape": (16, 16), "dense_weight": np.ones((10, 1024)), "calibration": np.ones((1, 16, 16))},
        {"calibration": np.zeros((3, 8, 8))},
        {"calibration": np.ones((3, 8, 9))},
    ],
)
def test_convolutions_that_do_not_fit(change):
    right = {
        "conv_weight": np.ones((4, 1, 3, 3)),
        "conv_bias": np.ones(4),
        "dense_weight": np.ones((10, 256)),
        "dense_bias": np.ones(10),
        "input_shape": (8, 8),
        "calibration": np.ones((3, 8, 8)),
    }
    conv_square_dense(**right)
    with pytest.raises(ValueError, match=r"must be|does not match|do not fit|all zero"):
        conv_square_dense(**(right | change))
