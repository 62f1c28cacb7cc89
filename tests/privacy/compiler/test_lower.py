"""Convolutions through all the passes, in the clear against torch."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import compiled, convolve_square_dense

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.network import Affine

RANDOM = np.random.default_rng(5)


def layers(channels, side, outputs):
    torch.manual_seed(channels)
    return (
        torch.nn.Conv2d(1, channels, 3, padding=1).double(),
        torch.nn.Linear(channels * side**2, outputs).double(),
    )


def network(convolution, dense):
    kernel, kernel_bias, weight, bias = (
        tensor.detach().numpy() for layer in (convolution, dense) for tensor in layer.parameters()
    )
    return convolve_square_dense(kernel[:, 0], kernel_bias, weight, bias)


def expected(convolution, dense, images):
    side = round(images.shape[1] ** 0.5)
    with torch.no_grad():
        windows = convolution(torch.tensor(images).reshape(-1, 1, side, side))
        return dense(windows.square().flatten(1)).numpy()


@pytest.mark.parametrize(("channels", "side", "outputs"), [(4, 8, 10), (1, 8, 2), (3, 5, 10), (2, 6, 17)])
def test_convolutions_equal_torch(channels, side, outputs):
    pair = layers(channels, side, outputs)
    images = RANDOM.uniform(size=(3, side**2))
    program, _ = compiled(network(*pair), images)
    assert clear.logits(program, images) == pytest.approx(expected(*pair, images), abs=1e-8)


def test_pixels_are_standardised():
    pair = layers(1, 8, 10)
    images = RANDOM.integers(0, 17, size=(3, 64))
    program, _ = compiled(network(*pair), images)
    assert set(program.signature.shift) == {8.0}
    assert set(program.signature.gain) == {program.signature.gain[0]}
    assert 0.9 <= np.abs(program.signature.prepare(images)).max() <= 1.0
    assert clear.logits(program, images) == pytest.approx(expected(*pair, images.astype(float)), rel=1e-8)


def test_a_convolution_needs_few_keys(deep):
    """As many as the circuit written by hand had: four to sum windows, two for the dense layer."""
    assert len(deep.signature.rotations) <= 6
    names = [step.name for step in deep.circuit.operations]
    assert names.count("rotate") <= 10
    assert names.count("multiply_plain") <= 17
    assert (names.count("rescale"), names.count("relinearise")) == (1, 1)


def test_the_signature_is_the_model_s(deep):
    signature = deep.signature
    assert (signature.input_shape, signature.output_shape) == ((8, 8), (10,))
    assert (signature.finish, signature.packing) == ("softmax", "slots")
    assert len(set(signature.take)) == 10
    assert max(signature.gather) == 63


def test_features_that_the_network_does_not_read_are_not_sent():
    pair = layers(2, 5, 4)
    whole = network(*pair)
    pixels = whole.stages[0].affine.terms[0].copy()
    pixels[:, [0, 7, 24]] = 0.0
    first = Affine({0: pixels}, whole.stages[0].affine.bias)
    blind = dataclasses.replace(whole, stages=(dataclasses.replace(whole.stages[0], affine=first),))
    images = RANDOM.uniform(size=(5, 25))
    program, _ = compiled(blind, images, purpose="throughput")
    assert program.signature.gather == tuple(sorted(set(range(25)) - {0, 7, 24}))
    assert clear.logits(program, images) == pytest.approx(blind(images), abs=1e-8)


def worst_images(net, standard_limit, signature):
    """For each hidden value the accepted image that drives it furthest."""
    shift, gain = np.array(signature.shift), np.array(signature.gain)
    affine = net.stages[0].affine
    centre = affine.terms[0] @ shift + affine.bias
    signs = np.sign(affine.terms[0]) * np.sign(centre)[:, None]
    return shift + 0.999 * standard_limit * signs / gain


@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_no_accepted_image_wraps_around_where_that_is_guaranteed(purpose):
    """The cipher in the clear refuses what exceeds the modulus, and answers fit theirs."""
    net = network(*layers(1, 8, 10))
    program, planned = compiled(net, RANDOM.uniform(size=(20, 64)), purpose=purpose)
    assert planned.guaranteed
    signature = program.signature
    images = worst_images(net, signature.limit, signature)
    logits = clear.logits(program, images)
    assert logits == pytest.approx(net(images), abs=1e-6)
    assert np.abs(logits).max() * signature.answer_scale < context(signature.parameters).primes[0] / 2


@pytest.mark.parametrize("depth", [10.0, 1e3, 1e6])
def test_values_far_beyond_calibration_s_are_not_promised(depth):
    """Weight and bias cancel on the calibration's image but for one part in `depth`, and on no other."""
    kernel = np.zeros((1, 3, 3))
    kernel[0, 1, 1] = 1.0
    net = convolve_square_dense(kernel, [-1.0], RANDOM.normal(size=(10, 64)), np.zeros(10))
    images = 1.0 + RANDOM.uniform(-2, 2, size=(3, 64)) / depth
    program, planned = compiled(net, images)
    assert clear.logits(program, images) == pytest.approx(net(images), abs=1e-6)
    # The client refuses what is further from calibration's images than these are from each other.
    assert planned.guaranteed
    assert np.ptp(images) * program.signature.gain[0] <= 2 + 1e-9
