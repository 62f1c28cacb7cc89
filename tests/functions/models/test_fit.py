from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cloakwork_functions.models.choose import GRID, _score, choose
from cloakwork_functions.models.data import Data
from cloakwork_functions.models.fit import Settings, deterministic, fit, logits


@pytest.fixture
def data():
    """Two classes on either side of a line through 200 points."""
    records = np.random.default_rng(0).normal(size=(200, 2))
    return Data.of(records, records.sum(axis=1) > 0)


def build(_):
    return nn.Linear(2, 2)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_fit_learns_and_repeats_to_the_bit(data, optimizer):
    one, two = (fit(build, data, Settings(optimizer, 0.1), epochs=20, seed=4) for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert (logits(one, data).argmax(1).numpy() == data.labels).mean() > 0.95


def test_another_seed_gives_another_fit(data):
    one, two = (fit(build, data, Settings("SGD", 0.1), epochs=1, seed=seed) for seed in (4, 5))
    assert not torch.equal(one.weight, two.weight)


def test_fitting_leaves_the_callers_generator_and_threads_alone():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with deterministic(1):
        assert torch.get_num_threads() == 1
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_cross_validation_finds_a_setting_that_works_and_repeats(data):
    choice = choose(build, data, epochs=10, seed=0)
    assert choice.settings in GRID
    assert choice.accuracy > 0.9
    assert choose(build, data, epochs=10, seed=0) == choice


def test_a_rate_too_high_scores_nothing_even_where_nan_would_be_right(data):
    module = fit(build, data, Settings("SGD", float("inf")), epochs=1, seed=0)
    first_class = Data(data.records, np.zeros_like(data.labels))
    assert logits(module, data).isnan().all()
    assert _score(module, first_class) == (0.0, float("inf"))
