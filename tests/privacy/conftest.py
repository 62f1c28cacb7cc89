import dataclasses

import numpy as np
import pytest
from networks import compiled, digits

from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.circuit import Circuit, Constant, Operation
from cloakwork_privacy.compiler.linear import linear
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.compiler.signature import Signature

PARAMETERS = Parameters(8192, (54, 54, 54, 56))


def dense_square_dense(first, second, **changes):
    """logits = second @ (first @ x + 1/2)^2 - 1/4 in packing "features", for records of shape (2, 3)."""
    scale, (prime, _, last, _) = 2.0**26, context(PARAMETERS).primes
    hidden, squared = scale * 2.0**14, scale**2 * 2.0**28
    logit = squared * 2.0**16 / float(last)
    constants = {
        "c000": Constant(first, 2.0**14, 3),
        "c001": Constant(np.array([0.5]), hidden, 3),
        "c002": Constant(second, 2.0**16, 3),
        "c003": Constant(np.full(len(second), -0.25), logit, 2),
    }
    steps = [
        ("matrix", "c000"),
        ("add_plain", "c001"),
        ("square", None),
        ("matrix", "c002"),
        ("relinearise", None),
        ("rescale", None),
        ("add_plain", "c003"),
        ("drop", None),
    ]
    circuit = Circuit(
        tuple(Operation(name, (at,), constant) for at, (name, constant) in enumerate(steps)), constants
    )
    signature = Signature(
        parameters=PARAMETERS,
        packing="features",
        input_shape=(2, 3),
        output_shape=(len(second),),
        shift=(0.0,) * 6,
        gain=(1.0,) * 6,
        limit=1.0,
        gather=tuple(range(6)),
        scale=scale,
        rotations=(),
        rotation_levels=(),
        relinearise_level=3,
        answer_scale=logit,
        answer_limit=500.0,
        period=4096,
        take=tuple(range(len(second))),
        finish="none",
        max_records=4096,
        circuit=circuit_digest(circuit),
    )
    assert logit * 500.0 < prime / 2
    return Program(dataclasses.replace(signature, **changes), circuit)


@pytest.fixture(scope="session")
def shallow():
    """A linear program: one prime, no key switching."""
    return linear([0.5, -1.5, 2.0], 0.25, [1.0, 2.0, 3.0], [1.0, 0.5, 0.25])


@pytest.fixture(scope="session")
def deep():
    """A convolutional program: every kind of key."""
    random = np.random.default_rng(1)
    program, _ = compiled(
        digits(random), random.uniform(size=(20, 64)), finish="softmax", input_shape=(8, 8), deviation=1e-3
    )
    return program


@pytest.fixture(scope="session")
def throughput():
    """A program that packs features: dense, square, dense, on records of shape (2, 3)."""
    return dense_square_dense(
        np.random.default_rng(10).normal(size=(5, 6)), np.random.default_rng(11).normal(size=(3, 5))
    )


@pytest.fixture(scope="session")
def throughput_keys(throughput):
    return SecretKeys.generate(throughput.signature)


@pytest.fixture(scope="session")
def ring(shallow):
    return context(shallow.signature.parameters)


@pytest.fixture(scope="session")
def keys(shallow):
    return SecretKeys.generate(shallow.signature)


@pytest.fixture(scope="session")
def deep_keys(deep):
    return SecretKeys.generate(deep.signature)
