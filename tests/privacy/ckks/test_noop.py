"""The clear cipher keeps SEAL's books: every mistake SEAL would make something of raises here."""

import numpy as np
import pytest

from cloakwork_privacy.ckks.noop import NoopCipher

PRIMES = (1009, 1013)


@pytest.fixture
def cipher():
    return NoopCipher(PRIMES, "slots", {1: 2, 3: 1}, 2)


def fresh(cipher, scale=8.0, level=2, values=(1.0, 2.0, 3.0, 4.0)):
    return cipher.encode(np.array(values), scale, level, 4)


def test_arithmetic(cipher):
    x = fresh(cipher)
    assert cipher.rotate(x, 1).values.tolist() == [2.0, 3.0, 4.0, 1.0]
    assert cipher.add(x, x).values.tolist() == [2.0, 4.0, 6.0, 8.0]
    product = cipher.multiply_plain(x, x)
    assert (product.values.tolist(), product.scale) == ([1.0, 4.0, 9.0, 16.0], 64.0)
    square = cipher.square(x)
    assert (square.polynomials, square.scale) == (3, 64.0)
    rescaled = cipher.rescale(cipher.relinearise(square))
    assert (rescaled.polynomials, rescaled.level, rescaled.scale) == (2, 1, 64.0 / 1013)


def test_products_sums_and_levels():
    cipher = NoopCipher(PRIMES, "slots")
    x, y = fresh(cipher), fresh(cipher, values=(5.0, 6.0), scale=4.0)
    product = cipher.multiply(x, y)
    assert (product.values.tolist(), product.scale, product.polynomials) == ([5.0, 12.0, 0.0, 0.0], 32.0, 3)
    near = fresh(cipher, scale=32.0 * (1 + 1e-13))
    assert cipher.add(near, product).values.tolist() == [6.0, 14.0, 3.0, 4.0]
    assert (cipher.add(near, product).scale, cipher.add(near, product).polynomials) == (near.scale, 3)
    dropped = cipher.drop(x)
    assert (dropped.values.tolist(), dropped.scale, dropped.level) == (x.values.tolist(), 8.0, 1)


def test_coefficients_multiply_as_polynomials():
    cipher = NoopCipher(PRIMES, "coefficients")
    left = cipher.encode(np.array([0.0, 0.0, 0.0, 3.0]), 2.0, 1, 4)
    right = cipher.encode(np.array([0.0, 5.0, 1.0]), 2.0, 1, 4)
    assert cipher.multiply_plain(left, right).values == pytest.approx([-15.0, -3.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        (lambda c: c.add(fresh(c), fresh(c, scale=16.0)), "scales differ"),
        (lambda c: c.add(fresh(c), fresh(c, level=1)), "levels differ"),
        (lambda c: c.multiply_plain(fresh(c), fresh(c, level=1)), "levels differ"),
        (lambda c: c.multiply_plain(fresh(c), fresh(c, values=(0.0,))), "transparent"),
        (lambda c: c.add(fresh(c), fresh(c, scale=8.0 + 1e-10)), "scales differ"),
        (lambda c: c.multiply(fresh(c), fresh(c, level=1)), "levels differ"),
        (lambda c: c.multiply(c.square(fresh(c)), fresh(c)), "relinearise before multiplying"),
        (lambda c: c.drop(fresh(c, level=1)), "no prime left"),
        (lambda c: c.drop(fresh(c, values=(64.0,))), "exceeds the modulus"),
        (lambda c: c.drop(fresh(c, scale=2000.0, values=(0.0,))), "scale exceeds"),
        (lambda c: c.rotate(c.square(fresh(c)), 1), "relinearise before rotating"),
        (lambda c: c.rotate(fresh(c), 2), "no key"),
        (lambda c: c.rotate(fresh(c), 3), "no key"),
        (lambda c: NoopCipher(PRIMES, "slots", {}, 1).relinearise(c.square(fresh(c))), "no key"),
        (lambda c: c.square(c.square(fresh(c))), "relinearise before multiplying"),
        (lambda c: c.relinearise(fresh(c)), "nothing to relinearise"),
        (lambda c: c.rescale(fresh(c, level=1)), "no prime left"),
        (lambda c: c.rescale(fresh(c, values=(1e9,))), "exceeds the modulus"),
        (lambda c: c.square(fresh(c, scale=2000.0)), "scale exceeds"),
        (lambda c: fresh(c, level=3), "no such level"),
    ],
)
def test_mistakes(cipher, mistake, fault):
    with pytest.raises(ValueError, match=fault):
        mistake(cipher)


def test_coefficients_neither_rotate_nor_square():
    cipher = NoopCipher(PRIMES, "coefficients", {1: 2})
    with pytest.raises(ValueError, match="do not rotate"):
        cipher.rotate(fresh(cipher), 1)
    with pytest.raises(ValueError, match="multiplies no coefficient"):
        cipher.square(fresh(cipher))
