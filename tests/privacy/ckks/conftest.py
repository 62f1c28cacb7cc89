import numpy as np
import pytest

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.lower import conv_square_dense, linear


@pytest.fixture(scope="session")
def shallow():
    """A linear program: one prime, no key switching."""
    return linear([0.5, -1.5, 2.0], 0.25, [1.0, 2.0, 3.0], [1.0, 0.5, 0.25])


@pytest.fixture(scope="session")
def deep():
    """A convolutional program: every kind of key."""
    random = np.random.default_rng(1)
    return conv_square_dense(
        random.normal(size=(4, 1, 3, 3)),
        random.normal(size=4),
        random.normal(size=(10, 256)) / 4,
        random.normal(size=10),
        input_shape=(8, 8),
        calibration=random.uniform(size=(20, 8, 8)),
    )


@pytest.fixture(scope="session")
def ring(shallow):
    return context(shallow.signature.parameters)


@pytest.fixture(scope="session")
def keys(shallow):
    return SecretKeys.generate(shallow.signature)


@pytest.fixture(scope="session")
def deep_keys(deep):
    return SecretKeys.generate(deep.signature)
