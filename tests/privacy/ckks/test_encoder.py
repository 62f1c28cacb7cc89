import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks.encoder import decode, encode


@pytest.mark.parametrize(("packing", "capacity"), [("slots", 1024), ("coefficients", 2048)])
def test_vectors_survive(ring, packing, capacity):
    vector = np.random.default_rng(0).normal(size=capacity)
    assert decode(ring, packing, encode(ring, packing, vector, 2.0**40, 1)) == pytest.approx(vector, abs=1e-9)


@pytest.mark.parametrize("packing", ["slots", "coefficients"])
def test_short_vectors_are_padded_with_zeros(ring, packing):
    read = decode(ring, packing, encode(ring, packing, np.array([1.5, -2.0]), 2.0**40, 1))
    assert read[:2] == pytest.approx([1.5, -2.0])
    assert np.abs(read[2:]).max() < 1e-6


def test_coefficients_multiply_as_polynomials(ring, keys):
    """x^2047 * x = -1 modulo x^2048 + 1."""
    left, right = np.zeros(2048), np.zeros(2048)
    left[2047], right[1] = 3.0, 5.0
    sealed, product, plain = seal.Ciphertext(), seal.Ciphertext(), seal.Plaintext()
    seal.Encryptor(ring.seal, keys._secret).encrypt_symmetric(
        encode(ring, "coefficients", left, 2.0**24, 1), sealed
    )
    ring.evaluator.multiply_plain(sealed, encode(ring, "coefficients", right, 2.0**20, 1), product)
    keys._decryptor.decrypt(product, plain)
    expected = np.zeros(2048)
    expected[0] = -15.0
    assert decode(ring, "coefficients", plain) == pytest.approx(expected, abs=1e-3)


def test_slots_are_constant_polynomials_when_all_equal(ring):
    plain = encode(ring, "slots", np.full(1024, 7.0), 2.0**30, 1)
    expected = np.zeros(2048)
    expected[0] = 7.0
    assert decode(ring, "coefficients", plain) == pytest.approx(expected, abs=1e-6)


def test_what_does_not_fit_the_modulus_is_refused(ring):
    with pytest.raises(ValueError, match="encoded values are too large"):
        encode(ring, "slots", np.array([1e30]), 2.0**40, 1)
