"""Both ciphers on the same operations: the books agree, and so do the numbers."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks.cipher import SCALE_TOLERANCE
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import decode, encode
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.ckks.seal import SealCipher

SCALE = 2.0**45


class Pair:
    """The same values in the clear and encrypted."""

    def __init__(self, deep, deep_keys):
        self.keys, self.ring = deep_keys, context(deep.signature.parameters)
        self.clear = NoopCipher.of(deep.signature, self.ring.primes)
        self.sealed = SealCipher(self.ring, EvaluationKeys.parse(deep.signature, deep_keys.evaluation_keys()))

    def fresh(self, values, scale=SCALE, level=2):
        plain, sealed = encode(self.ring, "slots", values, scale, level), seal.Ciphertext()
        seal.Encryptor(self.ring.seal, self.keys._secret).encrypt_symmetric(plain, sealed)
        return self.clear.encode(values, scale, level, 4096), sealed

    def agree(self, clear, sealed, within):
        assert (sealed.size(), sealed.scale) == (clear.polynomials, clear.scale)
        assert sealed.parms_id() == self.ring.parms_id(clear.level)
        plain = seal.Plaintext()
        self.keys._decryptor.decrypt(sealed, plain)
        assert np.abs(decode(self.ring, "slots", plain) - clear.values).max() < within


@pytest.fixture(scope="module")
def pair(deep, deep_keys):
    return Pair(deep, deep_keys)


@pytest.fixture
def operands(pair):
    random = np.random.default_rng(5)
    return pair.fresh(random.normal(size=4096)), pair.fresh(random.normal(size=4096))


def both(pair, call):
    return call(pair.clear, 0), call(pair.sealed, 1)


def test_products(pair, operands):
    left, right = operands
    pair.agree(*both(pair, lambda c, i: c.multiply(left[i], right[i])), 1e-3)
    pair.agree(*both(pair, lambda c, i: c.rescale(c.relinearise(c.multiply(left[i], right[i])))), 1e-3)


def test_drops(pair, operands):
    left, right = operands
    pair.agree(*both(pair, lambda c, i: c.drop(left[i])), 1e-4)
    pair.agree(*both(pair, lambda c, i: c.add(c.drop(left[i]), c.drop(right[i]))), 1e-4)


def test_sums_of_unequal_counts_of_polynomials(pair, operands):
    left, _ = operands
    wide = pair.fresh(np.ones(4096), scale=SCALE**2)
    pair.agree(*both(pair, lambda c, i: c.add(c.square(left[i]), wide[i])), 1e-3)
    pair.agree(*both(pair, lambda c, i: c.add(wide[i], c.square(left[i]))), 1e-3)


@pytest.mark.parametrize("apart", [np.spacing(SCALE), SCALE * SCALE_TOLERANCE / 2])
def test_sums_of_scales_a_breath_apart(pair, operands, apart):
    left, _ = operands
    near = pair.fresh(np.full(4096, 2.0), scale=SCALE + apart)
    pair.agree(*both(pair, lambda c, i: c.add(left[i], near[i])), 1e-4)
    pair.agree(*both(pair, lambda c, i: c.add(near[i], left[i])), 1e-4)
    assert near[1].scale == SCALE + apart


def test_what_the_books_refuse_seal_refuses(pair, operands):
    left, _ = operands
    for other in (pair.fresh(np.ones(4096), scale=SCALE * 1.001), pair.fresh(np.ones(4096), level=1)):
        for cipher, place in ((pair.clear, 0), (pair.sealed, 1)):
            with pytest.raises(ValueError, match=r"scale|level|parms|match"):
                cipher.add(left[place], other[place])
