"""Whole calls of the convolutional program."""

import numpy as np
import pytest
import torch

from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.convolution import conv_square_dense
from cloakwork_privacy.evaluate import Evaluator


def test_a_convolution_computes(tmp_path):
    torch.manual_seed(0)
    conv, dense = torch.nn.Conv2d(1, 4, 3, padding=1).double(), torch.nn.Linear(256, 10).double()
    with torch.no_grad():
        dense.weight *= 8  # logits as wide apart as a trained model's
    images = np.random.default_rng(3).uniform(0, 16, size=(4, 8, 8))
    with torch.no_grad():
        expected = dense(conv(torch.tensor(images / 16)[:, None]).square().flatten(1)).numpy()
    weights = [tensor.detach().numpy() for layer in (conv, dense) for tensor in layer.parameters()]
    conv_square_dense(*weights, input_shape=(8, 8), calibration=images, gain=1 / 16).save(tmp_path)

    server = Evaluator.load(tmp_path)
    keys = SecretKeys.generate(server.signature)
    request = keys.seal(images)
    answer = server.run(request, server.parse_keys(keys.evaluation_keys()))
    assert np.abs(keys.logits(answer, request) - expected).max() < 5e-3
    chances = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    assert keys.open(answer, request) == pytest.approx(chances, abs=1e-3)


@pytest.mark.parametrize("place", [(3, 3), (0, 7)])
@pytest.mark.parametrize("bias", [-0.5, 0.5])
def test_the_worst_accepted_image_does_not_wrap_around(place, bias):
    """Every pixel at the limit with the sign that hurts most, and weights that leave no other slack."""
    random = np.random.default_rng(4)
    kernel = random.normal(size=(1, 1, 3, 3))
    limit, (row, column) = 0.75, place
    worst = np.zeros((10, 10))
    worst[row : row + 3, column : column + 3] = limit * np.sign(kernel[0, 0]) * np.sign(bias)
    worst = worst[1:-1, 1:-1]
    # All logits are the same multiple of one hidden value: they attain the bound on the answer together.
    dense = np.zeros((16, 64))
    dense[:, 8 * row + column] = 1.5
    calibration = random.uniform(-limit, limit, size=(20, 8, 8))
    calibration[0, 0, 0] = limit
    program = conv_square_dense(
        kernel, [bias], dense, np.zeros(16), input_shape=(8, 8), calibration=calibration
    )
    assert program.signature.limit == limit
    padded = np.pad(worst, 1)[row : row + 3, column : column + 3]
    expected = 1.5 * ((kernel[0, 0] * padded).sum() + bias) ** 2
    server, keys = Evaluator(program), SecretKeys.generate(program.signature)
    request = keys.seal([worst])
    answer = server.run(request, server.parse_keys(keys.evaluation_keys()))
    assert keys.logits(answer, request) == pytest.approx(np.full((1, 16), expected), abs=1e-2)
