"""Small networks for compiler tests, and what it takes to run them."""

import numpy as np
from hypothesis import strategies as st

from cloakwork_privacy.compiler.lower import Interface, lower
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.compiler.normalise import normalise
from cloakwork_privacy.compiler.plan import plan
from cloakwork_privacy.compiler.prune import prune
from cloakwork_privacy.compiler.standardise import standardise

SQUARE = Polynomial((0.0, 0.0, 1.0))


def dense(random, rows, *sources):
    """A map of values of about 1 to values of about 1; sources are (index, size)."""
    terms = {
        index: random.normal(size=(rows, size)) / np.sqrt(size * len(sources)) for index, size in sources
    }
    return Affine(terms, random.normal(size=rows) / 4)


def convolution(random, side, kernel, channels, stride=1):
    """The matrix of an unpadded convolution of one channel, row by row as torch flattens it."""
    outputs = (side - kernel) // stride + 1
    weights = random.normal(size=(channels, kernel, kernel)) / kernel
    matrix = np.zeros((channels, outputs, outputs, side, side))
    for row in range(outputs):
        for column in range(outputs):
            top, left = row * stride, column * stride
            matrix[:, row, column, top : top + kernel, left : left + kernel] = weights
    return Affine({0: matrix.reshape(-1, side * side)}, random.normal(size=channels * outputs**2) / 4)


def polynomial(random, degree):
    return Polynomial(tuple((random.normal(size=degree + 1) / np.arange(1, degree + 2)).tolist()))


@st.composite
def networks(draw, most_inputs=24, most_stages=3, most_degree=7):
    """Chains of random sizes, some with a second source (a residual or a concatenation) here and there."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    sizes, stages = [draw(st.integers(1, most_inputs))], []
    for index in range(draw(st.integers(0, most_stages))):
        sources = {index} | ({draw(st.integers(0, index))} if draw(st.booleans()) else set())
        size = draw(st.integers(1, 20))
        affine = dense(random, size, *((source, sizes[source]) for source in sorted(sources)))
        stages.append(Stage(affine, polynomial(random, draw(st.integers(2, most_degree)))))
        sizes.append(size)
    output = dense(random, draw(st.integers(1, 12)), (len(stages), sizes[-1]))
    return Network(sizes[0], tuple(stages), output)


def records(network, count=20, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, network.inputs))


def convolve_square_dense(kernel, kernel_bias, weight, bias):
    """dense(flatten(conv(x)^2)) of square images of one channel, a 3x3 convolution of padding 1."""
    channels, side = len(kernel), round((weight.shape[1] / len(kernel)) ** 0.5)
    matrix = np.zeros((channels, side, side, side + 2, side + 2))
    for row, column in np.ndindex(side, side):
        matrix[:, row, column, row : row + 3, column : column + 3] = kernel
    pixels = matrix[..., 1:-1, 1:-1].reshape(-1, side**2)
    first = Affine({0: pixels}, np.repeat(np.asarray(kernel_bias, float), side**2))
    return Network(side**2, (Stage(first, SQUARE),), Affine({1: np.asarray(weight)}, np.asarray(bias, float)))


def digits(random):
    """Such a network of four channels, from 8x8 pixels to ten logits."""
    return convolve_square_dense(
        random.normal(size=(4, 3, 3)),
        random.normal(size=4),
        random.normal(size=(10, 256)) / 4,
        random.normal(size=10),
    )


def compiled(
    network, given, *, purpose="latency", deviation=1e-2, max_records=64, finish="none", input_shape=None
):
    """The program of a network of polynomials, by the passes after fitting."""
    standardised, standard = standardise(network, given)
    pruned, features = prune(standardised, standard(given))
    ready = standard(given)[:, features]
    planned = plan(
        normalise(pruned, ready),
        ready,
        purpose,
        limit=standard.limit,
        deviation=deviation,
    )
    outputs = network(given)
    interface = Interface(
        input_shape=input_shape or (network.inputs,),
        standard=standard,
        features=tuple(features.tolist()),
        outputs=outputs.shape[1],
        finish=finish,
    )
    limit = planned.reach + 6 * deviation
    return lower(planned.choice, interface, answer_limit=limit, max_records=max_records), planned
