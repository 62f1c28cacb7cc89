"""Distributions, within bounds that one run in a billion breaks."""

import multiprocessing

import numpy as np

from cloakwork_privacy.ckks.noise import binomial, ternary, uniform

COUNT = 200_000


def test_ternary():
    drawn = ternary(COUNT)
    assert (drawn.shape, drawn.dtype) == ((COUNT,), np.int64)
    for value in (-1, 0, 1):
        assert abs((drawn == value).mean() - 1 / 3) < 6.5 * np.sqrt(2 / 9 / COUNT)
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 6.5 * np.sqrt(4 / 9 / COUNT)
    assert set(ternary(7).tolist()) <= {-1, 0, 1}


def test_binomial():
    drawn = binomial(COUNT)
    assert (drawn.shape, drawn.dtype) == ((COUNT,), np.int8)
    assert np.abs(drawn.astype(int)).max() <= 21
    assert abs(drawn.mean()) < 6.5 * np.sqrt(10.5 / COUNT)
    assert abs(drawn.var() / 10.5 - 1) < 6.5 * np.sqrt(2 / COUNT)
    assert binomial(1).shape == (1,)


def test_uniform():
    drawn = uniform(COUNT, 30)
    assert (drawn.shape, drawn.dtype) == ((COUNT,), np.int64)
    assert drawn.min() >= -(2**30)
    assert drawn.max() < 2**30
    assert abs(drawn.var() / (2**60 / 3) - 1) < 6.5 * np.sqrt(4 / 5 / COUNT)
    assert set(uniform(1000, 0).tolist()) == {-1, 0}


def _draw(pipe):
    pipe.send(uniform(1000, 40))


def test_a_forked_process_draws_its_own():
    near, far = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_draw, args=(far,))
    child.start()
    theirs = near.recv()
    child.join()
    assert (theirs != uniform(1000, 40)).any()


def test_no_two_draws_are_alike():
    for draw in (ternary, binomial, lambda count: uniform(count, 40)):
        assert (draw(1000) != draw(1000)).any()
