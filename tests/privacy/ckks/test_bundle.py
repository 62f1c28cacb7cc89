"""The cipher on bundles against the one in the clear."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import bundle, frames, residues
from cloakwork_privacy.ckks.bundle import Bundle, BundleCipher
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import decode
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.compiler.circuit import Constant
from cloakwork_privacy.errors import PrivacyError

SCALE = 2.0**26


class Pair:
    """The same bundle in the clear and encrypted."""

    def __init__(self, throughput, keys):
        self.signature, self.keys = throughput.signature, keys
        self.ring = context(self.signature.parameters)
        self.public = EvaluationKeys.parse(self.signature, keys.evaluation_keys())
        self.clear = NoopCipher.of(self.signature, self.ring.primes)
        self.sealed = BundleCipher(self.ring, self.public)

    def fresh(self, records):
        frame = frames.decode(
            self.keys.seal(records), frames.Kind.REQUEST, most_parts=9, most_bytes=1 << 20, most_records=9999
        )
        clear = self.clear.request(self.signature.prepare(records), SCALE, self.ring.parameters.slots)
        return clear, bundle.parse(Sealed(self.ring, SCALE), frame.parts)

    def constant(self, values, scale, level=3):
        constant = Constant(np.asarray(values, np.float64), scale, level)
        return self.clear.encode(constant.vector, scale, level, 4096), bundle.encode(constant)

    def agree(self, call, within=1e-3):
        clear, sealed = call(self.clear, 0), call(self.sealed, 1)
        assert (sealed.level, sealed.residues.shape[1]) == (clear.level, clear.polynomials)
        assert sealed.scale == pytest.approx(clear.scale, rel=1e-12)
        rows = []
        for words in sealed.residues:
            plain = seal.Plaintext()
            self.keys._decryptor.decrypt(residues.make(self.ring, words, sealed.scale), plain)
            rows.append(decode(self.ring, "features", plain))
        # A bundle of 100 records repeats after 128 slots; the clear one holds them once.
        assert np.abs(np.array(rows)[:, :100] - clear.values[:, :100]).max() < within


@pytest.fixture(scope="module")
def pair(throughput, throughput_keys):
    return Pair(throughput, throughput_keys)


@pytest.fixture(scope="module")
def given(pair):
    return pair.fresh(np.random.default_rng(8).uniform(-1, 1, size=(100, 2, 3)))


def test_matrices(pair, given):
    weights = np.random.default_rng(9).normal(size=(4, 6))
    weights[0, :4] = 0.0
    matrix = pair.constant(weights, 2.0**20)
    pair.agree(lambda c, i: c.matrix(given[i], matrix[i]))
    pair.agree(lambda c, i: c.relinearise(c.matrix(c.square(given[i]), matrix[i])))


@pytest.mark.parametrize("numbers", [[0.5], [1e-9], [1.0, -2.0, 3.0, -0.25, 7.5, -1e-8]])
def test_scalars(pair, given, numbers):
    factor, term = pair.constant(numbers, 2.0**20), pair.constant(numbers, SCALE)
    pair.agree(lambda c, i: c.multiply_plain(given[i], factor[i]))
    pair.agree(lambda c, i: c.add_plain(given[i], term[i]))
    large = pair.constant(numbers, SCALE * SCALE * 2.0**40)
    far = pair.constant([1.0], 2.0**40)
    pair.agree(lambda c, i: c.add_plain(c.multiply_plain(c.square(given[i]), far[i]), large[i]))


def test_products_and_levels(pair, given):
    pair.agree(lambda c, i: c.multiply(given[i], c.add(given[i], given[i])))
    pair.agree(lambda c, i: c.relinearise(c.square(given[i])))
    pair.agree(lambda c, i: c.drop(given[i]))
    far = pair.constant([3.0], 2.0**40)
    pair.agree(lambda c, i: c.rescale(c.relinearise(c.multiply_plain(c.square(given[i]), far[i]))))


def test_sums(pair, given):
    square = pair.constant([1.0], SCALE)
    pair.agree(lambda c, i: c.add(c.square(given[i]), c.multiply_plain(given[i], square[i])))
    pair.agree(lambda c, i: c.add(c.multiply_plain(given[i], square[i]), c.square(given[i])))


@pytest.mark.parametrize("bias", [[0.0], [0.25]])
def test_constants_among_the_ciphertexts(pair, given, bias):
    """Rows of zeros, and rows that round to zero: SEAL alone refuses what has no second polynomial."""
    weights = np.random.default_rng(9).normal(size=(4, 6))
    weights[1], weights[3] = 0.0, 1e-9
    matrix, term = pair.constant(weights, 2.0**20), pair.constant([*bias * 4], SCALE * 2.0**20)
    far = pair.constant([3.0, -1.0, 2.0, 0.5], 2.0**10)

    def hidden(c, i):
        return c.add_plain(c.matrix(given[i], matrix[i]), term[i])

    pair.agree(hidden)
    pair.agree(lambda c, i: c.rescale(c.relinearise(c.square(hidden(c, i)))))
    pair.agree(lambda c, i: c.multiply(hidden(c, i), c.add(hidden(c, i), hidden(c, i))))
    pair.agree(lambda c, i: c.multiply_plain(hidden(c, i), far[i]))
    pair.agree(lambda c, i: c.drop(hidden(c, i)))


def test_constants_times_what_varies(pair, given):
    weights = np.random.default_rng(9).normal(size=(2, 2, 6))
    weights[0, 1] = weights[1, 0] = 0.0
    left, right = pair.constant(weights[0], 2.0**20), pair.constant(weights[1], 2.0**20)
    one = pair.constant([0.5, -2.0], SCALE * 2.0**20)

    def factors(c, i):
        return (c.add_plain(c.matrix(given[i], each[i]), one[i]) for each in (left, right))

    pair.agree(lambda c, i: c.relinearise(c.multiply(*factors(c, i))))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda c, x, p: c.rotate(x, 1),
        lambda c, x, p: c.add(x, c.drop(x)),
        lambda c, x, p: c.add(x, c.square(x)),
        lambda c, x, p: c.add_plain(x, p([1.0], SCALE * 2)),
    ],
)
def test_mistakes(pair, given, mistake):
    for place, cipher in enumerate((pair.clear, pair.sealed)):
        with pytest.raises(ValueError, match=r"levels|scales|rotate"):
            mistake(cipher, given[place], lambda *args, place=place: pair.constant(*args)[place])


@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        (lambda c, x, p: c.matrix(x, p(np.ones((2, 5)), 2.0)), "width"),
        (lambda c, x, p: c.matrix(x, p(np.ones((2, 6)), 2.0, 2)), "levels"),
        (lambda c, x, p: c.multiply_plain(x, p([1.0, 2.0], 2.0)), "number of ciphertexts"),
        (lambda c, x, p: c.add_plain(x, p([1.0, 2.0], SCALE)), "number of ciphertexts"),
        (lambda c, x, p: c.multiply_plain(x, p([1.0, 1.0, 1.0, 0.0, 1.0, 1.0], 2.0)), "transparent"),
        (lambda c, x, p: c.multiply_plain(x, p([0.0], 2.0)), "transparent"),
        (lambda c, x, p: c.matrix(x, p(np.ones((2, 6)), 2.0**200)), "scale exceeds"),
    ],
)
def test_what_the_books_refuse(pair, given, mistake, fault):
    with pytest.raises(ValueError, match=fault):
        mistake(
            pair.clear,
            given[0],
            lambda values, scale, level=3: pair.clear.encode(np.asarray(values), scale, level, 4096),
        )


def test_matrices_multiply_bundles_only(ring):
    for cipher in (NoopCipher(ring.primes, "slots"),):
        one = cipher.request(np.ones(4), 2.0, 4)
        with pytest.raises(ValueError, match="bundles"):
            cipher.matrix(one, one)


def test_a_bad_part_is_refused_before_memory_is_taken(pair, monkeypatch):
    kind = Sealed(pair.ring, SCALE)
    monkeypatch.setattr(bundle.np, "empty", None)
    with pytest.raises(PrivacyError) as caught:
        bundle.parse(kind, (bytes(kind.wire_bytes),) * 3 + (b"",))
    assert caught.value.code == "ciphertext_invalid"


def test_a_bundle_knows_its_level():
    assert Bundle(np.zeros((5, 2, 3, 8), np.uint64), 1.0).level == 3
