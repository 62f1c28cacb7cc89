"""Fine-tuning never makes it worse, is deterministic, and leaves what it was given alone."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from cloakwork_privacy.compiler.fit import fit
from cloakwork_privacy.compiler.fold import fold
from cloakwork_privacy.compiler.trace import trace
from cloakwork_privacy.compiler.tune import tune
from cloakwork_privacy.errors import PrivacyError


@pytest.fixture(scope="module")
def digits():
    """A float MLP on the digits, its training records and those held out."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimiser = torch.optim.Adam(module.parameters(), 5e-3)
        for _ in range(120):
            optimiser.zero_grad()
            chosen = torch.randperm(1200)[:300]
            targets = torch.tensor(labels[chosen.numpy()])
            nn.functional.cross_entropy(module(torch.tensor(pixels[chosen.numpy()])), targets).backward()
            optimiser.step()
    return module, pixels[:1200], pixels[1200:], labels[1200:]


def compiled(module, records, degree):
    return fit(fold(trace(module, records[:4])), records.astype(np.float64), degree)


def test_digits(digits):
    module, records, held, labels = digits
    exact = fold(trace(module, held[:4]))(held.astype(np.float64))
    losses = []
    tuned = tune(
        module, records, degree=3, epochs=6, rate=3e-3, progress=lambda epoch, loss: losses.append(loss)
    )
    assert len(losses) == 7
    assert min(losses[1:]) < losses[0]
    before, after = (compiled(one, records, 3)(held.astype(np.float64)) for one in (module, tuned))
    assert np.square(after - exact).mean() < np.square(before - exact).mean()
    accuracy = [100 * (logits.argmax(1) == labels).mean() for logits in (exact, after)]
    assert accuracy[1] > accuracy[0] - 1
    deep = 100 * (compiled(module, records, 7)(held.astype(np.float64)).argmax(1) == labels).mean()
    assert deep > accuracy[0] - 0.6


def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2), nn.Softmax(1))


def test_deterministic_and_nothing_else_changes():
    module, records = small(), np.random.default_rng(0).normal(size=(50, 3))
    untouched, state = copy.deepcopy(module.state_dict()), torch.random.get_rng_state()
    one, same, other = (tune(module, records, degree=2, epochs=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(untouched[name], value) for name, value in module.state_dict().items())
    assert all(torch.equal(one.state_dict()[name], value) for name, value in same.state_dict().items())
    assert any(not torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())
    assert one.training
    assert one[0].weight.dtype == torch.float32
    assert isinstance(one[2], nn.GELU)


def test_never_worse():
    module, losses = small(), []
    records = np.random.default_rng(0).normal(size=(20, 3))
    tuned = tune(
        module,
        records,
        degree=3,
        epochs=2,
        rate=10.0,
        progress=lambda epoch, loss: losses.append((epoch, loss)),
    )
    assert [epoch for epoch, _ in losses] == [0, 1, 2]
    assert min(losses, key=lambda entry: entry[1])[0] == 0
    assert all(torch.equal(tuned.state_dict()[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("classifier", [False, True])
def test_kinds_of_loss(classifier):
    losses = []
    records = np.random.default_rng(0).normal(size=(60, 3))
    tune(
        small(),
        records,
        degree=2,
        epochs=4,
        classifier=classifier,
        progress=lambda epoch, loss: losses.append(loss),
    )
    assert min(losses[1:]) < losses[0]


def test_one_record():
    tune(small(), np.ones((1, 3)), degree=2, epochs=1)


def test_refused():
    with pytest.raises(PrivacyError, match="degree"):
        tune(small(), np.ones((4, 3)), degree=99)
    with pytest.raises(PrivacyError, match="NaN"):
        tune(small(), np.full((4, 3), np.nan), degree=3)
