"""Whole calls of a convolutional program."""

import numpy as np
import pytest
import torch
from networks import compiled, convolve_square_dense

from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.evaluate import Evaluator


def test_a_convolution_computes(tmp_path):
    torch.manual_seed(0)
    conv, dense = torch.nn.Conv2d(1, 4, 3, padding=1).double(), torch.nn.Linear(256, 10).double()
    with torch.no_grad():
        dense.weight *= 8  # logits as wide apart as a trained model's
        conv.weight /= 16
    images = np.random.default_rng(3).uniform(0, 16, size=(8, 64))
    with torch.no_grad():
        expected = dense(conv(torch.tensor(images).reshape(-1, 1, 8, 8)).square().flatten(1)).numpy()
    kernel, *others = (tensor.detach().numpy() for layer in (conv, dense) for tensor in layer.parameters())
    network = convolve_square_dense(kernel[:, 0], *others)
    program, _ = compiled(network, images, finish="softmax", input_shape=(8, 8), deviation=1e-3)
    program.save(tmp_path)

    server = Evaluator.load(tmp_path)
    keys = SecretKeys.generate(server.signature)
    request = keys.seal(images.reshape(-1, 8, 8))
    answer = server.run(request, server.parse_keys(keys.evaluation_keys()))
    assert np.abs(keys.logits(answer, request) - expected).max() < 6e-3
    chances = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    assert keys.open(answer, request) == pytest.approx(chances, abs=2e-3)


@pytest.mark.parametrize("place", [(3, 3), (0, 7)])
@pytest.mark.parametrize("bias", [-0.5, 0.5])
def test_the_worst_accepted_image_does_not_wrap_around(place, bias):
    """Every pixel at the limit with the sign that hurts most, and weights that leave no other slack."""
    random = np.random.default_rng(4)
    kernel, (row, column) = random.normal(size=(3, 3)), place
    # All logits are the same multiple of one hidden value: they attain the bound on the answer together.
    weight = np.zeros((16, 64))
    weight[:, 8 * row + column] = 1.5
    network = convolve_square_dense(kernel[None], [bias], weight, np.zeros(16))
    calibration = random.uniform(-0.5, 0.5, size=(20, 64))
    calibration[0, :2] = -0.5, 0.5
    program, planned = compiled(network, calibration, deviation=1e-3)
    assert planned.guaranteed
    assert not np.any(program.signature.shift)
    padded, most = np.zeros((10, 10)), 0.9999 * program.signature.limit / program.signature.gain[0]
    padded[row : row + 3, column : column + 3] = most * np.sign(kernel) * np.sign(bias)
    worst = padded[1:-1, 1:-1].reshape(1, 64)
    server, keys = Evaluator(program), SecretKeys.generate(program.signature)
    request = keys.seal(worst)
    answer = server.run(request, server.parse_keys(keys.evaluation_keys()))
    assert keys.logits(answer, request) == pytest.approx(network(worst), abs=1e-2)
