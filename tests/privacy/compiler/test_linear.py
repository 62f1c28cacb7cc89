"""Models of one logit and no activation, in the clear against numpy; `test_evaluate` runs them encrypted."""

import numpy as np
import pytest

from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.linear import linear

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("features", [1, 2, 30, 2048])
def test_a_linear_model_computes_without_keys(features):
    weight, shift, gain = (
        RANDOM.normal(size=features),
        RANDOM.normal(size=features),
        RANDOM.uniform(0.5, 2, features),
    )
    records = RANDOM.normal(size=(4, features))
    program = linear(weight, -0.75, shift, gain)
    reference = ((records - shift) * gain) @ weight - 0.75
    assert clear.logits(program, records) == pytest.approx(reference[:, None], abs=1e-9)
    assert program.signature.rotations == ()
    assert not program.signature.relinearise_level


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
