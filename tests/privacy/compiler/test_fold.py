"""Folded networks against torch in float64."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloakwork_privacy.compiler import fold as folding
from cloakwork_privacy.compiler.fold import fold, simplify
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.compiler.trace import trace
from cloakwork_privacy.errors import PrivacyError


class Forward(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


class Square(nn.Module):
    def forward(self, x):
        return x.square()


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x - self.inner(x)


class Concatenated(Residual):
    def forward(self, x):
        return torch.cat([self.inner(x), x], 1)


ACTIVATIONS = [nn.ReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, Square]


@st.composite
def modules(draw):
    """A few convolutional blocks, pooling, a few dense blocks."""

    def activation():
        return draw(st.sampled_from([*ACTIVATIONS, nn.Identity]))()

    channels, layers = draw(st.integers(1, 2)), []
    shape = (channels, 5, 6)
    for _ in range(draw(st.integers(0, 2))):
        groups = channels if draw(st.booleans()) else 1
        dilation = draw(st.integers(1, 2))
        conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups)
        norm = nn.BatchNorm2d(channels)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        wrap = draw(st.sampled_from([Residual, Concatenated, nn.Sequential]))
        layers.append(wrap(nn.Sequential(conv, norm, activation())))
        channels *= 2 if wrap is Concatenated else 1
    if draw(st.booleans()):
        layers.append(nn.AvgPool2d(2))
    layers.append(nn.Flatten())
    layers.append(nn.LazyLinear(draw(st.integers(1, 6))))
    for _ in range(draw(st.integers(0, 2))):
        layers += [activation(), nn.LazyLinear(draw(st.integers(1, 5)))]
    layers.append(activation())
    module = nn.Sequential(*layers).double().eval()
    module(torch.zeros(2, *shape, dtype=torch.float64))
    return module, shape


def agrees(module, records):
    network = fold(trace(module, records))
    with torch.no_grad():
        own = copy.deepcopy(module).double().eval()
        expected = own(torch.tensor(records)).reshape(len(records), -1).numpy()
    found = network(records.reshape(len(records), -1))
    assert found == pytest.approx(expected, rel=0, abs=1e-9 * (np.abs(expected).max() or 1))
    return network


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.data())
def test_random_modules(data):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.draw(st.integers(0, 99)))
        module, shape = data.draw(modules())
        agrees(module, np.random.default_rng(0).normal(size=(3, *shape)))


def test_shapes_of_networks():
    records = np.random.default_rng(0).normal(size=(3, 4))
    torch.manual_seed(0)
    assert agrees(nn.Linear(4, 2), records).stages == ()
    assert agrees(nn.Identity(), records).output.terms[0] == pytest.approx(np.eye(4))
    two = agrees(Forward(lambda s, x: s.a(x).relu() + s.a(x).tanh(), a=nn.Linear(4, 3)), records)
    assert [stage.activation for stage in two.stages] == ["relu", "tanh"]
    nested = agrees(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Sigmoid(), Square()), records)
    assert [set(stage.affine.terms) for stage in nested.stages] == [{0}, {1}, {2}]
    assert nested.output.terms[3] == pytest.approx(np.eye(3))


def test_dead_branches_and_zero_terms_are_dropped():
    records = np.random.default_rng(0).normal(size=(3, 4))
    network = agrees(Forward(lambda _, x: x.tanh() + 0.0 * x.relu() + x - x), records)
    assert [stage.activation for stage in network.stages] == ["tanh"]
    assert set(network.output.terms) == {1}


def test_too_large(monkeypatch):
    monkeypatch.setattr(folding, "_MOST_ENTRIES", 100)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 2))
    with pytest.raises(PrivacyError, match=r"layer 0 \(Linear\) the matrix is 20 x 6") as refusal:
        fold(trace(module, np.ones((1, 6))))
    assert refusal.value.code == "model_unsupported"


def test_the_check_at_the_end(monkeypatch):
    traced = trace(nn.Linear(4, 2), np.ones((1, 4)))
    monkeypatch.setattr(folding, "_used", lambda network: Network(4, (), Affine({}, network.output.bias)))
    with pytest.raises(PrivacyError, match="differ") as refusal:
        fold(traced)
    assert refusal.value.code == "program_invalid"


def test_simplify():
    random = np.random.default_rng(1)
    sizes = [3, 4, 2, 5]
    polynomials = [(0.5,), (1.0, 2.0), (0.0, 1.0, 1.0)]
    stages = tuple(
        Stage(
            Affine(
                {
                    source: random.normal(size=(sizes[index + 1], sizes[source]))
                    for source in range(index + 1)
                },
                random.normal(size=sizes[index + 1]),
            ),
            Polynomial(polynomials[index]),
        )
        for index in range(3)
    )
    output = Affine({source: random.normal(size=(2, sizes[source])) for source in range(4)}, np.ones(2))
    network = Network(3, stages, output)
    simple = simplify(network)
    records = random.normal(size=(6, 3))
    assert len(simple.stages) == 1
    assert simple(records) == pytest.approx(network(records))
